/*
 * largest.c - see largest.h. One pass over the blocks; those found so far are a binary heap. Always
 * true: blocks[i] comes in the list behind blocks[2i + 1] and blocks[2i + 2]; so blocks[0], the
 * last of the list, is what makes place for a larger one.
 */
#include "recovery/view/largest.h"

#include <errno.h>
#include <stdlib.h>

struct finding {
    struct largest *out;
    uint32_t most;
};

/* Negative: a comes first in the list. */
static int compare(const void *left, const void *right)
{
    const struct block *a = left, *b = right;

    if (a->bytes != b->bytes)
        return a->bytes > b->bytes ? -1 : 1;
    return a->address < b->address ? -1 : a->address > b->address;
}

static void swap(struct block *a, struct block *b)
{
    struct block held = *a;

    *a = *b;
    *b = held;
}

static void sift_up(struct block *blocks, uint32_t at)
{
    for (; at > 0 && compare(&blocks[at], &blocks[(at - 1) / 2]) > 0; at = (at - 1) / 2)
        swap(&blocks[at], &blocks[(at - 1) / 2]);
}

static void sift_down(struct block *blocks, uint32_t count)
{
    uint32_t at = 0, below;

    while ((below = 2 * at + 1) < count) {
        if (below + 1 < count && compare(&blocks[below + 1], &blocks[below]) > 0)
            below++;
        if (compare(&blocks[below], &blocks[at]) <= 0)
            return;
        swap(&blocks[below], &blocks[at]);
        at = below;
    }
}

static bool consider(void *context, const struct block *block)
{
    const struct finding *finding = context;
    struct largest *out = finding->out;

    if (out->count < finding->most) {
        out->blocks[out->count] = *block;
        sift_up(out->blocks, out->count++);
    } else if (compare(block, &out->blocks[0]) < 0) {
        out->blocks[0] = *block;
        sift_down(out->blocks, out->count);
    }
    return true;
}

int largest_find(struct largest *out, const struct block_map *map, uint32_t most,
                 struct problem *why)
{
    struct finding finding = {out, most};

    out->count = 0;
    out->blocks = arena_alloc(&map->view->arena, most * sizeof *out->blocks, 8);
    if (!out->blocks)
        return problem_set(why, -ENOMEM, "no memory for a list of %u blocks", most);
    block_map_each(map, map->used, consider, &finding);
    qsort(out->blocks, out->count, sizeof *out->blocks, compare);
    return 0;
}
