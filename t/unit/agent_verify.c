/*
 * agent_verify.c - after a restore: what the agent compares with its checksum it maps in, damage is
 * found, and where the program has put a userfaultfd of its own meanwhile nobody waits for it.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/agent/verify.h"
#include "core/base/checksum.h"
#include "core/base/kernel_uffd.h"
#include "core/base/sys.h"
#include "core/heap/heap.h"
#include "t/lib/tap.h"

#define SLOT         7
#define FIRST        ((SLOT_BASE(SLOT) >> PAGE_SHIFT) + 5)
#define PAGES        300u
#define SECONDS_MOST 20 /* to go through 300 pages */

#define NOT_PERMITTED 77

static char directory[256], path[300];
static struct arena arena;
static struct pool pool;
static struct problem why;

static void write_pages(void)
{
    uint8_t *data = malloc(PAGES * PAGE_BYTES);
    uint64_t numbers[PAGES], checksums[PAGES], bytes = 0;

    for (uint64_t i = 0; i < PAGES; i++) {
        memset(data + i * PAGE_BYTES, (int)i + 1, PAGE_BYTES);
        numbers[i] = FIRST + i;
        checksums[i] = checksum64(data + i * PAGE_BYTES, PAGE_BYTES);
    }
    CHECK_OK(pool_write_pages(&pool, numbers, checksums, data, PAGES, &bytes));
    free(data);
}

static bool make_pool(void)
{
    struct generation_entry entry = {.kind = GENERATION_HEAP, .slot = SLOT};
    const char *tmp = getenv("TMPDIR");

    snprintf(directory, sizeof directory, "%s/pheap-verify-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!CHECK(mkdtemp(directory) != NULL))
        return false;
    snprintf(path, sizeof path, "%s/pool", directory);
    if (!CHECK_OK(arena_create(&arena, 1ull << 30)) ||
        !CHECK_OK(pool_create(path, SLOT, 3, &why)) ||
        !CHECK_OK(pool_open(&pool, path, POOL_WRITE, &why)) ||
        !CHECK_OK(pool_load(&pool, &arena, 0, &why)))
        return false;
    write_pages();
    return CHECK_OK(pool_commit(&pool, &entry, "", 0, &why));
}

static void drop_pool(void)
{
    pool_close(&pool);
    arena_destroy(&arena);
    unlink(path);
    rmdir(directory);
}

static void *memory_of(uint64_t page)
{
    return (void *)(page << PAGE_SHIFT);
}

static uint64_t frame_of(uint64_t page)
{
    struct index_entry entry = {0};

    CHECK(index_lookup(pool.index, page, &entry) == 0);
    return entry.frame;
}

/* As a restore does. */
static void map_frames(void)
{
    for (uint64_t page = FIRST; page < FIRST + PAGES; page++)
        if (mmap(memory_of(page), PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
                 pool.fd, (off_t)(frame_of(page) << FRAME_SHIFT)) == MAP_FAILED)
            abort();
}

static int verify_all(void)
{
    struct verification verification = {0};
    int status = verify_begin(&verification, &arena, SLOT);

    while (status == 0 && verify_is_under_way(&verification))
        status = verify_step(&verification, &pool, &why);
    return status;
}

static bool is_mapped_in(uint64_t page)
{
    int fd = open("/proc/self/pagemap", O_RDONLY);
    uint64_t entry = 0;

    if (pread(fd, &entry, sizeof entry, (off_t)(page * sizeof entry)) != (ssize_t)sizeof entry)
        abort();
    close(fd);
    return entry >> 63;
}

static void what_is_whole_is_mapped_in(void)
{
    if (!make_pool())
        return;
    map_frames();
    CHECK_OK(verify_all());
    for (uint64_t page = FIRST; page < FIRST + PAGES; page++)
        CHECK(is_mapped_in(page));
    munmap(memory_of(FIRST), PAGES * PAGE_BYTES);
    drop_pool();
}

static void damage_is_found(void)
{
    if (!make_pool())
        return;
    if (pwrite(pool.fd, "x", 1, (off_t)(frame_of(FIRST + 77) << FRAME_SHIFT)) != 1)
        abort();
    CHECK_EQ(verify_all(), STATUS_DAMAGED);
    CHECK(strstr(why.text, "wrong checksum") != NULL);
    drop_pool();
}

/* One that system calls wait for too. */
static int open_uffd(void)
{
    struct uffdio_api api = {.api = UFFD_API};
    int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

    return uffd >= 0 && ioctl(uffd, UFFDIO_API, &api) == 0 ? uffd : -1;
}

/* In a child: who waits there is ended by the alarm. */
static int verify_beside_uffd(void)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    struct uffdio_register range = {.range = {FIRST << PAGE_SHIFT, PAGES * PAGE_BYTES},
                                    .mode = UFFDIO_REGISTER_MODE_MISSING};
    int uffd = open_uffd();

    if (uffd < 0)
        return NOT_PERMITTED;
    if (mmap(memory_of(FIRST), PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0) ==
            MAP_FAILED ||
        ioctl(uffd, UFFDIO_REGISTER, &range) < 0)
        return 1;
    alarm(SECONDS_MOST);
    return verify_all() == 0 ? 0 : 1;
}

static void nobody_waits_for_a_userfaultfd_of_the_program(void)
{
    int status = -1;
    pid_t child;

    if (!make_pool())
        return;
    child = fork();
    if (child == 0)
        _exit(verify_beside_uffd());
    CHECK_EQ(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_PERMITTED)
        tap_skip("no permission for a userfaultfd that system calls wait for");
    else
        CHECK_EQ(status, 0);
    drop_pool();
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(what_is_whole_is_mapped_in);
    RUN(damage_is_found);
    RUN(nobody_waits_for_a_userfaultfd_of_the_program);
    return tap_done();
}
