/*
 * crash_record.c - see crash_record.h.
 *
 * Always true: whatever of a mapping is known is written down; nothing in a dead program is
 * refused.
 */
#include "core/process/crash_record.h"

#include <string.h>
#include "core/process/capture_run.h"
#include "core/process/mapped_files.h"

/* A file that has been replaced since it was mapped has its path in the mapping's tail. */
static void put_mapping(struct capture_run *run, const struct mapping *mapping)
{
    struct record_mapping record = {
        .start = mapping->start,
        .end = mapping->end,
        .file_offset = mapping->kind == MAPPING_FILE ? mapping->file_offset : 0,
        .prot = (uint32_t)mapping->prot,
        .flags = (mapping->shared ? RECORD_MAPPING_SHARED : 0u) |
                 (mapping->grows_down ? RECORD_MAPPING_GROWS_DOWN : 0u) |
                 (mapping->is_heap ? RECORD_MAPPING_HEAP : 0u),
        .file = RECORD_ID_NONE,
    };
    bool named = mapping->kind == MAPPING_FILE && mapping->name[0] == '/' && !mapping->deleted &&
                 capture_mapped_file(run, mapping->name, mapping->inode, false, &record.file) == 0;
    const char *name = named || mapping->kind == MAPPING_POOL ? "" : mapping->name;

    record_put(run->out, RECORD_MAPPING, &record, sizeof record, name, strlen(name) + 1);
}

int crash_record_write(struct capture *capture, const struct record_crash *crash,
                       struct record_writer *out, struct problem *why)
{
    struct capture_run run = {.capture = capture, .out = out, .pidfd = -1};
    struct record_crash item = *crash;

    item.version = RECORD_FORMAT_VERSION;
    mapped_files_begin(capture->cache);
    record_put(out, RECORD_CRASH, &item, sizeof item, NULL, 0);
    for (uint32_t i = 0; i < capture->space->count; i++)
        if (capture->space->mappings[i].kind != MAPPING_VSYSCALL)
            put_mapping(&run, &capture->space->mappings[i]);
    if (out->failed != STATUS_OK)
        return problem_set(why, out->failed, "the record of the crash does not fit %zu bytes",
                           out->size);
    return 0;
}

int crash_record_read(struct record_crash *crash, const void *record, size_t bytes,
                      struct problem *why)
{
    struct record_reader reader = {.buffer = record, .size = bytes};
    struct record_item item;
    const struct record_crash *found = NULL;

    if (record_next(&reader, &item) > 0 && item.kind == RECORD_CRASH)
        found = record_fixed(&item, sizeof *found);
    if (found == NULL)
        return problem_set(why, STATUS_DAMAGED, "the record of a crash has no crash item");
    if (found->version < RECORD_FORMAT_OLDEST || found->version > RECORD_FORMAT_VERSION)
        return problem_set(why, STATUS_NEWER_FORMAT,
                           "crash record version %u: this pheap reads %u to %u", found->version,
                           RECORD_FORMAT_OLDEST, RECORD_FORMAT_VERSION);
    *crash = *found;
    return 0;
}
