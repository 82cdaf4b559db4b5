/*
 * deltas.c - a generation's chain of deltas, read into one list of what they say together.
 *
 * Worked example: the newest delta says that pages 5 to 9 are nothing and page 12 is in frame 70,
 * the one before that page 7 is in frame 50 and page 11 in frame 51. Together: 5..9 nothing, 11 in
 * frame 51, 12 in frame 70; frame 50 is nobody's any more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/checksum.h"
#include "recovery/check/checking.h"

struct reading {
    struct checking *checking;
    uint32_t index;
    struct delta_place place;
    bool tells; /* met for the first time */
};

static int damaged(struct reading *reading, enum finding_kind kind, uint64_t at,
                   const char *expected, const char *found, uint64_t number)
{
    struct place place = place_of(check_entry(reading->checking, reading->index)->number,
                                  (reading->place.frame << FRAME_SHIFT) + at, 0);

    frame_is_bad(reading->checking, reading->place.frame);
    if (reading->tells)
        check_tell(reading->checking, kind, SEVERITY_DAMAGE, place, expected, "%s %lu", found,
                   number);
    return STATUS_DAMAGED;
}

static uint64_t entries_offset(uint64_t i)
{
    return sizeof(struct index_delta) + i * sizeof(struct delta_entry);
}

/* *out: to be freed. STATUS_DAMAGED: told. */
static int read_delta(struct reading *reading, struct index_delta **out)
{
    uint64_t bytes = reading->place.frames << FRAME_SHIFT, found;
    struct index_delta *delta = malloc(bytes);
    int status;

    if (delta == NULL)
        return -ENOMEM;
    *out = delta;
    status = check_read(reading->checking, delta, bytes, reading->place.frame << FRAME_SHIFT);
    if (status < 0)
        return damaged(reading, DL_CHECKSUM, 0, "readable frames", "error", (uint64_t)-status);
    if (reading->tells)
        reading->checking->result->checked_bytes += bytes;
    found = checksum64(delta, bytes);
    if (found != reading->place.checksum)
        return damaged(reading, DL_CHECKSUM, 0, "the checksum that the chain has for it",
                       "checksum", found);
    if (delta->entry_count > (bytes - sizeof *delta) / sizeof delta->entries[0])
        return damaged(reading, DL_COUNT, 24, "as many entries as its frames hold", "entries",
                       delta->entry_count);
    return 0;
}

static int judge_entry(struct reading *reading, const struct index_delta *delta, uint64_t i,
                       uint64_t *passed)
{
    const struct delta_entry *entry = &delta->entries[i];
    uint64_t page = entry->page_and_more & (INDEX_PAGE_LIMIT - 1);
    uint64_t more = entry->page_and_more >> DELTA_PAGE_BITS;

    if (page < *passed)
        return damaged(reading, DL_ORDER, entries_offset(i), "a page above those before", "page",
                       page);
    if (page + more >= INDEX_PAGE_LIMIT || (more > 0 && entry->entry.frame != FRAME_NONE))
        return damaged(reading, DL_ENTRY, entries_offset(i),
                       "one page, or a range of pages that are nothing", "further pages:", more);
    *passed = page + more + 1;
    return 0;
}

static void look_at_unused(struct reading *reading, const struct index_delta *delta)
{
    const uint8_t *bytes = (const uint8_t *)delta;
    uint64_t end = reading->place.frames << FRAME_SHIFT;

    for (uint64_t at = entries_offset(delta->entry_count); at < end; at++) {
        if (bytes[at] == 0)
            continue;
        check_tell(reading->checking, DL_TAIL, SEVERITY_HARMLESS,
                   place_of(check_entry(reading->checking, reading->index)->number,
                            (reading->place.frame << FRAME_SHIFT) + at, 0),
                   "0", "%u", bytes[at]);
        return;
    }
}

static int judge_delta(struct reading *reading, const struct index_delta *delta)
{
    uint64_t passed = 0;
    int status = 0;

    for (uint64_t i = 0; status == 0 && i < delta->entry_count; i++)
        status = judge_entry(reading, delta, i, &passed);
    for (uint64_t i = 0; reading->tells && status == 0 && i < delta->entry_count; i++)
        if (delta->entries[i].entry.frame < FRAME_FIRST && delta->entries[i].entry.checksum != 0)
            check_tell(reading->checking, IX_EMPTY, SEVERITY_HARMLESS,
                       place_of(check_entry(reading->checking, reading->index)->number,
                                (reading->place.frame << FRAME_SHIFT) + entries_offset(i), 0),
                       "checksum 0", "%016lx", delta->entries[i].entry.checksum);
    if (reading->tells && status == 0)
        look_at_unused(reading, delta);
    return status;
}

/* --- together --- */

static struct overlay_range range_of(const struct delta_entry *entry)
{
    uint64_t page = entry->page_and_more & (INDEX_PAGE_LIMIT - 1);

    return (struct overlay_range){page, page + (entry->page_and_more >> DELTA_PAGE_BITS) + 1,
                                  entry->entry};
}

/* Puts into *out what `under` says of the pages that `over` does not name. Both are ascending, so
 * `next` runs through `over` once. */
static void add_uncovered(struct overlay *out, const struct overlay *over, uint64_t *next,
                          struct overlay_range under)
{
    while (under.page < under.end) {
        const struct overlay_range *covering = *next < over->count ? &over->ranges[*next] : NULL;

        if (covering != NULL && covering->end <= under.page) {
            out->ranges[out->count++] = *covering;
            (*next)++;
        } else if (covering != NULL && covering->page <= under.page) {
            under.page = covering->end;
        } else {
            struct overlay_range piece = under;

            if (covering != NULL && covering->page < under.end)
                piece.end = covering->page;
            out->ranges[out->count++] = piece;
            under.page = piece.end;
        }
    }
}

/* Each range of `over` splits at most one range of what lies under it. */
static int add_under(struct overlay *over, const struct index_delta *under)
{
    uint64_t most = 2 * over->count + under->entry_count + 1, next = 0;
    struct overlay merged = {calloc(most, sizeof *merged.ranges), 0};

    if (merged.ranges == NULL)
        return -ENOMEM;
    for (uint64_t i = 0; i < under->entry_count; i++)
        add_uncovered(&merged, over, &next, range_of(&under->entries[i]));
    while (next < over->count)
        merged.ranges[merged.count++] = over->ranges[next++];
    free(over->ranges);
    *over = merged;
    return 0;
}

/* Reads the one at reading->place, adds it, and says in *before which is next. */
static int add_delta(struct reading *reading, struct overlay *out, struct delta_place *before)
{
    struct index_delta *delta = NULL;
    int status = read_delta(reading, &delta);

    if (status == 0)
        status = judge_delta(reading, delta);
    if (status == 0) {
        *before = delta->before;
        status = add_under(out, delta);
    }
    free(delta);
    return status;
}

/* 1: go on; 0: leave it. */
static int claim_delta(struct reading *reading, bool claims)
{
    const struct delta_place *place = &reading->place;
    const struct frame_use *use;
    int claim = CLAIM_KNOWN;

    if (claims)
        claim = frame_claim_run(reading->checking, reading->index, place->frame, place->frames,
                                ROLE_DELTA, place->checksum);
    if (claim < 0 || claim == CLAIM_REFUSED)
        return claim;
    reading->tells = claim == CLAIM_NEW;
    use = frame_use_of(reading->checking, place->frame);
    return use != NULL && !use->is_bad && use->role == ROLE_DELTA && use->position == place->frame;
}

int overlay_read(struct checking *checking, uint32_t index, bool claims, struct overlay *out)
{
    struct reading reading = {.checking = checking, .index = index};
    unsigned count = 0;
    int status = 0;

    *out = (struct overlay){NULL, 0};
    reading.place = check_entry(checking, index)->index_delta;
    while (status == 0 && reading.place.frames > 0) {
        struct delta_place before = {0, 0, 0};

        if (count++ == DELTAS_MAX) {
            reading.tells = claims;
            status = damaged(&reading, DL_CHAIN, 0, "at most 64 deltas", "delta number", count);
            break;
        }
        status = claim_delta(&reading, claims);
        if (status <= 0)
            break;
        status = add_delta(&reading, out, &before);
        reading.place = before;
    }
    if (status == STATUS_DAMAGED)
        check_spoilt(checking, index);
    return status == STATUS_DAMAGED ? 0 : status;
}
