/*
 * image_maps.c - /proc/PID/maps, real and as an enemy would write it.
 */
#include "t/lib/tap.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/image/maps.h"

static struct arena arena;
static struct address_space space;

/* Reads text as if it were a maps file. */
static int read_text(const char *text, size_t bytes)
{
    char path[300];
    const char *tmp = getenv("TMPDIR");
    int fd = -1, status = 0;

    snprintf(path, sizeof path, "%s/pheap-maps-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    fd = mkstemp(path);
    CHECK(fd >= 0);
    CHECK_EQ(write(fd, text, bytes), bytes);
    close(fd);
    arena_rewind(&arena, arena.base);
    status = maps_read(&space, path, &arena);
    unlink(path);
    return status;
}

static int read_line(const char *line)
{
    memset(&space, 0, sizeof space);
    return read_text(line, strlen(line));
}

static void our_own_maps_are_read_whole(void)
{
    int local = 0;
    static int data = 1;
    const struct mapping *stack = NULL, *image = NULL;

    memset(&space, 0, sizeof space);
    arena_rewind(&arena, arena.base);
    CHECK_OK(maps_read(&space, "/proc/self/maps", &arena));
    CHECK(maps_are_valid(&space));
    stack = maps_find(&space, (uintptr_t)&local);
    image = maps_find(&space, (uintptr_t)&data);
    if (CHECK(stack != NULL)) {
        CHECK_STR(stack->name, "[stack]");
        CHECK(stack->grows_down);
        CHECK_EQ(stack->kind, MAPPING_ANON);
        CHECK_EQ(stack->prot, PROT_READ | PROT_WRITE);
    }
    if (CHECK(image != NULL))
        CHECK(image->kind == MAPPING_FILE || image->kind == MAPPING_ANON);
    CHECK(maps_find(&space, 0) == NULL);
    CHECK(maps_find(&space, UINTPTR_MAX) == NULL);
}

static void each_kind_of_mapping_is_recognised(void)
{
    static const struct {
        const char *line;
        enum mapping_kind kind;
        const char *name;
    } cases[] = {
        {"1000-2000 rw-p 00000000 00:00 0 \n", MAPPING_ANON, ""},
        {"1000-2000 rw-p 00000000 00:00 0\n", MAPPING_ANON, ""},
        {"1000-2000 rw-p 00000000 00:00 0      [heap]\n", MAPPING_ANON, "[heap]"},
        {"1000-2000 rw-p 00000000 00:00 0      [anon:x y]\n", MAPPING_ANON, "[anon:x y]"},
        {"1000-2000 r--p 00000000 00:00 0      [vvar]\n", MAPPING_VDSO, "[vvar]"},
        {"1000-2000 r--p 00000000 00:00 0      [vvar_vclock]\n", MAPPING_VDSO, "[vvar_vclock]"},
        {"1000-2000 r-xp 00000000 00:00 0      [vdso]\n", MAPPING_VDSO, "[vdso]"},
        {"1000-2000 --xp 00000000 00:00 0      [vsyscall]\n", MAPPING_VSYSCALL, "[vsyscall]"},
        {"1000-2000 rw-p 00000000 00:00 0      [uprobes]\n", MAPPING_OTHER, "[uprobes]"},
        {"1000-2000 rw-s 00000000 00:0e 77     anon_inode:[io_uring]\n", MAPPING_OTHER,
         "anon_inode:[io_uring]"},
        {"1000-2000 r-xp 00001000 fe:01 1234   /usr/bin/a b\n", MAPPING_FILE, "/usr/bin/a b"},
        {"1000-2000 r-xp 00001000 fe:01 1234   /[heap]\n", MAPPING_FILE, "/[heap]"},
        {"1000-2000 r-xp 00001000 fe:01 1234   /a\\012b\n", MAPPING_FILE, "/a\nb"},
        {"1000-2000 rw-s 00000000 00:01 9      /dev/zero (deleted)\n", MAPPING_FILE, "/dev/zero"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_OK(read_line(cases[i].line));
        if (!CHECK_EQ(space.count, 1))
            continue;
        CHECK_EQ(space.mappings[0].kind, cases[i].kind);
        CHECK_STR(space.mappings[0].name, cases[i].name);
    }
}

static void a_line_is_taken_apart_rightly(void)
{
    const struct mapping *m = NULL;

    CHECK_OK(read_line("7f0000001000-7f0000003000 r-xs 0000000000abc000 fe:1a 4294967297 "
                       "               /lib/x.so (deleted)\n"));
    m = space.mappings;
    CHECK_EQ(m->start, 0x7f0000001000);
    CHECK_EQ(m->end, 0x7f0000003000);
    CHECK_EQ(m->prot, PROT_READ | PROT_EXEC);
    CHECK(m->shared && m->deleted && !m->is_heap && !m->grows_down);
    CHECK_EQ(m->file_offset, 0xabc000);
    CHECK_EQ(m->dev_major, 0xfe);
    CHECK_EQ(m->dev_minor, 0x1a);
    CHECK_EQ(m->inode, 4294967297ll);
    CHECK_STR(m->name, "/lib/x.so");
    /* A file that is called so and is there looks the same but for the suffix's doubling. */
    CHECK_OK(read_line("1000-2000 r--p 00000000 fe:01 5   /x (deleted) (deleted)\n"));
    CHECK_STR(space.mappings[0].name, "/x (deleted)");
}

static void what_the_kernel_would_not_write_is_refused(void)
{
    static const char *const lines[] = {
        "1000-2000 rw-p 00000000 00:00 0",            /* no newline */
        "2000-1000 rw-p 00000000 00:00 0\n",          /* ends before it starts */
        "1000-1000 rw-p 00000000 00:00 0\n",          /* empty */
        "1001-2000 rw-p 00000000 00:00 0\n",          /* not on a page */
        "1000-2000 rw-q 00000000 00:00 0\n",          /* permissions */
        "1000-2000 rw- 00000000 00:00 0\n",           /* cut short */
        "1000-2000\n",                                /* likewise */
        "\n",                                         /* nothing */
        "11111111111111111000-2000 rw-p 0 00:00 0\n", /* overflow */
        "1000-2000 rw-p 00000000 00:00 99999999999999999999999\n",
        "1000-2000 rw-p 00000000 00:00 x\n",
        "1000-2000 rw-p 00000000 0000 0\n",
        "1000-2000 rw-p 00000000 100000000:00 0\n",
    };

    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        int status = read_line(lines[i]);

        if (status != STATUS_DAMAGED)
            tap_check(false, __FILE__, __LINE__, "case %zu: %d", i, status);
    }
    memset(&space, 0, sizeof space);
    CHECK_EQ(read_text("1000-2000 rw-p 0 00:00 0 /a\0b\n", 31), STATUS_DAMAGED);
}

static void excluded_ranges_are_cut_out(void)
{
    static const char text[] = "1000-9000 rw-p 00010000 fe:01 5   /x\n"
                               "9000-a000 rw-p 00000000 00:00 0\n"
                               "b000-c000 rw-p 00000000 00:00 0\n";

    memset(&space, 0, sizeof space);
    space.excluded[0] = (struct address_range){0x6000, 0x7000};
    space.excluded[1] = (struct address_range){0x2000, 0x4000};
    space.excluded[2] = (struct address_range){0x8000, 0xa000};
    space.excluded[3] = (struct address_range){0xb000, 0xd000};
    space.excluded_count = 4;
    CHECK_OK(read_text(text, sizeof text - 1));
    CHECK_EQ(space.count, 3);
    CHECK(maps_are_valid(&space));
    if (space.count != 3)
        return;
    CHECK_EQ(space.mappings[0].start, 0x1000);
    CHECK_EQ(space.mappings[0].end, 0x2000);
    CHECK_EQ(space.mappings[0].file_offset, 0x10000);
    CHECK_EQ(space.mappings[1].start, 0x4000);
    CHECK_EQ(space.mappings[1].end, 0x6000);
    CHECK_EQ(space.mappings[1].file_offset, 0x13000);
    CHECK_EQ(space.mappings[2].start, 0x7000);
    CHECK_EQ(space.mappings[2].end, 0x8000);
    CHECK(maps_find(&space, 0x3000) == NULL);
    CHECK(maps_find(&space, 0x4fff) == &space.mappings[1]);
}

/* Between two reads of the file the first mapping grew over its neighbour. */
static void what_is_told_twice_is_clipped(void)
{
    CHECK_OK(read_line("1000-3000 r--p 00000000 fe:01 5   /x\n"
                       "1000-5000 r--p 00000000 fe:01 5   /x\n"
                       "2000-4000 rw-p 00000000 00:00 0\n"
                       "5000-6000 rw-p 00000000 00:00 0\n"));
    CHECK(maps_are_valid(&space));
    CHECK_EQ(space.count, 3);
    CHECK_EQ(space.mappings[1].start, 0x3000);
    CHECK_EQ(space.mappings[1].end, 0x5000);
    CHECK_EQ(space.mappings[1].file_offset, 0x2000);
    CHECK_EQ(space.mappings[2].start, 0x5000);
}

static void a_private_mapping_of_the_pool_is_known(void)
{
    memset(&space, 0, sizeof space);
    space.pool_inode = 5;
    space.pool_dev_major = 0xfe;
    space.pool_dev_minor = 1;
    static const char text[] = "1000-2000 rw-p 00010000 fe:01 5   /pool\n"
                               "2000-3000 rw-s 00010000 fe:01 5   /pool\n"
                               "3000-4000 rw-p 00010000 fe:02 5   /pool\n"
                               "4000-5000 rw-p 00010000 fe:01 6   /pool\n";

    CHECK_OK(read_text(text, sizeof text - 1));
    CHECK_EQ(space.count, 4);
    CHECK_EQ(space.mappings[0].kind, MAPPING_POOL);
    CHECK_EQ(space.mappings[1].kind, MAPPING_FILE);
    CHECK_EQ(space.mappings[2].kind, MAPPING_FILE);
    CHECK_EQ(space.mappings[3].kind, MAPPING_FILE);
}

static void twenty_thousand_mappings_are_read(void)
{
    enum { PAGES = 20000 };
    char *memory = mmap(NULL, PAGES * 4096ul, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    for (size_t i = 0; i < PAGES; i += 2)
        CHECK(mprotect(memory + i * 4096, 4096, PROT_NONE) == 0);
    memset(&space, 0, sizeof space);
    arena_rewind(&arena, arena.base);
    CHECK_OK(maps_read(&space, "/proc/self/maps", &arena));
    CHECK(maps_are_valid(&space));
    CHECK(space.count >= PAGES);
    const struct mapping *m = maps_find(&space, (uintptr_t)memory + 777 * 4096);

    CHECK(m && m->prot == PROT_READ && m->end - m->start == 4096);
    munmap(memory, PAGES * 4096ul);
}

static void too_little_memory_is_reported(void)
{
    struct arena tiny;

    CHECK_OK(arena_create(&tiny, 1 << 20));
    while (arena_alloc(&tiny, 4096, 8))
        ;
    memset(&space, 0, sizeof space);
    CHECK_EQ(maps_read(&space, "/proc/self/maps", &tiny), -12);
    CHECK_EQ(maps_read(&space, "/nowhere/maps", &tiny), -2);
    arena_destroy(&tiny);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    CHECK_OK(arena_create(&arena, 64 << 20));
    RUN(our_own_maps_are_read_whole);
    RUN(each_kind_of_mapping_is_recognised);
    RUN(a_line_is_taken_apart_rightly);
    RUN(what_the_kernel_would_not_write_is_refused);
    RUN(excluded_ranges_are_cut_out);
    RUN(what_is_told_twice_is_clipped);
    RUN(a_private_mapping_of_the_pool_is_known);
    RUN(twenty_thousand_mappings_are_read);
    RUN(too_little_memory_is_reported);
    arena_destroy(&arena);
    return tap_done();
}
