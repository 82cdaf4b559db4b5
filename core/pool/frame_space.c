/*
 * frame_space.c - see frame_space.h.
 *
 * Always true: a granule whose bit is not set has space for all its frames that the file has.
 */
#include "core/pool/frame_space.h"

#include "core/pool/format.h"

static bool is_doubtful(const struct frame_map *map, uint64_t granule)
{
    return map->chunks[granule / CHUNK_GRANULES]->doubtful[granule % CHUNK_GRANULES / 64] >>
               (granule % 64) &
           1;
}

static void set_doubtful(struct frame_map *map, uint64_t granule, bool doubtful)
{
    uint64_t *word =
        &map->chunks[granule / CHUNK_GRANULES]->doubtful[granule % CHUNK_GRANULES / 64];
    uint64_t bit = 1ull << (granule % 64);

    *word = doubtful ? *word | bit : *word & ~bit;
}

static uint64_t granules(const struct frame_map *map)
{
    return (map->count + GRANULE_FRAMES - 1) / GRANULE_FRAMES;
}

void frame_space_doubt(struct frame_map *map)
{
    for (uint64_t granule = 0; granule < granules(map); granule++)
        set_doubtful(map, granule, true);
}

/* Bytes of granules [first, end) that the file has. */
static uint64_t bytes_of(const struct frame_map *map, uint64_t first, uint64_t end)
{
    uint64_t last = end * GRANULE_FRAMES < map->count ? end * GRANULE_FRAMES : map->count;

    return (last - first * GRANULE_FRAMES) << FRAME_SHIFT;
}

static uint64_t offset_of(uint64_t granule)
{
    return granule * GRANULE_FRAMES << FRAME_SHIFT;
}

int frame_space_reserve(struct frame_map *map, struct persist *persist, struct frame_run run)
{
    uint64_t granule = run.first / GRANULE_FRAMES;
    uint64_t end = (run.first + run.length - 1) / GRANULE_FRAMES + 1;

    while (granule < end) {
        uint64_t first = granule;
        int status;

        while (granule < end && is_doubtful(map, granule))
            granule++;
        if (granule == first) {
            granule++;
            continue;
        }
        status = persist_reserve(persist, offset_of(first), bytes_of(map, first, granule));
        if (status < 0)
            return status;
        while (first < granule)
            set_doubtful(map, first++, false);
    }
    return 0;
}

/* Free frames of a granule. */
static uint64_t count_free(const struct frame_map *map, uint64_t granule)
{
    uint64_t end = (granule + 1) * GRANULE_FRAMES, count = 0;

    for (uint64_t frame = granule * GRANULE_FRAMES; frame < end && frame < map->count; frame++)
        count += frame_map_is_free(map, frame);
    return count;
}

/* Whether a granule keeps its space, or what there is of it: it is not free as a whole, or its free
 * frames belong to the margin. */
static bool keeps_space(struct frame_map *map, struct persist *persist, uint64_t granule,
                        uint64_t *margin)
{
    struct frame_run run = {granule * GRANULE_FRAMES, GRANULE_FRAMES};
    uint64_t count = count_free(map, granule);

    if (count == GRANULE_FRAMES && *margin == 0)
        return false;
    if (count > 0 && *margin > 0 && frame_space_reserve(map, persist, run) == 0)
        *margin -= count < *margin ? count : *margin;
    return true;
}

uint64_t frame_space_give_back(struct frame_map *map, struct persist *persist, uint64_t margin)
{
    uint64_t end = map->count / GRANULE_FRAMES, granule = 0, given = 0;

    while (granule < end) {
        uint64_t first = granule;

        while (granule < end && !keeps_space(map, persist, granule, &margin))
            granule++;
        if (granule == first) {
            granule++;
            continue;
        }
        for (uint64_t i = first; i < granule; i++)
            set_doubtful(map, i, true);
        if (persist_punch(persist, offset_of(first), bytes_of(map, first, granule)) < 0)
            break;
        given += (granule - first) * GRANULE_FRAMES;
    }
    return given;
}
