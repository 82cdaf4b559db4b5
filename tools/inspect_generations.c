/*
 * inspect_generations.c - the view generations: what the superblock says of each, and how many
 * pages are not as they were in the one before.
 *
 * The list is in every view's --json; what changed is in this view's alone, for it takes two
 * indexes a generation.
 */
#include <inttypes.h>
#include <stdio.h>
#include "recovery/view/diff.h"
#include "tools/command.h"
#include "tools/inspect.h"

static uint32_t listed(const struct superblock *super)
{
    return super->generation_count < SUPERBLOCK_GENERATIONS ? super->generation_count
                                                            : SUPERBLOCK_GENERATIONS;
}

/* --- the list --- */

static json_t *generation_json(const struct pool_state *state, const struct generation_entry *entry)
{
    struct record_crash crash;
    json_t *json = json_pack(
        "{s:I, s:s, s:I, s:i, s:b, s:I, s:I, s:I, s:I, s:I}", "number", (json_int_t)entry->number,
        "kind", inspect_kind_name(entry->kind), "time_ns", (json_int_t)entry->time_ns, "slot",
        (int)entry->slot, "pinned", (entry->flags & GENERATION_PINNED) != 0, "pages",
        (json_int_t)entry->page_count, "record_bytes", (json_int_t)entry->record_bytes,
        "written_bytes", (json_int_t)entry->written_bytes, "pause_ns", (json_int_t)entry->pause_ns,
        "freeze_written_bytes", (json_int_t)entry->freeze_written_bytes);

    if (entry->kind == GENERATION_CRASH && inspect_read_crash(state, entry, &crash)) {
        int number = inspect_crash_signal(&crash);

        json_object_set_new(json, "pid", json_integer(crash.pid));
        json_object_set_new(json, "signal", number ? json_integer(number) : json_null());
    }
    return json;
}

void inspect_list_generations(struct inspection *inspection)
{
    const struct superblock *super = &inspection->state.super;
    json_t *list = json_array();

    for (uint32_t i = 0; i < listed(super); i++)
        if (!inspection->generation || super->generations[i].number == inspection->generation)
            json_array_append_new(list,
                                  generation_json(&inspection->state, &super->generations[i]));
    json_object_set_new(inspection->json, "generations", list);
}

/* --- what changed --- */

struct change {
    uint64_t since; /* a generation; 0: not known */
    struct page_changes heap, other;
};

/* The one that it went on from: no crash image, and with its heap at the same place. NULL: it is
 * not kept. */
static const struct generation_entry *before(const struct superblock *super, uint32_t i)
{
    for (uint32_t j = i; j-- > 0;)
        if (super->generations[j].kind != GENERATION_CRASH &&
            super->generations[j].slot == super->generations[i].slot)
            return &super->generations[j];
    return NULL;
}

/* One that cannot be read, or that the program has dropped meanwhile, has none. */
static struct change find_change(const struct inspection *inspection, uint32_t i)
{
    static struct view old_view, new_view;
    const struct superblock *super = &inspection->state.super;
    const struct generation_entry *was = before(super, i);
    const char *path = inspection->state.path;
    struct change change = {0};

    if (was && view_open(&old_view, path, was->number, NULL) == 0 &&
        view_open(&new_view, path, super->generations[i].number, NULL) == 0 &&
        diff_pages(&old_view, &new_view, &change.heap, &change.other, NULL) == 0)
        change.since = was->number;
    view_close(&old_view);
    view_close(&new_view);
    return change;
}

static uint64_t written_anew(const struct page_changes *pages)
{
    return pages->changed + pages->came;
}

static json_t *pages_json(const struct page_changes *pages)
{
    return json_pack("{s:I, s:I, s:I, s:I}", "changed", (json_int_t)pages->changed, "came",
                     (json_int_t)pages->came, "went", (json_int_t)pages->went, "same",
                     (json_int_t)pages->same);
}

static json_t *change_json(uint64_t number, const struct change *change)
{
    if (change->since == 0)
        return json_pack("{s:I, s:n}", "number", (json_int_t)number, "since");
    return json_pack("{s:I, s:I, s:o, s:o}", "number", (json_int_t)number, "since",
                     (json_int_t)change->since, "heap_pages", pages_json(&change->heap),
                     "other_pages", pages_json(&change->other));
}

static void print_generation(const struct pool_state *state, const struct generation_entry *entry,
                             const struct change *change)
{
    char time_text[32], memory[32], written[32], pause[32], cause[32], heap[32] = "-";
    char other[32] = "-";
    struct record_crash crash;

    if (change->since) {
        show_bytes(heap, written_anew(&change->heap) << PAGE_SHIFT);
        show_bytes(other, written_anew(&change->other) << PAGE_SHIFT);
    }
    printf("%8" PRIu64 "  %-8s  %-19s  %10s  %10s  %10s  %10s  %10s%s", entry->number,
           inspect_kind_name(entry->kind), inspect_time(time_text, entry->time_ns),
           show_bytes(memory, entry->page_count << PAGE_SHIFT),
           show_bytes(written, entry->written_bytes), show_ns(pause, entry->pause_ns), heap, other,
           entry->flags & GENERATION_PINNED ? "  pinned" : "");
    if (entry->kind == GENERATION_CRASH && inspect_read_crash(state, entry, &crash))
        printf("  killed %s", inspect_crash_cause(cause, &crash));
    putchar('\n');
}

int inspect_generations(struct inspection *inspection, struct problem *why)
{
    const struct superblock *super = &inspection->state.super;
    json_t *changes = json_array();

    (void)why;
    if (!inspection->json)
        inspect_heading(
            inspection,
            "  number  kind      time                     memory     written       pause"
            "   heap: new  other: new");
    for (uint32_t i = 0; i < listed(super); i++) {
        const struct change change = find_change(inspection, i);

        if (inspection->json)
            json_array_append_new(changes, change_json(super->generations[i].number, &change));
        else
            print_generation(&inspection->state, &super->generations[i], &change);
    }
    if (inspection->json)
        json_object_set(inspection->json, "changes", changes);
    json_decref(changes);
    return 0;
}
