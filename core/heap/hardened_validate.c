/*
 * hardened_validate.c - what must be true of a hardened heap, see hardened.h and hardened_slab.c.
 */
#include "core/heap/hardened_large.h"
#include "core/heap/hardened_slab.h"
#include "core/heap/slab.h"

struct counted {
    uint32_t used, free, quarantined;
};

static struct counted count_places(const struct hard_table *table)
{
    struct counted counted = {0};

    for (uint32_t i = 0; i < table->places; i++) {
        counted.used += table->words[i] >= PLACE_USED;
        counted.free += table->words[i] <= PLACE_FREE;
        counted.quarantined += table->words[i] == PLACE_QUARANTINED;
    }
    return counted;
}

static bool list_has(const struct heap *heap, const struct span *slab)
{
    uint32_t slice = heap_hardened(heap)->partial[slab->size_class];

    while (slice && heap_span(heap, slice) != slab)
        slice = heap_span(heap, slice)->next;
    return slice != 0;
}

static int validate_canaries(const struct heap *heap, const struct span *slab, struct problem *why)
{
    const struct hard_table *table = hard_table(heap, slab);
    uint32_t block_bytes = size_class_block_bytes(slab->size_class);
    uint64_t block = hard_slab_blocks(heap, slab);

    for (uint32_t i = 0; i < table->places; i++, block += block_bytes) {
        if (heap->mode != HEAP_HARDENED || table->words[i] < PLACE_USED)
            continue;
        if (hard_canary_find_damage(slab, block + hard_place_bytes(heap, slab, i),
                                    block + block_bytes))
            return problem_set(why, STATUS_DAMAGED, "the canary of the block at %p is damaged",
                               (void *)block);
    }
    return 0;
}

static int validate_slab(const struct heap *heap, const struct span *slab, uint32_t *quarantined,
                         struct problem *why)
{
    const struct hard_table *table = hard_table(heap, slab);
    struct counted counted = count_places(table);

    *quarantined += counted.quarantined;
    if (counted.used != table->used || counted.free != table->free)
        return problem_set(why, STATUS_DAMAGED,
                           "hardened slab at %p: %u used, %u free of %u; counted %u, %u",
                           (const void *)table, table->used, table->free, table->places,
                           counted.used, counted.free);
    if (list_has(heap, slab) != !!(slab->flags & HARD_LISTED) ||
        ((slab->flags & HARD_LISTED) && table->free == 0))
        return problem_set(why, STATUS_DAMAGED, "hardened slab at %p: %u free, in the wrong list",
                           (const void *)table, table->free);
    return validate_canaries(heap, slab, why);
}

int validate_hardened(const struct heap *heap, struct problem *why)
{
    uint32_t quarantined = 0;
    int status = 0;

    if (!heap_is_hardened(heap))
        return 0;
    for (uint32_t slice = heap->data_slice; status == 0 && slice < heap->top;) {
        const struct span *span = heap_span(heap, slice);

        if (span->kind == SPAN_HARD_SLAB)
            status = validate_slab(heap, span, &quarantined, why);
        if (span->kind == SPAN_HARD_LARGE && (span->flags & HARD_FREED))
            quarantined++;
        slice += span->slices;
    }
    if (status == 0 && quarantined != heap_hardened(heap)->quarantine_count)
        return problem_set(why, STATUS_DAMAGED, "%u blocks are in quarantine, %u listed",
                           quarantined, heap_hardened(heap)->quarantine_count);
    return status;
}
