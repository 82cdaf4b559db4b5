/*
 * inspect_diff.c - the view diff: what changed from one generation to another.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "recovery/view/blocks.h"
#include "recovery/view/diff.h"
#include "tools/command.h"
#include "tools/inspect_parts.h"
#include "tools/table.h"
#include "tools/type_table.h"

static struct view old_view, new_view;

/* --- pages --- */

static json_t *pages_row(const char *where, const struct page_changes *changes)
{
    return json_pack("{s:s, s:I, s:I, s:I, s:I}", "where", where, "changed",
                     (json_int_t)changes->changed, "came", (json_int_t)changes->came, "went",
                     (json_int_t)changes->went, "same", (json_int_t)changes->same);
}

static const struct column page_columns[] = {
    {"where", "pages of", COLUMN_TEXT}, {"changed", "changed", COLUMN_NUMBER},
    {"came", "came", COLUMN_NUMBER},    {"went", "went", COLUMN_NUMBER},
    {"same", "same", COLUMN_NUMBER},
};

static int add_pages(json_t *diff, struct problem *why)
{
    struct page_changes heap, other;
    int status = diff_pages(&old_view, &new_view, &heap, &other, why);

    if (status == 0)
        json_object_set_new(
            diff, "pages",
            json_pack("[o, o]", pages_row("the heap", &heap), pages_row("other memory", &other)));
    return status;
}

/* --- size classes --- */

static const struct column class_columns[] = {
    {"block_bytes", "block", COLUMN_NUMBER},    {"blocks", "blocks", COLUMN_NUMBER},
    {"blocks_change", "change", COLUMN_CHANGE}, {"bytes", "in use", COLUMN_BYTES},
    {"bytes_change", "change", COLUMN_GROWTH},
};

static const struct column type_columns[] = {
    {"type", "type", COLUMN_NUMBER},
    {"blocks", "blocks", COLUMN_NUMBER},
    {"blocks_change", "change", COLUMN_CHANGE},
    {"bytes", "in use", COLUMN_BYTES},
    {"bytes_change", "change", COLUMN_GROWTH},
};

static int take_stacks(struct inspection *inspection, struct view *view,
                       const struct block_map *map, json_t **rows, struct problem *why)
{
    struct stacks stacks = {0};
    int status = stacks_open_beside(inspection, &stacks, view, map, why);

    *rows = status == 0 && stacks.reading.rate_bytes ? stacks_rows(&stacks, map->used) : NULL;
    stacks_close(&stacks);
    return status;
}

static int take_classes(struct inspection *inspection, struct view *view,
                        struct class_table table[BLOCK_CLASSES], struct type_table *types,
                        json_t **stacks, struct problem *why)
{
    struct block_map map;
    int status = block_map_build(&map, view, why);

    *stacks = NULL;
    if (status == 0) {
        block_map_classes(&map, map.used, table);
        block_map_each(&map, map.used, type_table_add, types);
        if (types->failed < 0)
            status = problem_set(why, types->failed, "no memory for a table of types");
    }
    types->which++;
    if (status == 0)
        status = take_stacks(inspection, view, &map, stacks, why);
    view_unmap_heap(view); /* the other one's goes to the same place */
    return status;
}

static json_t *class_row(uint32_t class, const struct class_table *was,
                         const struct class_table *is)
{
    return json_pack(
        "{s:o, s:I, s:I, s:I, s:I}", "block_bytes",
        class < SIZE_CLASSES ? json_integer(size_class_block_bytes(class)) : json_null(), "blocks",
        (json_int_t)is->used, "blocks_change", (json_int_t)(is->used - was->used), "bytes",
        (json_int_t)is->used_bytes, "bytes_change", (json_int_t)(is->used_bytes - was->used_bytes));
}

/* --- call sites --- */

#define SITE_LIMIT 10

/* What a stack is in both generations: its addresses. */
static char *stack_key(const json_t *row)
{
    json_t *addresses = json_array();
    const json_t *frame;
    char *text;
    size_t i;

    json_array_foreach(json_object_get(row, "frames"), i, frame)
    {
        json_array_append(addresses, json_object_get(frame, "pc"));
    }
    text = json_dumps(addresses, JSON_COMPACT);
    json_decref(addresses);
    return text;
}

/* Adds the row's figures, times sign, to what is known of its stack. */
static void add_stack(json_t *known, json_t *row, int sign)
{
    char *key = stack_key(row);
    json_t *site = key ? json_object_get(known, key) : NULL;
    json_int_t bytes = json_integer_value(json_object_get(row, "bytes"));
    json_int_t blocks = json_integer_value(json_object_get(row, "blocks"));

    if (key && !site) {
        site =
            json_pack("{s:i, s:i, s:i, s:i, s:O, s:O}", "bytes", 0, "bytes_change", 0, "blocks", 0,
                      "blocks_change", 0, "allocated_by", json_object_get(row, "allocated_by"),
                      "frames", json_object_get(row, "frames"));
        json_object_set_new(known, key, site);
    }
    free(key);
    if (!site)
        return;
    if (sign > 0) {
        json_object_set_new(site, "bytes", json_integer(bytes));
        json_object_set_new(site, "blocks", json_integer(blocks));
    }
    bytes = json_integer_value(json_object_get(site, "bytes_change")) + sign * bytes;
    blocks = json_integer_value(json_object_get(site, "blocks_change")) + sign * blocks;
    json_object_set_new(site, "bytes_change", json_integer(bytes));
    json_object_set_new(site, "blocks_change", json_integer(blocks));
}

static int most_growth_first(const void *a, const void *b)
{
    json_int_t x = json_integer_value(json_object_get(*(json_t *const *)a, "bytes_change"));
    json_int_t y = json_integer_value(json_object_get(*(json_t *const *)b, "bytes_change"));

    return x > y ? -1 : x < y;
}

/* Stacks whose live bytes changed, those that grew most first. */
static json_t *changed_sites(json_t *known)
{
    json_t **sites = calloc(json_object_size(known) + 1, sizeof *sites), *rows = json_array(),
           *site;
    size_t count = 0;
    const char *key;

    json_object_foreach(known, key, site)
    {
        if (sites && json_integer_value(json_object_get(site, "bytes_change")))
            sites[count++] = site;
    }
    if (count)
        qsort(sites, count, sizeof *sites, most_growth_first);
    for (size_t i = 0; i < count; i++)
        json_array_append(rows, sites[i]);
    free(sites);
    return rows;
}

json_t *inspect_site_changes(json_t *was, json_t *is)
{
    json_t *known = json_object(), *rows, *row;
    size_t i;

    json_array_foreach(was, i, row)
    {
        add_stack(known, row, -1);
    }
    json_array_foreach(is, i, row)
    {
        add_stack(known, row, 1);
    }
    rows = changed_sites(known);
    json_decref(known);
    return rows;
}

static void print_sites(const struct inspection *inspection, const json_t *diff)
{
    uint64_t limit = inspection->limit ? inspection->limit : SITE_LIMIT;
    const json_t *site;
    size_t i;

    json_array_foreach(json_object_get(diff, "sites"), i, site)
    {
        int64_t change = json_integer_value(json_object_get(site, "bytes_change"));
        char size[32], heading[120];

        if (i == limit)
            break;
        snprintf(heading, sizeof heading, "  about %s%s, %+" PRId64 " blocks, allocated by",
                 change > 0 ? "+" : "-",
                 show_bytes(size, change > 0 ? (uint64_t)change : -(uint64_t)change),
                 (int64_t)json_integer_value(json_object_get(site, "blocks_change")));
        if (i == 0)
            putchar('\n');
        inspect_heading(inspection, heading);
        stacks_print_frames(json_object_get(site, "frames"));
    }
}

static int add_classes(struct inspection *inspection, json_t *diff, struct problem *why)
{
    static struct class_table was[BLOCK_CLASSES], is[BLOCK_CLASSES];
    struct type_table types = {0};
    json_t *rows, *old_stacks, *new_stacks = NULL;
    int status = take_classes(inspection, &old_view, was, &types, &old_stacks, why);

    if (status == 0)
        status = take_classes(inspection, &new_view, is, &types, &new_stacks, why);
    if (status == 0) {
        json_object_set_new(diff, "types", type_table_rows(&types, false));
        json_object_set_new(diff, "sites", inspect_site_changes(old_stacks, new_stacks));
    }
    free(types.types);
    json_decref(old_stacks);
    json_decref(new_stacks);
    if (status < 0)
        return status;
    rows = json_array();
    for (uint32_t class = 0; class < BLOCK_CLASSES; class ++)
        if (was[class].used != is[class].used || was[class].used_bytes != is[class].used_bytes)
            json_array_append_new(rows, class_row(class, &was[class], &is[class]));
    json_object_set_new(diff, "classes", rows);
    return 0;
}

/* --- mappings and descriptors --- */

static const char *const kind_names[] = {
    [DIFF_CAME] = "came", [DIFF_WENT] = "went", [DIFF_CHANGED] = "changed"};

static const struct column mapping_columns[] = {
    {"change", "mapping", COLUMN_TEXT},
    {"start", "start", COLUMN_ADDRESS},
    {"end", "end", COLUMN_ADDRESS},
    {"bytes", "size", COLUMN_BYTES},
    {"bytes_change", "change", COLUMN_GROWTH},
    {"name", "name", COLUMN_TEXT},
};

static void add_mapping(void *context, enum diff_kind kind, const struct image_mapping *was,
                        const struct image_mapping *is)
{
    const struct image_mapping *shown = is ? is : was;
    const char *name = view_mapping_name(is ? &new_view : &old_view, shown);
    int64_t bytes = (int64_t)(shown->record->end - shown->record->start);
    int64_t before = was ? (int64_t)(was->record->end - was->record->start) : 0;

    json_array_append_new(context,
                          json_pack("{s:s, s:I, s:I, s:I, s:I, s:o}", "change", kind_names[kind],
                                    "start", (json_int_t)shown->record->start, "end",
                                    (json_int_t)shown->record->end, "bytes", (json_int_t)bytes,
                                    "bytes_change", (json_int_t)((is ? bytes : 0) - before), "name",
                                    table_text(name, strlen(name))));
}

static const struct column file_columns[] = {
    {"change", "file", COLUMN_TEXT},
    {"number", "fd", COLUMN_NUMBER},
    {"path", "path", COLUMN_TEXT},
};

static void add_descriptor(void *context, enum diff_kind kind,
                           const struct image_description *description, uint32_t number)
{
    json_array_append_new(context,
                          json_pack("{s:s, s:I, s:o}", "change", kind_names[kind], "number",
                                    (json_int_t)number, "path",
                                    table_text(description->path, strlen(description->path))));
}

static void add_records(json_t *diff)
{
    json_t *mappings = json_array(), *files = json_array();

    diff_mappings(&old_view, &new_view, add_mapping, mappings);
    diff_descriptors(&old_view, &new_view, add_descriptor, files);
    json_object_set_new(diff, "mappings", mappings);
    json_object_set_new(diff, "files", files);
}

/* --- the view --- */

static void print_part(const struct inspection *inspection, const json_t *diff, const char *key,
                       const struct column *columns, size_t count)
{
    const json_t *rows = json_object_get(diff, key);

    if (json_array_size(rows) == 0)
        return;
    putchar('\n');
    table_print(inspection, rows, columns, count);
}

static void print_diff(const struct inspection *inspection, const json_t *diff)
{
    printf("from generation %" PRIu64 " to %" PRIu64 "\n", old_view.generation.number,
           new_view.generation.number);
    print_part(inspection, diff, "pages", page_columns,
               sizeof page_columns / sizeof page_columns[0]);
    print_part(inspection, diff, "classes", class_columns,
               sizeof class_columns / sizeof class_columns[0]);
    print_part(inspection, diff, "types", type_columns,
               sizeof type_columns / sizeof type_columns[0]);
    print_sites(inspection, diff);
    print_part(inspection, diff, "mappings", mapping_columns,
               sizeof mapping_columns / sizeof mapping_columns[0]);
    print_part(inspection, diff, "files", file_columns,
               sizeof file_columns / sizeof file_columns[0]);
}

static int show(struct inspection *inspection, struct problem *why)
{
    json_t *diff = json_pack("{s:I, s:I}", "from", (json_int_t)old_view.generation.number, "to",
                             (json_int_t)new_view.generation.number);
    int status = add_pages(diff, why);

    if (status == 0)
        status = add_classes(inspection, diff, why);
    if (status < 0) {
        json_decref(diff);
        return status;
    }
    add_records(diff);
    if (inspection->json) {
        json_object_set_new(inspection->json, "diff", diff);
        return 0;
    }
    print_diff(inspection, diff);
    json_decref(diff);
    return 0;
}

int inspect_diff(struct inspection *inspection, struct problem *why)
{
    uint64_t from, to;
    int status;

    if (parse_number(inspection->arguments[0], 1, UINT64_MAX - 1, &from) < 0 ||
        parse_number(inspection->arguments[1], 1, UINT64_MAX - 1, &to) < 0)
        return problem_set(why, STATUS_USAGE, "diff takes the numbers of two generations");
    status = view_open(&old_view, inspection->state.path, from, why);
    if (status == 0)
        status = view_open(&new_view, inspection->state.path, to, why);
    if (status == 0)
        status = show(inspection, why);
    if (status == 0) {
        inspect_note_damage(inspection, &old_view);
        inspect_note_damage(inspection, &new_view);
    }
    view_close(&new_view);
    view_close(&old_view);
    return status;
}
