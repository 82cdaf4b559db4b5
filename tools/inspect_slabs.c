/*
 * inspect_slabs.c - the views slabs and leaks: blocks by size class, all of them or those that
 * nothing points to.
 */
#include <inttypes.h>
#include <stdio.h>
#include "recovery/view/blocks.h"
#include "recovery/view/reach.h"
#include "tools/command.h"
#include "tools/inspect_parts.h"
#include "tools/table.h"

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0.0;
}

static json_t *block_bytes_json(uint32_t class)
{
    return class < SIZE_CLASSES ? json_integer(size_class_block_bytes(class)) : json_null();
}

/* --- slabs --- */

static const struct column slab_columns[] = {
    {"block_bytes", "block", COLUMN_NUMBER},
    {"slabs", "slabs", COLUMN_NUMBER},
    {"size_bytes", "size", COLUMN_BYTES},
    {"used", "used", COLUMN_NUMBER},
    {"free", "free", COLUMN_NUMBER},
    {"used_bytes", "in use", COLUMN_BYTES},
    {"wasted_bytes", "not in use", COLUMN_BYTES},
    {"occupancy_percent", "occupancy", COLUMN_PERCENT},
    {"lowest", "lowest", COLUMN_ADDRESS},
    {"highest", "highest", COLUMN_ADDRESS},
};

static json_t *address_or_null(uint64_t address)
{
    return address ? json_integer((json_int_t)address) : json_null();
}

static json_t *slab_row(uint32_t class, const struct class_table *table)
{
    return json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:o, s:o}", "block_bytes",
                     block_bytes_json(class), "slabs", (json_int_t)table->spans, "size_bytes",
                     (json_int_t)table->span_bytes, "used", (json_int_t)table->used, "free",
                     (json_int_t)(table->total - table->used), "used_bytes",
                     (json_int_t)table->used_bytes, "wasted_bytes",
                     (json_int_t)(table->span_bytes - table->used_bytes), "occupancy_percent",
                     percent(table->used_bytes, table->span_bytes), "lowest",
                     address_or_null(table->lowest), "highest", address_or_null(table->highest));
}

json_t *inspect_slab_rows(const struct block_map *map)
{
    static struct class_table table[BLOCK_CLASSES];
    json_t *rows = json_array();

    block_map_classes(map, map->used, table);
    for (uint32_t class = 0; class < BLOCK_CLASSES; class ++)
        if (table[class].spans)
            json_array_append_new(rows, slab_row(class, &table[class]));
    return rows;
}

static int show_slabs(struct inspection *inspection, struct view *view, struct problem *why)
{
    struct block_map map;
    int status = block_map_build(&map, view, why);

    if (status == 0)
        table_show(inspection, "slabs", inspect_slab_rows(&map), slab_columns,
                   sizeof slab_columns / sizeof slab_columns[0]);
    return status;
}

int inspect_slabs(struct inspection *inspection, struct problem *why)
{
    return inspect_with(inspection, show_slabs, why);
}

/* --- leaks --- */

#define SAMPLES     4
#define STACK_LIMIT 10

struct samples { /* of a class: the first few and the last */
    uint64_t addresses[SAMPLES];
    uint32_t count;
};

static bool take_sample(void *context, const struct block *block)
{
    struct samples *samples = (struct samples *)context + block->class;

    if (samples->count < SAMPLES)
        samples->addresses[samples->count++] = block->address;
    else
        samples->addresses[SAMPLES - 1] = block->address;
    return true;
}

static const struct column leak_columns[] = {
    {"block_bytes", "block", COLUMN_NUMBER},
    {"blocks", "unreachable", COLUMN_NUMBER},
    {"bytes", "bytes", COLUMN_BYTES},
    {"of_percent", "of these in use", COLUMN_PERCENT},
    {"samples_text", "for example", COLUMN_TEXT},
};

static json_t *leak_row(uint32_t class, const struct class_table *lost, uint64_t used,
                        const struct samples *samples)
{
    json_t *addresses = json_array();
    char text[160] = "";
    size_t length = 0;

    for (uint32_t i = 0; i < samples->count; i++) {
        json_array_append_new(addresses, json_integer((json_int_t)samples->addresses[i]));
        length += (size_t)snprintf(text + length, sizeof text - length, "%s0x%" PRIx64,
                                   i ? " " : "", samples->addresses[i]);
    }
    return json_pack("{s:o, s:I, s:I, s:f, s:o, s:s}", "block_bytes", block_bytes_json(class),
                     "blocks", (json_int_t)lost->used, "bytes", (json_int_t)lost->used_bytes,
                     "of_percent", percent(lost->used, used), "samples", addresses, "samples_text",
                     text);
}

static json_t *leak_rows(const struct block_map *map, const struct reach *reach, uint64_t *bytes)
{
    static struct class_table lost[BLOCK_CLASSES], used[BLOCK_CLASSES];
    static struct samples samples[BLOCK_CLASSES];
    json_t *rows = json_array();

    block_map_classes(map, map->used, used);
    block_map_classes(map, reach->unreached, lost);
    block_map_each(map, reach->unreached, take_sample, samples);
    *bytes = 0;
    for (uint32_t class = 0; class < BLOCK_CLASSES; class ++) {
        *bytes += lost[class].used_bytes;
        if (lost[class].used)
            json_array_append_new(rows,
                                  leak_row(class, &lost[class], used[class].used, &samples[class]));
    }
    return rows;
}

/* Which stacks allocated them, as far as they were sampled. */
static void show_leaking_stacks(const struct inspection *inspection, const struct stacks *stacks,
                                const struct reach *reach)
{
    json_t *rows;

    if (stacks->reading.rate_bytes == 0)
        return;
    rows = stacks_rows(stacks, reach->unreached);
    if (inspection->json)
        json_object_set(inspection->json, "leaking_stacks", rows);
    else if (json_array_size(rows))
        putchar('\n');
    if (!inspection->json)
        stacks_print(inspection, rows, inspection->limit ? inspection->limit : STACK_LIMIT);
    json_decref(rows);
}

void inspect_leaks_part(struct inspection *inspection, const struct block_map *map,
                        const struct reach *reach, const struct stacks *stacks)
{
    uint64_t bytes;
    json_t *rows = leak_rows(map, reach, &bytes);
    char size[32];

    if (inspection->json)
        json_object_set_new(
            inspection->json, "leaked",
            json_pack("{s:I, s:I, s:I}", "blocks", (json_int_t)reach->unreached_count, "bytes",
                      (json_int_t)bytes, "blocks_in_use", (json_int_t)map->used_count));
    else
        printf("generation %" PRIu64 ": nothing points to %" PRIu64 " of %" PRIu64 " blocks, %s\n",
               map->view->generation.number, reach->unreached_count, map->used_count,
               show_bytes(size, bytes));
    if (inspection->json || reach->unreached_count)
        table_show(inspection, "leaks", rows, leak_columns,
                   sizeof leak_columns / sizeof leak_columns[0]);
    else
        json_decref(rows);
    show_leaking_stacks(inspection, stacks, reach);
}

static int show_leaks(struct inspection *inspection, struct view *view, struct problem *why)
{
    struct block_map map;
    struct reach reach;
    struct stacks stacks = {0};
    int status = block_map_build(&map, view, why);

    if (status == 0)
        status = reach_mark(&reach, &map, why);
    if (status == 0)
        status = stacks_open_beside(inspection, &stacks, view, &map, why);
    if (status == 0)
        inspect_leaks_part(inspection, &map, &reach, &stacks);
    stacks_close(&stacks);
    return status;
}

int inspect_leaks(struct inspection *inspection, struct problem *why)
{
    return inspect_with(inspection, show_leaks, why);
}
