/*
 * inspect_heap.c - the view heap: a generation's slot is mapped at its own address and walked with
 * the same walker that a live heap has; an opened heap by its spans.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "core/heap/heap.h"
#include "core/tx/tx_format.h"
#include "recovery/view/blocks.h"
#include "tools/command.h"
#include "tools/inspect_parts.h"
#include "tools/table.h"

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0.0;
}

/* --- free runs --- */

/* Of what is free, how much lies outside the largest run. */
static double fragmentation(const struct heap_free_runs *runs)
{
    return percent(runs->all.bytes - runs->largest_bytes, runs->all.bytes);
}

/* too_small_percent: of what is free, how much lies in runs of smaller orders. */
static json_t *order_rows(const struct heap_free_runs *runs)
{
    json_t *rows = json_array();
    uint64_t smaller = 0;

    for (uint32_t order = 0; order < HEAP_RUN_ORDERS; order++) {
        const struct heap_run_totals *at = &runs->orders[order];

        if (at->runs)
            json_array_append_new(rows, json_pack("{s:i, s:I, s:I, s:I, s:f}", "order", (int)order,
                                                  "from_bytes", (json_int_t)SLICE_BYTES << order,
                                                  "runs", (json_int_t)at->runs, "bytes",
                                                  (json_int_t)at->bytes, "too_small_percent",
                                                  percent(smaller, runs->all.bytes)));
        smaller += at->bytes;
    }
    return rows;
}

static json_t *free_json(const struct heap_free_runs *runs)
{
    return json_pack("{s:I, s:I, s:I, s:o, s:f, s:I, s:I, s:I, s:o}", "runs",
                     (json_int_t)runs->all.runs, "bytes", (json_int_t)runs->all.bytes,
                     "largest_bytes", (json_int_t)runs->largest_bytes, "largest_address",
                     runs->all.runs ? json_integer((json_int_t)runs->largest_address) : json_null(),
                     "fragmentation_percent", fragmentation(runs), "aside_runs",
                     (json_int_t)runs->aside.runs, "aside_bytes", (json_int_t)runs->aside.bytes,
                     "untouched_bytes", (json_int_t)runs->untouched_bytes, "orders",
                     order_rows(runs));
}

static const struct column order_columns[] = {
    {"order", "order", COLUMN_NUMBER},
    {"from_bytes", "runs from", COLUMN_BYTES},
    {"runs", "runs", COLUMN_NUMBER},
    {"bytes", "free", COLUMN_BYTES},
    {"too_small_percent", "in smaller ones", COLUMN_PERCENT},
};

static void print_free(const struct inspection *inspection, const struct heap_free_runs *runs)
{
    char a[32], b[32];

    if (runs->all.runs) {
        json_t *rows = order_rows(runs);

        printf("\nfree: %" PRIu64 " %s, %s; the largest %s at 0x%" PRIx64
               "; fragmentation %.1f %%\n",
               runs->all.runs, runs->all.runs == 1 ? "run" : "runs", show_bytes(a, runs->all.bytes),
               show_bytes(b, runs->largest_bytes), runs->largest_address, fragmentation(runs));
        table_print(inspection, rows, order_columns,
                    sizeof order_columns / sizeof order_columns[0]);
        json_decref(rows);
    } else {
        printf("\nfree: no run\n");
    }
    if (runs->aside.runs)
        printf("aside, at hand for a thread or on the way to the kernel: %s in %" PRIu64 " %s\n",
               show_bytes(a, runs->aside.bytes), runs->aside.runs,
               runs->aside.runs == 1 ? "run" : "runs");
    printf("behind all these, never handed out so far: %s\n", show_bytes(a, runs->untouched_bytes));
}

/* --- size classes --- */

static json_t *class_json(const struct heap_class_totals *class)
{
    return json_pack("{s:i, s:I, s:I, s:I, s:I, s:f}", "block_bytes", (int)class->block_bytes,
                     "slabs", (json_int_t) class->slabs, "slab_bytes",
                     (json_int_t) class->slab_bytes, "blocks_used", (json_int_t) class->blocks_used,
                     "blocks_total", (json_int_t) class->blocks_total, "occupancy_percent",
                     percent(class->blocks_used, class->blocks_total));
}

static json_t *classes_json(const struct heap_census *census)
{
    json_t *classes = json_array();

    for (uint32_t i = 0; i < census->class_count && i < HEAP_CLASSES_MAX; i++)
        if (census->classes[i].block_bytes && census->classes[i].slabs)
            json_array_append_new(classes, class_json(&census->classes[i]));
    return classes;
}

static json_t *census_json(uint64_t generation, const struct heap_census *census)
{
    const struct heap_totals *totals = &census->totals;

    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:o, s:o}", "generation",
        (json_int_t)generation, "live_bytes", (json_int_t)totals->live_bytes, "live_blocks",
        (json_int_t)totals->live_blocks, "committed_bytes", (json_int_t)totals->committed_bytes,
        "span_bytes", (json_int_t)totals->span_bytes, "unused_in_spans_percent",
        percent(totals->span_bytes - totals->live_bytes, totals->span_bytes), "free_bytes",
        (json_int_t)totals->free_bytes, "large_blocks", (json_int_t)census->large_blocks,
        "large_bytes", (json_int_t)census->large_bytes, "thread_heaps",
        (json_int_t)census->thread_heaps, "classes", classes_json(census), "free_runs",
        free_json(&census->free_runs));
}

static void print_classes(const struct inspection *inspection, const struct heap_census *census)
{
    char a[32], b[32];

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

static void census_print(const struct inspection *inspection, uint64_t generation,
                         const struct heap_census *census)
{
    const struct heap_totals *totals = &census->totals;
    char a[32], b[32], c[32], d[32];

    printf("generation %" PRIu64 ": %s live in %" PRIu64 " blocks, %s in spans (%.1f %% of it in "
           "no block), %s free, %s committed, %" PRIu64 " thread %s\n",
           generation, show_bytes(a, totals->live_bytes), totals->live_blocks,
           show_bytes(b, totals->span_bytes),
           percent(totals->span_bytes - totals->live_bytes, totals->span_bytes),
           show_bytes(c, totals->free_bytes), show_bytes(d, totals->committed_bytes),
           census->thread_heaps, census->thread_heaps == 1 ? "heap" : "heaps");
    print_classes(inspection, census);
    print_free(inspection, &census->free_runs);
}

/* --- an opened heap --- */

/* Its slices without a span lie next to each other, one by one. */
static void runs_of_opened(struct heap_census *census, const struct block_map *map)
{
    const uint64_t base = view_slot_base(map->view);
    uint32_t slice = map->first_slice;

    while (slice < map->top) {
        uint32_t end = slice;

        while (end < map->top && block_map_is_free(map, end))
            end++;
        if (end > slice)
            heap_count_run(&census->free_runs, base + ((uint64_t)slice << SLICE_SHIFT),
                           end - slice);
        slice = end < map->top ? end + block_map_span_slices(map, end) : end;
    }
    census->free_runs.untouched_bytes = (uint64_t)(TX_SLICES_MAX - map->top) << SLICE_SHIFT;
}

/* The census of one, by its size classes. */
static void census_of_opened(struct heap_census *census, const struct block_map *map)
{
    static struct class_table table[BLOCK_CLASSES];

    block_map_classes(map, map->used, table);
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
    census->totals.committed_bytes = (uint64_t)(map->top - map->first_slice) << SLICE_SHIFT;
    runs_of_opened(census, map);
    census->totals.free_bytes = census->free_runs.all.bytes;
}

/* --- the view --- */

static int take_census(struct heap_census *census, struct view *view, struct problem *why)
{
    struct block_map map;
    int status;

    if (!view->is_opened)
        return heap_census(view->generation.slot, census, why);
    status = block_map_build(&map, view, why);
    if (status == 0)
        census_of_opened(census, &map);
    return status;
}

int inspect_heap_part(struct inspection *inspection, struct view *view, struct problem *why)
{
    static struct heap_census census;
    uint64_t generation = view->generation.number;
    int status = view_map_heap(view, why);

    memset(&census, 0, sizeof census);
    if (status == 0)
        status = take_census(&census, view, why);
    if (status < 0)
        return status;
    if (inspection->json)
        json_object_set_new(inspection->json, "heap", census_json(generation, &census));
    else
        census_print(inspection, generation, &census);
    return 0;
}

int inspect_heap(struct inspection *inspection, struct problem *why)
{
    return inspect_with(inspection, inspect_heap_part, why);
}
