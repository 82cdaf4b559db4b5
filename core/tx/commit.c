/*
 * commit.c - see commit.h. One heap that has changed: one record of its log. Several: two_phase.h.
 */
#include "core/tx/commit.h"

#include "core/tx/draft.h"
#include "core/tx/opened.h"
#include "core/tx/two_phase.h"

/* whole: how soon it is to be durable. */
static int append_record(struct pheap_tx *part, const struct pheap_tx *whole,
                         struct log_record *record)
{
    struct pheap *heap = part->heap;
    uint64_t sequence = 0;
    int status = opened_may_change(heap);

    record->durable = part->durable;
    if (status == 0)
        status = log_write_in(&heap->log, &part->lane, record, &sequence, NULL);
    if (status == 0 && !whole->soon && !log_writes_durably(&heap->log))
        status = log_wait(&heap->log, sequence, NULL);
    if (status == 0 && !whole->soon)
        operation_note_durable(part, sequence);
    opened_note_log(heap, status);
    if (status == 0 && whole->sequence && part == whole)
        *whole->sequence = sequence;
    return status;
}

static int commit_part(struct pheap_tx *part, const struct pheap_tx *whole)
{
    struct log_record *record;
    int status = draft_record(part->first, NULL, &part->arena, &record);

    return status == 1 ? append_record(part, whole, record) : status;
}

/* What it may have read in heaps that it has not changed: with commits that return before they are
 * durable it must not outlive that. */
static int await_others(struct pheap_tx *tx, const struct pheap_tx *changed)
{
    int status = 0;

    for (struct pheap_tx *part = tx; status == 0 && part; part = part->part)
        if (part != changed && !tx->soon)
            status = opened_wait(part->heap, 0);
    return status;
}

int commit_durably(struct pheap_tx *tx)
{
    struct pheap_tx *changed = NULL;
    int status;

    for (struct pheap_tx *part = tx; part; part = part->part) {
        if (!operation_has_changed(part))
            continue;
        if (changed)
            return two_phase_commit(tx);
        changed = part;
    }
    if (!changed)
        return 0;
    status = await_others(tx, changed);
    return status < 0 ? status : commit_part(changed, tx);
}
