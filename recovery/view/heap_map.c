/*
 * heap_map.c - see heap_map.h. Always true: a block's bytes are counted in each cell that it lies
 * in, so the cells' sums are those of the size classes.
 */
#include "recovery/view/heap_map.h"

#include <errno.h>
#include "core/pool/index.h"
#include "recovery/view/diff.h"

struct counting {
    struct heap_map *out;
    const struct reach *reach;
};

/* The part of [start, end) in each cell. */
typedef void count_part(struct heap_cell *cell, uint64_t bytes);
static void count_range(struct heap_map *map, uint64_t start, uint64_t end, count_part *count)
{
    while (start < end) {
        uint64_t index = (start - map->start) >> map->cell_shift;
        uint64_t cell_end = map->start + ((index + 1) << map->cell_shift);
        uint64_t part_end = end < cell_end ? end : cell_end;

        if (index >= map->count)
            return;
        count(&map->cells[index], part_end - start);
        start = part_end;
    }
}

static void count_used(struct heap_cell *cell, uint64_t bytes)
{
    cell->used_bytes += bytes;
}

static void count_lost(struct heap_cell *cell, uint64_t bytes)
{
    cell->used_bytes += bytes;
    cell->lost_bytes += bytes;
}

static void count_span(struct heap_cell *cell, uint64_t bytes)
{
    cell->span_bytes += bytes;
}

static bool count_block(void *context, const struct block *block)
{
    const struct counting *counting = context;
    struct heap_map *out = counting->out;
    uint64_t first = (block->address - out->start) >> out->cell_shift;
    uint64_t last = (block->address + block->bytes - 1 - out->start) >> out->cell_shift;

    count_range(out, block->address, block->address + block->bytes,
                block_bit(counting->reach->unreached, block->number) ? count_lost : count_used);
    for (uint64_t i = first; i <= last && i < out->count; i++)
        if (out->cells[i].class == BLOCK_CLASSES)
            out->cells[i].class = block->class;
    return true;
}

static void count_spans(struct heap_map *out, const struct block_map *map)
{
    uint32_t slices;

    for (uint32_t slice = map->first_slice; slice < map->top; slice += slices) {
        uint64_t start = view_slot_base(map->view) + ((uint64_t)slice << SLICE_SHIFT);

        slices = block_map_span_slices(map, slice);
        if (!block_map_is_free(map, slice))
            count_range(out, start, start + ((uint64_t)slices << SLICE_SHIFT), count_span);
    }
}

static int count_leaf(void *context, uint64_t first_page,
                      const struct index_entry entries[INDEX_NODE_ENTRIES])
{
    struct heap_map *out = context;

    for (uint64_t i = 0; i < INDEX_NODE_ENTRIES; i++) {
        uint64_t cell = (((first_page + i) << PAGE_SHIFT) - out->start) >> out->cell_shift;

        if (entries[i].frame != FRAME_NONE && cell < out->count)
            out->cells[cell].pages++;
    }
    return 0;
}

static void choose_size(struct heap_map *out, const struct block_map *map)
{
    uint64_t slices = map->top - map->first_slice;

    out->start = view_slot_base(map->view) + ((uint64_t)map->first_slice << SLICE_SHIFT);
    out->end = out->start + (slices << SLICE_SHIFT);
    out->cell_shift = PAGE_SHIFT;
    while (out->end - out->start > (uint64_t)HEAP_MAP_CELLS << out->cell_shift)
        out->cell_shift++;
    out->count =
        (uint32_t)((out->end - out->start + heap_map_cell_bytes(out) - 1) >> out->cell_shift);
}

int heap_map_make(struct heap_map *out, const struct block_map *map, const struct reach *reach,
                  struct problem *why)
{
    struct counting counting = {out, reach};
    int status;

    choose_size(out, map);
    out->cells = arena_alloc(&map->view->arena, (out->count + 1ull) * sizeof *out->cells, 8);
    if (!out->cells)
        return problem_set(why, -ENOMEM, "no memory for a map of %u cells", out->count);
    for (uint32_t i = 0; i < out->count; i++)
        out->cells[i].class = BLOCK_CLASSES;
    block_map_each(map, map->used, count_block, &counting);
    count_spans(out, map);
    status = index_each_leaf(map->view->image.index, out->start >> PAGE_SHIFT,
                             out->end >> PAGE_SHIFT, count_leaf, out);
    if (status < 0)
        return problem_set(why, status, "%s: the index of generation %lu cannot be read: %s",
                           map->view->pool.path, (unsigned long)map->view->generation.number,
                           status_text(status));
    return 0;
}

struct change_count {
    const struct heap_map *heap;
    uint32_t *pages;
};

static void count_change(void *context, uint64_t page, enum page_change change)
{
    struct change_count *changes = context;
    uint64_t cell = ((page << PAGE_SHIFT) - changes->heap->start) >> changes->heap->cell_shift;

    if ((change == PAGE_CAME || change == PAGE_CHANGED) && cell < changes->heap->count)
        changes->pages[cell]++;
}

int heap_map_changes(const struct heap_map *heap, struct view *view, struct view *old,
                     uint32_t *pages, struct problem *why)
{
    struct change_count changes = {heap, pages};

    return diff_each_page(old, view, heap->start >> PAGE_SHIFT, heap->end >> PAGE_SHIFT,
                          count_change, &changes, why);
}
