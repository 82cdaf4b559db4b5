/*
 * links.c - see links.h. True always: a reference is two words that follow one another in
 * memory, whichever pages they are in.
 */
#include "recovery/view/links.h"

#include <string.h>
#include "core/tx/tx_format.h"

#define STOP STATUS_ENDED /* a visitor has seen enough */

/* Who reads words one after the other. */
struct reading {
    const struct block_map *map;
    uint64_t pool;           /* as references name it */
    uint64_t last, last_end; /* the word before, and the address behind it */
    uint64_t low, bytes;     /* what is to be led to */
    links_visit *visit;
    void *context;
};

static struct reading begin_reading(const struct block_map *map, links_visit *visit, void *context)
{
    struct reading reading = {.map = map, .visit = visit, .context = context};

    memcpy(&reading.pool, map->view->pool.super.uuid, sizeof reading.pool);
    return reading;
}

/* What the word at this place and the one before it may be. */
struct meanings {
    uint64_t address, self, reference; /* 0: cannot be one */
};

static struct meanings meanings_of(struct reading *reading, uint64_t place, uint64_t word)
{
    uint64_t slot = view_slot_base(reading->map->view);
    struct meanings meanings = {.address = word};

    if (word && place - slot < SLOT_BYTES)
        meanings.self = block_self_relative(place, word);
    if (reading->map->is_opened && word < SLOT_BYTES && reading->last_end == place &&
        reading->last == reading->pool)
        meanings.reference = slot + word;
    reading->last = word;
    reading->last_end = place + 8;
    return meanings;
}

/* --- to --- */

static int words_in_page(void *context, uint64_t address, const uint8_t *page)
{
    struct reading *reading = context;
    const uint64_t *words = (const uint64_t *)page;
    bool goes_on = true;

    for (uint64_t i = 0; goes_on && i < PAGE_BYTES / 8; i++) {
        const struct meanings found = meanings_of(reading, address + i * 8, words[i]);

        if (found.reference - reading->low < reading->bytes)
            goes_on = reading->visit(reading->context, address + i * 8 - 8, TX_POINTER_REF,
                                     found.reference);
        if (goes_on && found.address - reading->low < reading->bytes)
            goes_on =
                reading->visit(reading->context, address + i * 8, TX_POINTER_RAW, found.address);
        if (goes_on && found.self - reading->low < reading->bytes)
            goes_on =
                reading->visit(reading->context, address + i * 8, TX_POINTER_SELF, found.self);
    }
    return goes_on ? 0 : STOP;
}

int links_to(const struct block_map *map, uint64_t low, uint64_t high, links_visit *visit,
             void *context, struct problem *why)
{
    struct reading reading = begin_reading(map, visit, context);
    int status;

    reading.low = low;
    reading.bytes = high - low;
    status = view_each_page(map->view, 0, PROCESS_ADDRESS_LIMIT, words_in_page, &reading, why);
    return status == STOP ? 0 : status;
}

/* --- of --- */

static bool leads_to_block(const struct block_map *map, uint64_t target)
{
    struct block block;

    return target && block_map_find(map, target, &block) && block.is_used;
}

void links_of(const struct block_map *map, const struct block *block, links_visit *visit,
              void *context)
{
    struct reading reading = begin_reading(map, visit, context);
    const uint64_t *words = (const uint64_t *)block->address;
    bool goes_on = true;

    for (uint64_t i = 0; goes_on && i < block->bytes / 8; i++) {
        uint64_t place = block->address + i * 8;
        const struct meanings found = meanings_of(&reading, place, words[i]);

        if (leads_to_block(map, found.reference))
            goes_on = visit(context, place - 8, TX_POINTER_REF, found.reference);
        if (goes_on &&
            (leads_to_block(map, found.address) || view_mapping(map->view, found.address)))
            goes_on = visit(context, place, TX_POINTER_RAW, found.address);
        if (goes_on && leads_to_block(map, found.self))
            goes_on = visit(context, place, TX_POINTER_SELF, found.self);
    }
}
