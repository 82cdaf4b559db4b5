/*
 * capture_run.h - what the parts of a capture share. Internal to core/process.
 *
 * Each part (memory_layout.c, mapped_files.c, mappings.c, threads.c, signals.c, timers.c,
 * identity.c, descriptors.c) has its capture_*() and its rebuild_*() side by side; capture.c and
 * process_rebuild() call them in the order of their tables. A part returns 0 or a negative status
 * with *run->why filled in.
 */
#ifndef PHEAP_PROCESS_CAPTURE_RUN_H
#define PHEAP_PROCESS_CAPTURE_RUN_H

#include "core/process/capture.h"
#include "core/process/parasite.h"
#include "core/process/record_format.h"

#define CAPTURE_TEXT_BYTES 16384

struct descriptor_run; /* descriptors.h */
struct object_table;   /* objects.h */
struct children;       /* children.h */

struct capture_run {
    uint32_t online_cpus; /* 0: not asked yet */
    struct capture *capture;
    struct record_writer *out;
    struct problem *why;
    struct parasite_report *report;        /* what the leader says of the process */
    int pidfd;                             /* of the program, for pidfd_getfd; -1 */
    char *text;                            /* CAPTURE_TEXT_BYTES, for /proc files */
    const struct children *ended_children; /* from capture_children() on */
    struct descriptor_run *descriptors;    /* from capture_descriptions() on */
    struct object_table *objects;          /* from capture_objects() on */
};

/* Whose memory to read: that of the program is the caller's own, where it may not be traced. */
int capture_memory_pid(const struct capture_run *run);

MUST_CHECK int capture_process(struct capture_run *run);
MUST_CHECK int capture_directory(struct capture_run *run);
MUST_CHECK int capture_memory_layout(struct capture_run *run);
MUST_CHECK int capture_kernel_mappings(struct capture_run *run);
MUST_CHECK int capture_mappings(struct capture_run *run);
MUST_CHECK int capture_threads(struct capture_run *run);
MUST_CHECK int capture_thread_attributes(struct capture_run *run, int tid,
                                         const struct parasite_thread *report);
MUST_CHECK int capture_process_attributes(struct capture_run *run); /* behind the threads */
MUST_CHECK int capture_signal_actions(struct capture_run *run);
MUST_CHECK int capture_timer_ids(struct capture_run *run); /* before the threads */
MUST_CHECK int capture_pending_signals(struct capture_run *run);
MUST_CHECK int capture_children(struct capture_run *run);
MUST_CHECK int capture_limits(struct capture_run *run);
MUST_CHECK int capture_timers(struct capture_run *run);
MUST_CHECK int capture_descriptor_numbers(struct capture_run *run); /* before the threads */
MUST_CHECK int capture_descriptions(struct capture_run *run);       /* behind the threads */
MUST_CHECK int capture_objects(struct capture_run *run);            /* behind the descriptions */
MUST_CHECK int capture_descriptors(struct capture_run *run);
MUST_CHECK int capture_saved_contents(struct capture_run *run); /* behind the descriptors */

#endif
