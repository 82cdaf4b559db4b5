/*
 * commit.c - see commit.h.
 */
#include "core/tx/commit.h"

#include "core/tx/draft.h"
#include "core/tx/opened.h"

static int append_record(struct pheap_tx *tx, struct log_record *record)
{
    struct pheap *heap = tx->heap;
    uint64_t sequence = 0;
    int status = opened_may_change(heap);

    if (status == 0)
        status = log_write(&heap->log, record, &sequence, NULL);
    if (status == 0 && !tx->soon)
        status = log_wait(&heap->log, sequence, NULL);
    if (log_bytes(&heap->log) >= __atomic_load_n(&heap->checkpoint_at_bytes, __ATOMIC_RELAXED))
        __atomic_store_n(&heap->is_due, true, __ATOMIC_RELAXED);
    if (status < 0)
        opened_note_failure(heap);
    else if (tx->sequence)
        *tx->sequence = sequence;
    return status;
}

int commit_durably(struct pheap_tx *tx)
{
    struct log_record *record;
    int status = draft_record(tx->first, &tx->arena, &record);

    return status == 1 ? append_record(tx, record) : status;
}
