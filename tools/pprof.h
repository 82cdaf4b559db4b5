/*
 * pprof.h - rows of stacks.h in the forms that other programs draw: pprof's profile.proto
 * (compressed), and a line a stack for flame graphs.
 */
#ifndef PHEAP_TOOLS_PPROF_H
#define PHEAP_TOOLS_PPROF_H

#include <jansson.h>
#include <stdint.h>
#include "core/base/status.h"

/* A new file, mode 0600. */
MUST_CHECK int pprof_write(const char *path, const json_t *rows, uint64_t rate_bytes,
                           uint64_t time_ns, struct problem *why);
MUST_CHECK int folded_write(const char *path, const json_t *rows, struct problem *why);

#endif
