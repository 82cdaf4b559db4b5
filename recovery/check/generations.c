/*
 * generations.c - the generations that are listed, their indexes, and their records.
 */
#include <errno.h>
#include <stdlib.h>
#include "core/base/checksum.h"
#include "core/process/crash_record.h"
#include "core/process/process_image.h"
#include "recovery/check/checking.h"

static int no_memory(struct checking *checking)
{
    return problem_set(checking->why, -ENOMEM, "no memory to check '%s': %lu bytes of it",
                       checking->request->path, checking->file_bytes);
}

/* --- the list --- */

/* What the byte of a generation's lock leaves room for (LOCK_BYTE_GENERATION). */
#define NUMBER_LIMIT (1ull << 61)

static void check_list(struct checking *checking)
{
    const struct superblock *super = &checking->result->super;
    uint64_t file_frames = checking->file_bytes >> FRAME_SHIFT;
    uint64_t super_at = (uint64_t)checking->in_force * FRAME_BYTES;

    if (file_frames < super->frame_count)
        check_tell(checking, FI_SHORT, SEVERITY_HARMLESS, place_at(checking->file_bytes),
                   "a file as long as all of its frames", "%lu of %lu frames", file_frames,
                   super->frame_count);
    if (super->next_generation >= NUMBER_LIMIT)
        check_tell(checking, SB_NUMBERS, SEVERITY_DAMAGE,
                   place_at(super_at + __builtin_offsetof(struct superblock, next_generation)),
                   "below 2^61: no generation can follow", "%lu", super->next_generation);
}

int check_generations(struct checking *checking)
{
    const struct superblock *super = &checking->result->super;
    uint64_t file_frames = checking->file_bytes >> FRAME_SHIFT;

    checking->frame_count = super->frame_count < file_frames ? super->frame_count : file_frames;
    if (checking->in_force < 0)
        return 0;
    check_list(checking);
    for (uint32_t i = 0; i < super->generation_count; i++) {
        const struct generation_entry *entry = &super->generations[i];
        uint64_t at = (uint64_t)checking->in_force * FRAME_BYTES +
                      __builtin_offsetof(struct superblock, generations) + i * sizeof *entry;

        checking->result->generation_count += check_looks_at(checking, i);
        if (entry->flags & ~(uint32_t)GENERATION_PINNED)
            check_tell(checking, GE_FLAGS, SEVERITY_HARMLESS, place_of(entry->number, at + 20, 0),
                       "0 or 1 (pinned)", "%u", entry->flags);
    }
    return 0;
}

/* --- indexes --- */

struct claiming {
    struct checking *checking;
    uint32_t index;
    uint64_t pages;
};

static int claim_page(void *context, uint64_t page, struct index_entry entry)
{
    struct claiming *claiming = context;
    int claim;

    if (entry.frame == FRAME_ZERO)
        return 0;
    claiming->pages++;
    claim = frame_claim(claiming->checking, claiming->index, entry.frame, ROLE_PAGE, page,
                        entry.checksum);
    return claim < 0 ? claim : 0;
}

static int claim_record(struct checking *checking, uint32_t index)
{
    const struct generation_entry *entry = check_entry(checking, index);
    uint64_t frames = entry->record_bytes / FRAME_BYTES + (entry->record_bytes % FRAME_BYTES != 0);
    int claim = frame_claim_run(checking, index, entry->record_frame, frames, ROLE_RECORD,
                                entry->record_checksum);

    return claim < 0 ? claim : 0;
}

static int check_index(struct checking *checking, uint32_t index)
{
    const struct generation_entry *entry = check_entry(checking, index);
    struct claiming claiming = {checking, index, 0};
    int status = walk_index(checking, index, true, claim_page, &claiming);

    if (status == 0)
        status = claim_record(checking, index);
    if (status == 0 && !(checking->result->damaged >> index & 1) &&
        claiming.pages != entry->page_count)
        check_tell(checking, GE_PAGES, SEVERITY_HARMLESS, place_of(entry->number, PLACE_UNKNOWN, 0),
                   "as many as its index has", "%lu instead of %lu", entry->page_count,
                   claiming.pages);
    return status;
}

/* Oldest first, so that a finding is told of the generation that brought it. */
int check_indexes(struct checking *checking)
{
    for (uint32_t i = 0; i < checking->result->super.generation_count; i++)
        if (check_looks_at(checking, i) && check_index(checking, i) < 0)
            return no_memory(checking);
    return 0;
}

/* --- records --- */

static void tell_record(struct checking *checking, uint32_t index, enum finding_kind kind,
                        const char *expected, const char *found)
{
    const struct generation_entry *entry = check_entry(checking, index);
    enum severity severity = kind == RC_NEWER ? SEVERITY_HARMLESS : SEVERITY_DAMAGE;

    if (severity == SEVERITY_DAMAGE)
        check_spoilt(checking, index);
    check_tell(checking, kind, severity,
               place_of(entry->number,
                        entry->record_bytes ? entry->record_frame << FRAME_SHIFT : PLACE_UNKNOWN,
                        0),
               expected, "%s", found);
}

/* What the record says, as whoever restores from it would read it. */
static int judge_content(struct checking *checking, uint32_t index, const void *record,
                         uint64_t bytes)
{
    uint32_t kind = check_entry(checking, index)->kind;
    struct process_image image;
    struct record_crash crash;
    struct problem why = {0};
    struct arena arena;
    int status = arena_create(&arena, 8 * bytes + (16u << 20));

    if (status < 0)
        return status;
    if (kind == GENERATION_PROCESS)
        status = process_image_read(&image, record, bytes, &arena, &why);
    else if (kind == GENERATION_CRASH)
        status = crash_record_read(&crash, record, bytes, &why);
    arena_destroy(&arena);
    if (status == STATUS_NEWER_FORMAT)
        tell_record(checking, index, RC_NEWER, "a version and items known here", why.text);
    else if (status == STATUS_DAMAGED)
        tell_record(checking, index, RC_CONTENT, "a record of its kind", why.text);
    return status == -ENOMEM ? status : 0;
}

static int check_record(struct checking *checking, uint32_t index)
{
    const struct generation_entry *entry = check_entry(checking, index);
    const struct frame_use *use = frame_use_of(checking, entry->record_frame);
    void *record;
    int status;

    if (entry->record_bytes == 0) {
        if (entry->kind == GENERATION_PROCESS)
            tell_record(checking, index, RC_MISSING, "a process record", "none");
        return 0;
    }
    if (use == NULL || use->role != ROLE_RECORD || use->is_bad)
        return 0; /* told by claim_record() */
    record = malloc(entry->record_bytes);
    if (record == NULL)
        return -ENOMEM;
    status = check_read(checking, record, entry->record_bytes, entry->record_frame << FRAME_SHIFT);
    checking->result->checked_bytes += entry->record_bytes;
    if (status < 0) {
        tell_record(checking, index, RC_CHECKSUM, "a readable record", status_text(status));
        status = 0;
    } else if (checksum64(record, entry->record_bytes) != entry->record_checksum) {
        tell_record(checking, index, RC_CHECKSUM, "the checksum in its generation's entry",
                    "another");
    } else {
        status = judge_content(checking, index, record, entry->record_bytes);
    }
    free(record);
    return status;
}

int check_records(struct checking *checking)
{
    for (uint32_t i = 0; i < checking->result->super.generation_count; i++)
        if (check_looks_at(checking, i) && check_record(checking, i) < 0)
            return no_memory(checking);
    return 0;
}
