/*
 * pool_grown.c - a pool that grows while another process opens it: at any moment of that it is
 * opened with the length that its superblocks' generations need.
 *
 * What another process does meanwhile is done from within two of the opener's own steps, which are
 * linked as __wrap_: before the lock of a writer, and before the superblocks are read.
 */
#include <string.h>
#include <sys/stat.h>
#include "core/base/checksum.h"
#include "core/pool/pool.h"
#include "core/pool/pool_lock.h"
#include "core/pool/superblock.h"
#include "t/lib/pool_oracle.h"
#include "t/lib/pool_scratch.h"
#include "t/lib/tap.h"

#define FIRST_PAGE  0x400000000ull
#define PIECE_PAGES 16u
#define GROWN_PAGES 4096u /* 16 MiB: more than a new pool has */

static struct pool pool, other;
static struct oracle oracle;
static struct problem why;
static void (*before_lock)(void), (*before_superblocks)(void);

int __real_pool_lock_writer(struct pool *opened, struct problem *problem);
int __wrap_pool_lock_writer(struct pool *opened, struct problem *problem);
int __real_superblock_read_pair(int fd, const char *path, struct superblock_choice *choice,
                                struct problem *problem);
int __wrap_superblock_read_pair(int fd, const char *path, struct superblock_choice *choice,
                                struct problem *problem);

static void once(void (**step)(void))
{
    void (*now)(void) = *step;

    *step = NULL;
    if (now)
        now();
}

int __wrap_pool_lock_writer(struct pool *opened, struct problem *problem)
{
    once(&before_lock);
    return __real_pool_lock_writer(opened, problem);
}

int __wrap_superblock_read_pair(int fd, const char *path, struct superblock_choice *choice,
                                struct problem *problem)
{
    once(&before_superblocks);
    return __real_superblock_read_pair(fd, path, choice, problem);
}

/* The other process, from opening the pool to closing it. */
static void grow(void)
{
    static uint8_t data[PIECE_PAGES * FRAME_BYTES];
    struct generation_entry entry = {.kind = GENERATION_PROCESS};
    uint64_t numbers[PIECE_PAGES], checksums[PIECE_PAGES], written = 0;

    CHECK_OK(pool_open(&other, scratch_path("pool"), POOL_WRITE, &why));
    CHECK_OK(pool_load(&other, &scratch_arena, 0, &why));
    for (uint64_t page = 0; page < GROWN_PAGES; page += PIECE_PAGES) {
        for (uint64_t i = 0; i < PIECE_PAGES; i++) {
            numbers[i] = FIRST_PAGE + page + i;
            memcpy(data + i * FRAME_BYTES, &numbers[i], sizeof numbers[i]);
            checksums[i] = checksum64(data + i * FRAME_BYTES, FRAME_BYTES);
        }
        CHECK_OK(pool_write_pages(&other, numbers, checksums, data, PIECE_PAGES, &written));
    }
    entry.slot = other.super.slot;
    CHECK_OK(pool_commit(&other, &entry, "record", 6, &why));
    pool_close(&other);
}

static void check_opened(enum pool_mode mode)
{
    struct stat info;

    CHECK_OK(pool_open(&pool, scratch_path("pool"), mode, &why));
    CHECK_EQ(pool.super.generation_count, 1);
    CHECK_EQ(fstat(pool.fd, &info), 0);
    CHECK_EQ(pool.file_frames, (uint64_t)info.st_size >> FRAME_SHIFT);
    CHECK(pool_frames_present(&pool) >= GROWN_PAGES);
    if (mode == POOL_WRITE) {
        CHECK_OK(pool_load(&pool, &scratch_arena, 1, &why));
        CHECK(pool_is_valid(&pool));
    }
    pool_close(&pool);
}

static void a_writer_that_has_waited_sees_all_of_the_pool(void)
{
    scratch_pool(&pool, &oracle, 3);
    pool_close(&pool);
    before_lock = grow;
    check_opened(POOL_WRITE);
    CHECK(before_lock == NULL);
}

static void a_reader_sees_what_its_superblock_lists(void)
{
    scratch_pool(&pool, &oracle, 3);
    pool_close(&pool);
    before_superblocks = grow;
    check_opened(POOL_READ);
    CHECK(before_superblocks == NULL);
}

int main(void)
{
    scratch_begin();
    RUN(a_writer_that_has_waited_sees_all_of_the_pool);
    RUN(a_reader_sees_what_its_superblock_lists);
    scratch_end();
    return tap_done();
}
