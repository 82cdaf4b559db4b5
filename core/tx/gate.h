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

enum gate_presence {
    GATE_FREE, /* nobody's pass */
    GATE_HELD, /* somebody's, who is outside */
    GATE_INSIDE,
};

struct gate_pass {
    struct gate_pass *next; /* of the same gate; never changes */
    uint32_t presence;      /* enum gate_presence */
};

struct gate {
    uint32_t state;           /* enum gate_state; a futex */
    uint32_t leaving;         /* counts who left a gate that is WANTED; a futex */
    struct gate_pass *passes; /* only ever grows */
};

/* A pass of the gate from here on, and never again not. */
void gate_add(struct gate *gate, struct gate_pass *pass);

/* False: it is somebody else's. */
static inline bool gate_take(struct gate_pass *pass)
{
    uint32_t expected = GATE_FREE;

    return __atomic_compare_exchange_n(&pass->presence, &expected, GATE_HELD, false,
                                       __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

/* The rest of the two below: the gate was not open. */
void gate_queue(struct gate *gate, struct gate_pass *pass);
void gate_tell_leaving(struct gate *gate);

/* With a pass that was taken; waits while the gate is not open. */
static inline void gate_enter(struct gate *gate, struct gate_pass *pass)
{
    __atomic_store_n(&pass->presence, GATE_INSIDE, __ATOMIC_SEQ_CST);
    if (__builtin_expect(__atomic_load_n(&gate->state, __ATOMIC_SEQ_CST) != GATE_OPEN, 0))
        gate_queue(gate, pass);
}

/* Both in one. */
static inline bool gate_take_and_enter(struct gate *gate, struct gate_pass *pass)
{
    uint32_t expected = GATE_FREE;

    if (!__atomic_compare_exchange_n(&pass->presence, &expected, GATE_INSIDE, false,
                                     __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
        return false;
    if (__builtin_expect(__atomic_load_n(&gate->state, __ATOMIC_SEQ_CST) != GATE_OPEN, 0))
        gate_queue(gate, pass);
    return true;
}

/* Asked by who has the pass. */
static inline bool gate_is_inside(const struct gate_pass *pass)
{
    return __atomic_load_n(&pass->presence, __ATOMIC_RELAXED) == GATE_INSIDE;
}

/* then: GATE_HELD, or GATE_FREE: the pass is given up too. */
static inline void gate_leave(struct gate *gate, struct gate_pass *pass, enum gate_presence then)
{
    __atomic_store_n(&pass->presence, then, __ATOMIC_RELEASE);
    if (__builtin_expect(__atomic_load_n(&gate->state, __ATOMIC_RELAXED) == GATE_WANTED, 0))
        gate_tell_leaving(gate);
}

/* Passes that somebody has; how many of them are inside. */
uint32_t gate_count_taken(const struct gate *gate);
uint32_t gate_count_inside(const struct gate *gate);

/* STATUS_DEFERRED: somebody stays inside; the gate is open. */
MUST_CHECK int gate_close(struct gate *gate, uint64_t timeout_ns);
void gate_open(struct gate *gate);

#endif
