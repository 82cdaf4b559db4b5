/*
 * pool_dax.c - the DAX back end: bytes arrive without a system call, growth is durable and mapped,
 * what cannot be mapped is written all the same, and the mapping stays the writer's own.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/base/sys.h"
#include "t/lib/dax_fixture.h"
#include "t/lib/pool_oracle.h"
#include "t/lib/tap.h"

#define WINDOW_BYTES      (4ull << 20)
#define POOL_WINDOW_BYTES (64ull << 20)

static char path[128];
static struct persist persist;
static uint8_t *window, *pool_window;
static int file;

/* A file of file_bytes, open with the DAX back end. */
static void begin(uint64_t file_bytes)
{
    struct persist_pmem pmem;

    persist_close(&persist);
    CHECK_EQ(ftruncate(file, 0), 0);
    persist_open_file(&persist, file, 0);
    CHECK_OK(persist_grow(&persist, file_bytes));
    pmem = dax_pmem(path);
    CHECK_OK(persist_use_dax(&persist, &pmem, window, WINDOW_BYTES));
    CHECK_STR(persist.ops->name, "dax");
}

static bool file_holds(uint64_t offset, const char *text)
{
    char found[64] = "";

    return pread(file, found, strlen(text), (off_t)offset) == (ssize_t)strlen(text) &&
           memcmp(found, text, strlen(text)) == 0;
}

static void written_bytes_arrive_without_a_system_call(void)
{
    begin(10000);
    CHECK_OK(persist_write(&persist, 5000, "hello", 5));
    CHECK_OK(persist_write(&persist, 9995, "world", 5));
    CHECK_OK(persist_sync(&persist));
    CHECK(file_holds(5000, "hello"));
    CHECK(file_holds(9995, "world"));
    CHECK_EQ(persist.bytes_written, 10);
    CHECK_EQ(persist.syncs, 1);
    CHECK_EQ(persist.file_syncs, 0);
}

static void growth_is_synced_mapped_and_reserved(void)
{
    struct stat info;

    begin(8192);
    CHECK_OK(persist_grow(&persist, 1 << 20));
    CHECK_EQ(persist.file_syncs, 1);
    CHECK_EQ(persist.dax.mapped_bytes, 1 << 20);
    CHECK_EQ(fstat(file, &info), 0);
    CHECK_EQ(info.st_size, 1 << 20);
    CHECK(info.st_blocks * 512 >= 1 << 20);
    CHECK_OK(persist_write(&persist, (1 << 20) - 3, "end", 3));
    CHECK_OK(persist_sync(&persist));
    CHECK(file_holds((1 << 20) - 3, "end"));
    CHECK_EQ(persist.file_syncs, 1);
    CHECK_EQ(persist_write(&persist, 1 << 20, "x", 1), -EINVAL);
}

static void growth_past_the_end_of_a_page_goes_on_in_the_next(void)
{
    begin(9000);
    CHECK_EQ(persist.dax.mapped_bytes, 12288);
    CHECK_OK(persist_grow(&persist, 20000));
    CHECK_EQ(persist.dax.mapped_bytes, 20480);
    CHECK_OK(persist_write(&persist, 8990, "across two growths", 18));
    CHECK_OK(persist_sync(&persist));
    CHECK(file_holds(8990, "across two growths"));
}

static void what_the_window_does_not_hold_is_written_as_to_any_file(void)
{
    begin(8192);
    CHECK_OK(persist_grow(&persist, WINDOW_BYTES + 8192));
    CHECK_EQ(persist.dax.mapped_bytes, WINDOW_BYTES);
    CHECK_EQ(persist.file_syncs, 1);
    CHECK_OK(persist_write(&persist, WINDOW_BYTES - 2, "edge", 4));
    CHECK_OK(persist_write(&persist, WINDOW_BYTES + 4096, "far", 3));
    CHECK_OK(persist_sync(&persist));
    CHECK_EQ(persist.file_syncs, 2);
    CHECK(file_holds(WINDOW_BYTES - 2, "edge"));
    CHECK(file_holds(WINDOW_BYTES + 4096, "far"));
    CHECK_OK(persist_write(&persist, 0, "near", 4));
    CHECK_OK(persist_sync(&persist));
    CHECK_EQ(persist.file_syncs, 2);
}

/* A copied pool may have holes; a store to one on a full disk would be SIGBUS. */
static void holes_are_filled_before_they_are_mapped(void)
{
    struct persist_pmem pmem;
    struct stat info;

    begin(8192);
    pmem = persist.dax.pmem;
    persist_close(&persist);
    CHECK_EQ(ftruncate(file, 0), 0);
    CHECK_EQ(ftruncate(file, 1 << 20), 0);
    persist_open_file(&persist, file, 1 << 20);
    CHECK_OK(persist_use_dax(&persist, &pmem, window, WINDOW_BYTES));
    CHECK_EQ(fstat(file, &info), 0);
    CHECK(info.st_blocks * 512 >= 1 << 20);
}

static void a_child_of_fork_does_not_have_the_mapping(void)
{
    unsigned char present;
    int status = -1, pid;

    begin(8192);
    pid = fork();
    if (pid == 0)
        _exit(mincore(window, 4096, &present) < 0 && errno == ENOMEM ? 0 : 1);
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    CHECK_EQ(status, 0);
}

/* The writer's lock ends when the writer closes its descriptor, whoever has the memory. */
static void the_mapping_keeps_no_lock(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    struct persist_pmem pmem;
    int locked, other;

    begin(8192);
    pmem = persist.dax.pmem;
    persist_close(&persist);
    locked = open(path, O_RDWR | O_CLOEXEC);
    other = open(path, O_RDWR | O_CLOEXEC);
    persist_open_file(&persist, locked, 8192);
    CHECK_OK(persist_use_dax(&persist, &pmem, window, WINDOW_BYTES));
    CHECK_EQ(fcntl(locked, F_OFD_SETLK, &lock), 0);
    CHECK(fcntl(other, F_OFD_SETLK, &lock) < 0);
    close(locked);
    CHECK_EQ(fcntl(other, F_OFD_SETLK, &lock), 0);
    close(other);
    persist_close(&persist);
}

static void close_gives_the_reservation_back(void)
{
    int before = open("/dev/null", O_RDONLY | O_CLOEXEC), after;
    unsigned char present[WINDOW_BYTES / 4096];
    int ends[2];

    close(before);
    begin(8192);
    persist_close(&persist);
    CHECK(persist.dax.window == NULL);
    after = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(after);
    CHECK_EQ(after, before);
    CHECK_EQ(mincore(window, WINDOW_BYTES, present), 0);
    CHECK_EQ(pipe(ends), 0);
    CHECK(write(ends[1], window, 1) < 0 && errno == EFAULT); /* PROT_NONE again */
    close(ends[0]);
    close(ends[1]);
}

/* Where a fence is not enough the back end is refused, whatever is forced. */
static void an_ordinary_file_keeps_the_file_back_end(void)
{
    char name[] = "/var/tmp/pheap-dax-XXXXXX";
    int ordinary = mkstemp(name);
    struct persist_pmem pmem;
    struct persist other;

    begin(8192);
    pmem = persist.dax.pmem;
    persist_close(&persist);
    if (ordinary < 0 || persist_may_use_dax(name, true)) {
        tap_note("no ordinary file system at /var/tmp: not tried");
    } else {
        persist_open_file(&other, ordinary, 0);
        CHECK_OK(persist_grow(&other, 8192));
        pmem.forced = true;
        CHECK_EQ(persist_use_dax(&other, &pmem, window, WINDOW_BYTES), -EOPNOTSUPP);
        CHECK_STR(other.ops->name, "file");
        CHECK_OK(persist_write(&other, 0, "x", 1));
        CHECK_OK(persist_sync(&other));
        persist_close(&other);
    }
    unlink(name);
    close(ordinary);
}

static void tmpfs_is_taken_only_if_it_is_forced(void)
{
    struct persist_pmem pmem;

    begin(8192);
    pmem = persist.dax.pmem;
    if (!pmem.forced) {
        tap_skip("this is persistent memory");
        return;
    }
    persist_close(&persist);
    persist_open_file(&persist, file, 8192);
    pmem.forced = false;
    CHECK_EQ(persist_use_dax(&persist, &pmem, window, WINDOW_BYTES), -EOPNOTSUPP);
    CHECK_STR(persist.ops->name, "file");
}

/* The golden cost of a generation that needs no growth. */
static void a_commit_is_two_fences_and_no_file_sync(void)
{
    static struct oracle oracle;
    struct problem why = {0};
    struct arena arena;
    struct pool pool;
    char pool_path[140];

    begin(8192);
    snprintf(pool_path, sizeof pool_path, "%s.pool", path);
    CHECK_OK(arena_create(&arena, 1ull << 30));
    CHECK_OK(pool_create(pool_path, 7, 3, &why));
    CHECK_OK(pool_open(&pool, pool_path, POOL_WRITE, &why));
    CHECK_OK(persist_use_dax(&pool.persist, &persist.dax.pmem, pool_window, POOL_WINDOW_BYTES));
    CHECK_OK(pool_load(&pool, &arena, 0, &why));
    for (uint32_t i = 0; i < 4; i++) {
        uint64_t syncs = pool.persist.syncs, file_syncs = pool.persist.file_syncs;

        CHECK_OK(oracle_write(&oracle, &pool, 0, 20, 100 + 20 * i));
        CHECK_OK(oracle_commit(&oracle, &pool, GENERATION_PROCESS, 0, 5000, &why));
        CHECK_EQ(pool.persist.syncs - syncs, 2);
        CHECK_EQ(pool.persist.file_syncs - file_syncs, i == 0); /* the first makes it grow */
    }
    CHECK_EQ(pool_generation(&pool, 0)->number, 4);
    pool_close(&pool);
    arena_destroy(&arena);
    unlink(pool_path);
}

static void *find_nothing(void *library, const char *name)
{
    (void)library, (void)name;
    return NULL;
}

static void a_library_without_the_functions_is_refused(void)
{
    struct persist_pmem pmem = {0};

    CHECK_EQ(persist_pmem_find(&pmem, path, find_nothing, NULL), -ENOSYS);
    CHECK(pmem.copy == NULL && pmem.drain == NULL);
}

int main(int argc, char **argv)
{
    const char *directory = dax_directory();

    tap_arguments(argc, argv);
    if (directory == NULL)
        return tap_done();
    snprintf(path, sizeof path, "%.80s/pheap-dax-XXXXXX", directory);
    file = mkstemp(path);
    if (file < 0)
        return 1;
    window = dax_window(WINDOW_BYTES);
    pool_window = dax_window(POOL_WINDOW_BYTES);
    RUN(written_bytes_arrive_without_a_system_call);
    RUN(growth_is_synced_mapped_and_reserved);
    RUN(growth_past_the_end_of_a_page_goes_on_in_the_next);
    RUN(what_the_window_does_not_hold_is_written_as_to_any_file);
    RUN(holes_are_filled_before_they_are_mapped);
    RUN(a_child_of_fork_does_not_have_the_mapping);
    RUN(the_mapping_keeps_no_lock);
    RUN(close_gives_the_reservation_back);
    RUN(an_ordinary_file_keeps_the_file_back_end);
    RUN(a_commit_is_two_fences_and_no_file_sync);
    RUN(tmpfs_is_taken_only_if_it_is_forced);
    RUN(a_library_without_the_functions_is_refused);
    persist_close(&persist);
    unlink(path);
    return tap_done();
}
