/*
 * settle.c - see settle.h.
 */
#include "core/tx/settle.h"

#include "core/tx/deciding_pool.h"
#include "core/tx/mutant.h"

/* It is certain: from the deciding pool. Else as somebody who knows says. */
static int find_outcome(struct pheap *heap, struct deciding_pools *pools, struct promise *promise,
                        struct problem *why)
{
    int decided = deciding_pool_ask(pools, promise->node.id, promise->terms, heap->pool.path, why);
    bool wanted = heap->settle_as == LOG_COMMITTED;

    if (decided == 0 && TX_MUTANT(TX_MUTANT_UNDECIDED_COMMITS))
        decided = 1;
    if (decided == STATUS_IN_DOUBT && TX_MUTANT(TX_MUTANT_DOUBT_IGNORED))
        decided = 0;
    if (decided == STATUS_IN_DOUBT && heap->settle_as)
        decided = wanted;
    if (decided < 0)
        return decided;
    if (heap->settle_as && wanted != (decided == 1))
        return problem_set(why, STATUS_REFUSED,
                           "pool '%s', which decides, is there: the transaction has %s",
                           promise->terms->path, decided ? "committed" : "not committed");
    promise->outcome = decided ? LOG_COMMITTED : LOG_UNDONE;
    return 0;
}

static int explain(const struct pheap *heap, struct problem *reason)
{
    const struct problem cause = *reason;

    return problem_set(reason, STATUS_IN_DOUBT,
                       "heap '%s' is in doubt about a transaction: %s. Bring that pool back, open "
                       "the heap for reading, or 'pheap recover --resolve commit|abort'",
                       heap->pool.path, cause.text);
}

int settle_promises(struct pheap *heap, struct problem *why)
{
    struct deciding_pools pools = {0};
    struct problem reason = {0};
    int status = 0;

    heap->in_doubt = 0;
    for (struct promise *one = heap->promises.first; status == 0 && one; one = one->next) {
        status = find_outcome(heap, &pools, one, &reason);
        if (status == STATUS_IN_DOUBT && heap->read_only) {
            heap->in_doubt++;
            status = 0;
        }
        if (status == 0 && one->outcome == LOG_COMMITTED)
            status = replay_promise(&heap->memory, one);
    }
    deciding_pools_forget(&pools);
    if (status == STATUS_IN_DOUBT)
        status = explain(heap, &reason);
    if (status < 0 && why)
        *why = reason;
    return status;
}

int settle_tell(struct pheap *heap, struct problem *why)
{
    uint64_t last = 0;
    int status = 0;

    for (struct promise *one = heap->promises.first; status == 0 && one; one = one->next) {
        struct outcome_record told = outcome_record_of(one->node.id, one->outcome);

        status = log_write(&heap->log, &told.record, &last, why);
        heap->settled++;
    }
    if (status == 0 && heap->promises.first)
        status = log_wait(&heap->log, last, why);
    heap->promises.first = NULL;
    arena_rewind(&heap->scratch, heap->scratch.base);
    return status;
}
