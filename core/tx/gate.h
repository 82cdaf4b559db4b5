/*
 * gate.h - keeps transactions and the cuts of checkpoints apart. Each transaction has a pass, which
 * says whether it is inside; so those of different threads share nothing that is written to.
 *
 * The gate is OPEN, WANTED (a cut waits until nobody is inside; who comes waits a little, and then
 * enters all the same, since who begins a transaction may be who has another one open), or CLOSED
 * (nobody is inside, nobody enters).
 *
 *     OPEN -> WANTED     [gate_close]
 *     WANTED -> CLOSED   [gate_close], when nobody is inside
 *     CLOSED -> WANTED   [gate_close], when somebody is after all
 *     WANTED -> OPEN     [gate_close], when that takes too long
 *     CLOSED -> OPEN     [gate_open]
 *
 * Who enters marks its pass and then looks at the gate; who closes sets the gate and then looks at
 * the passes; each in this order for all to see: one of them sees the other.
 *
 * Thread safety: any thread; one at a time closes, and opens again.
 */
#ifndef PHEAP_TX_GATE_H
#define PHEAP_TX_GATE_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/status.h"

enum gate_state { GATE_OPEN, GATE_WANTED, GATE_CLOSED };

enum gate_presence { GATE_OUTSIDE, GATE_INSIDE, GATE_WAITING };

struct gate_pass {
    struct gate_pass *next; /* of the same gate; never changes */
    uint32_t presence;      /* enum gate_presence: not OUTSIDE, somebody has this pass */
};

struct gate {
    uint32_t state;           /* enum gate_state; a futex */
    uint32_t leaving;         /* counts who left a gate that is WANTED; a futex */
    struct gate_pass *passes; /* only ever grows */
};

/* A pass that is inside nowhere yet. */
void gate_add(struct gate *gate, struct gate_pass *pass);

/* The rest of gate_enter(): the gate was not open. */
void gate_queue(struct gate *gate, struct gate_pass *pass);
void gate_tell_leaving(struct gate *gate);

/* False: somebody else has this pass. Waits while the gate is not open. */
static inline bool gate_enter(struct gate *gate, struct gate_pass *pass)
{
    if (__atomic_load_n(&pass->presence, __ATOMIC_RELAXED) ||
        __atomic_exchange_n(&pass->presence, GATE_INSIDE, __ATOMIC_SEQ_CST))
        return false;
    if (__builtin_expect(__atomic_load_n(&gate->state, __ATOMIC_SEQ_CST) != GATE_OPEN, 0))
        gate_queue(gate, pass);
    return true;
}

static inline void gate_leave(struct gate *gate, struct gate_pass *pass)
{
    __atomic_store_n(&pass->presence, GATE_OUTSIDE, __ATOMIC_RELEASE);
    if (__builtin_expect(__atomic_load_n(&gate->state, __ATOMIC_RELAXED) == GATE_WANTED, 0))
        gate_tell_leaving(gate);
}

uint32_t gate_count_inside(const struct gate *gate);

/* STATUS_DEFERRED: somebody stays inside; the gate is open. */
MUST_CHECK int gate_close(struct gate *gate, uint64_t timeout_ns);
void gate_open(struct gate *gate);

#endif
