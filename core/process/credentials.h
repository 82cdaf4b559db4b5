/*
 * credentials.h - what a process is allowed, and in which namespaces it lives, as far as it can
 * change that by itself.
 */
#ifndef PHEAP_PROCESS_CREDENTIALS_H
#define PHEAP_PROCESS_CREDENTIALS_H

#include <stdint.h>
#include "core/process/capture_run.h"

#define CREDENTIALS_NAMESPACES 6

struct credentials {
    uint64_t groups;          /* checksum of the list */
    uint64_t capabilities[5]; /* inheritable, permitted, effective, bounding, ambient */
    uint64_t namespaces[CREDENTIALS_NAMESPACES];
};

/* status: of the process, as /proc/PID/status has it. 0 or -errno. */
MUST_CHECK int credentials_read(struct credentials *out, int pid, const char *status);

/* run->text has the program's status. STATUS_UNSUPPORTED: it has changed something of them. */
MUST_CHECK int credentials_check(struct capture_run *run);

#endif
