/*
 * pool_example.c - the worked example of docs/pool-format.md, made by the library: the numbers that
 * the document names are checked here, so neither can drift.
 *
 * With PHEAP_EXAMPLE_DIR set, the example pool and a larger one are left there (example.pool,
 * random.pool) with what the library says of them (*.list), for t/e2e/pool_second_reader.t.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/pool/pool.h"
#include "core/pool/superblock.h"
#include "t/lib/pool_oracle.h"
#include "t/lib/pool_scratch.h"
#include "t/lib/tap.h"

/* Checksums that the document prints. */
#define EXAMPLE_SUPERBLOCK 0x9ef89090052d55bc
#define EXAMPLE_RECORD     0x2167e8c8c5069a35
#define EXAMPLE_ROOT       0xc1a9033ac50695b2
#define EXAMPLE_DELTA      0xa5c9dc45c744615a
#define EXAMPLE_A          0xa03de37a157c16bd
#define EXAMPLE_B          0x208f1137e194a937
#define EXAMPLE_C          0x0f605791572af4bd

static struct pool pool;
static struct problem why;

static void put_page(uint64_t page, char letter)
{
    uint8_t data[FRAME_BYTES];
    uint64_t checksum, bytes = 0;

    memset(data, letter, sizeof data);
    checksum = checksum64(data, sizeof data);
    CHECK_OK(pool_write_pages(&pool, &page, &checksum, data, 1, &bytes));
}

static void commit(uint64_t time_ns, const void *record, size_t record_bytes)
{
    struct generation_entry entry = {
        .time_ns = time_ns, .kind = GENERATION_HEAP, .slot = 7, .pause_ns = 250000};

    CHECK_OK(pool_commit(&pool, &entry, record, record_bytes, &why));
}

/* As pool_create(), with an identity that does not change. */
static void create(const char *path)
{
    static const uint8_t uuid[16] =
        "\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
    struct persist persist;
    int fd;

    unlink(path);
    fd = sys_open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK_OK(fd);
    persist_open_file(&persist, fd, 0);
    CHECK_OK(persist_grow(&persist, 16 * FRAME_BYTES));
    CHECK_OK(superblock_format(&persist, uuid, 7, 2, 1700000000000000000));
    CHECK_OK(persist_sync(&persist));
    sys_close(fd);
}

static void make_example(const char *path)
{
    static const uint8_t record[16] = {1, 0, 0, 0, 5, 0, 0, 0, 'h', 'e', 'l', 'l', 'o'};
    struct index_entry zero = {FRAME_ZERO, 0};

    arena_rewind(&scratch_arena, scratch_arena.base);
    create(path);
    CHECK_OK(pool_open(&pool, path, POOL_WRITE, &why));
    CHECK_OK(pool_load(&pool, &scratch_arena, 0, &why));
    put_page(0x70000000a, 'A');
    put_page(0x70000000b, 'B');
    CHECK_OK(index_set(pool.index, pool.frames, 0x70000000c, zero));
    commit(1700000001000000000, record, sizeof record);
    put_page(0x70000000b, 'C');
    commit(1700000002000000000, NULL, 0);
}

static void check_page(uint64_t number, uint64_t page, uint64_t frame, uint64_t checksum)
{
    struct index_tree *tree;
    struct index_entry entry;

    CHECK_OK(index_open(&tree, &scratch_arena, pool.fd,
                        generation_index(pool_generation(&pool, number))));
    CHECK_OK(index_lookup(tree, page, &entry));
    CHECK_EQ(entry.frame, frame);
    CHECK_EQ(entry.checksum, checksum);
}

static void the_worked_example_of_the_document_holds(void)
{
    const struct generation_entry *entry;

    make_example(scratch_path("example"));
    CHECK_EQ(pool.super.sequence, 3);
    CHECK_EQ(pool.super.frame_count, 16);
    CHECK_EQ(pool.super.checksum, EXAMPLE_SUPERBLOCK);
    entry = pool_generation(&pool, 1);
    CHECK_EQ(entry->index_root.frame, 8);
    CHECK_EQ(entry->record_frame, 9);
    CHECK_EQ(entry->record_bytes, 16);
    CHECK_EQ(entry->record_checksum, EXAMPLE_RECORD);
    entry = pool_generation(&pool, 2);
    CHECK_EQ(entry->index_root.frame, 8);
    CHECK_EQ(entry->index_root.checksum, EXAMPLE_ROOT);
    CHECK_EQ(entry->index_delta.frame, 11);
    CHECK_EQ(entry->index_delta.frames, 1);
    CHECK_EQ(entry->index_delta.checksum, EXAMPLE_DELTA);
    check_page(1, 0x70000000a, 2, EXAMPLE_A);
    check_page(1, 0x70000000b, 3, EXAMPLE_B);
    check_page(1, 0x70000000c, FRAME_ZERO, 0);
    check_page(2, 0x70000000a, 2, EXAMPLE_A);
    check_page(2, 0x70000000b, 10, EXAMPLE_C);
    pool_close(&pool);
}

/* --- what the library says of a pool, in the second reader's words --- */

static void list_pages(FILE *out, const struct generation_entry *generation)
{
    uintptr_t mark = arena_mark(&scratch_arena);
    struct index_tree *tree;
    struct index_entry entry;
    uint64_t page = 0;

    CHECK_OK(index_open(&tree, &scratch_arena, pool.fd, generation_index(generation)));
    while (index_next(tree, page, INDEX_PAGE_LIMIT, &page, &entry) == 1) {
        uint8_t data[FRAME_BYTES];

        CHECK_OK(pool_read_page(&pool, entry, data, &why));
        fprintf(out, "  page %#lx frame %lu checksum %016lx bytes %02x%02x%02x%02x\n", page,
                entry.frame, entry.checksum, data[0], data[1], data[2], data[3]);
        page++;
    }
    arena_rewind(&scratch_arena, mark);
}

static void list_record(FILE *out, const struct generation_entry *entry)
{
    static uint8_t record[ORACLE_RECORD_MAX];

    CHECK_OK(pool_read_record(&pool, entry, record, &why));
    fprintf(out, "  record frame %lu bytes %lu checksum %016lx\n", entry->record_frame,
            entry->record_bytes, entry->record_checksum);
}

static void list_pool(const char *path, const char *list_path)
{
    FILE *out = fopen(list_path, "w");

    CHECK_OK(pool_open(&pool, path, POOL_READ, &why));
    if (out == NULL)
        return;
    fprintf(
        out, "pool sequence %lu slot %u run %u end %d keep %u next %lu frames %lu created %lu\n",
        pool.super.sequence, pool.super.slot, pool.super.run_state, pool.super.end_status,
        pool.super.keep, pool.super.next_generation, pool.super.frame_count, pool.super.created_ns);
    for (uint32_t i = 0; i < pool.super.generation_count; i++) {
        const struct generation_entry *entry = &pool.super.generations[i];

        fprintf(out, "generation %lu kind %u flags %u slot %u time %lu pages %lu written %lu\n",
                entry->number, entry->kind, entry->flags, entry->slot, entry->time_ns,
                entry->page_count, entry->written_bytes);
        list_record(out, entry);
        list_pages(out, entry);
    }
    fclose(out);
    pool_close(&pool);
}

/* The scratch directory may be on another file system. */
static void copy_file(const char *from, const char *to)
{
    int in = sys_open(from, O_RDONLY, 0), out = sys_open(to, O_RDWR | O_CREAT | O_TRUNC, 0600);
    uint8_t frame[FRAME_BYTES];

    while (sys_read(in, frame, sizeof frame) == sizeof frame)
        CHECK_EQ(sys_write(out, frame, sizeof frame), sizeof frame);
    sys_close(in);
    sys_close(out);
}

static void make_random(const char *path)
{
    static struct oracle oracle;

    srand(5);
    scratch_pool(&pool, &oracle, 4);
    for (unsigned i = 0; i < 20; i++) {
        unsigned pages = 1 + (unsigned)rand() % 12;

        CHECK_OK(oracle_write(&oracle, &pool, (unsigned)rand() % 36, pages, 100 * (i + 1)));
        CHECK_OK(oracle_zero(&oracle, &pool, (unsigned)rand() % ORACLE_PAGES));
        CHECK_OK(oracle_clear(&oracle, &pool, (unsigned)rand() % ORACLE_PAGES));
        CHECK_OK(oracle_commit(&oracle, &pool, i % 7 == 3 ? GENERATION_CRASH : GENERATION_PROCESS,
                               i == 5 ? GENERATION_PINNED : 0, (unsigned)rand() % 9000, &why));
    }
    pool_close(&pool);
    copy_file(scratch_path("pool"), path);
}

static void the_pools_for_the_second_reader_can_be_listed(void)
{
    const char *directory = getenv("PHEAP_EXAMPLE_DIR");
    char path[4][300];

    if (directory == NULL)
        directory = scratch_path("");
    for (int i = 0; i < 4; i++)
        snprintf(path[i], sizeof path[i], "%.200s/%s.%s", directory, i < 2 ? "example" : "random",
                 i % 2 == 0 ? "pool" : "list");
    make_example(path[0]);
    pool_close(&pool);
    list_pool(path[0], path[1]);
    make_random(path[2]);
    list_pool(path[2], path[3]);
}

/* With PHEAP_OLD_POOL: lists it, then goes on with it. */
static void a_pool_of_an_older_format_is_read_and_gone_on_with(void)
{
    const char *path = getenv("PHEAP_OLD_POOL");
    char list_path[300];

    make_example(scratch_path("old"));
    pool_close(&pool);
    if (path == NULL)
        path = scratch_path("old");
    snprintf(list_path, sizeof list_path, "%.280s.list", path);
    list_pool(path, list_path);
    arena_rewind(&scratch_arena, scratch_arena.base);
    CHECK_OK(pool_open(&pool, path, POOL_WRITE, &why));
    CHECK_OK(pool_load(&pool, &scratch_arena, 2, &why));
    put_page(0x70000000d, 'D');
    commit(1700000003000000000, NULL, 0);
    pool_close(&pool);
    CHECK_OK(pool_open(&pool, path, POOL_READ, &why));
    CHECK_EQ(pool.super.format_version, POOL_FORMAT_NO_LOG);
    check_page(2, 0x70000000b, 10, EXAMPLE_C);
    check_page(3, 0x70000000a, 2, EXAMPLE_A);
    check_page(3, 0x70000000b, 10, EXAMPLE_C);
    check_page(3, 0x70000000c, FRAME_ZERO, 0);
    pool_close(&pool);
}

int main(int argc, char **argv)
{
    scratch_begin();
    tap_arguments(argc, argv);
    RUN(the_worked_example_of_the_document_holds);
    RUN(the_pools_for_the_second_reader_can_be_listed);
    RUN(a_pool_of_an_older_format_is_read_and_gone_on_with);
    scratch_end();
    return tap_done();
}
