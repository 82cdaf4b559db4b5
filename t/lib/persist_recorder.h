/*
 * persist_recorder.h - the recording back end of core/pool/persist: passes every operation on to
 * the back end it replaces and keeps it in a trace, from which crash_states.h builds the files
 * that a power cut could leave. The trace may run over several opens of the same file.
 *
 * It can also make the n-th operation fail instead (without doing it).
 */
#ifndef PHEAP_T_LIB_PERSIST_RECORDER_H
#define PHEAP_T_LIB_PERSIST_RECORDER_H

#include <stddef.h>
#include <stdint.h>
#include "core/pool/persist.h"

enum recorded_kind {
    RECORDED_WRITE,
    RECORDED_GROW, /* the file is at least offset bytes long */
    RECORDED_SYNC,
    RECORDED_MARK, /* the test has been told that `mark` is durable */
};

struct recorded {
    enum recorded_kind kind;
    uint64_t offset;
    size_t bytes;
    uint8_t *data;
    unsigned mark;
};

struct recording {
    const struct persist_ops *inner;
    struct recorded *trace;
    size_t count, capacity;
    unsigned long operations; /* so far, over all opens */
    unsigned long fail_at;    /* this operation fails, counted from 1; 0: none */
    int fail_status;
    enum recorded_kind failed_kind; /* of the one that failed */
};

/* From now on persist records into recording (zeroed before its first use). */
void recording_attach(struct recording *recording, struct persist *persist);
void recording_mark(struct recording *recording, unsigned mark);
void recording_free(struct recording *recording);

#endif
