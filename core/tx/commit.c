/*
 * commit.c - see commit.h.
 */
#include "core/tx/commit.h"

#include "core/heap/slot.h"
#include "core/tx/draft.h"
#include "core/tx/opened.h"

static int append_record(struct pheap *heap, struct log_record *record)
{
    int status;

    lock_acquire(&heap->log_lock, heap_holder());
    status = opened_may_change(heap);
    if (status == 0)
        status = log_append(&heap->log, record, NULL);
    if (heap->log.used >= heap->checkpoint_at_bytes)
        __atomic_store_n(&heap->is_due, true, __ATOMIC_RELAXED);
    if (status < 0 && heap->pool.persist.failed)
        __atomic_store_n(&heap->failed, heap->pool.persist.failed, __ATOMIC_RELAXED);
    lock_release(&heap->log_lock);
    return status;
}

int commit_durably(struct pheap_tx *tx)
{
    struct log_record *record;
    int status = draft_record(tx->first, &tx->arena, &record);

    return status == 1 ? append_record(tx->heap, record) : status;
}
