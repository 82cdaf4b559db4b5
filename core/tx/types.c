/*
 * types.c - see types.h. An entry is 128 bytes that a transaction reads and writes as a program
 * would.
 */
#include "core/tx/types.h"

#include <errno.h>
#include "core/tx/opened.h"
#include "core/tx/transaction.h"

static uint64_t run_bytes(const struct tx_pointers *run)
{
    return (uint64_t)run->count * (run->kind == TX_POINTER_REF ? 16 : 8);
}

static bool is_run_valid(const struct tx_pointers *run, uint32_t bytes)
{
    return run->kind >= TX_POINTER_RAW && run->kind <= TX_POINTER_REF && run->count > 0 &&
           run->offset % 8 == 0 && run->offset < bytes && run_bytes(run) <= bytes - run->offset;
}

bool type_is_valid(const struct tx_type *type)
{
    uint32_t runs = type->run_count, of_elements = type->element_run_count;

    if (type->is_used != 1 || type->element_bytes % 8 != 0 || of_elements > TX_TYPE_RUNS ||
        runs > TX_TYPE_RUNS - of_elements || (type->element_bytes > 0 && type->bytes % 8 != 0))
        return false;
    for (uint32_t i = 0; i < runs + of_elements; i++)
        if (!is_run_valid(&type->runs[i], i < runs ? type->bytes : type->element_bytes))
            return false;
    return true;
}

/* The type's entry, or NULL; *spare: the first that is not in use, or NULL. */
static int look_up(struct pheap_tx *tx, uint32_t type, struct tx_type **place,
                   struct tx_type **spare)
{
    struct tx_type *table = (struct tx_type *)(tx_heap(tx)->memory.base + TX_TYPES_OFFSET), entry;
    int status = 0;

    *place = *spare = NULL;
    for (uint32_t i = 0; status == 0 && i < TX_TYPES && !*place; i++) {
        status = tx_read(tx, &entry, &table[i], sizeof entry);
        if (status == 0 && entry.is_used && entry.type == type)
            *place = &table[i];
        else if (status == 0 && !entry.is_used && !*spare)
            *spare = &table[i];
    }
    return status;
}

/* Only the one that counts is read as a transaction reads: else each would conflict with all. */
int type_look_up(struct pheap_tx *tx, uint32_t number, struct tx_type *type)
{
    const struct tx_type *table =
        (const struct tx_type *)(tx_heap(tx)->memory.base + TX_TYPES_OFFSET);
    int status = 0;

    *type = (struct tx_type){0};
    for (uint32_t i = 0; status == 0 && i < TX_TYPES && !type->is_used; i++) {
        if (table[i].is_used && table[i].type == number)
            status = tx_read(tx, type, &table[i], sizeof *type);
        if (type->type != number || !type_is_valid(type))
            type->is_used = 0;
    }
    return status;
}

int type_register(struct pheap_tx *tx, const struct tx_type *type)
{
    struct tx_type *place, *spare;
    int status = type_is_valid(type) ? look_up(tx, type->type, &place, &spare) : -EINVAL;

    if (status < 0)
        return status;
    place = place ? place : spare;
    return place ? tx_write(tx, place, type, sizeof *type) : (int)STATUS_LIMIT;
}

int type_forget(struct pheap_tx *tx, uint32_t type)
{
    const struct tx_type none = {0};
    struct tx_type *place, *spare;
    int status = look_up(tx, type, &place, &spare);

    return status == 0 && place ? tx_write(tx, place, &none, sizeof none) : status;
}
