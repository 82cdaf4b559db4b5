/*
 * gate.c - see gate.h.
 */
#include "core/tx/gate.h"

#include <linux/futex.h>
#include <time.h>
#include "core/base/lock.h"
#include "core/base/sys.h"

#define PATIENCE_NS 20000000u
#define LOOK_NS     1000000u /* who leaves may have missed that somebody waits for it */

static void wait_while(uint32_t *word, uint32_t value, uint64_t timeout_ns)
{
    struct timespec timeout = {(time_t)(timeout_ns / 1000000000u),
                               (long)(timeout_ns % 1000000000u)};

    (void)sys_call(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, timeout_ns ? &timeout : NULL);
}

static void set_state(struct gate *gate, enum gate_state state)
{
    __atomic_store_n(&gate->state, state, __ATOMIC_SEQ_CST);
    (void)sys_call(SYS_futex, &gate->state, FUTEX_WAKE_PRIVATE, INT32_MAX);
}

void gate_add(struct gate *gate, struct gate_pass *pass)
{
    pass->next = __atomic_load_n(&gate->passes, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&gate->passes, &pass->next, pass, true, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED))
        ;
}

/* The pass is not inside meanwhile, but it is not for others to take either. */
void gate_queue(struct gate *gate, struct gate_pass *pass)
{
    bool patient = true;
    uint32_t state;

    for (;;) {
        state = __atomic_load_n(&gate->state, __ATOMIC_SEQ_CST);
        if (state == GATE_OPEN || (state == GATE_WANTED && !patient))
            return;
        __atomic_store_n(&pass->presence, GATE_HELD, __ATOMIC_SEQ_CST);
        if (state == GATE_WANTED)
            gate_tell_leaving(gate);
        wait_while(&gate->state, state, state == GATE_WANTED ? PATIENCE_NS : 0);
        patient = patient && state != GATE_WANTED;
        __atomic_store_n(&pass->presence, GATE_INSIDE, __ATOMIC_SEQ_CST);
    }
}

void gate_tell_leaving(struct gate *gate)
{
    __atomic_fetch_add(&gate->leaving, 1, __ATOMIC_RELEASE);
    (void)sys_call(SYS_futex, &gate->leaving, FUTEX_WAKE_PRIVATE, 1);
}

static uint32_t count_from(const struct gate *gate, enum gate_presence least)
{
    const struct gate_pass *pass = __atomic_load_n(&gate->passes, __ATOMIC_ACQUIRE);
    uint32_t count = 0;

    for (; pass; pass = pass->next)
        count += __atomic_load_n(&pass->presence, __ATOMIC_SEQ_CST) >= least;
    return count;
}

uint32_t gate_count_taken(const struct gate *gate)
{
    return count_from(gate, GATE_HELD);
}

uint32_t gate_count_inside(const struct gate *gate)
{
    return count_from(gate, GATE_INSIDE);
}

static bool try_close(struct gate *gate)
{
    if (gate_count_inside(gate) > 0)
        return false;
    __atomic_store_n(&gate->state, GATE_CLOSED, __ATOMIC_SEQ_CST);
    if (gate_count_inside(gate) == 0)
        return true;
    set_state(gate, GATE_WANTED);
    return false;
}

int gate_close(struct gate *gate, uint64_t timeout_ns)
{
    uint64_t deadline = sys_clock_ns(CLOCK_MONOTONIC) + timeout_ns;

    __atomic_store_n(&gate->state, GATE_WANTED, __ATOMIC_SEQ_CST);
    for (;;) {
        uint32_t leaving = __atomic_load_n(&gate->leaving, __ATOMIC_ACQUIRE);

        if (try_close(gate))
            return 0;
        if (sys_clock_ns(CLOCK_MONOTONIC) >= deadline)
            break;
        wait_while(&gate->leaving, leaving, LOOK_NS);
        lock_look(); /* a thread that was inside when its process was killed never leaves */
    }
    set_state(gate, GATE_OPEN);
    return STATUS_DEFERRED;
}

void gate_open(struct gate *gate)
{
    set_state(gate, GATE_OPEN);
}
