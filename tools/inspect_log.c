/*
 * inspect_log.c - the view log: the transactions that an opened heap has committed since its newest
 * generation.
 */
#include <inttypes.h>
#include <stdio.h>
#include "core/tx/log_cursor.h"
#include "recovery/view/opened_heap.h"
#include "tools/command.h"
#include "tools/inspect.h"
#include "tools/table.h"

#define LIST_LIMIT 100
#define KINDS      (LOG_OUTCOME + 1)

struct listing {
    json_t *rows;
    uint64_t limit, records, bytes;
    uint64_t in_lanes;       /* of the records */
    uint64_t entries[KINDS]; /* by kind; 0: of another */
};

/* Entries by kind; stops where one would reach beyond the record. */
static void count_entries(const struct log_record *record, uint64_t counts[KINDS],
                          uint64_t *written)
{
    const struct log_entry *entry;
    struct log_cursor cursor;

    log_cursor_begin(&cursor, record);
    while ((entry = log_cursor_next(&cursor))) {
        counts[entry->kind < KINDS ? entry->kind : 0]++;
        *written += entry->kind == LOG_WRITE ? entry->bytes : 0;
    }
}

static bool list_record(void *context, const struct log_record *record, uint64_t offset)
{
    struct listing *listing = context;
    uint64_t counts[KINDS] = {0}, written = 0;

    count_entries(record, counts, &written);
    listing->records++;
    listing->bytes += record->bytes;
    listing->in_lanes += record->magic == LOG_LANE_MAGIC;
    for (int i = 0; i < KINDS; i++)
        listing->entries[i] += counts[i];
    if (listing->records > listing->limit)
        return true;
    json_array_append_new(
        listing->rows,
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "sequence",
                  (json_int_t)record->sequence, "offset", (json_int_t)offset, "bytes",
                  (json_int_t)record->bytes, "allocations", (json_int_t)counts[LOG_ALLOC], "writes",
                  (json_int_t)counts[LOG_WRITE], "frees", (json_int_t)counts[LOG_FREE], "promises",
                  (json_int_t)counts[LOG_PREPARE], "outcomes", (json_int_t)counts[LOG_OUTCOME],
                  "written_bytes", (json_int_t)written));
    return true;
}

static const struct column log_columns[] = {
    {"sequence", "record", COLUMN_NUMBER}, {"offset", "at", COLUMN_NUMBER},
    {"bytes", "bytes", COLUMN_NUMBER},     {"allocations", "allocations", COLUMN_NUMBER},
    {"writes", "writes", COLUMN_NUMBER},   {"written_bytes", "written", COLUMN_BYTES},
    {"frees", "frees", COLUMN_NUMBER},
};

static void show_totals(struct inspection *inspection, const struct view *view,
                        const struct listing *listing, bool is_damaged)
{
    const struct log_place *place = &view->pool.super.log;
    uint64_t capacity = 0;
    char a[32], b[32];

    for (uint32_t i = 0; i < place->extent_count && i < LOG_EXTENTS; i++)
        capacity += place->extents[i].frames << FRAME_SHIFT;
    if (inspection->json) {
        json_object_set_new(inspection->json, "log_totals",
                            json_pack("{s:I, s:I, s:I, s:I, s:I, s:b, s:I, s:I, s:I}", "generation",
                                      (json_int_t)place->generation, "records",
                                      (json_int_t)listing->records, "in_lanes",
                                      (json_int_t)listing->in_lanes, "bytes",
                                      (json_int_t)listing->bytes, "capacity_bytes",
                                      (json_int_t)capacity, "breaks_off", is_damaged, "allocations",
                                      (json_int_t)listing->entries[LOG_ALLOC], "writes",
                                      (json_int_t)listing->entries[LOG_WRITE], "frees",
                                      (json_int_t)listing->entries[LOG_FREE]));
        return;
    }
    printf("%" PRIu64 " record%s since generation %" PRIu64 ", %s of %s%s\n", listing->records,
           listing->records == 1 ? "" : "s", place->generation, show_bytes(a, listing->bytes),
           show_bytes(b, capacity),
           is_damaged ? "; damaged: whole records follow the last that counts" : "");
}

static int show(struct inspection *inspection, struct view *view, struct problem *why)
{
    struct listing listing = {.limit = inspection->limit ? inspection->limit : LIST_LIMIT};
    bool is_damaged;
    int status;

    if (!opened_has_log(view))
        return problem_set(why, STATUS_NO_GENERATION,
                           "%s: no log of transactions follows generation %lu", view->pool.path,
                           (unsigned long)view->generation.number);
    listing.rows = json_array();
    status = opened_each_record(view, list_record, &listing, &is_damaged, why);
    if (status < 0) {
        json_decref(listing.rows);
        return status;
    }
    inspection->left_out += is_damaged;
    show_totals(inspection, view, &listing, is_damaged);
    if (inspection->json || listing.records)
        table_show(inspection, "log", listing.rows, log_columns,
                   sizeof log_columns / sizeof log_columns[0]);
    else
        json_decref(listing.rows);
    if (!inspection->json && listing.records > listing.limit)
        printf("  the first %" PRIu64 " of %" PRIu64 "; --limit N shows more\n", listing.limit,
               listing.records);
    return 0;
}

int inspect_log(struct inspection *inspection, struct problem *why)
{
    return inspect_with(inspection, show, why);
}
