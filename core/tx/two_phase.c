/*
 * two_phase.c - see two_phase.h; the numbers of the steps are those there.
 */
#include "core/tx/two_phase.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include "core/base/format_text.h"
#include "core/base/sys.h"
#include "core/tx/draft.h"
#include "core/tx/mutant.h"
#include "core/tx/opened.h"

#define OLD_MAX 8u /* entries that one decision takes away */

struct agreement {
    struct pheap_tx *tx;
    struct participants participants;
    struct draft_head head;
    uint32_t entry; /* in the table of decisions */
    uint32_t old[OLD_MAX], old_count;
};

static bool takes_part(const struct pheap_tx *part)
{
    return part->whole != part && operation_has_changed(part);
}

/* --- preparing --- */

static int write_promise(const struct pheap *decides, struct arena *arena, struct draft_head *head)
{
    struct log_promise *promise = arena_alloc(arena, sizeof *promise + PATH_MAX, 8);
    char link[32];
    int length;

    if (!promise)
        return -ENOMEM;
    format_text(link, sizeof link, "/proc/self/fd/%d", decides->pool.fd);
    length = sys_readlink(link, promise->path, PATH_MAX - 1);
    if (length < 0)
        return length;
    promise->path[length] = 0;
    promise->reserved = 0;
    memcpy(promise->pool, decides->pool.super.uuid, TX_POOL_BYTES);
    promise->sequence = log_durable(&decides->log);
    head->promise = promise;
    head->bytes = sizeof *promise + (size_t)length + 1;
    return 0;
}

/* An empty record, once: whatever is promised later has a sequence that no copy has which was made
 * before this opening. */
static int announce(struct pheap *heap)
{
    _Alignas(LOG_ALIGN) struct log_record record = {.bytes = sizeof record};
    int status = opened_may_change(heap);

    if (status < 0 || __atomic_load_n(&heap->decides, __ATOMIC_ACQUIRE))
        return status;
    status = log_append(&heap->log, &record, NULL);
    opened_note_log(heap, status);
    if (status == 0)
        __atomic_store_n(&heap->decides, true, __ATOMIC_RELEASE);
    return status;
}

static void name_participants(const struct pheap_tx *tx, struct participants *participants)
{
    for (const struct pheap_tx *part = tx->part; part; part = part->part)
        if (takes_part(part))
            memcpy(participants->pools[participants->count++], part->heap->pool.super.uuid,
                   TX_POOL_BYTES);
}

static int open_agreement(struct agreement *agreement, struct pheap_tx *tx)
{
    struct decisions *decisions = &tx->heap->decisions;
    int status = decisions_take(decisions, &agreement->entry);

    if (status < 0)
        return status;
    agreement->tx = tx;
    agreement->head.id = log_random();
    name_participants(tx, &agreement->participants);
    agreement->old_count =
        decisions_find_old(decisions, &agreement->participants, agreement->old, OLD_MAX);
    status = announce(tx->heap);
    return status < 0 ? status : write_promise(tx->heap, &tx->arena, &agreement->head);
}

/* Steps 1 and 2 of one heap are apart, so that all can become durable at once. */
static int prepare_part(const struct agreement *agreement, struct pheap_tx *part)
{
    struct log_record *record;
    uint64_t sequence = 0;
    int status = opened_may_change(part->heap);

    if (status == 0)
        status = draft_record(part->first, &agreement->head, &part->arena, &record);
    if (status == 1)
        status = log_write(&part->heap->log, record, &sequence, NULL);
    if (status == 0)
        part->promised = sequence; /* there is something to tell an outcome of */
    opened_note_log(part->heap, status);
    return status;
}

static int prepare(const struct agreement *agreement)
{
    int status = 0;

    for (struct pheap_tx *part = agreement->tx; status == 0 && part; part = part->part)
        if (takes_part(part))
            status = prepare_part(agreement, part);
    for (struct pheap_tx *part = agreement->tx; status == 0 && part; part = part->part) {
        if (part->whole == part || TX_MUTANT(TX_MUTANT_PREPARE_NOT_AWAITED))
            continue;
        status = opened_wait(part->heap, part->promised); /* 0: for what it has read there */
        if (status == 0)
            operation_note_durable(part, part->promised);
    }
    return status;
}

/* --- deciding --- */

static int store_entry(struct agreement *agreement)
{
    struct tx_decision *entry = &agreement->tx->heap->decisions.table[agreement->entry];
    int status = operation_add_range(agreement->tx, entry, sizeof *entry);

    if (status < 0)
        return status;
    *entry =
        (struct tx_decision){.id = agreement->head.id, .pool_count = agreement->participants.count};
    memcpy(entry->pools, agreement->participants.pools, sizeof entry->pools);
    return 0;
}

static int take_old_away(struct agreement *agreement)
{
    struct tx_decision *table = agreement->tx->heap->decisions.table;
    int status = 0;

    for (uint32_t i = 0; status == 0 && i < agreement->old_count; i++) {
        struct tx_decision *entry = &table[agreement->old[i]];

        status = operation_add_range(agreement->tx, entry, sizeof *entry);
        if (status == 0)
            memset(entry, 0, sizeof *entry);
    }
    return status;
}

/* Steps 3 and 4. */
static int decide(struct agreement *agreement)
{
    struct pheap *heap = agreement->tx->heap;
    struct op *mark = agreement->tx->last;
    struct log_record *record;
    int status = TX_MUTANT(TX_MUTANT_DECISION_NOT_KEPT) ? 0 : store_entry(agreement);

    if (status == 0)
        status = take_old_away(agreement);
    if (status == 0)
        status = opened_may_change(heap);
    if (status == 0)
        status = draft_record(agreement->tx->first, NULL, &agreement->tx->arena, &record);
    if (status == 1)
        status = log_append(&heap->log, record, NULL);
    if (status == 0)
        operation_note_durable(agreement->tx, record->sequence);
    opened_note_log(heap, status);
    if (status < 0)
        operation_take_back(agreement->tx, mark); /* before others may use these entries */
    return status;
}

/* --- telling --- */

/* Step 5, which nobody waits for: who builds on it comes behind it. If it cannot be written, who
 * opens that heap next asks the deciding pool. */
static void tell_part(const struct agreement *agreement, struct pheap_tx *part,
                      enum log_outcome outcome)
{
    struct pheap *heap = part->heap;
    struct outcome_record told = outcome_record_of(agreement->head.id, outcome);
    uint64_t sequence;
    int status;

    if (TX_MUTANT(TX_MUTANT_OUTCOME_NOT_WRITTEN))
        return;
    status = log_write(&heap->log, &told.record, &sequence, NULL);
    opened_note_log(heap, status);
    if (status < 0 && outcome == LOG_COMMITTED)
        opened_fail(heap, status);
}

static void tell_all(const struct agreement *agreement, enum log_outcome outcome)
{
    for (struct pheap_tx *part = agreement->tx->part; part; part = part->part)
        if (part->promised)
            tell_part(agreement, part, outcome);
}

static void close_agreement(struct agreement *agreement, bool committed)
{
    struct decisions *decisions = &agreement->tx->heap->decisions;

    for (uint32_t i = 0; i < agreement->old_count; i++)
        if (committed)
            decisions_give_back(decisions, agreement->old[i]);
        else
            decisions_settled(decisions, agreement->old[i]);
    if (committed && !TX_MUTANT(TX_MUTANT_DECISION_NOT_KEPT))
        decisions_settled(decisions, agreement->entry);
    else
        decisions_give_back(decisions, agreement->entry);
}

/* Whether it was decided is not known: no heap may go on as if it were. */
static void fail_all(const struct agreement *agreement, int status)
{
    for (struct pheap_tx *part = agreement->tx->part; part; part = part->part)
        if (part->promised)
            opened_fail(part->heap, status);
}

int two_phase_commit(struct pheap_tx *tx)
{
    struct agreement agreement = {0};
    int status;

    for (struct pheap_tx *part = tx; part; part = part->part)
        part->promised = 0;
    status = open_agreement(&agreement, tx);
    if (!agreement.tx)
        return status;
    if (status == 0)
        status = prepare(&agreement);
    if (status == 0)
        status = decide(&agreement);
    if (status < 0 && tx->heap->failed)
        fail_all(&agreement, status);
    else
        tell_all(&agreement, status == 0 ? LOG_COMMITTED : LOG_UNDONE);
    close_agreement(&agreement, status == 0);
    return status;
}
