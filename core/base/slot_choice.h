/*
 * slot_choice.h - which of the slots (DESIGN.md 4) a new pool gets.
 *
 * What must always be true: a process's own heap and a heap that programs open are chosen from
 * slots of their own, so that no program finds the place of a heap taken by itself. Heaps of older
 * pools, and those whose slot was asked for, may lie in any.
 */
#ifndef PHEAP_BASE_SLOT_CHOICE_H
#define PHEAP_BASE_SLOT_CHOICE_H

#include <stdbool.h>
#include <stdint.h>

#define SLOT_LAST         50u
#define SLOT_GAP_FIRST    10u /* left out: the legacy layout maps libraries there */
#define SLOT_GAP_COUNT    2u
#define SLOT_OPENED_FIRST 26u /* from here on: heaps that programs open */
#define SLOTS_FOR_PROCESS (SLOT_OPENED_FIRST - 1 - SLOT_GAP_COUNT)
#define SLOTS_FOR_OPENED  (SLOT_LAST + 1 - SLOT_OPENED_FIRST)

static inline bool slot_can_be_chosen(uint32_t slot)
{
    return slot >= 1 && slot <= SLOT_LAST && slot - SLOT_GAP_FIRST >= SLOT_GAP_COUNT;
}

static inline uint32_t slot_for_process(uint64_t random)
{
    uint32_t slot = 1 + (uint32_t)(random % SLOTS_FOR_PROCESS);

    return slot < SLOT_GAP_FIRST ? slot : slot + SLOT_GAP_COUNT;
}

static inline uint32_t slot_for_opened(uint64_t random)
{
    return SLOT_OPENED_FIRST + (uint32_t)(random % SLOTS_FOR_OPENED);
}

#endif
