/*
 * page_data.c - see page_data.h.
 */
#include "tools/page_data.h"

#include <stdlib.h>
#include "tools/inspect_parts.h"

/* --- run-length lists --- */

struct runs {
    json_t *list;
    uint64_t last;
    json_int_t more; /* cells that have it, after the first */
};

static void end_run(struct runs *runs)
{
    if (runs->more)
        json_array_append_new(runs->list, json_integer(-runs->more));
    runs->more = 0;
}

static void add_number(struct runs *runs, uint64_t number)
{
    if (json_array_size(runs->list) && number == runs->last) {
        runs->more++;
        return;
    }
    end_run(runs);
    json_array_append_new(runs->list, json_integer((json_int_t)number));
    runs->last = number;
}

static json_t *ended(struct runs *runs)
{
    end_run(runs);
    return runs->list;
}

json_t *page_runs(const uint32_t *numbers, uint32_t count)
{
    struct runs runs = {.list = json_array()};

    for (uint32_t i = 0; i < count; i++)
        add_number(&runs, numbers[i]);
    return ended(&runs);
}

/* 0: no block in use; 1: one that is a span of its own. */
static uint64_t block_bytes(uint32_t class)
{
    if (class == BLOCK_CLASSES)
        return 0;
    return class < SIZE_CLASSES ? size_class_block_bytes(class) : 1;
}

json_t *page_map(const struct heap_map *map)
{
    struct runs used = {.list = json_array()}, lost = used, span = used, class = used, pages = used;

    lost.list = json_array();
    span.list = json_array();
    class.list = json_array();
    pages.list = json_array();
    for (uint32_t i = 0; i < map->count; i++) {
        const struct heap_cell *cell = &map->cells[i];

        add_number(&used, cell->used_bytes);
        add_number(&lost, cell->lost_bytes);
        add_number(&span, cell->span_bytes);
        add_number(&class, block_bytes(cell->class));
        add_number(&pages, cell->pages);
    }
    return json_pack("{s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "start",
                     (json_int_t)map->start, "end", (json_int_t)map->end, "cell_bytes",
                     (json_int_t)heap_map_cell_bytes(map), "cells", (json_int_t)map->count, "used",
                     ended(&used), "lost", ended(&lost), "span", ended(&span), "block_bytes",
                     ended(&class), "pages", ended(&pages));
}

/* --- rows --- */

json_t *page_largest(const struct largest *largest, const struct reach *reach,
                     const struct stacks *stacks)
{
    json_t *rows = json_array();

    for (uint32_t i = 0; i < largest->count; i++) {
        const struct block *block = &largest->blocks[i];
        const struct profile_sample *sample = profile_of_block(&stacks->reading, block->address);
        json_t *row = inspect_block_row(block);

        json_object_set_new(row, "reachable",
                            json_boolean(!block_bit(reach->unreached, block->number)));
        if (sample) {
            json_t *frames = stacks_frames(stacks, sample->stack);

            json_object_set_new(row, "allocated_by", stacks_site(frames));
            json_decref(frames);
        }
        json_array_append_new(rows, row);
    }
    return rows;
}

/* --- bounds --- */

static json_int_t sum_behind(const json_t *rows, size_t most, const char *key)
{
    json_int_t sum = 0;

    for (size_t i = most; i < json_array_size(rows); i++)
        sum += json_integer_value(json_object_get(json_array_get(rows, i), key));
    return sum;
}

static void cut(json_t *left_out, const char *name, json_t *rows, size_t most)
{
    size_t count = json_array_size(rows);

    if (count <= most)
        return;
    json_object_set_new(left_out, name,
                        json_pack("{s:I, s:I, s:I}", "rows", (json_int_t)(count - most), "bytes",
                                  sum_behind(rows, most, "bytes"), "blocks",
                                  sum_behind(rows, most, "blocks")));
    while (count > most)
        json_array_remove(rows, --count);
}

void page_cut(json_t *page)
{
    json_t *left_out = json_object();

    cut(left_out, "profile", json_object_get(json_object_get(page, "profile"), "stacks"),
        PAGE_STACKS_MOST);
    cut(left_out, "leaking_stacks", json_object_get(page, "leaking_stacks"), PAGE_STACKS_MOST);
    cut(left_out, "sites", json_object_get(page, "sites"), PAGE_STACKS_MOST);
    cut(left_out, "mappings", json_object_get(page, "mappings"), PAGE_MAPPINGS_MOST);
    cut(left_out, "threads", json_object_get(page, "threads"), PAGE_THREADS_MOST);
    cut(left_out, "types", json_object_get(page, "types"), PAGE_TYPES_MOST);
    cut(left_out, "roots", json_object_get(page, "roots"), PAGE_ROOTS_MOST);
    json_object_set_new(page, "left_out", left_out);
}

/* --- frames --- */

struct sharing {
    json_t *frames; /* the list */
    json_t *places; /* of a frame's text in it */
};

static json_t *place_of(const struct sharing *sharing, json_t *frame)
{
    char *text = json_dumps(frame, JSON_COMPACT);
    json_t *place = text ? json_object_get(sharing->places, text) : NULL;

    if (text && !place) {
        place = json_integer((json_int_t)json_array_size(sharing->frames));
        json_object_set_new(sharing->places, text, place);
        json_array_append(sharing->frames, frame);
    }
    free(text);
    return place;
}

/* Frames are shared between rows: they are replaced, not changed. */
static void share_rows(const struct sharing *sharing, json_t *rows)
{
    json_t *row, *frame;
    size_t i, j;

    json_array_foreach(rows, i, row)
    {
        json_t *places = json_array();

        json_array_foreach(json_object_get(row, "frames"), j, frame)
        {
            json_array_append(places, place_of(sharing, frame));
        }
        json_object_set_new(row, "frames", places);
    }
}

void page_share_frames(json_t *page)
{
    struct sharing sharing = {json_array(), json_object()};

    share_rows(&sharing, json_object_get(json_object_get(page, "profile"), "stacks"));
    share_rows(&sharing, json_object_get(page, "leaking_stacks"));
    share_rows(&sharing, json_object_get(page, "sites"));
    share_rows(&sharing, json_object_get(page, "threads"));
    json_object_set_new(page, "frames", sharing.frames);
    json_decref(sharing.places);
}
