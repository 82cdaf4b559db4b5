/*
 * capture.c - the capture from end to end: the parts in their order.
 *
 * Always true: the record is complete or an error is returned; nothing in the program changes.
 * The leader's report also has what belongs to the process.
 */
#include "core/process/capture.h"

#include <errno.h>
#include <string.h>
#include "core/base/sys.h"
#include "core/process/capture_run.h"
#include "core/process/mapped_files.h"
#include "core/process/saved_files.h"

typedef int capture_part(struct capture_run *run);

/* Files and objects come before the mappings that refer to them; the threads' report has brk,
 * signal actions, timers and which descriptors are close-on-exec. */
static capture_part *const capture_parts[] = {
    capture_process,         capture_directory,          capture_limits,
    capture_children,        capture_timer_ids,          capture_descriptor_numbers,
    capture_threads,         capture_process_attributes, capture_memory_layout,
    capture_kernel_mappings, capture_descriptions,       capture_objects,
    capture_mappings,        capture_signal_actions,     capture_pending_signals,
    capture_timers,          capture_descriptors,        capture_saved_contents,
};

int capture_memory_pid(const struct capture_run *run)
{
    const struct capture *capture = run->capture;

    return capture->thread_count && capture->threads[0].halt ? sys_getpid() : capture->pid;
}

void process_capture_look(struct capture_cache *cache, const struct memory_calls *memory_calls)
{
    memory_attributes_look(capture_cache_attributes(cache), memory_calls);
}

int process_capture_prepare(struct capture *capture, struct problem *why)
{
    const struct address_space *space = capture->space;

    mapped_files_begin(capture->cache);
    for (uint32_t i = 0; space != NULL && i < space->count; i++)
        if (space->mappings[i].kind == MAPPING_FILE)
            mapped_file_prepare(capture->cache, space->mappings[i].name, space->mappings[i].inode);
    return capture->saved != NULL && space != NULL ? saved_files_begin(capture->saved, space, why)
                                                   : 0;
}

int process_capture(struct capture *capture, struct record_writer *out, struct problem *why)
{
    struct capture_run run = {
        .capture = capture,
        .out = out,
        .why = why,
        .pidfd = -1,
        .text = arena_alloc(capture->scratch, CAPTURE_TEXT_BYTES, 16),
        .report = arena_alloc(capture->scratch, sizeof *run.report, 16),
    };
    int status =
        capture->saved != NULL ? saved_files_mapped(capture->saved, capture->space, why) : 0;

    if (run.text == NULL || run.report == NULL)
        return problem_set(why, -ENOMEM, "no memory for the process record");
    mapped_files_begin(capture->cache);
    memory_attributes_settle(capture_cache_attributes(capture->cache), capture->memory_calls);
    for (size_t i = 0; i < sizeof capture_parts / sizeof *capture_parts && status == 0; i++)
        status = capture_parts[i](&run);
    if (status == 0 && capture->saved != NULL)
        status = saved_files_settle(capture->saved, why);
    if (run.pidfd >= 0)
        (void)sys_close(run.pidfd);
    if (status == 0 && out->failed != STATUS_OK)
        status =
            problem_set(why, out->failed, "the process record does not fit %zu bytes", out->size);
    return status;
}
