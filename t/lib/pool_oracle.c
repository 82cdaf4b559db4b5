/*
 * pool_oracle.c - see pool_oracle.h.
 */
#include "t/lib/pool_oracle.h"

#include <stdio.h>
#include <string.h>
#include "core/base/checksum.h"

uint64_t oracle_page(unsigned i)
{
    static const uint64_t groups[] = {0x400,       0x200000000, 0x2000000f8,
                                      0x200010000, 0x201000000, 0x7ffff7000};

    return groups[i / 8 % 6] + i % 8;
}

void oracle_fill(uint8_t page[FRAME_BYTES], uint32_t seed)
{
    uint64_t word = seed * 0x9e3779b97f4a7c15ull + 1;

    for (unsigned i = 0; i < FRAME_BYTES; i += sizeof word) {
        word = word * 6364136223846793005ull + 1442695040888963407ull;
        memcpy(page + i, &word, sizeof word);
    }
}

static void fill_record(uint8_t *record, uint64_t number, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        record[i] = (uint8_t)(number * 7 + i * 13 + (i >> 8));
}

int oracle_write(struct oracle *oracle, struct pool *pool, unsigned first, unsigned pages,
                 uint32_t seed)
{
    static uint8_t data[ORACLE_PAGES][FRAME_BYTES];
    uint64_t numbers[ORACLE_PAGES] = {0}, checksums[ORACLE_PAGES] = {0}, bytes = 0;
    int status;

    for (unsigned i = 0; i < pages; i++) {
        oracle_fill(data[i], seed + i);
        numbers[i] = oracle_page(first + i);
        checksums[i] = checksum64(data[i], FRAME_BYTES);
    }
    status = pool_write_pages(pool, numbers, checksums, data, pages, &bytes);
    for (unsigned i = 0; status == 0 && i < pages; i++)
        oracle->now[first + i] = seed + i;
    return status;
}

int oracle_clear(struct oracle *oracle, struct pool *pool, unsigned i)
{
    int status = index_clear(pool->index, pool->frames, oracle_page(i), oracle_page(i) + 1);

    if (status == 0)
        oracle->now[i] = SEED_NONE;
    return status;
}

int oracle_zero(struct oracle *oracle, struct pool *pool, unsigned i)
{
    struct index_entry zero = {FRAME_ZERO, 0};
    int status = index_set(pool->index, pool->frames, oracle_page(i), zero);

    if (status == 0)
        oracle->now[i] = SEED_ZERO;
    return status;
}

int oracle_commit(struct oracle *oracle, struct pool *pool, enum generation_kind kind,
                  uint32_t flags, size_t record_bytes, struct problem *why)
{
    static uint8_t record[ORACLE_RECORD_MAX];
    uint64_t number = pool->super.next_generation;
    struct generation_entry entry = {
        .time_ns = number * 1000000000, .kind = kind, .flags = flags, .slot = pool->super.slot};

    /* Before the commit: if it fails half-way the number may be durable all the same. */
    memcpy(oracle->generations[number], oracle->now, sizeof oracle->now);
    oracle->record_bytes[number] = record_bytes;
    oracle->known[number] = true;
    fill_record(record, number, record_bytes);
    if (oracle->fold_every && number % oracle->fold_every == 0)
        index_fold(pool->index);
    return pool_commit(pool, &entry, record, record_bytes, why);
}

void oracle_start_from(struct oracle *oracle, uint64_t number)
{
    if (number == 0)
        memset(oracle->now, 0, sizeof oracle->now);
    else
        memcpy(oracle->now, oracle->generations[number], sizeof oracle->now);
}

static bool page_agrees(const struct pool *pool, struct index_tree *tree, unsigned i, uint32_t seed,
                        char text[256])
{
    uint8_t expected[FRAME_BYTES], found[FRAME_BYTES];
    struct problem why = {0};
    struct index_entry entry;
    int status = index_lookup(tree, oracle_page(i), &entry);

    if (status == 0 && entry.frame >= FRAME_FIRST)
        status = pool_read_page(pool, entry, found, &why);
    if (status < 0) {
        snprintf(text, 256, "page %u: status %d, %.150s", i, status, why.text);
        return false;
    }
    if (seed < 2) {
        snprintf(text, 256, "page %u: frame %lu, expected %u", i, entry.frame, seed);
        return entry.frame == seed; /* FRAME_NONE is 0, FRAME_ZERO is 1 */
    }
    oracle_fill(expected, seed);
    snprintf(text, 256, "page %u: not the content of seed %u", i, seed);
    return entry.frame >= FRAME_FIRST && memcmp(expected, found, FRAME_BYTES) == 0;
}

static bool counts_agree(struct index_tree *tree, const struct generation_entry *entry,
                         const uint32_t *seeds, char text[256])
{
    uint64_t expected = 0, framed = 0, found = 0, page = 0;
    struct index_entry unused;

    for (unsigned i = 0; i < ORACLE_PAGES; i++) {
        expected += seeds[i] != SEED_NONE;
        framed += seeds[i] > SEED_ZERO;
    }
    while (index_next(tree, page, INDEX_PAGE_LIMIT, &page, &unused) == 1) {
        found++;
        page++;
    }
    snprintf(text, 256, "%lu entries and page_count %lu, expected %lu and %lu", found,
             entry->page_count, expected, framed);
    return found == expected && entry->page_count == framed;
}

static bool record_agrees(const struct oracle *oracle, const struct pool *pool,
                          const struct generation_entry *entry, char text[256])
{
    static uint8_t found[ORACLE_RECORD_MAX], expected[ORACLE_RECORD_MAX];
    struct problem why = {0};
    int status;

    snprintf(text, 256, "record of %lu bytes", entry->record_bytes);
    if (entry->record_bytes != oracle->record_bytes[entry->number])
        return false;
    status = pool_read_record(pool, entry, found, &why);
    snprintf(text, 256, "record: status %d, %.150s", status, why.text);
    fill_record(expected, entry->number, entry->record_bytes);
    return status == 0 && memcmp(found, expected, entry->record_bytes) == 0;
}

bool oracle_agrees(const struct oracle *oracle, const struct pool *pool,
                   const struct generation_entry *entry, struct arena *arena, char text[256])
{
    uintptr_t mark = arena_mark(arena);
    struct index_tree *tree;
    bool agrees;

    snprintf(text, 256, "generation %lu is not known", entry->number);
    if (entry->number >= ORACLE_GENERATIONS || !oracle->known[entry->number])
        return false;
    if (index_open(&tree, arena, pool->fd, generation_index(entry)) < 0)
        return false;
    agrees = record_agrees(oracle, pool, entry, text);
    for (unsigned i = 0; agrees && i < ORACLE_PAGES; i++)
        agrees = page_agrees(pool, tree, i, oracle->generations[entry->number][i], text);
    if (agrees)
        agrees = counts_agree(tree, entry, oracle->generations[entry->number], text);
    arena_rewind(arena, mark);
    return agrees;
}
