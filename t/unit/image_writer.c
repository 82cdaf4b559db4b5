/*
 * image_writer.c - what a generation holds after memory was changed in every way a program can:
 * each test runs with the kernel's dirty tracking and by page checksums.
 */
#include "t/lib/image_each.h"

#include <errno.h>
#include <fcntl.h>

#include "core/heap/heap.h"

static void a_generation_holds_what_memory_was_at_the_cut(void)
{
    char *memory = fixture_map(300);
    void *first = NULL, *second = NULL;

    if (start()) {
        fill(memory, 300 * 4096, 1);
        CHECK(fixture_checkpoint(&f));
        CHECK(fixture_shows(&f, memory, remember(memory, 300), 300 * 4096));
        first = remember(memory, 300);
        memory[5 * 4096 + 17] ^= 1;
        memset(memory + 100 * 4096, 7, 3 * 4096);
        CHECK(fixture_checkpoint(&f));
        second = remember(memory, 300);
        CHECK(fixture_shows(&f, memory, second, 300 * 4096));
        CHECK(memcmp(first, second, 300 * 4096) != 0);
        /* Stores after the cut are not in it. */
        CHECK_OK(fixture_precopy(&f));
        memory[17] ^= 1;
        CHECK_OK(fixture_cut(&f));
        memory[17] ^= 1;
        CHECK_OK(fixture_commit(&f));
        CHECK(!fixture_shows(&f, memory, second, 4096));
    }
    fixture_stop(&f);
    munmap(memory, 300 * 4096);
}

static void a_second_generation_is_as_large_as_what_was_written(void)
{
    enum { PAGES = 4096, STEP = 40 };
    char *memory = fixture_map(PAGES);

    if (start()) {
        fill(memory, PAGES * 4096, 2);
        CHECK(fixture_checkpoint(&f));
        CHECK(f.entry.written_bytes >= PAGES * 4096ull);
        for (size_t i = 0; i < PAGES; i += STEP)
            memory[i * 4096]++;
        CHECK(fixture_checkpoint(&f));
        CHECK(f.entry.written_bytes >= PAGES / STEP * 4096ull);
        /* Pages of the test itself, and a leaf of the index for every 256 pages. */
        CHECK(f.entry.written_bytes <= (PAGES / STEP + PAGES / 256 + 250) * 4096ull);
    }
    fixture_stop(&f);
    munmap(memory, PAGES * 4096);
}

static void dropped_and_unmapped_pages_lose_their_entries(void)
{
    char *memory = fixture_map(64);

    if (start()) {
        fill(memory, 64 * 4096, 3);
        CHECK(fixture_checkpoint(&f));
        CHECK(fixture_entry(&f, memory + 10 * 4096).frame >= FRAME_FIRST);
        madvise(memory + 10 * 4096, 5 * 4096, MADV_DONTNEED);
        munmap(memory + 32 * 4096, 8 * 4096);
        CHECK(fixture_checkpoint(&f));
        CHECK_EQ(fixture_entry(&f, memory + 10 * 4096).frame, FRAME_NONE);
        CHECK_EQ(fixture_entry(&f, memory + 14 * 4096).frame, FRAME_NONE);
        CHECK(fixture_entry(&f, memory + 15 * 4096).frame >= FRAME_FIRST);
        CHECK(fixture_entry(&f, memory + 31 * 4096).frame >= FRAME_FIRST);
        CHECK_EQ(fixture_entry(&f, memory + 32 * 4096).frame, FRAME_NONE);
        CHECK_EQ(fixture_entry(&f, memory + 39 * 4096).frame, FRAME_NONE);
        CHECK(fixture_entry(&f, memory + 40 * 4096).frame >= FRAME_FIRST);
        CHECK(image_writer_stats(f.writer)->cleared_pages >= 13);
    }
    fixture_stop(&f);
    munmap(memory, 64 * 4096);
}

static void a_page_of_zeroes_takes_no_frame(void)
{
    char *memory = fixture_map(64);

    if (start()) {
        fill(memory, 16 * 4096, 4);
        CHECK(fixture_checkpoint(&f));
        memset(memory, 0, 4 * 4096);
        CHECK_EQ(memory[20 * 4096], 0); /* the kernel's zero page */
        CHECK(fixture_checkpoint(&f));
        CHECK_EQ(fixture_entry(&f, memory).frame, FRAME_NONE);
        CHECK_EQ(fixture_entry(&f, memory + 3 * 4096).frame, FRAME_NONE);
        CHECK(fixture_entry(&f, memory + 4 * 4096).frame >= FRAME_FIRST);
        CHECK_EQ(fixture_entry(&f, memory + 20 * 4096).frame, FRAME_NONE);
        /* Written, dropped, read: the zero page again, with an entry to lose. */
        madvise(memory + 5 * 4096, 4096, MADV_DONTNEED);
        CHECK_EQ(memory[5 * 4096], 0);
        CHECK(fixture_checkpoint(&f));
        CHECK_EQ(fixture_entry(&f, memory + 5 * 4096).frame, FRAME_NONE);
    }
    fixture_stop(&f);
    munmap(memory, 64 * 4096);
}

static void pages_without_read_permission_are_saved(void)
{
    char *memory = fixture_map(16);

    if (start()) {
        fill(memory, 16 * 4096, 5);
        void *model = remember(memory, 16);

        mprotect(memory, 8 * 4096, PROT_NONE);
        CHECK(fixture_checkpoint(&f));
        CHECK(fixture_shows(&f, memory, model, 16 * 4096));
        mprotect(memory, 8 * 4096, PROT_READ | PROT_WRITE);
        memory[4096]++;
        mprotect(memory, 16 * 4096, PROT_NONE);
        CHECK(fixture_checkpoint(&f));
        mprotect(memory, 16 * 4096, PROT_READ);
        CHECK(fixture_shows(&f, memory, remember(memory, 16), 16 * 4096));
    }
    fixture_stop(&f);
    munmap(memory, 16 * 4096);
}

static void a_cut_without_precopy_is_complete(void)
{
    char *memory = fixture_map(500);

    if (start()) {
        fill(memory, 500 * 4096, 8);
        CHECK_OK(fixture_cut(&f));
        CHECK_OK(fixture_commit(&f));
        CHECK(fixture_shows(&f, memory, remember(memory, 500), 500 * 4096));
        memory[77 * 4096]++;
        CHECK_OK(fixture_cut(&f));
        CHECK_OK(fixture_commit(&f));
        CHECK(fixture_shows(&f, memory, remember(memory, 500), 500 * 4096));
    }
    fixture_stop(&f);
    munmap(memory, 500 * 4096);
}

static void moved_and_grown_mappings_are_followed(void)
{
    char *memory = fixture_map(64), *moved = NULL;

    if (start()) {
        fill(memory, 64 * 4096, 10);
        CHECK(fixture_checkpoint(&f));
        moved =
            mremap(memory, 64 * 4096, 128 * 4096, MREMAP_MAYMOVE | MREMAP_FIXED, fixture_map(128));
        CHECK(moved != MAP_FAILED);
        moved[65 * 4096] = 1;
        CHECK(fixture_checkpoint(&f));
        CHECK(fixture_shows(&f, moved, remember(moved, 128), 128 * 4096));
        CHECK_EQ(fixture_entry(&f, memory).frame, FRAME_NONE);
        moved[1]++;
        CHECK(fixture_checkpoint(&f));
        CHECK(fixture_shows(&f, moved, remember(moved, 128), 128 * 4096));
    }
    fixture_stop(&f);
    munmap(moved, 128 * 4096);
}

static void of_a_file_mapping_the_changed_pages_are_saved(void)
{
    char *memory = NULL, zeroes[4096] = {0};
    char *model = NULL;
    int fd = -1;

    if (start()) {
        char path[400];

        snprintf(path, sizeof path, "%s/file", f.dir);
        fd = open(path, O_RDWR | O_CREAT, 0600);
        model = fixture_model(&f, 32 * 4096);
        fill(model, 32 * 4096, 11);
        CHECK_EQ(write(fd, model, 32 * 4096), 32 * 4096);
        memory = mmap(NULL, 32 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
        CHECK_EQ(memcmp(memory, model, 32 * 4096), 0);
        memory[3 * 4096]++;
        memset(memory + 4 * 4096, 0, 4096);
        CHECK(fixture_checkpoint(&f));
        CHECK_EQ(fixture_entry(&f, memory).frame, FRAME_NONE);
        CHECK(fixture_entry(&f, memory + 3 * 4096).frame >= FRAME_FIRST);
        CHECK_EQ(fixture_entry(&f, memory + 4 * 4096).frame, FRAME_ZERO);
        CHECK(fixture_shows(&f, memory + 3 * 4096, remember(memory + 3 * 4096, 1), 4096));
        CHECK(fixture_shows(&f, memory + 4 * 4096, zeroes, 4096));
        /* Dropped: the file's page again. */
        memory[9 * 4096]++;
        madvise(memory + 3 * 4096, 4096, MADV_DONTNEED);
        CHECK(fixture_checkpoint(&f));
        CHECK(fixture_checkpoint(&f));
        CHECK(fixture_entry(&f, memory + 9 * 4096).frame >= FRAME_FIRST);
        /* No entry, or one that shows the file's content. */
        if (fixture_entry(&f, memory + 3 * 4096).frame != FRAME_NONE)
            CHECK(fixture_shows(&f, memory + 3 * 4096, model + 3 * 4096, 4096));
        /* Read-only, as RELRO is. */
        mprotect(memory, 32 * 4096, PROT_READ);
        CHECK(fixture_checkpoint(&f));
        CHECK(fixture_shows(&f, memory + 9 * 4096, remember(memory + 9 * 4096, 1), 4096));
        munmap(memory, 32 * 4096);
        unlink(path);
        close(fd);
    }
    fixture_stop(&f);
}

static void shared_and_excluded_memory_is_left_out(void)
{
    char *shared = mmap(NULL, 16 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (start()) {
        char *excluded = fixture_model(&f, 4096);

        fill(shared, 16 * 4096, 12);
        fill(excluded, 4096, 13);
        CHECK(fixture_checkpoint(&f));
        CHECK_EQ(fixture_entry(&f, shared).frame, FRAME_NONE);
        CHECK_EQ(fixture_entry(&f, excluded).frame, FRAME_NONE);
    }
    fixture_stop(&f);
    munmap(shared, 16 * 4096);
}

static void huge_pages_are_tracked_page_by_page(void)
{
    size_t huge = 2 << 20;
    char *memory = fixture_map(4 * huge / 4096);
    char *aligned = (char *)(((uintptr_t)memory + huge - 1) & ~(huge - 1));

    if (start()) {
        madvise(aligned, 3 * huge, MADV_HUGEPAGE);
        fill(aligned, 3 * huge, 14);
        CHECK(fixture_checkpoint(&f));
        CHECK(fixture_shows(&f, aligned, remember(aligned, 3 * huge / 4096), 3 * huge));
        aligned[huge + 5 * 4096]++;
        madvise(aligned + 7 * 4096, 4096, MADV_DONTNEED);
        CHECK(fixture_checkpoint(&f));
        CHECK(fixture_shows(&f, aligned, remember(aligned, 3 * huge / 4096), 3 * huge));
        CHECK(f.entry.written_bytes < huge);
    }
    fixture_stop(&f);
    munmap(memory, 4 * huge);
}

static void a_terabyte_reserved_costs_nothing(void)
{
    char *memory =
        mmap(NULL, 1ull << 40, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    CHECK(memory != MAP_FAILED);
    if (start()) {
        CHECK(fixture_checkpoint(&f));
        CHECK_OK(fixture_cut(&f));
        CHECK(image_writer_stats(f.writer)->scan_ns < 200000000u);
        CHECK_OK(fixture_commit(&f));
        mprotect(memory + (1ull << 39), 4096, PROT_READ | PROT_WRITE);
        fill(memory + (1ull << 39), 4096, 15);
        CHECK(fixture_checkpoint(&f));
        CHECK(fixture_shows(&f, memory + (1ull << 39), remember(memory + (1ull << 39), 1), 4096));
    }
    fixture_stop(&f);
    munmap(memory, 1ull << 40);
}

static void what_was_written_can_be_counted_without_a_checkpoint(void)
{
    enum { PAGES = 3000, NOISE = 300 };
    char *memory = fixture_map(PAGES), *more;
    int64_t before, count;

    if (start()) {
        fill(memory, PAGES * 4096, 70);
        CHECK(fixture_checkpoint(&f));
        before = image_writer_count_dirty(f.writer, &f.space, 1u << 20);
        CHECK(before >= 0 && before < NOISE);
        for (size_t i = 0; i < PAGES; i += 2)
            memory[i * 4096]++;
        more = fixture_map(1000); /* new, and not registered yet */
        fill(more, 1000 * 4096, 71);
        count = image_writer_count_dirty(f.writer, &f.space, 1u << 20);
        CHECK(count >= (track == TRACKING_CHECKSUM ? 1000 : 2500));
        /* By soft-dirty bits a mapping that a new one has merged with is written as a whole. */
        CHECK(count < (track == TRACKING_SOFT_DIRTY ? PAGES + 1000 : 2500) + NOISE);
        count = image_writer_count_dirty(f.writer, &f.space, 100);
        CHECK(count >= 100);
        CHECK(fixture_checkpoint(&f)); /* counting has taken no mark away */
        CHECK(fixture_shows(&f, memory, memory, PAGES * 4096));
        CHECK(image_writer_count_dirty(f.writer, &f.space, 1u << 20) < NOISE);
        munmap(more, 1000 * 4096);
    }
    fixture_stop(&f);
    munmap(memory, PAGES * 4096);
}

static void memory_behind_protection_keys_is_saved(void)
{
    char *memory = fixture_map(16);
    int key = pkey_alloc(0, 0);

    if (start() && key < 0) {
        tap_skip("no memory protection keys here");
    } else if (key >= 0) {
        fill(memory, 16 * 4096, 25);
        void *model = remember(memory, 16);

        CHECK(pkey_mprotect(memory, 16 * 4096, PROT_READ | PROT_WRITE, key) == 0);
        CHECK(pkey_set(key, PKEY_DISABLE_ACCESS) == 0);
        CHECK(fixture_checkpoint(&f));
        CHECK(fixture_shows(&f, memory, model, 16 * 4096));
        CHECK(pkey_set(key, PKEY_DISABLE_ACCESS) == 0);
        CHECK_OK(fixture_cut(&f)); /* without a pre-copy */
        CHECK_OK(fixture_commit(&f));
        CHECK(fixture_shows(&f, memory, model, 16 * 4096));
    }
    fixture_stop(&f);
    munmap(memory, 16 * 4096);
    if (key >= 0)
        pkey_free(key);
}

/* What a restore does: the generation is mapped at its address, and a new writer goes on. */
static void a_restored_slot_is_carried_on(void)
{
    enum { PAGES = 2000 };
    char *memory = (char *)SLOT_BASE(7);
    struct pool pool;
    struct image image;

    CHECK(mmap(memory, PAGES * 4096ul, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == memory);
    if (start()) {
        fill(memory, PAGES * 4096, 24);
        memset(memory + 50 * 4096, 0, 10 * 4096);
        CHECK(fixture_checkpoint(&f));
        for (int i = 0; i < 200; i++)
            memory[(i * 7 + 300) * 4096]++;
        CHECK(fixture_checkpoint(&f));
        char *model = remember(memory, PAGES);

        image_writer_destroy(f.writer);
        pool_close(&f.pool);
        munmap(memory, PAGES * 4096);
        CHECK(fixture_image(&f, &pool, &image));
        CHECK_OK(image_map(&image, (uintptr_t)memory >> PAGE_SHIFT,
                           ((uintptr_t)memory >> PAGE_SHIFT) + PAGES, &f.why));
        pool_close(&pool);
        CHECK(fixture_open(&f, 2, track, 0));

        /* Nothing was written since: nothing of the slot is written, nothing is lost. */
        CHECK(fixture_checkpoint(&f));
        CHECK(fixture_shows(&f, memory, model, PAGES * 4096));
        CHECK(f.entry.written_bytes < 400 * 4096);
        for (int generation = 0; generation < 6; generation++) {
            for (int i = 0; i < 100; i++)
                memory[(i * 13 + generation) * 4096 + 5]++;
            memset(memory + (1400 + generation) * 4096, 0, 4096);
            /* Purged as the heap does it after a restore. */
            CHECK(mmap(memory + (1500 + generation * 8) * 4096, 4 * 4096, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
            CHECK(fixture_checkpoint(&f));
            CHECK_EQ(fixture_entry(&f, memory + (1500 + generation * 8) * 4096).frame, FRAME_NONE);
            CHECK_EQ(fixture_entry(&f, memory + (1400 + generation) * 4096).frame, FRAME_NONE);
            CHECK(fixture_shows(&f, memory, memory, PAGES * 4096));
            CHECK(f.entry.written_bytes < 600 * 4096);
        }
        munmap(memory, PAGES * 4096);
        CHECK(fixture_checkpoint(&f));
        CHECK_EQ(fixture_entry(&f, memory).frame, FRAME_NONE);
    }
    fixture_stop(&f);
    munmap(memory, PAGES * 4096ul);
}

static void move_pages_to(char *from, char *to)
{
    CHECK(mremap(from, 32 * 4096, 32 * 4096, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
}

static void a_neighbour_of_moved_pages_stays_tracked(void)
{
    char *memory = fixture_map(64), *elsewhere = fixture_map(32);

    if (start()) {
        fill(memory, 64 * 4096, 22);
        move_pages_to(memory + 32 * 4096, elsewhere);
        CHECK(fixture_checkpoint(&f));
        /* Back in its place: the kernel merges it with its neighbour, and drops the registration
         * of both. */
        move_pages_to(elsewhere, memory + 32 * 4096);
        memory[5 * 4096]++; /* before the scan */
        CHECK(fixture_checkpoint(&f));
        CHECK(fixture_shows(&f, memory, memory, 64 * 4096));
        memory[5 * 4096]++; /* after it */
        memory[6 * 4096]++;
        memory[40 * 4096]++;
        CHECK(fixture_checkpoint(&f));
        CHECK(fixture_shows(&f, memory, memory, 64 * 4096));
    }
    fixture_stop(&f);
    munmap(memory, 64 * 4096);
}

static void the_tracking_in_use_is_named(void)
{
    if (start()) {
        if (track == TRACKING_SOFT_DIRTY)
            CHECK_STR(image_writer_tracking(f.writer), "soft-dirty bits");
        else if (track == TRACKING_CHECKSUM || !f.features.userfaultfd_wp_async)
            CHECK_STR(image_writer_tracking(f.writer), "page checksums");
        else
            CHECK_STR(image_writer_tracking(f.writer),
                      "userfaultfd write protection and PAGEMAP_SCAN");
    }
    fixture_stop(&f);
}

/* A page that was saved, dropped and read is the kernel's zero page, which nobody wrote. */
static void a_page_dropped_and_read_again_reads_as_zero(void)
{
    char *memory = fixture_map(64);
    volatile char seen = 0;

    if (start()) {
        fill(memory, 64 * 4096, 90);
        CHECK(fixture_checkpoint(&f));
        madvise(memory, 32 * 4096, MADV_DONTNEED);
        for (size_t i = 0; i < 16; i++)
            seen ^= memory[i * 4096];
        CHECK(fixture_checkpoint(&f));
        CHECK(fixture_shows(&f, memory, memory, 64 * 4096));
        CHECK_EQ(fixture_entry(&f, memory).frame, FRAME_NONE);
        CHECK_EQ(seen, 0);
    }
    fixture_stop(&f);
    munmap(memory, 64 * 4096);
}

/* Between cuts the mark of a page goes, or comes, with its mapping: protected, split, merged. */
static void marks_survive_what_is_done_to_mappings(void)
{
    char *memory = fixture_map(96);

    if (start()) {
        fill(memory, 96 * 4096, 91);
        CHECK(fixture_checkpoint(&f));
        memory[3 * 4096]++; /* written, then split off, then merged again */
        mprotect(memory + 2 * 4096, 8 * 4096, PROT_READ);
        CHECK_OK(fixture_precopy(&f));
        mprotect(memory + 2 * 4096, 8 * 4096, PROT_READ | PROT_WRITE);
        memory[4 * 4096]++;
        munmap(memory + 40 * 4096, 8 * 4096); /* a new mapping that merges with both neighbours */
        CHECK(mmap(memory + 40 * 4096, 8 * 4096, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == memory + 40 * 4096);
        memory[41 * 4096] = 7;
        mprotect(memory + 80 * 4096, 4096, PROT_NONE);
        CHECK(fixture_checkpoint(&f));
        mprotect(memory + 80 * 4096, 4096, PROT_READ | PROT_WRITE);
        CHECK(fixture_shows(&f, memory, memory, 96 * 4096));
        memory[80 * 4096]++;
        memory[3 * 4096]++;
        CHECK(fixture_checkpoint(&f));
        CHECK(fixture_shows(&f, memory, memory, 96 * 4096));
    }
    fixture_stop(&f);
    munmap(memory, 96 * 4096);
}

/* Where the kernel has none: checked on such a kernel, as by soft-dirty bits on the others. */
static void soft_dirty_bits_that_are_not_there_are_refused_by_name(void)
{
    const struct image_writer_options options = {.features = &f.features,
                                                 .track = TRACKING_SOFT_DIRTY};
    struct image_writer *writer = NULL;

    track = TRACKING_CHECKSUM;
    if (start()) {
        f.features.soft_dirty = false;
        f.features.soft_dirty_error = -EOPNOTSUPP;
        CHECK_EQ(image_writer_create(&writer, &f.arena, &f.pool, &options, &f.why),
                 STATUS_UNSUPPORTED);
        CHECK(strstr(f.why.text, "CONFIG_MEM_SOFT_DIRTY") != NULL);
    }
    fixture_stop(&f);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN_EACH(a_generation_holds_what_memory_was_at_the_cut);
    RUN_EACH(a_second_generation_is_as_large_as_what_was_written);
    RUN_EACH(dropped_and_unmapped_pages_lose_their_entries);
    RUN_EACH(a_page_of_zeroes_takes_no_frame);
    RUN_EACH(pages_without_read_permission_are_saved);
    RUN_EACH(a_cut_without_precopy_is_complete);
    RUN_EACH(moved_and_grown_mappings_are_followed);
    RUN_EACH(of_a_file_mapping_the_changed_pages_are_saved);
    RUN_EACH(shared_and_excluded_memory_is_left_out);
    RUN_EACH(huge_pages_are_tracked_page_by_page);
    RUN_EACH(a_terabyte_reserved_costs_nothing);
    RUN_EACH(what_was_written_can_be_counted_without_a_checkpoint);
    RUN_EACH(memory_behind_protection_keys_is_saved);
    RUN_EACH(a_restored_slot_is_carried_on);
    RUN_EACH(a_neighbour_of_moved_pages_stays_tracked);
    RUN_EACH(a_page_dropped_and_read_again_reads_as_zero);
    RUN_EACH(marks_survive_what_is_done_to_mappings);
    RUN_EACH(the_tracking_in_use_is_named);
    RUN(soft_dirty_bits_that_are_not_there_are_refused_by_name);
    return tap_done();
}
