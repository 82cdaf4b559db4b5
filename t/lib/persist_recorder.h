/*
 * persist_recorder.h - the recording back end of core/pool/persist: passes every operation on to
 * the back end it replaces and keeps it in a trace, from which crash_states.h builds the files
 * that a power cut could leave. The trace may run over several opens of the same file.
 *
 * With the DAX back end it stands in for libpmem too: each copy is recorded as libpmem was asked
 * for it, and a sync as what was done in it, a fence, an fdatasync, or nothing.
 *
 * It can also make the n-th operation fail instead (without doing it).
 */
#ifndef PHEAP_T_LIB_PERSIST_RECORDER_H
#define PHEAP_T_LIB_PERSIST_RECORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/pool/persist.h"

enum recorded_kind {
    RECORDED_WRITE,
    RECORDED_GROW, /* the file is at least offset bytes long */
    RECORDED_SYNC,
    RECORDED_MARK, /* the test has been told that `mark` is durable */
};

/* What makes a write durable; and what a sync did. A file sync covers all. */
enum recorded_cover {
    COVER_NOTHING,
    COVER_FENCE,     /* of what was stored past the cache, or flushed from it */
    COVER_FILE_SYNC, /* of what was written by system calls, or only stored */
};

struct recorded {
    enum recorded_kind kind;
    enum recorded_cover cover;
    bool by_store; /* to the mapped file, not by a system call */
    bool durable;  /* a growth that was synced at once */
    uint64_t offset;
    size_t bytes;
    uint8_t *data;
    unsigned mark;
    uint64_t when; /* counts the operations of all recordings */
};

struct recording {
    const struct persist_ops *inner;
    struct recorded *trace;
    size_t count, capacity;
    unsigned long operations; /* so far, over all opens */
    unsigned long fail_at;    /* this operation fails, counted from 1; 0: none */
    int fail_status;
    enum recorded_kind failed_kind; /* of the one that failed */
    bool in_sync, fenced;           /* the sync under way */
};

/* From now on persist records into recording (zeroed before its first use). */
void recording_attach(struct recording *recording, struct persist *persist);

/* The same, and persist goes on with the DAX back end; two recordings at a time, each with a window
 * of its own. A fence counts for the one that was stored to last, or whose sync it is: more than
 * that it does for a processor that stores to both, but nobody is to rely on it. */
MUST_CHECK int recording_attach_dax(struct recording *recording, struct persist *persist,
                                    void *window, uint64_t window_bytes);
void recording_mark(struct recording *recording, unsigned mark);
void recording_free(struct recording *recording);

#endif
