/*
 * move.h - an opened heap in a new pool whose slot is another one. README.md says how.
 */
#ifndef PHEAP_RECOVERY_MOVE_H
#define PHEAP_RECOVERY_MOVE_H

#include <stdint.h>
#include "core/base/status.h"

/*
 * The newest state of the heap at `path`, in a new file. STATUS_REFUSED: a word of an object whose
 * pointers are not known is an address in the heap; it is a program's heap; the file exists.
 * STATUS_DAMAGED, STATUS_IN_DOUBT, STATUS_IN_USE. The pool is unchanged in any case.
 *
 * Crash: README.md.
 */
MUST_CHECK int pool_move(const char *path, const char *to, uint32_t slot, struct problem *why);

#endif
