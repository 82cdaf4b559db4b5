/*
 * core_notes.h - the notes of a core file: what is not memory.
 */
#ifndef PHEAP_RECOVERY_VIEW_CORE_NOTES_H
#define PHEAP_RECOVERY_VIEW_CORE_NOTES_H

#include <stddef.h>
#include <stdint.h>
#include "recovery/view/view.h"

struct core_notes {
    uint8_t *data; /* in the view's arena */
    size_t used, size;
};

/* In the kernel's order: the leader's status, what is the process's, then the other threads. */
MUST_CHECK int core_notes_make(struct view *view, struct core_notes *notes, struct problem *why);

#endif
