/*
 * inspect_blocks.c - the view blocks: a list by address, size, age and type, or one block with its
 * content, what it points to and what points to it.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "recovery/view/ages.h"
#include "recovery/view/opened_heap.h"
#include "recovery/view/links.h"
#include "recovery/view/thread_state.h"
#include "tools/command.h"
#include "tools/inspect_parts.h"
#include "tools/place.h"
#include "tools/table.h"

#define LIST_LIMIT 100
#define DUMP_BYTES 256u

static uint64_t limit_of(const struct inspection *inspection)
{
    return inspection->limit ? inspection->limit : LIST_LIMIT;
}

json_t *inspect_block_row(const struct block *block)
{
    json_t *row =
        json_pack("{s:I, s:I, s:o, s:b, s:I, s:I}", "address", (json_int_t)block->address, "bytes",
                  (json_int_t)block->bytes, "class_bytes",
                  block->class < SIZE_CLASSES ? json_integer(size_class_block_bytes(block->class))
                                              : json_null(),
                  "in_use", block->is_used, "span_start", (json_int_t)block->span_start,
                  "span_bytes", (json_int_t)block->span_bytes);

    if (block->has_type) {
        json_object_set_new(row, "type", json_integer(block->type));
        json_object_set_new(row, "asked_bytes", json_integer((json_int_t)block->asked));
    }
    return row;
}

/* --- ages --- */

static struct ages ages;

static bool asks_for_ages(const struct inspection *inspection)
{
    return inspection->shows_ages || inspection->since || inspection->older;
}

static bool is_of_age(const struct inspection *inspection, const struct block *block)
{
    uint64_t first = asks_for_ages(inspection) ? ages_first(&ages, block)->number : 0;

    return (!inspection->since || first > inspection->since) &&
           (!inspection->older || first <= inspection->older);
}

/* When it was allocated: between the two generations, or before the oldest. */
static void add_age(const struct inspection *inspection, const struct block *block, json_t *row)
{
    const struct generation_entry *first, *not_yet;
    char before[32], after[32], text[96];

    if (!asks_for_ages(inspection) || !block->is_used)
        return;
    first = ages_first(&ages, block);
    not_yet = ages_not_yet(&ages, block);
    if (not_yet)
        snprintf(text, sizeof text, "%s .. %s", inspect_time(after, not_yet->time_ns),
                 inspect_time(before, first->time_ns));
    else
        snprintf(text, sizeof text, "before %s", inspect_time(before, first->time_ns));
    json_object_set_new(row, "first_generation", json_integer((json_int_t)first->number));
    json_object_set_new(row, "allocated_after_ns",
                        not_yet ? json_integer((json_int_t)not_yet->time_ns) : json_null());
    json_object_set_new(row, "allocated_before_ns", json_integer((json_int_t)first->time_ns));
    json_object_set_new(row, "allocated_text", json_string(text));
}

static void print_age(const struct inspection *inspection, const struct block *block)
{
    json_t *row = json_object();

    add_age(inspection, block, row);
    if (json_object_size(row))
        printf("first in generation %" PRIu64 ", allocated %s\n", ages_first(&ages, block)->number,
               json_string_value(json_object_get(row, "allocated_text")));
    json_decref(row);
}

/* --- a list --- */

struct listing {
    const struct inspection *inspection;
    json_t *rows;
    uint64_t found, bytes;
};

/* low .. high: it lies there in part at least. */
static bool is_wanted(const struct inspection *inspection, const struct block *block)
{
    return block->bytes >= inspection->size_low && block->bytes <= inspection->size_high &&
           block->address + block->bytes > inspection->low && block->address <= inspection->high &&
           (inspection->type == UINT64_MAX ||
            (block->has_type && block->type == inspection->type)) &&
           is_of_age(inspection, block);
}

static bool list_block(void *context, const struct block *block)
{
    struct listing *listing = context;

    if (!is_wanted(listing->inspection, block))
        return true;
    listing->found++;
    listing->bytes += block->bytes;
    if (listing->found <= limit_of(listing->inspection)) {
        json_t *row = inspect_block_row(block);

        add_age(listing->inspection, block, row);
        json_array_append_new(listing->rows, row);
    }
    return true;
}

static const struct column list_columns[] = {
    {"address", "address", COLUMN_ADDRESS},
    {"bytes", "bytes", COLUMN_NUMBER},
    {"class_bytes", "class", COLUMN_NUMBER},
    {"span_start", "span", COLUMN_ADDRESS},
    {"span_bytes", "span size", COLUMN_BYTES},
    {"asked_bytes", "asked", COLUMN_NUMBER},
    {"type", "type", COLUMN_NUMBER},
    {"first_generation", "first in", COLUMN_NUMBER},
    {"allocated_text", "allocated", COLUMN_TEXT},
};
#define PLAIN_COLUMNS  5 /* of every heap */
#define OPENED_COLUMNS 2 /* of opened heaps */
#define AGE_COLUMNS    2

/* What the heap has, and what was asked for. */
static size_t choose_columns(const struct inspection *inspection, const struct block_map *map,
                             struct column columns[sizeof list_columns / sizeof list_columns[0]])
{
    size_t count = PLAIN_COLUMNS + (map->is_opened ? OPENED_COLUMNS : 0);

    memcpy(columns, list_columns, sizeof list_columns);
    if (!asks_for_ages(inspection))
        return count;
    memcpy(columns + count, list_columns + PLAIN_COLUMNS + OPENED_COLUMNS,
           AGE_COLUMNS * sizeof columns[0]);
    return count + AGE_COLUMNS;
}

static void show_list(const struct inspection *inspection, const struct block_map *map)
{
    struct column columns[sizeof list_columns / sizeof list_columns[0]];
    struct listing listing = {inspection, json_array(), 0, 0};
    uint64_t shown;

    block_map_each(map, map->used, list_block, &listing);
    shown = json_array_size(listing.rows);
    if (inspection->json)
        json_object_set_new(inspection->json, "found",
                            json_pack("{s:I, s:I}", "blocks", (json_int_t)listing.found, "bytes",
                                      (json_int_t)listing.bytes));
    table_show(inspection, "blocks", listing.rows, columns,
               choose_columns(inspection, map, columns));
    if (!inspection->json && shown < listing.found)
        printf("  the first %" PRIu64 " of %" PRIu64 "; --limit N shows more\n", shown,
               listing.found);
}

/* --- one block --- */

static void print_dump(const struct block *block)
{
    const uint8_t *data = (const uint8_t *)block->address;
    uint64_t bytes = block->bytes < DUMP_BYTES ? block->bytes : DUMP_BYTES;

    for (uint64_t line = 0; line < bytes; line += 16) {
        printf("  0x%" PRIx64 "  ", block->address + line);
        for (uint64_t i = line; i < line + 16; i++)
            if (i < bytes)
                printf("%02x%s", data[i], i % 8 == 7 ? "  " : " ");
            else
                printf("   %s", i % 8 == 7 ? " " : "");
        for (uint64_t i = line; i < line + 16 && i < bytes; i++)
            putchar(isascii(data[i]) && isprint(data[i]) ? data[i] : '.');
        putchar('\n');
    }
    if (bytes < block->bytes)
        printf("  the first %" PRIu64 " of %" PRIu64 " bytes\n", bytes, block->bytes);
}

static json_t *dump_json(const struct block *block)
{
    const uint8_t *data = (const uint8_t *)block->address;
    uint64_t bytes = block->bytes < DUMP_BYTES ? block->bytes : DUMP_BYTES;
    char text[2 * DUMP_BYTES + 1] = "";

    for (uint64_t i = 0; i < bytes; i++)
        snprintf(text + 2 * i, 3, "%02x", data[i]);
    return json_string(text);
}

struct pointers {
    const struct block_map *map;
    const struct block *block;
    json_t *rows;
    uint64_t limit;
};

static const char *const pointer_kinds[] = {[TX_POINTER_RAW] = "address",
                                            [TX_POINTER_SELF] = "self-relative",
                                            [TX_POINTER_REF] = "reference"};

/* named: the address whose place is told. */
static bool add_pointer(struct pointers *pointers, uint64_t place, uint32_t kind, uint64_t target,
                        uint64_t named)
{
    json_t *row = json_pack("{s:I, s:I, s:s}", "address", (json_int_t)place, "value",
                            (json_int_t)target, "kind", pointer_kinds[kind]);

    place_add(pointers->map, named, row);
    json_array_append_new(pointers->rows, row);
    return json_array_size(pointers->rows) < pointers->limit;
}

static bool add_outgoing(void *context, uint64_t place, uint32_t kind, uint64_t target)
{
    return add_pointer(context, place, kind, target, target);
}

static bool add_incoming(void *context, uint64_t place, uint32_t kind, uint64_t target)
{
    struct pointers *pointers = context;
    uint64_t data = (uint64_t)pointers->map->first_slice << SLICE_SHIFT;

    if (place - view_slot_base(pointers->map->view) < data)
        return true; /* a descriptor keeps nothing */
    return add_pointer(pointers, place, kind, target, place);
}

/* A register is at no address. */
static void add_registers(struct pointers *pointers, const struct block *block)
{
    const struct process_image *process = &pointers->map->view->process;

    for (uint32_t t = 0; t < process->thread_count; t++)
        for (int i = 0; i < RECORD_REGISTERS; i++) {
            const struct record_thread *thread = process->threads[t].record;
            char text[64];

            if (thread->registers[i] - block->address >= block->bytes)
                continue;
            snprintf(text, sizeof text, "register %s of thread %d", thread_register_names[i],
                     (int)thread->tid);
            json_array_append_new(pointers->rows,
                                  json_pack("{s:n, s:I, s:s, s:s, s:s}", "address", "value",
                                            (json_int_t)thread->registers[i], "kind", "address",
                                            "in_kind", "register", "in", text));
        }
}

/* Nor is a name. */
static void add_name(void *context, const char *name, uint64_t address, uint32_t type)
{
    struct pointers *pointers = context;
    char text[TX_NAME_BYTES + 16];

    (void)type;
    if (address - pointers->block->address >= pointers->block->bytes)
        return;
    snprintf(text, sizeof text, "root '%s'", name);
    json_array_append_new(pointers->rows,
                          json_pack("{s:n, s:I, s:s, s:s, s:o}", "address", "value",
                                    (json_int_t)address, "kind", "address", "in_kind", "name", "in",
                                    table_text(text, strlen(text))));
}

static const struct column pointer_columns[] = {
    {"address", "at", COLUMN_ADDRESS},
    {"value", "points to", COLUMN_ADDRESS},
    {"kind", "as", COLUMN_TEXT},
    {"in", "in", COLUMN_TEXT},
};
#define POINTER_COLUMNS (sizeof pointer_columns / sizeof pointer_columns[0])

/* The frames of the stack that allocated a block; NULL: it was not sampled. */
static int find_allocator(struct inspection *inspection, const struct block_map *map,
                          const struct block *block, json_t **frames, struct problem *why)
{
    const struct profile_sample *sample;
    struct stacks stacks = {0};
    int status = stacks_open_beside(inspection, &stacks, map->view, map, why);

    *frames = NULL;
    if (status == 0 && (sample = profile_of_block(&stacks.reading, block->address)))
        *frames = stacks_frames(&stacks, sample->stack);
    stacks_close(&stacks);
    return status;
}

static void show_parts(const struct inspection *inspection, const struct block *block,
                       json_t *outgoing, json_t *incoming, json_t *allocator)
{
    if (inspection->json) {
        json_t *json = inspect_block_row(block);

        add_age(inspection, block, json);
        json_object_set_new(json, "hex", dump_json(block));
        if (allocator)
            json_object_set_new(json, "allocated_by", allocator);
        json_object_set_new(json, "points_to", outgoing);
        json_object_set_new(json, "pointed_to_by", incoming);
        json_object_set_new(inspection->json, "block", json);
        return;
    }
    printf("block 0x%" PRIx64 ": %" PRIu64 " bytes, %s, in a %s of %" PRIu64 " KiB at 0x%" PRIx64
           "\n",
           block->address, block->bytes, block->is_used ? "in use" : "free",
           block->class < SIZE_CLASSES ? "slab" : "span of its own", block->span_bytes >> 10,
           block->span_start);
    print_age(inspection, block);
    print_dump(block);
    if (allocator) {
        printf("\nallocated by\n");
        stacks_print_frames(allocator);
        json_decref(allocator);
    }
    printf("\npoints to\n");
    table_show(inspection, "", outgoing, pointer_columns, POINTER_COLUMNS);
    printf("\nis pointed to by\n");
    table_show(inspection, "", incoming, pointer_columns, POINTER_COLUMNS);
}

static int show_one(struct inspection *inspection, const struct block_map *map, struct problem *why)
{
    struct block block;
    struct pointers outgoing = {map, &block, json_array(), limit_of(inspection)};
    struct pointers incoming = {map, &block, json_array(), limit_of(inspection)};
    json_t *allocator;
    int status = 0;

    if (!block_map_find(map, inspection->address, &block)) {
        status = problem_set(why, STATUS_REFUSED,
                             "0x%lx lies in no block of generation %lu; pheap inspect POOL "
                             "mappings lists what was mapped",
                             (unsigned long)inspection->address,
                             (unsigned long)map->view->generation.number);
        goto undo_rows;
    }
    links_of(map, &block, add_outgoing, &outgoing);
    add_registers(&incoming, &block);
    opened_each_root(map->view, add_name, &incoming);
    status =
        links_to(map, block.address, block.address + block.bytes, add_incoming, &incoming, why);
    if (status == 0)
        status = find_allocator(inspection, map, &block, &allocator, why);
    if (status < 0)
        goto undo_rows;
    show_parts(inspection, &block, outgoing.rows, incoming.rows, allocator);
    return 0;

undo_rows:
    json_decref(outgoing.rows);
    json_decref(incoming.rows);
    return status;
}

static void tell_left_out(struct inspection *inspection, const struct view *view)
{
    if (ages.left_out || ages.damaged_pages)
        report("inspect", EXIT_FOUND,
               "%s: %" PRIu32 " older generations cannot be read and %" PRIu64
               " pages of the others are damaged: blocks may be older than said",
               view->pool.path, ages.left_out, ages.damaged_pages);
    inspection->left_out += ages.left_out + ages.damaged_pages;
}

static int show(struct inspection *inspection, struct view *view, struct problem *why)
{
    bool with_ages = asks_for_ages(inspection);
    struct block_map map;
    int status = 0;

    if (with_ages)
        status = ages_begin(&ages, view, inspection->since, inspection->older, why);
    if (status == 0)
        status = block_map_build(&map, view, why);
    if (status == 0 && with_ages)
        status = ages_end(&ages, &map, why);
    if (status == 0 && inspection->type != UINT64_MAX && !map.is_opened)
        status = problem_set(why, STATUS_REFUSED,
                             "%s: blocks of malloc have no type; --type is for heaps that programs "
                             "open by themselves",
                             view->pool.path);
    if (status == 0 && inspection->address)
        status = show_one(inspection, &map, why);
    else if (status == 0)
        show_list(inspection, &map);
    if (status == 0)
        tell_left_out(inspection, view);
    ages_close(&ages);
    return status;
}

int inspect_blocks(struct inspection *inspection, struct problem *why)
{
    return inspect_with(inspection, show, why);
}
