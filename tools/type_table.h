/*
 * type_table.h - blocks of an opened heap counted by type, in two generations.
 */
#ifndef PHEAP_TOOLS_TYPE_TABLE_H
#define PHEAP_TOOLS_TYPE_TABLE_H

#include <jansson.h>
#include "recovery/view/blocks.h"

struct type_count {
    uint32_t type;
    uint64_t blocks[2], bytes[2]; /* was, is; bytes as asked for */
};

struct type_table {
    struct type_count *types; /* ascending; free() */
    uint32_t count, room;
    int which;  /* 0: what is counted was; 1: is */
    int failed; /* -ENOMEM */
};

/* A block_visit: context is the table. Blocks without a type are passed over. */
bool type_table_add(void *context, const struct block *block);

/* Rows of those that differ, or of all: type, blocks, bytes, and the changes of both. */
json_t *type_table_rows(const struct type_table *table, bool all);

#endif
