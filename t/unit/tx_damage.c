/*
 * tx_damage.c - a heap's pool as an enemy would have it: flipped bits, and records that say what
 * cannot be, with right checksums. Opening it fails with a status, or shows the heap as it was
 * last, or, if the flip hit the last record, as it was before that; it never crashes.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include "core/heap/heap.h"
#include "t/lib/test_random.h"
#include "t/lib/tx_fixture.h"

#define SEED   20260303
#define FLIPS  3000
#define ROUNDS 40

static uint8_t *whole;
static size_t whole_bytes;
static uint64_t random_state = SEED;

static uint64_t next_random(void)
{
    return test_random(&random_state);
}

/* Two words that always change together, and an object a round. */
static void make_heap(void)
{
    uint64_t *words = NULL;

    fixture_create();
    for (uint64_t i = 1; i <= ROUNDS; i++) {
        struct pheap_tx *tx = NULL;
        void *block;

        CHECK_OK(tx_begin(heap, &tx));
        if (!words) {
            CHECK_OK(tx_alloc(tx, 16, 1, (void **)&words));
            CHECK_OK(root_set(tx, "words", words, 1));
        } else {
            CHECK_OK(tx_add(tx, words, 16));
        }
        CHECK_OK(tx_alloc(tx, i * 37, 2, &block));
        words[0] = words[1] = i;
        CHECK_OK(tx_commit(tx));
        if (i == ROUNDS / 2)
            CHECK(fixture_checkpoint() > 0);
    }
}

static bool is_newest(const struct pheap *at)
{
    const uint64_t *words = root_find(at, "words", NULL);
    struct block block = {0};
    uint64_t objects = 0;

    while (blocks_next(&at->blocks, block.address, 2, &block))
        objects++;
    return words && words[0] == words[1] && objects == words[0] && words[0] >= ROUNDS - 1;
}

static void read_whole(void)
{
    struct stat info;
    int fd = open(fixture_path, O_RDONLY);

    if (fd < 0 || fstat(fd, &info) < 0)
        abort();
    whole_bytes = (size_t)info.st_size;
    whole = malloc(whole_bytes);
    if (!whole || pread(fd, whole, whole_bytes, 0) != (ssize_t)whole_bytes)
        abort();
    close(fd);
}

static void put_byte(int fd, size_t at, uint8_t byte)
{
    if (pwrite(fd, &byte, 1, (off_t)at) != 1)
        abort();
}

/* A byte that means something: most of the file does not. */
static size_t choose_byte(void)
{
    size_t at;

    do
        at = next_random() % whole_bytes;
    while (whole[at] == 0 && next_random() % 65536 != 0);
    return at;
}

static void a_flipped_bit_is_found_or_does_not_matter(void)
{
    unsigned opened = 0, newest = 0;
    int fd;

    make_heap();
    CHECK_EQ(opened_close(heap), 0);
    read_whole();
    fd = open(fixture_path, O_RDWR);
    for (unsigned i = 0; i < FLIPS; i++) {
        size_t at = choose_byte();
        bool read_only = i % 2;

        put_byte(fd, at, whole[at] ^ (uint8_t)(1u << next_random() % 8));
        if (fixture_open_path(&heap, fixture_path, read_only) == 0) {
            const uint64_t *words = root_find(heap, "words", NULL);

            if (!CHECK(is_newest(heap)))
                tap_note("seed %d, byte %zu", SEED, at);
            opened++;
            newest += words && *words == ROUNDS;
            CHECK_EQ(opened_close(heap), 0);
        }
        for (size_t frame = 0; frame < 2; frame++) /* a writer may have mended the superblock */
            if (pwrite(fd, whole + frame * FRAME_BYTES, FRAME_BYTES,
                       (off_t)(frame * FRAME_BYTES)) != (ssize_t)FRAME_BYTES)
                abort();
        put_byte(fd, at, whole[at]);
    }
    tap_note("%u flips: %u opened, %u of them on the newest state", FLIPS, opened, newest);
    close(fd);
    free(whole);
}

/* --- hostile records --- */

struct hostile {
    struct log_record record;
    struct log_entry entry;
    uint64_t more[12];
};

static int open_after(const struct log_entry *entry, uint64_t entries)
{
    static struct hostile hostile;
    int status;

    make_heap();
    hostile = (struct hostile){.entry = *entry};
    hostile.record.bytes = sizeof hostile;
    hostile.record.entry_count = entries;
    CHECK_OK(log_append(&heap->log, &hostile.record, &why));
    CHECK_EQ(opened_close(heap), 0);
    status = fixture_open_path(&heap, fixture_path, true);
    if (status == 0)
        CHECK_EQ(opened_close(heap), 0);
    return status;
}

static void a_record_that_says_what_cannot_be_is_damage(void)
{
    uintptr_t base = SLOT_BASE(FIXTURE_SLOT);
    uintptr_t data = base + (uint64_t)TX_DATA_SLICE * SLICE_BYTES;
    const struct log_entry entries[] = {
        {.kind = 0},
        {.kind = 4},
        {.kind = LOG_WRITE, .address = base, .bytes = 8},
        {.kind = LOG_WRITE, .address = base + TX_ROOTS_OFFSET + 128 * 64 - 4, .bytes = 8},
        {.kind = LOG_WRITE, .address = data - 8, .bytes = 16},
        {.kind = LOG_WRITE, .address = data + (1ull << 37), .bytes = 8},
        {.kind = LOG_WRITE, .address = 0, .bytes = 8},
        {.kind = LOG_WRITE, .address = data, .bytes = ~0ull},
        {.kind = LOG_WRITE, .address = data, .bytes = ~0ull - 6},
        {.kind = LOG_WRITE, .address = data, .bytes = 97},
        {.kind = LOG_FREE, .address = data},
        {.kind = LOG_FREE, .address = data + 17},
        {.kind = LOG_FREE, .address = ~0ull},
        {.kind = LOG_FREE, .address = base},
        {.kind = LOG_ALLOC, .address = data, .bytes = 16, .slice = 0, .size_class = 3},
        {.kind = LOG_ALLOC, .address = data, .bytes = 16, .slice = TX_DATA_SLICE, .size_class = 81},
        {.kind = LOG_ALLOC, .address = data, .bytes = 16, .slice = TX_DATA_SLICE, .size_class = 79},
        {.kind = LOG_ALLOC, .address = data, .bytes = 0, .slice = TX_DATA_SLICE, .size_class = 80},
        {.kind = LOG_ALLOC, .address = data, .bytes = 9, .slice = TX_DATA_SLICE, .size_class = 80},
        {.kind = LOG_ALLOC, .address = data, .bytes = ~0ull, .slice = 3000, .size_class = 80},
        {.kind = LOG_ALLOC, .address = 77, .bytes = 70000, .slice = 3000, .size_class = 80},
        {.kind = LOG_ALLOC, .address = 77, .bytes = 70, .slice = 3000, .size_class = 20},
        {.kind = LOG_ALLOC,
         .address = data,
         .bytes = 4000,
         .slice = TX_DATA_SLICE,
         .size_class = 1},
    };

    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++)
        if (!CHECK_EQ(open_after(&entries[i], 1), STATUS_DAMAGED))
            tap_note("entry %zu", i);
    CHECK_EQ(
        open_after(
            &(struct log_entry){
                .kind = LOG_ALLOC, .address = data, .bytes = 16, .slice = ~0u, .size_class = 3},
            1),
        -ENOMEM);
    CHECK_EQ(open_after(&(struct log_entry){.kind = LOG_WRITE, .address = data, .bytes = 0}, 1000),
             STATUS_DAMAGED);
    CHECK_OK(open_after(&(struct log_entry){.kind = LOG_WRITE, .address = data, .bytes = 0}, 1));
}

int main(int argc, char **argv)
{
    fixture_begin();
    tap_arguments(argc, argv);
    RUN(a_flipped_bit_is_found_or_does_not_matter);
    RUN(a_record_that_says_what_cannot_be_is_damage);
    fixture_end();
    return tap_done();
}
