/*
 * roots.h - where reachability starts.
 *
 * In an opened heap the named roots, and nothing else. In a process image those that the program
 * has named (pheap_default()) and, conservatively, all else that may lead there: saved
 * registers (vector registers too), every page of the image outside the slot but what lies below
 * the stack pointer in [stack], the data of epoll watches, timers, pending signals, what was unread
 * in pipes and sockets, and memory shared by descriptor (memfd and the like). A crash image has
 * only pages.
 */
#ifndef PHEAP_RECOVERY_VIEW_ROOTS_H
#define PHEAP_RECOVERY_VIEW_ROOTS_H

#include <stddef.h>
#include <stdint.h>
#include "recovery/view/view.h"

enum root_kind {
    ROOT_NAMED,     /* `type` is the object's */
    ROOT_REGISTERS, /* id: the thread's */
    ROOT_MEMORY,    /* of a mapping; id: its start; 0: none is recorded */
    ROOT_EPOLL,
    ROOT_TIMERS,
    ROOT_SIGNALS,
    ROOT_PIPE,   /* id: its number */
    ROOT_SOCKET, /* so */
    ROOT_OBJECT, /* so */
};

struct root {
    enum root_kind kind;
    uint64_t id;
    const char *name; /* of a root, a thread, a mapping; "" */
    uint32_t type;
    uint64_t address; /* ROOT_NAMED: what it leads to */
};

/* The heap is mapped (view_map_heap()). Words of a root, which may be anywhere in memory and at any
 * alignment. What belongs to one root comes in one piece or in several, one after the other. */
typedef void root_visit(void *context, const struct root *root, const void *words, size_t bytes);
MUST_CHECK int roots_each(struct view *view, root_visit *visit, void *context, struct problem *why);

#endif
