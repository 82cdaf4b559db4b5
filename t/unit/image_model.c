/*
 * image_model.c - random programs against the writer: what they do to their mappings, generation
 * after generation, with failures injected, must show in each image exactly as memory was.
 *
 * What memory was is read through /proc/self/mem right after the cut; nothing runs in between.
 */
#include "t/lib/image_fixture.h"
#include "t/lib/test_random.h"

#include <errno.h>
#include <fcntl.h>

#define PAGES       600u /* of the arena that the program plays in */
#define GENERATIONS 12
#define OPERATIONS  40

static enum tracking track;
static struct fixture f;
static uint8_t *arena_base; /* PAGES pages of address space: anonymous, file, or nothing */
static uint8_t *file_content;
static int file_fd = -1;
static uint64_t random_state;

static uint64_t random_below(uint64_t limit)
{
    return test_random(&random_state) % limit;
}

/* --- the program --- */

/* What it may do to a page; read from /proc/self/maps would be the writer's own view. */
static uint8_t page_kind[PAGES]; /* 0: nothing, 1: anonymous, 2: file */
static uint8_t page_prot[PAGES];

static void write_to(uint64_t page, uint64_t pages)
{
    for (; pages; page++, pages--) {
        if (!page_kind[page] || !(page_prot[page] & PROT_WRITE))
            continue;
        if (random_below(6) == 0)
            memset(arena_base + page * 4096, 0, 4096);
        else
            arena_base[page * 4096 + random_below(4096)] = (uint8_t)random_below(256);
    }
}

static void map_new(uint64_t page, uint64_t pages, uint8_t kind)
{
    void *mapped = kind == 1 ? mmap(arena_base + page * 4096, pages * 4096, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
                             : mmap(arena_base + page * 4096, pages * 4096, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_FIXED, file_fd, (off_t)(page * 4096));

    CHECK(mapped != MAP_FAILED);
    memset(page_kind + page, kind, pages);
    memset(page_prot + page, PROT_READ | PROT_WRITE, pages);
}

static void protect(uint64_t page, uint64_t pages)
{
    static const int prots[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE,
                                PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE};
    int prot = prots[random_below(5)];

    for (; pages; page++, pages--)
        if (page_kind[page] && mprotect(arena_base + page * 4096, 4096, prot) == 0)
            page_prot[page] = (uint8_t)prot;
}

/* Moves a few anonymous pages, one by one as the kernel's mappings may differ. */
static void move(uint64_t from, uint64_t to, uint64_t pages)
{
    for (uint64_t i = 0; i < pages; i++) {
        if (page_kind[from + i] != 1 || from + i == to + i)
            continue;
        if (mremap(arena_base + (from + i) * 4096, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED,
                   arena_base + (to + i) * 4096) == MAP_FAILED)
            continue;
        page_kind[to + i] = 1;
        page_prot[to + i] = page_prot[from + i];
        page_kind[from + i] = 0;
    }
}

static void operate(void)
{
    uint64_t page = random_below(PAGES), pages = 1 + random_below(30);
    uint64_t to = random_below(PAGES);
    volatile uint8_t seen = 0;

    pages = pages < PAGES - page ? pages : PAGES - page;
    pages = pages < PAGES - to ? pages : PAGES - to;
    switch (random_below(12)) {
    case 0:
        map_new(page, pages, 1);
        break;
    case 1:
        map_new(page, pages, 2);
        break;
    case 2:
        munmap(arena_base + page * 4096, pages * 4096);
        memset(page_kind + page, 0, pages);
        break;
    case 3:
    case 4:
        madvise(arena_base + page * 4096, pages * 4096, MADV_DONTNEED);
        break;
    case 5:
        protect(page, pages);
        break;
    case 6:
        move(page, to, pages);
        break;
    case 7:
        for (uint64_t i = page; i < page + pages; i++)
            if (page_kind[i] && (page_prot[i] & PROT_READ))
                seen ^= arena_base[i * 4096];
        break;
    case 8:
        image_writer_untrack(f.writer, (uintptr_t)arena_base + page * 4096,
                             (uintptr_t)arena_base + (page + pages) * 4096);
        break;
    default:
        write_to(page, pages);
    }
    (void)seen;
}

/* --- failures --- */

static const struct persist_ops *real_ops;
static struct persist_ops failing_ops;
static int writes_left;

static int failing_write(struct persist *persist, uint64_t offset, const void *data, size_t bytes)
{
    if (writes_left-- <= 0)
        return -ENOSPC;
    return real_ops->write(persist, offset, data, bytes);
}

static void fail_after(int writes)
{
    real_ops = f.pool.persist.ops;
    failing_ops = *real_ops;
    failing_ops.write = failing_write;
    f.pool.persist.ops = &failing_ops;
    writes_left = writes;
}

static void fail_no_more(void)
{
    f.pool.persist.ops = real_ops;
}

/* --- the comparison --- */

/* What memory is now; present tells whether the page has content of its own to show. */
static void snapshot(uint8_t *model)
{
    int mem = open("/proc/self/mem", O_RDONLY);

    for (uint64_t i = 0; i < PAGES; i++) {
        memset(model + i * 4096, 0, 4096);
        if (page_kind[i])
            CHECK_EQ(
                pread(mem, model + i * 4096, 4096, (off_t)(uintptr_t)arena_base + (off_t)i * 4096),
                4096);
    }
    close(mem);
}

static bool image_is(const uint8_t *model, const uint8_t *kinds)
{
    struct pool pool;
    struct image image;
    uint8_t page[4096];
    uint64_t wrong = 0;

    if (!fixture_image(&f, &pool, &image))
        return false;
    for (uint64_t i = 0; i < PAGES; i++) {
        uintptr_t address = (uintptr_t)arena_base + i * 4096;
        struct index_entry entry;

        CHECK_OK(index_lookup(image.index, address >> PAGE_SHIFT, &entry));
        CHECK_OK(image_read(&image, address, page, 4096, &f.why));
        if (entry.frame == FRAME_NONE && kinds[i] == 2)
            memcpy(page, file_content + i * 4096, 4096);
        if (!kinds[i] && entry.frame != FRAME_NONE)
            wrong++;
        if (memcmp(page, model + i * 4096, 4096) != 0) {
            tap_note("page %lu (kind %d): frame %lu", (unsigned long)i, kinds[i],
                     (unsigned long)entry.frame);
            wrong++;
        }
    }
    pool_close(&pool);
    return wrong == 0;
}

/* One generation: rounds of pre-copy with the program running on, sometimes failures. */
static bool generation(uint8_t *model, uint8_t *kinds)
{
    int status = 0;

    for (uint64_t rounds = random_below(3); rounds; rounds--) {
        bool fail = random_below(4) == 0;

        if (fail)
            fail_after((int)random_below(3));
        status = fixture_precopy(&f);
        if (fail)
            fail_no_more();
        CHECK(status >= 0 || fail);
        for (int i = 0; i < 5; i++)
            operate();
    }
    if (random_below(4) == 0) {
        CHECK_OK(fixture_cut(&f));
        image_writer_abandon(f.writer);
        for (int i = 0; i < 5; i++)
            operate();
    }
    CHECK_OK(fixture_cut(&f));
    snapshot(model);
    memcpy(kinds, page_kind, PAGES);
    for (int i = 0; i < 5; i++)
        operate();
    if (random_below(4) == 0) {
        fail_after((int)random_below(4));
        status = fixture_commit(&f);
        fail_no_more();
        if (status >= 0)
            return image_is(model, kinds);
        CHECK_OK(fixture_cut(&f)); /* the next attempt, of what memory is now */
        snapshot(model);
        memcpy(kinds, page_kind, PAGES);
    }
    CHECK_OK(fixture_commit(&f));
    return image_is(model, kinds);
}

static void run_program(uint64_t seed)
{
    char path[400];

    random_state = seed;
    memset(page_kind, 0, sizeof page_kind);
    if (fixture_start(&f, track, 256 * 4096)) {
        uint8_t *model = fixture_model(&f, PAGES * 4096);
        uint8_t *kinds = fixture_model(&f, 4096);

        snprintf(path, sizeof path, "%s/file", f.dir);
        file_fd = open(path, O_RDWR | O_CREAT, 0600);
        file_content = fixture_model(&f, PAGES * 4096);
        for (size_t i = 0; i < PAGES * 4096 / 8; i++)
            ((uint64_t *)file_content)[i] = random_below(UINT64_MAX);
        CHECK_EQ(write(file_fd, file_content, PAGES * 4096), PAGES * 4096);
        arena_base = mmap(NULL, PAGES * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        map_new(0, PAGES, 1);
        map_new(200, 100, 2);
        for (int generations = 0; generations < GENERATIONS; generations++) {
            for (int i = 0; i < OPERATIONS; i++)
                operate();
            if (!CHECK(generation(model, kinds))) {
                tap_note("seed %lu, generation %d", (unsigned long)seed, generations);
                break;
            }
        }
        munmap(arena_base, PAGES * 4096);
        close(file_fd);
        unlink(path);
    }
    fixture_stop(&f);
}

static void every_image_is_what_a_random_program_left(void)
{
    for (uint64_t seed = 1; seed <= 12; seed++)
        run_program(seed * 7919);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    fixture_run_by_each(&track, "every_image_is_what_a_random_program_left",
                        every_image_is_what_a_random_program_left);
    return tap_done();
}
