/*
 * resize.c - see resize.h. The new object is the transaction's own, so it is stored to at once; the
 * old one is read as any transaction reads.
 */
#include "core/tx/resize.h"

#include <errno.h>
#include "core/tx/opened.h"
#include "core/tx/transaction.h"
#include "core/tx/types.h"

struct resizing {
    uintptr_t from, to;
    uint64_t old_bytes, bytes; /* bytes: that both have */
    uint32_t type;
};

/* Looked at once, under the lock: an optimistic transaction may be late, and the block another's by
 * now. Then it has lost, as its next read tells. */
static bool find(struct pheap *heap, const void *object, struct resizing *resizing)
{
    enum tx_block_state state;
    struct block block;
    uint64_t bytes;

    if (!blocks_find(&heap->blocks, (uintptr_t)object, &block, &state, &bytes) || state != TX_USED)
        return false;
    *resizing =
        (struct resizing){.from = block.address, .old_bytes = bytes, .type = block_type(&block)};
    return true;
}

/* --- self-relative pointers --- */

/* One into the object itself leads into the new one, as its bytes say. */
static void lead_as_before(const struct resizing *resizing, uint64_t offset)
{
    uint64_t *word = (uint64_t *)(resizing->to + offset);
    uint64_t target = resizing->from + offset + (*word ^ 1ull << 63);

    if (*word != 0 && target - resizing->from >= resizing->old_bytes)
        *word += resizing->from - resizing->to;
}

static void change_runs(const struct resizing *resizing, const struct tx_pointers *runs,
                        uint32_t count, uint64_t start)
{
    for (uint32_t i = 0; i < count; i++)
        for (uint64_t k = 0; runs[i].kind == TX_POINTER_SELF && k < runs[i].count; k++)
            if (start + runs[i].offset + k * 8 + 8 <= resizing->bytes)
                lead_as_before(resizing, start + runs[i].offset + k * 8);
}

static void change_pointers(const struct resizing *resizing, const struct tx_type *type)
{
    change_runs(resizing, type->runs, type->run_count, 0);
    for (uint64_t at = type->bytes; type->element_bytes > 0 && at < resizing->bytes;
         at += type->element_bytes)
        change_runs(resizing, type->runs + type->run_count, type->element_run_count, at);
}

static int copy(struct pheap_tx *tx, const struct resizing *resizing)
{
    struct tx_type layout;
    int status = tx_read(tx, (void *)resizing->to, (const void *)resizing->from, resizing->bytes);

    if (status == 0)
        status = type_look_up(tx, resizing->type, &layout);
    if (status == 0 && layout.is_used && resizing->old_bytes >= layout.bytes)
        change_pointers(resizing, &layout);
    return status;
}

int tx_realloc(struct pheap_tx *tx, void **object, size_t bytes)
{
    struct resizing resizing;
    void *made = NULL;
    int status;

    if (!find(tx_heap(tx), *object, &resizing))
        return tx_free(tx, *object); /* which says why not */
    if (resizing.old_bytes == bytes)
        return 0;
    status = tx_alloc(tx, bytes, resizing.type, &made);
    if (status < 0)
        return status;
    resizing.to = (uintptr_t)made;
    resizing.bytes = resizing.old_bytes < bytes ? resizing.old_bytes : bytes;
    status = copy(tx, &resizing);
    if (status == 0)
        status = tx_free(tx, *object);
    if (status == 0)
        *object = made;
    else if (tx_free(tx, made) < 0)
        return status; /* it has lost, or there is no memory: made goes with an abort */
    return status;
}
