/*
 * decisions.c - see decisions.h.
 */
#include "core/tx/decisions.h"

#include <string.h>
#include "core/heap/slot.h"

void decisions_derive(struct decisions *decisions, uintptr_t slot_base)
{
    decisions->table = (struct tx_decision *)(slot_base + TX_DECISIONS_OFFSET);
    lock_init(&decisions->lock, LOCK_RANK_OPENED);
    for (uint32_t i = 0; i < TX_DECISIONS; i++)
        decisions->state[i] = decisions->table[i].id ? DECISION_SETTLED : DECISION_FREE;
}

static void set_state(struct decisions *decisions, uint32_t index, enum decision_state state)
{
    lock_acquire(&decisions->lock, heap_holder());
    decisions->state[index] = (uint8_t)state;
    lock_release(&decisions->lock);
}

void decisions_give_back(struct decisions *decisions, uint32_t index)
{
    set_state(decisions, index, DECISION_FREE);
}

void decisions_settled(struct decisions *decisions, uint32_t index)
{
    set_state(decisions, index, DECISION_SETTLED);
}

int decisions_take(struct decisions *decisions, uint32_t *index)
{
    int status = STATUS_LIMIT;

    lock_acquire(&decisions->lock, heap_holder());
    for (uint32_t i = 0; status < 0 && i < TX_DECISIONS; i++)
        if (decisions->state[i] == DECISION_FREE) {
            decisions->state[i] = DECISION_TAKEN;
            *index = i;
            status = 0;
        }
    lock_release(&decisions->lock);
    return status;
}

static bool is_present(const struct participants *present, const uint8_t *pool)
{
    for (uint32_t i = 0; i < present->count; i++)
        if (memcmp(present->pools[i], pool, TX_POOL_BYTES) == 0)
            return true;
    return false;
}

static bool all_present(const struct participants *present, const struct tx_decision *decision)
{
    uint32_t count = decision->pool_count;

    for (uint32_t i = 0; i < count && i < TX_PARTICIPANTS; i++)
        if (!is_present(present, decision->pools[i]))
            return false;
    return count <= TX_PARTICIPANTS;
}

uint32_t decisions_find_old(struct decisions *decisions, const struct participants *present,
                            uint32_t *indexes, uint32_t max)
{
    uint32_t count = 0;

    lock_acquire(&decisions->lock, heap_holder());
    for (uint32_t i = 0; count < max && i < TX_DECISIONS; i++)
        if (decisions->state[i] == DECISION_SETTLED && all_present(present, &decisions->table[i])) {
            decisions->state[i] = DECISION_LEAVING;
            indexes[count++] = i;
        }
    lock_release(&decisions->lock);
    return count;
}

bool decisions_have(const struct tx_decision *table, uint64_t id)
{
    for (uint32_t i = 0; i < TX_DECISIONS; i++)
        if (table[i].id == id)
            return true;
    return false;
}

bool decisions_cover(uintptr_t slot_base, uintptr_t address, uint64_t bytes)
{
    uintptr_t start = slot_base + TX_DECISIONS_OFFSET;
    uint64_t table_bytes = TX_DECISIONS * sizeof(struct tx_decision);

    return address >= start && address - start <= table_bytes &&
           bytes <= table_bytes - (address - start);
}
