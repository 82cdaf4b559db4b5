/*
 * heap_map.c - see heap_map.h. Always true: a block's bytes are counted in each cell that it lies
 * in, so the cells' sums are those of the size classes.
 */
#include "recovery/view/heap_map.h"

#include <errno.h>

struct counting {
    struct heap_map *out;
    const struct reach *reach;
};

static void count_part(struct heap_cell *cell, const struct block *block, uint64_t bytes,
                       bool is_lost)
{
    if (cell->class == BLOCK_CLASSES)
        cell->class = block->class;
    cell->used_bytes += bytes;
    cell->lost_bytes += is_lost ? bytes : 0;
}

static bool count_block(void *context, const struct block *block)
{
    const struct counting *counting = context;
    const struct heap_map *out = counting->out;
    bool is_lost = block_bit(counting->reach->unreached, block->number);
    uint64_t at = block->address, end = at + block->bytes;

    while (at < end) {
        uint64_t index = (at - out->start) / out->cell_bytes;
        uint64_t cell_end = out->start + (index + 1) * out->cell_bytes;
        uint64_t part_end = end < cell_end ? end : cell_end;

        if (index >= out->count)
            return true;
        count_part(&out->cells[index], block, part_end - at, is_lost);
        at = part_end;
    }
    return true;
}

int heap_map_make(struct heap_map *out, const struct block_map *map, const struct reach *reach,
                  struct problem *why)
{
    struct counting counting = {out, reach};
    uint64_t slices = map->top - map->first_slice, each = 1;

    while (slices > each * HEAP_MAP_CELLS)
        each *= 2;
    out->start = view_slot_base(map->view) + ((uint64_t)map->first_slice << SLICE_SHIFT);
    out->cell_bytes = each << SLICE_SHIFT;
    out->count = (uint32_t)((slices + each - 1) / each);
    out->cells = arena_alloc(&map->view->arena, (out->count + 1) * sizeof *out->cells, 8);
    if (!out->cells)
        return problem_set(why, -ENOMEM, "no memory for a map of %u cells", out->count);
    for (uint32_t i = 0; i < out->count; i++)
        out->cells[i].class = BLOCK_CLASSES;
    block_map_each(map, map->used, count_block, &counting);
    return 0;
}
