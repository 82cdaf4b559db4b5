/*
 * opened_cut.c - generations of an opened heap.
 *
 * What must always be true: a cut is made while no transaction is open, so a generation has exactly
 * what the log before the cut says; and what is written to the log after it is read behind the
 * generation before and its log as well as behind this one, whichever superblock is in force.
 */
#include "core/tx/opened_cut.h"

#include <errno.h>
#include "core/base/sys.h"
#include "core/heap/heap.h"
#include "core/heap/slot.h"
#include "core/image/memory.h"
#include "core/tx/mutant.h"

#define WRITER_SCRATCH    (16ull << 20)
#define USER_SPACE_END    0x7ffffffff000ull
#define PRECOPY_ROUNDS    4
#define PRECOPY_PAGES_MIN 256 /* fewer are left to the cut */
#define DUE_PATIENCE_NS   20000000u
#define RETRY_NS          1000000
#define WRITE_TIMEOUT_NS  60000000000u /* of a generation, by the agent */
#define BEHIND_MAX        8            /* logs that are due: then who begins waits for the agent */

#ifndef OPENED_AFTER_CUT /* a test commits transactions there */
#define OPENED_AFTER_CUT(heap) (void)(heap)
#endif

/* --- the generation --- */

/* All but the slot is left out of what the writer looks at. */
static int make_writer(struct pheap *heap, struct problem *why)
{
    struct image_writer_options options = {.scratch_bytes = WRITER_SCRATCH};
    struct kernel_features features;
    int status;

    kernel_features_probe(&features);
    features.pagemap_quick = false; /* it asks twice, and nobody stands still in between */
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
    status = image_writer_create(&heap->writer, &heap->arena, &heap->pool, &options, why);
    if (status == 0 && sys_getpid() == heap->service.pid)
        image_writer_set_step(heap->writer, heap->step, heap->step_context);
    heap->writer_pid = sys_getpid();
    return status;
}

void opened_drop_writer(struct pheap *heap)
{
    if (heap->writer && heap->writer_pid == sys_getpid())
        image_writer_destroy(heap->writer);
    heap->writer = NULL;
}

/* While transactions go on: what they change meanwhile is copied again. */
static int precopy(struct pheap *heap, struct problem *why)
{
    int64_t copied = PRECOPY_PAGES_MIN;

    for (int round = 0; round < PRECOPY_ROUNDS && copied >= PRECOPY_PAGES_MIN; round++) {
        copied = image_writer_precopy(heap->writer, &heap->space, why);
        arena_rewind(&heap->scratch, heap->scratch.base);
    }
    return copied < 0 ? (int)copied : 0;
}

static int cut(struct pheap *heap, struct problem *why)
{
    int status = maps_read(&heap->space, "/proc/self/maps", &heap->scratch);

    if (status < 0)
        problem_set(why, status, "cannot read /proc/self/maps: %s", status_text(status));
    else
        status = image_writer_cut(heap->writer, &heap->space, 0, why);
    arena_rewind(&heap->scratch, heap->scratch.base);
    return status;
}

static int64_t write_generation(struct pheap *heap, struct problem *why)
{
    struct generation_entry entry = {.kind = GENERATION_HEAP,
                                     .slot = heap->pool.super.slot,
                                     .time_ns = sys_clock_ns(CLOCK_REALTIME)};
    int status = image_writer_commit(heap->writer, &entry, NULL, 0, why);

    if (status < 0 && heap->pool.persist.failed)
        __atomic_store_n(&heap->failed, status, __ATOMIC_RELAXED);
    return status < 0 ? status : (int64_t)entry.number;
}

/* --- the steps --- */

static int copy_ahead(struct pheap *heap, struct problem *why)
{
    int status = 0;

    lock_acquire(&heap->log.pool_lock, heap_holder());
    if (!heap->writer || heap->writer_pid != sys_getpid())
        status = make_writer(heap, why);
    if (status == 0)
        status = precopy(heap, why);
    lock_release(&heap->log.pool_lock);
    return status;
}

static int shut(struct pheap *heap, uint64_t timeout_ns, struct problem *why)
{
    int status = gate_close(&heap->gate, timeout_ns);

    return status < 0 ? problem_set(why, status,
                                    "heap '%s': a transaction stays open, no "
                                    "checkpoint",
                                    heap->pool.path)
                      : 0;
}

/*
 * Crash: before the new superblock is durable the generation before is in force, with its log, to
 * which all was written that was committed meanwhile; after it, the new one, whose log begins with
 * the first record that was written after the cut. If its write fails it may be either.
 */
static int64_t take(struct pheap *heap, uint64_t timeout_ns, struct problem *why)
{
    int64_t number = 0;
    int status = copy_ahead(heap, why);

    if (status == 0 && !TX_MUTANT(TX_MUTANT_CUT_WHILE_OPEN))
        status = shut(heap, timeout_ns, why);
    if (status < 0)
        return status;
    log_cut(&heap->log);
    lock_acquire(&heap->log.pool_lock, heap_holder());
    status = cut(heap, why);
    gate_open(&heap->gate);
    OPENED_AFTER_CUT(heap);
    number = status < 0 ? status : write_generation(heap, why);
    lock_release(&heap->log.pool_lock);
    if (number >= 0)
        log_cut_committed(&heap->log);
    return number;
}

/* One checkpoint at a time. */
static int wait_for_turn(struct pheap *heap, uint64_t timeout_ns, struct problem *why)
{
    uint64_t deadline = sys_clock_ns(CLOCK_MONOTONIC) + timeout_ns;
    const struct timespec retry = {0, RETRY_NS};

    while (!lock_try(&heap->checkpoint_lock, heap_holder())) {
        if (sys_clock_ns(CLOCK_MONOTONIC) >= deadline)
            return problem_set(why, STATUS_DEFERRED, "heap '%s': another checkpoint is under way",
                               heap->pool.path);
        (void)sys_call(SYS_nanosleep, &retry, 0);
    }
    return 0;
}

int64_t opened_checkpoint(struct pheap *heap, uint64_t timeout_ns, struct problem *why)
{
    unsigned keys = memory_protection_keys();
    int status = opened_may_change(heap);
    int64_t number;

    if (status < 0)
        return problem_set(why, status, "heap '%s' takes no more changes: %s", heap->pool.path,
                           status_text(status));
    status = wait_for_turn(heap, timeout_ns, why);
    if (status < 0)
        return status;
    number = take(heap, timeout_ns, why);
    if (number >= 0)
        __atomic_store_n(&heap->log.long_at, OPENED_LOG_BYTES, __ATOMIC_RELAXED);
    memory_set_protection_keys(keys); /* copying opens them all for its thread */
    lock_release(&heap->checkpoint_lock);
    return number;
}

int64_t opened_request_checkpoint(struct pheap *heap, uint64_t timeout_ns)
{
    int64_t number = -ESRCH;

    if (service_runs(&heap->service))
        number = service_ask(&heap->service, timeout_ns + WRITE_TIMEOUT_NS);
    return number == -ESRCH ? opened_checkpoint(heap, timeout_ns, NULL) : number;
}

void opened_checkpoint_if_due(struct pheap *heap)
{
    uint64_t bytes = log_bytes(&heap->log);

    if (!__atomic_exchange_n(&heap->log.is_long, false, __ATOMIC_RELAXED))
        return;
    __atomic_store_n(&heap->log.long_at, bytes + OPENED_LOG_BYTES, __ATOMIC_RELAXED);
    if (service_runs(&heap->service) && bytes < OPENED_LOG_BYTES * BEHIND_MAX)
        service_kick(&heap->service);
    else if (opened_request_checkpoint(heap, DUE_PATIENCE_NS) < 0)
        return; /* the log grows */
}
