/*
 * type_table.c - see type_table.h.
 */
#include "tools/type_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Where the type is, or belongs. */
static uint32_t place_of(const struct type_table *table, uint32_t type)
{
    uint32_t low = 0, high = table->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (table->types[middle].type < type)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool insert(struct type_table *table, uint32_t at, uint32_t type)
{
    if (table->count == table->room) {
        uint32_t room = table->room ? table->room * 2 : 64;
        struct type_count *types = realloc(table->types, room * sizeof *types);

        if (!types)
            return false;
        table->types = types;
        table->room = room;
    }
    memmove(&table->types[at + 1], &table->types[at], (table->count - at) * sizeof table->types[0]);
    table->types[at] = (struct type_count){.type = type};
    table->count++;
    return true;
}

bool type_table_add(void *context, const struct block *block)
{
    struct type_table *table = context;
    uint32_t at;

    if (!block->has_type)
        return false;
    at = place_of(table, block->type);
    if ((at == table->count || table->types[at].type != block->type) &&
        !insert(table, at, block->type)) {
        table->failed = -ENOMEM;
        return false;
    }
    table->types[at].blocks[table->which]++;
    table->types[at].bytes[table->which] += block->asked;
    return true;
}

json_t *type_table_rows(const struct type_table *table, bool all)
{
    json_t *rows = json_array();

    for (uint32_t i = 0; i < table->count; i++) {
        const struct type_count *type = &table->types[i];

        if (!all && type->blocks[0] == type->blocks[1] && type->bytes[0] == type->bytes[1])
            continue;
        json_array_append_new(rows,
                              json_pack("{s:I, s:I, s:I, s:I, s:I}", "type", (json_int_t)type->type,
                                        "blocks", (json_int_t)type->blocks[1], "blocks_change",
                                        (json_int_t)(type->blocks[1] - type->blocks[0]), "bytes",
                                        (json_int_t)type->bytes[1], "bytes_change",
                                        (json_int_t)(type->bytes[1] - type->bytes[0])));
    }
    return rows;
}
