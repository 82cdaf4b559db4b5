/*
 * status.h - one sign for errors, everywhere inside pheap.
 *
 * Every internal call that can fail returns 0 (or a count) or a negative status. A status is
 * either -errno of a system call (-1 .. -4095) or one of the codes below. Calls that can fail
 * are marked MUST_CHECK.
 *
 * Where a person will read the reason, the call also takes a `struct problem *` (it may be NULL)
 * and fills in one line: what happened, to which path, offset or descriptor, what was expected,
 * and what to do.
 *
 * Thread safety: a problem belongs to one caller. No call here allocates, locks or touches errno.
 */
#ifndef PHEAP_BASE_STATUS_H
#define PHEAP_BASE_STATUS_H

#include <stddef.h>

#define MUST_CHECK __attribute__((warn_unused_result))

enum status {
    STATUS_OK = 0,
    STATUS_NOT_A_POOL = -5000,    /* the file has no pheap superblock */
    STATUS_DAMAGED = -5001,       /* a checksum or an invariant does not hold */
    STATUS_NEWER_FORMAT = -5002,  /* written by a later pheap */
    STATUS_IN_USE = -5003,        /* another process writes this pool */
    STATUS_NOT_OWNER = -5004,     /* another user's pool */
    STATUS_NO_GENERATION = -5005, /* nothing committed, or not the one asked for */
    STATUS_CHANGED = -5006,       /* a file that the image refers to has changed */
    STATUS_UNSUPPORTED = -5007,   /* something that cannot be saved or restored, named */
    STATUS_DEFERRED = -5008,      /* not now: a child lives, a thread cannot be stopped */
    STATUS_NOT_PERMITTED = -5009, /* the kernel or a policy forbids it, named */
    STATUS_USAGE = -5010,         /* the command line */
    STATUS_REFUSED = -5011,       /* would lose something; the message says how to insist */
    STATUS_LIMIT = -5012,         /* a limit of the format or of this build */
    STATUS_ENDED = -5013,         /* the run has ended: there is nothing to resume */
    STATUS_CONFLICT = -5014,      /* another transaction was faster: once more */
    STATUS_IN_DOUBT = -5015,      /* waits for another pool's decision */
};

/* Exit statuses of the tools (DESIGN.md 11). */
enum exit_status {
    EXIT_FINE = 0,
    EXIT_FOUND = 1,
    EXIT_USAGE = 2,
    EXIT_REFUSED = 3,
    EXIT_DAMAGED = 4,
    EXIT_SYSTEM = 5,
};

#define PROBLEM_TEXT_BYTES 512

struct problem {
    int status;
    char text[PROBLEM_TEXT_BYTES]; /* one line, NUL-terminated, no newline */
};

/* The text of a status or -errno, for messages; never NULL. Shapes: "No space left on device". */
const char *status_text(int status);

/* The exit status a tool ends with for this status. */
int status_exit(int status);

/*
 * Fills in *why (if it is not NULL) and returns status. The format is that of format_text().
 */
int problem_set(struct problem *why, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
