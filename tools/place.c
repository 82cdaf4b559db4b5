/*
 * place.c - see place.h.
 */
#include "tools/place.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "tools/table.h"

static void set_place(json_t *row, const char *kind, const char *text)
{
    json_object_set_new(row, "in_kind", json_string(kind));
    json_object_set_new(row, "in", table_text(text, strlen(text)));
}

static void place_in_mapping(const struct block_map *map, uint64_t address, json_t *row)
{
    const struct image_mapping *mapping = view_mapping(map->view, address);
    uint64_t slot = view_slot_base(map->view);
    const char *name = mapping ? view_mapping_name(map->view, mapping) : "";
    char text[4200];

    if (address >= slot && address < slot + SLOT_BYTES) {
        snprintf(text, sizeof text, "the heap's own data + 0x%" PRIx64, address - slot);
        set_place(row, "heap", text);
    } else if (!mapping) {
        set_place(row, "nothing", "nothing");
    } else {
        snprintf(text, sizeof text, "%s + 0x%" PRIx64, *name ? name : "anonymous memory",
                 address - mapping->record->start);
        set_place(row, "mapping", text);
    }
}

void place_add(const struct block_map *map, uint64_t address, json_t *row)
{
    struct block block;
    char text[96];

    if (!block_map_find(map, address, &block)) {
        place_in_mapping(map, address, row);
        return;
    }
    snprintf(text, sizeof text, "%sblock 0x%" PRIx64 " + %" PRIu64 " of %" PRIu64,
             block.is_used ? "" : "free ", block.address, address - block.address, block.bytes);
    set_place(row, block.is_used ? "block" : "free block", text);
    json_object_set_new(row, "block", json_integer((json_int_t)block.address));
}
