/*
 * batch_format.h - a list of system calls as the executor (batch_blob.c) reads it inside the
 * process that is rebuilt. One injected system call costs about 10 us; a list runs at the
 * process's own speed.
 *
 * Shared by the builder (batch.c) and the executor; no other code looks at it.
 */
#ifndef PHEAP_PROCESS_BATCH_FORMAT_H
#define PHEAP_PROCESS_BATCH_FORMAT_H

#include <stdint.h>

/* How argument i is to be read: bits 2*i and 2*i+1 of `references`. */
enum batch_reference {
    BATCH_VALUE = 0,  /* as it stands */
    BATCH_RESULT = 1, /* the result of call number args[i] of this list */
    BATCH_INT_AT = 2, /* the 32-bit integer at address args[i] (what pipe2 wrote) */
};

enum batch_expectation {
    BATCH_ANY = 0,
    BATCH_NOT_NEGATIVE = 1,
    BATCH_EQUALS = 2, /* result == expected */
    BATCH_FORKS = 3,  /* the same; the `skipped` calls behind it are the new process's alone, and
                         the last one of them ends it */
};

struct batch_call {
    int64_t number;
    uint64_t args[6];
    uint32_t references;
    uint16_t expectation;
    uint16_t skipped;
    int64_t expected;
    int64_t result;
};

struct batch_list {
    uint64_t count;
    uint64_t calls; /* address of struct batch_call[count] */
};

_Static_assert(sizeof(struct batch_call) == 80, "no padding");

/* Runs the calls in turn; stops behind the first whose expectation does not hold. Returns the
 * number of calls that went well. */
long batch_blob_run(struct batch_list *list);

#endif
