/*
 * frame_map.c - see frame_map.h. Nothing here knows what a frame is in use for.
 */
#include "core/pool/frame_map.h"

#include <errno.h>
#include <string.h>

#define FIRST_CAPACITY 64u /* chunk pointers: 8 GiB of pool before the first doubling */

static int reserve_chunk_pointers(struct frame_map *map, uint32_t chunks)
{
    uint32_t capacity = map->chunk_capacity ? map->chunk_capacity : FIRST_CAPACITY;
    struct frame_chunk **grown;

    if (chunks <= map->chunk_capacity)
        return 0;
    while (capacity < chunks)
        capacity *= 2;
    grown = arena_alloc(map->arena, capacity * sizeof(*grown), sizeof(*grown));
    if (grown == NULL)
        return -ENOMEM;
    if (map->chunk_count > 0)
        memcpy(grown, map->chunks, map->chunk_count * sizeof(*grown));
    map->chunks = grown;
    map->chunk_capacity = capacity;
    return 0;
}

static int reserve_chunks(struct frame_map *map, uint64_t count)
{
    uint32_t chunks = (uint32_t)((count + CHUNK_FRAMES - 1) / CHUNK_FRAMES);
    int status = reserve_chunk_pointers(map, chunks);

    while (status == 0 && map->chunk_count < chunks) {
        struct frame_chunk *chunk = arena_alloc(map->arena, sizeof(*chunk), 64);

        if (chunk == NULL)
            return -ENOMEM; /* the chunks so far stay for the next attempt */
        map->chunks[map->chunk_count++] = chunk;
    }
    return status;
}

int frame_map_extend(struct frame_map *map, uint64_t count)
{
    int status;

    if (count <= map->count)
        return 0;
    if (count > FRAME_COUNT_LIMIT)
        return STATUS_LIMIT;
    status = reserve_chunks(map, count);
    if (status < 0)
        return status;
    for (uint64_t frame = map->count; frame < count; frame++) {
        struct frame_chunk *chunk = map->chunks[frame / CHUNK_FRAMES];

        chunk->free_bits[frame % CHUNK_FRAMES / 64] |= 1ull << (frame % 64);
        chunk->free_count++;
    }
    map->free_count += count - map->count;
    map->count = count;
    return 0;
}

struct frame_record *frame_map_record(const struct frame_map *map, uint64_t frame)
{
    return &map->chunks[frame / CHUNK_FRAMES]->records[frame % CHUNK_FRAMES];
}

bool frame_map_is_free(const struct frame_map *map, uint64_t frame)
{
    const struct frame_chunk *chunk = map->chunks[frame / CHUNK_FRAMES];

    return chunk->free_bits[frame % CHUNK_FRAMES / 64] >> (frame % 64) & 1;
}

void frame_map_set_free(struct frame_map *map, uint64_t frame)
{
    struct frame_chunk *chunk = map->chunks[frame / CHUNK_FRAMES];

    chunk->free_bits[frame % CHUNK_FRAMES / 64] |= 1ull << (frame % 64);
    chunk->free_count++;
    map->free_count++;
}

void frame_map_set_used(struct frame_map *map, uint64_t frame)
{
    struct frame_chunk *chunk = map->chunks[frame / CHUNK_FRAMES];

    chunk->free_bits[frame % CHUNK_FRAMES / 64] &= ~(1ull << (frame % 64));
    chunk->free_count--;
    map->free_count--;
}

/* The first frame in [frame, count) that is free; count if there is none. */
static uint64_t next_free(const struct frame_map *map, uint64_t frame)
{
    while (frame < map->count) {
        const struct frame_chunk *chunk = map->chunks[frame / CHUNK_FRAMES];
        uint64_t bits = chunk->free_bits[frame % CHUNK_FRAMES / 64] >> (frame % 64);

        if (bits != 0)
            return frame + (uint64_t)__builtin_ctzll(bits);
        if (chunk->free_count == 0)
            frame = (frame / CHUNK_FRAMES + 1) * CHUNK_FRAMES;
        else
            frame = (frame / 64 + 1) * 64;
    }
    return map->count;
}

/* The first frame in [frame, limit) that is not free; limit if there is none. */
static uint64_t next_used(const struct frame_map *map, uint64_t frame, uint64_t limit)
{
    while (frame < limit) {
        const struct frame_chunk *chunk = map->chunks[frame / CHUNK_FRAMES];
        uint64_t bits = ~chunk->free_bits[frame % CHUNK_FRAMES / 64] >> (frame % 64);

        if (bits != 0) {
            frame += (uint64_t)__builtin_ctzll(bits);
            break;
        }
        frame = (frame / 64 + 1) * 64;
    }
    return frame < limit ? frame : limit;
}

/* As frame_map_find(), for runs that begin in [start, end). */
static struct frame_run find_between(const struct frame_map *map, uint64_t start, uint64_t end,
                                     uint64_t target, uint64_t want)
{
    struct frame_run best = {0, 0};
    uint64_t frame = next_free(map, start);

    while (frame < end && best.length < target) {
        uint64_t limit = want < map->count - frame ? frame + want : map->count;
        uint64_t stop = next_used(map, frame, limit);

        if (stop - frame > best.length)
            best = (struct frame_run){frame, stop - frame};
        frame = next_free(map, stop);
    }
    return best;
}

struct frame_run frame_map_find(const struct frame_map *map, uint64_t cursor, uint64_t target,
                                uint64_t want)
{
    struct frame_run best = find_between(map, cursor, map->count, target, want);
    struct frame_run before;

    if (best.length >= target)
        return best;
    before = find_between(map, 0, cursor, target, want);
    return before.length > best.length ? before : best;
}

struct frame_run frame_map_find_short(const struct frame_map *map, uint64_t from, uint64_t below)
{
    uint64_t frame = next_free(map, from);

    while (frame < map->count) {
        uint64_t stop = next_used(map, frame, map->count);

        if (stop - frame < below)
            return (struct frame_run){frame, stop - frame};
        frame = next_free(map, stop);
    }
    return (struct frame_run){0, 0};
}

uint64_t frame_map_free_at_end(const struct frame_map *map)
{
    uint64_t frame = map->count;

    while (frame > 0 && frame_map_is_free(map, frame - 1))
        frame--;
    return map->count - frame;
}

static uint64_t bits_set(const struct frame_chunk *chunk)
{
    uint64_t set = 0;

    for (uint32_t i = 0; i < CHUNK_WORDS; i++)
        set += (uint64_t)__builtin_popcountll(chunk->free_bits[i]);
    return set;
}

bool frame_map_is_valid(const struct frame_map *map)
{
    uint64_t total = 0;

    for (uint32_t i = 0; i < map->chunk_count; i++) {
        if (bits_set(map->chunks[i]) != map->chunks[i]->free_count)
            return false;
        total += map->chunks[i]->free_count;
    }
    return total == map->free_count && map->free_count <= map->count;
}
