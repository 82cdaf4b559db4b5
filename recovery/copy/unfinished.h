/*
 * unfinished.h - a file that is being made, which may be as large as a pool: it does not stay when
 * the tool is ended by a signal half-way. (SIGKILL and a power cut leave it.)
 *
 * Thread safety: none; one file at a time.
 */
#ifndef PHEAP_RECOVERY_UNFINISHED_H
#define PHEAP_RECOVERY_UNFINISHED_H

#include "core/base/status.h"

/* From now on a signal that ends the process removes path first: a name that nobody else takes.
 * Signals that are ignored or have a handler are left alone. */
void unfinished_begin(const char *path);

/* Makes path, which must not exist, with mode 0600; the same holds from the moment that it is
 * there. A descriptor, or a negative errno. */
MUST_CHECK int unfinished_create(const char *path);

/* The file has got its name, or is gone: signals are what they were. */
void unfinished_end(void);

#endif
