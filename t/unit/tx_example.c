/*
 * tx_example.c - a pool with a log, always the same: an opened heap with a generation, and
 * transactions behind it. With PHEAP_EXAMPLE_DIR set it is left there (heap.pool), with what the
 * library says of its log and of the heap (heap.list), for t/e2e/pool_second_reader.t; with
 * PHEAP_OLD_POOL that one is listed and gone on with.
 */
#include "t/lib/tx_fixture.h"

#include "core/pool/superblock.h"
#include "core/tx/replay.h"

#define TYPE 5u

static void create(const char *path)
{
    static const uint8_t uuid[16] =
        "\x0f\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
    struct persist persist;
    int fd;

    unlink(path);
    fd = sys_open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK_OK(fd);
    persist_open_file(&persist, fd, 0);
    CHECK_OK(persist_grow(&persist, 16 * FRAME_BYTES));
    CHECK_OK(superblock_format(&persist, uuid, FIXTURE_SLOT, 2, 1700000000000000000));
    CHECK_OK(persist_sync(&persist));
    sys_close(fd);
}

/* A word that counts, a new block each time; every third time the one before goes. */
static void transact(uint64_t i)
{
    uint64_t *word = root_find(heap, "count", NULL), *newest = root_find(heap, "newest", NULL);
    struct pheap_tx *tx = NULL;
    void *block;

    CHECK_OK(tx_begin(heap, &tx));
    if (word == NULL) {
        CHECK_OK(tx_alloc(tx, sizeof *word, TYPE, (void **)&word));
        CHECK_OK(root_set(tx, "count", word, TYPE));
    } else {
        CHECK_OK(tx_add(tx, word, sizeof *word));
    }
    *word = i;
    if (newest && i % 3 == 0)
        CHECK_OK(tx_free(tx, newest));
    CHECK_OK(tx_alloc(tx, i % 4 == 3 ? 100000 : 40 * i, TYPE, &block));
    *(uint64_t *)block = i;
    CHECK_OK(root_set(tx, "newest", block, TYPE));
    CHECK_OK(tx_commit(tx));
}

static void make(const char *path)
{
    create(path);
    CHECK_OK(fixture_open_path(&heap, path, false));
    for (uint64_t i = 1; i <= 4; i++)
        transact(i);
    CHECK(fixture_checkpoint() > 0);
    for (uint64_t i = 5; i <= 9; i++)
        transact(i);
    fixture_close();
}

static void list_records(FILE *out)
{
    const struct log_record *record;
    struct arena arena;
    struct log log;

    CHECK_OK(arena_create(&arena, 1ull << 30));
    log_begin(&log, &heap->pool);
    while (log_next(&log, &arena, &record) == 1) {
        fprintf(out, "record %lu bytes %lu checksum %016lx\n", record->sequence, record->bytes,
                record->checksum);
        arena_rewind(&arena, arena.base);
    }
    arena_destroy(&arena);
}

/* Memory as it is when the log has been replayed. */
static void list(const char *path, const char *list_path)
{
    FILE *out = fopen(list_path, "w");
    struct block block = {0};
    const uint64_t *count;

    CHECK_OK(fixture_open_path(&heap, path, true));
    if (out == NULL)
        exit(1);
    list_records(out);
    count = root_find(heap, "count", NULL);
    if (CHECK(count != NULL))
        fprintf(out, "word %#lx %lu\n", (uintptr_t)count, *count);
    while (blocks_next(&heap->blocks, block.address, TYPE, &block))
        fprintf(out, "word %#lx %lu\n", block.address, *(const uint64_t *)block.address);
    fclose(out);
    CHECK_EQ(opened_close(heap), 0);
}

static void a_pool_with_a_log_can_be_listed(void)
{
    const char *directory = getenv("PHEAP_EXAMPLE_DIR");
    char path[200], list_path[200];

    snprintf(path, sizeof path, "%.150s/heap.pool", directory ? directory : fixture_dir);
    snprintf(list_path, sizeof list_path, "%.150s/heap.list", directory ? directory : fixture_dir);
    make(path);
    list(path, list_path);
    if (directory == NULL) {
        unlink(path);
        unlink(list_path);
    }
}

static void an_older_one_is_read_and_gone_on_with(void)
{
    const char *path = getenv("PHEAP_OLD_POOL");
    char list_path[200];

    if (path == NULL) {
        make(fixture_path);
        path = fixture_path;
    }
    snprintf(list_path, sizeof list_path, "%.180s.list", path);
    list(path, list_path);
    CHECK_OK(fixture_open_path(&heap, path, false));
    CHECK_EQ(*(const uint64_t *)root_find(heap, "count", NULL), 9);
    transact(10);
    CHECK(fixture_checkpoint() > 0);
    transact(11);
    fixture_close();
    CHECK_OK(fixture_open_path(&heap, path, true));
    CHECK_EQ(*(const uint64_t *)root_find(heap, "count", NULL), 11);
    CHECK_EQ(opened_close(heap), 0);
    if (path == fixture_path)
        unlink(list_path);
}

int main(int argc, char **argv)
{
    fixture_begin();
    tap_arguments(argc, argv);
    RUN(a_pool_with_a_log_can_be_listed);
    RUN(an_older_one_is_read_and_gone_on_with);
    fixture_end();
    return tap_done();
}
