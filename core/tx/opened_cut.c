/*
 * opened_cut.c - the gate, and generations of an opened heap.
 *
 * What must always be true: a cut is made and committed while no transaction is open, so a
 * generation has exactly what the log before it says; if a superblock may have become durable
 * that is not the one in force, the log is not written to any more.
 */
#include "core/tx/opened_cut.h"

#include <errno.h>
#include <linux/futex.h>
#include "core/base/sys.h"
#include "core/heap/heap.h"
#include "core/heap/slot.h"
#include "core/image/memory.h"

#define GATE_PATIENCE_NS 20000000u
#define WRITER_SCRATCH   (16ull << 20)
#define USER_SPACE_END   0x7ffffffff000ull

/* --- the gate --- */

static void wait_while(uint32_t *word, uint32_t value, uint64_t timeout_ns)
{
    struct timespec timeout = {(time_t)(timeout_ns / 1000000000u),
                               (long)(timeout_ns % 1000000000u)};

    (void)sys_call(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, timeout_ns ? &timeout : NULL);
}

static void set_gate(struct pheap *heap, enum opened_gate gate)
{
    lock_acquire(&heap->lock, heap_holder());
    __atomic_store_n(&heap->gate, gate, __ATOMIC_RELAXED); /* waiters look without the lock */
    lock_release(&heap->lock);
    (void)sys_call(SYS_futex, &heap->gate, FUTEX_WAKE_PRIVATE, INT32_MAX);
}

/* One try; returns the gate that stood in the way, or GATE_OPEN. */
static enum opened_gate try_enter(struct pheap *heap, bool patient)
{
    enum opened_gate gate;

    lock_acquire(&heap->lock, heap_holder());
    gate = heap->gate;
    if (gate == GATE_WANTED && !patient)
        gate = GATE_OPEN;
    if (gate == GATE_OPEN)
        heap->open_count++;
    lock_release(&heap->lock);
    return gate;
}

void opened_enter(struct pheap *heap)
{
    bool patient = true;
    enum opened_gate gate;

    while ((gate = try_enter(heap, patient)) != GATE_OPEN) {
        wait_while(&heap->gate, gate, gate == GATE_WANTED ? GATE_PATIENCE_NS : 0);
        patient = patient && gate != GATE_WANTED;
    }
}

void opened_leave(struct pheap *heap)
{
    bool last;

    lock_acquire(&heap->lock, heap_holder());
    last = --heap->open_count == 0 && heap->gate == GATE_WANTED;
    lock_release(&heap->lock);
    if (last)
        (void)sys_call(SYS_futex, &heap->open_count, FUTEX_WAKE_PRIVATE, 1);
}

/* OPEN -> WANTED, or another checkpoint is at it. */
static bool want_gate(struct pheap *heap)
{
    bool mine;

    lock_acquire(&heap->lock, heap_holder());
    mine = heap->gate == GATE_OPEN;
    if (mine)
        __atomic_store_n(&heap->gate, GATE_WANTED, __ATOMIC_RELAXED);
    lock_release(&heap->lock);
    return mine;
}

/* WANTED -> CLOSED. 0, or how many are open. */
static uint32_t shut_gate(struct pheap *heap)
{
    uint32_t open;

    lock_acquire(&heap->lock, heap_holder());
    open = heap->open_count;
    if (open == 0)
        __atomic_store_n(&heap->gate, GATE_CLOSED, __ATOMIC_RELAXED);
    lock_release(&heap->lock);
    return open;
}

static int close_gate(struct pheap *heap, uint64_t timeout_ns)
{
    uint64_t deadline = sys_clock_ns(CLOCK_MONOTONIC) + timeout_ns;
    uint32_t gate, open;
    uint64_t now;

    while (!want_gate(heap)) {
        now = sys_clock_ns(CLOCK_MONOTONIC);
        if (now >= deadline)
            return STATUS_DEFERRED;
        gate = __atomic_load_n(&heap->gate, __ATOMIC_RELAXED);
        if (gate != GATE_OPEN)
            wait_while(&heap->gate, gate, deadline - now);
    }
    while ((open = shut_gate(heap)) > 0) {
        now = sys_clock_ns(CLOCK_MONOTONIC);
        if (now >= deadline) {
            set_gate(heap, GATE_OPEN);
            return STATUS_DEFERRED;
        }
        wait_while(&heap->open_count, open, deadline - now);
    }
    return 0;
}

/* --- the generation --- */

/* All but the slot is left out of what the writer looks at. */
static int make_writer(struct pheap *heap, struct problem *why)
{
    struct image_writer_options options = {.scratch_bytes = WRITER_SCRATCH};
    struct kernel_features features;
    int status;

    kernel_features_probe(&features);
    options.features = &features;
    heap->space = (struct address_space){.excluded_count = 2};
    heap->space.excluded[0] = (struct address_range){0, heap->memory.base};
    heap->space.excluded[1] =
        (struct address_range){heap->memory.base + SLOT_BYTES, USER_SPACE_END};
    status = maps_identify_pool(&heap->space, heap->pool.fd, &heap->scratch);
    arena_rewind(&heap->scratch, heap->scratch.base);
    if (status < 0)
        return problem_set(why, status, "cannot see how pool %s shows in /proc/self/maps: %s",
                           heap->pool.path, status_text(status));
    return image_writer_create(&heap->writer, &heap->arena, &heap->pool, &options, why);
}

static int cut(struct pheap *heap, struct problem *why)
{
    int64_t copied = image_writer_precopy(heap->writer, &heap->space, why);
    int status = copied < 0 ? (int)copied : 0;

    if (status == 0) {
        status = maps_read(&heap->space, "/proc/self/maps", &heap->scratch);
        if (status < 0)
            problem_set(why, status, "cannot read /proc/self/maps: %s", status_text(status));
    }
    if (status == 0)
        status = image_writer_cut(heap->writer, &heap->space, 0, why);
    arena_rewind(&heap->scratch, heap->scratch.base);
    return status;
}

static int64_t commit(struct pheap *heap, struct problem *why)
{
    struct generation_entry entry = {.kind = GENERATION_HEAP,
                                     .slot = heap->pool.super.slot,
                                     .time_ns = sys_clock_ns(CLOCK_REALTIME)};
    uint64_t next = heap->pool.super.next_generation;
    int status;

    heap->pool.next_log.nonce = log_random();
    status = image_writer_commit(heap->writer, &entry, NULL, 0, why);
    /* A number that was used up: the superblock was written, and may be in force or not. What is
     * appended to the log now would be lost if it is. */
    if (status < 0 && (heap->pool.persist.failed || heap->pool.super.next_generation != next))
        __atomic_store_n(&heap->failed, status, __ATOMIC_RELAXED);
    if (status < 0)
        return status;
    lock_acquire(&heap->log_lock, heap_holder());
    log_restart(&heap->log);
    heap->checkpoint_at_bytes = OPENED_LOG_BYTES;
    lock_release(&heap->log_lock);
    return (int64_t)entry.number;
}

/* Behind the closed gate. The cut opens all protection keys for its thread: they are set back. */
static int64_t take(struct pheap *heap, struct problem *why)
{
    unsigned keys = memory_protection_keys();
    int status = opened_may_change(heap);

    if (status < 0)
        return problem_set(why, status, "heap '%s' takes no more changes: %s", heap->pool.path,
                           status_text(status));
    if (!heap->writer)
        status = make_writer(heap, why);
    if (status == 0)
        status = cut(heap, why);
    memory_set_protection_keys(keys);
    return status < 0 ? status : commit(heap, why);
}

int64_t opened_checkpoint(struct pheap *heap, uint64_t timeout_ns, struct problem *why)
{
    int status = close_gate(heap, timeout_ns);
    int64_t number;

    if (status < 0)
        return problem_set(why, status, "heap '%s': a transaction stays open, no checkpoint",
                           heap->pool.path);
    number = take(heap, why);
    set_gate(heap, GATE_OPEN);
    return number;
}

void opened_checkpoint_if_due(struct pheap *heap)
{
    if (!__atomic_load_n(&heap->is_due, __ATOMIC_RELAXED))
        return;
    __atomic_store_n(&heap->is_due, false, __ATOMIC_RELAXED);
    if (opened_checkpoint(heap, GATE_PATIENCE_NS, NULL) >= 0)
        return;
    lock_acquire(&heap->log_lock, heap_holder());
    heap->checkpoint_at_bytes = heap->log.used + OPENED_LOG_BYTES;
    lock_release(&heap->log_lock);
}
