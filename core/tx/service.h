/*
 * service.h - an opened heap's agent, seen from the heap: asked for checkpoints, and stopped. Who
 * serves is core/agent/heap_agent.c, in a process of its own that shares the memory.
 *
 *     NONE -> STARTING -> RUNNING -> ENDED      STARTING -> ENDED: it could not start
 *
 * An ask is a number more in `asked` and a word into event_fd; who serves takes a checkpoint and
 * answers all that were asked before it began.
 *
 * Thread safety: service_kick() and service_ask() any thread; service_stop() when nobody else uses
 * the heap.
 */
#ifndef PHEAP_TX_SERVICE_H
#define PHEAP_TX_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/status.h"

enum service_state { SERVICE_NONE, SERVICE_STARTING, SERVICE_RUNNING, SERVICE_ENDED };

struct service {
    uint32_t state; /* enum service_state; a futex */
    int pid;
    int event_fd;  /* in both processes */
    uint32_t stop; /* it is to end */
    uint32_t asked;
    uint32_t answered; /* a futex */
    int64_t answer;    /* of the last checkpoint: a generation's number, or a status */
    void *memory;      /* stack and thread-local storage */
    size_t memory_bytes;
};

static inline bool service_runs(const struct service *service)
{
    return __atomic_load_n(&service->state, __ATOMIC_ACQUIRE) == SERVICE_RUNNING;
}

/* A checkpoint soon. */
void service_kick(struct service *service);

/* One that begins now, and its answer. STATUS_DEFERRED: none in that time. -ESRCH: nobody serves
 * any more. */
MUST_CHECK int64_t service_ask(struct service *service, uint64_t timeout_ns);

/* Waits until it has ended, at the end of a checkpoint that it may be taking. */
void service_stop(struct service *service);

#endif
