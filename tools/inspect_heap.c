/*
 * inspect_heap.c - the view heap: a generation's slot is mapped at its own address and walked with
 * the same walker that a live heap has; an opened heap by its spans.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "core/heap/heap.h"
#include "recovery/view/blocks.h"
#include "tools/command.h"
#include "tools/inspect.h"

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0.0;
}

static json_t *class_json(const struct heap_class_totals *class)
{
    return json_pack("{s:i, s:I, s:I, s:I, s:I, s:f}", "block_bytes", (int)class->block_bytes,
                     "slabs", (json_int_t) class->slabs, "slab_bytes",
                     (json_int_t) class->slab_bytes, "blocks_used", (json_int_t) class->blocks_used,
                     "blocks_total", (json_int_t) class->blocks_total, "occupancy_percent",
                     percent(class->blocks_used, class->blocks_total));
}

static void census_json(json_t *json, uint64_t generation, const struct heap_census *census)
{
    const struct heap_totals *totals = &census->totals;
    json_t *classes = json_array();

    for (uint32_t i = 0; i < census->class_count && i < HEAP_CLASSES_MAX; i++)
        if (census->classes[i].block_bytes && census->classes[i].slabs)
            json_array_append_new(classes, class_json(&census->classes[i]));
    json_object_set_new(
        json, "heap",
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "generation",
                  (json_int_t)generation, "live_bytes", (json_int_t)totals->live_bytes,
                  "live_blocks", (json_int_t)totals->live_blocks, "committed_bytes",
                  (json_int_t)totals->committed_bytes, "span_bytes", (json_int_t)totals->span_bytes,
                  "free_bytes", (json_int_t)totals->free_bytes, "large_blocks",
                  (json_int_t)census->large_blocks, "large_bytes", (json_int_t)census->large_bytes,
                  "thread_heaps", (json_int_t)census->thread_heaps, "classes", classes));
}

static void census_print(const struct inspection *inspection, uint64_t generation,
                         const struct heap_census *census)
{
    const struct heap_totals *totals = &census->totals;
    char a[32], b[32], c[32], d[32];

    printf("generation %" PRIu64 ": %s live in %" PRIu64 " blocks, %s in spans, %s free, "
           "%s committed, %" PRIu64 " thread heaps\n",
           generation, show_bytes(a, totals->live_bytes), totals->live_blocks,
           show_bytes(b, totals->span_bytes), show_bytes(c, totals->free_bytes),
           show_bytes(d, totals->committed_bytes), census->thread_heaps);
    inspect_heading(inspection,
                    "     block   slabs        size        used       total  occupancy");
    for (uint32_t i = 0; i < census->class_count && i < HEAP_CLASSES_MAX; i++) {
        const struct heap_class_totals *class = &census->classes[i];

        if (class->block_bytes && class->slabs)
            printf("%10s %7" PRIu64 " %11s %11" PRIu64 " %11" PRIu64 "    %5.1f %%\n",
                   show_bytes(a, class->block_bytes), class->slabs,
                   show_bytes(b, class->slab_bytes), class->blocks_used, class->blocks_total,
                   percent(class->blocks_used, class->blocks_total));
    }
    if (census->large_blocks)
        printf("%10s %7s %11s %11" PRIu64 "\n", "large", "", show_bytes(b, census->large_bytes),
               census->large_blocks);
}

/* The same of an opened heap, by its size classes. */
static int census_of_opened(struct heap_census *census, struct view *view, struct problem *why)
{
    static struct class_table table[BLOCK_CLASSES];
    struct block_map map;
    int status = block_map_build(&map, view, why);

    if (status < 0)
        return status;
    block_map_classes(&map, map.used, table);
    for (uint32_t class = 0; class < SIZE_CLASSES; class ++) {
        const struct class_table *row = &table[class];

        census->classes[class] = (struct heap_class_totals){
            size_class_block_bytes(class), row->spans, row->span_bytes, row->used, row->total};
    }
    for (uint32_t class = 0; class < BLOCK_CLASSES; class ++) {
        census->totals.live_bytes += table[class].used_bytes;
        census->totals.live_blocks += table[class].used;
        census->totals.span_bytes += table[class].span_bytes;
    }
    census->class_count = SIZE_CLASSES;
    census->large_blocks = table[BLOCK_CLASS_LARGE].used;
    census->large_bytes = table[BLOCK_CLASS_LARGE].used_bytes;
    census->totals.committed_bytes = (uint64_t)(map.top - map.first_slice) << SLICE_SHIFT;
    census->totals.free_bytes = census->totals.committed_bytes - census->totals.span_bytes;
    return 0;
}

static int show(struct inspection *inspection, struct view *view, struct problem *why)
{
    static struct heap_census census;
    int status = view_map_heap(view, why);

    memset(&census, 0, sizeof census);
    if (status == 0)
        status = view->is_opened ? census_of_opened(&census, view, why)
                                 : heap_census(view->generation.slot, &census, why);
    if (status < 0)
        return status;
    if (inspection->json)
        census_json(inspection->json, view->generation.number, &census);
    else
        census_print(inspection, view->generation.number, &census);
    return 0;
}

int inspect_heap(struct inspection *inspection, struct problem *why)
{
    return inspect_with(inspection, show, why);
}
