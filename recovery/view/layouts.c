/*
 * layouts.c - see layouts.h. True always: no word is read that does not lie in the object.
 */
#include "recovery/view/layouts.h"

#include <string.h>
#include "core/tx/types.h"
#include "recovery/view/opened_heap.h"

#define PLACES 256u

static uint32_t place_of(const struct layouts *layouts, uint32_t type)
{
    uint32_t place = type * 2654435769u >> 24;

    while (layouts->of[place] && layouts->of[place]->type != type)
        place = (place + 1) % PLACES;
    return place;
}

void layouts_load(struct layouts *layouts, const struct block_map *map)
{
    const struct tx_type *table =
        (const struct tx_type *)(view_slot_base(map->view) + TX_TYPES_OFFSET);

    memset(layouts, 0, sizeof *layouts);
    layouts->map = map;
    memcpy(&layouts->pool, map->view->pool.super.uuid, sizeof layouts->pool);
    for (uint32_t i = 0; map->is_opened && i < TX_TYPES; i++)
        if (type_is_valid(&table[i])) {
            layouts->of[place_of(layouts, table[i].type)] = &table[i];
            layouts->count++;
        }
}

static uint64_t target_of(const struct layouts *layouts, uint32_t kind, const uint64_t *place)
{
    if (kind == TX_POINTER_RAW)
        return place[0];
    if (kind == TX_POINTER_SELF)
        return place[0] ? block_self_relative((uint64_t)(uintptr_t)place, place[0]) : 0;
    return place[0] == layouts->pool && place[1] ? view_slot_base(layouts->map->view) + place[1]
                                                 : 0;
}

static void visit_runs(const struct layouts *layouts, const struct tx_pointers *runs,
                       uint32_t count, uint64_t start, layouts_visit *visit, void *context)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t step = runs[i].kind == TX_POINTER_REF ? 16 : 8;

        for (uint64_t k = 0; k < runs[i].count; k++) {
            uint64_t place = start + runs[i].offset + k * step;

            visit(context, place, runs[i].kind,
                  target_of(layouts, runs[i].kind, (const uint64_t *)place));
        }
    }
}

bool layouts_each(const struct layouts *layouts, uint64_t start, layouts_visit *visit,
                  void *context)
{
    const struct tx_type *type;
    struct block block;
    uint64_t bytes;

    if (layouts->count == 0 || !block_map_find(layouts->map, start, &block) || !block.has_type)
        return false;
    type = layouts->of[place_of(layouts, block.type)];
    bytes = block.asked < block.bytes ? block.asked : block.bytes;
    if (!type || bytes < type->bytes)
        return false;
    visit_runs(layouts, type->runs, type->run_count, start, visit, context);
    for (uint64_t at = type->bytes; type->element_bytes > 0 && bytes - at >= type->element_bytes;
         at += type->element_bytes)
        visit_runs(layouts, type->runs + type->run_count, type->element_run_count, start + at,
                   visit, context);
    return true;
}
