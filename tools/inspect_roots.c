/*
 * inspect_roots.c - the views roots and retained: where reachability starts, and what keeps how
 * much alive.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "recovery/view/dominators.h"
#include "tools/command.h"
#include "tools/inspect.h"
#include "tools/place.h"
#include "tools/table.h"

#define LIST_LIMIT 20

static const char *const root_kinds[] = {
    [ROOT_NAMED] = "name",  [ROOT_REGISTERS] = "registers", [ROOT_MEMORY] = "memory",
    [ROOT_EPOLL] = "epoll", [ROOT_TIMERS] = "timers",       [ROOT_SIGNALS] = "signals",
    [ROOT_PIPE] = "pipe",   [ROOT_SOCKET] = "socket",       [ROOT_OBJECT] = "object",
};

/* "registers of thread 7", "[stack]": what a person calls it. */
static json_t *root_text(const struct root *root)
{
    char text[4300];

    switch (root->kind) {
    case ROOT_REGISTERS:
        snprintf(text, sizeof text, "registers of thread %" PRIu64, root->id);
        break;
    case ROOT_MEMORY:
        snprintf(text, sizeof text, "%s at 0x%" PRIx64,
                 *root->name ? root->name : "anonymous memory", root->id);
        break;
    case ROOT_PIPE:
        snprintf(text, sizeof text, "unread content of pipe %" PRIu64, root->id);
        break;
    case ROOT_SOCKET:
        snprintf(text, sizeof text, "unread content of socket %" PRIu64, root->id);
        break;
    case ROOT_OBJECT:
        snprintf(text, sizeof text, "shared memory, object %" PRIu64, root->id);
        break;
    default:
        snprintf(text, sizeof text, "%s",
                 root->kind == ROOT_NAMED     ? root->name
                 : root->kind == ROOT_EPOLL   ? "data of epoll watches"
                 : root->kind == ROOT_SIGNALS ? "pending signals"
                                              : "values of timers");
    }
    return table_text(text, strlen(text));
}

static void add_root(json_t *row, const struct root *root)
{
    json_object_set_new(row, "kind", json_string(root_kinds[root->kind]));
    json_object_set_new(row, "root", root_text(root));
    if (root->kind != ROOT_NAMED)
        return;
    json_object_set_new(row, "name", table_text(root->name, strlen(root->name)));
    json_object_set_new(row, "address", json_integer((json_int_t)root->address));
    json_object_set_new(row, "type", json_integer(root->type));
}

/* --- roots --- */

struct counting {
    const struct block_map *map;
    json_t *rows, *row; /* row: of the root at hand; NULL: none yet */
    struct root root;
    uint64_t words;
};

static void end_row(struct counting *counting)
{
    if (counting->row && (counting->words || counting->root.kind == ROOT_NAMED)) {
        json_object_set_new(counting->row, "words", json_integer((json_int_t)counting->words));
        json_array_append_new(counting->rows, counting->row);
    } else {
        json_decref(counting->row);
    }
    counting->row = NULL;
    counting->words = 0;
}

static void begin_row(struct counting *counting, const struct root *root)
{
    end_row(counting);
    counting->root = *root;
    counting->row = json_object();
    add_root(counting->row, root);
    if (root->kind == ROOT_NAMED)
        place_add(counting->map, root->address, counting->row);
}

static void count_words(void *context, const struct root *root, const void *data, size_t bytes)
{
    struct counting *counting = context;
    struct block block;
    uint64_t word;

    if (!counting->row || root->kind == ROOT_NAMED || root->kind != counting->root.kind ||
        root->id != counting->root.id)
        begin_row(counting, root);
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        memcpy(&word, (const uint8_t *)data + i, 8);
        if (block_map_find(counting->map, word, &block) && block.is_used)
            counting->words++;
    }
}

static const struct column named_columns[] = {
    {"root", "root", COLUMN_TEXT},
    {"address", "address", COLUMN_ADDRESS},
    {"type", "type", COLUMN_NUMBER},
    {"in", "in", COLUMN_TEXT},
};

static const struct column root_columns[] = {
    {"kind", "kind", COLUMN_TEXT},
    {"words", "words to blocks", COLUMN_NUMBER},
    {"root", "root", COLUMN_TEXT},
};

static int show_roots(struct inspection *inspection, struct view *view, struct problem *why)
{
    struct counting counting = {0};
    struct block_map map;
    int status = block_map_build(&map, view, why);

    if (status < 0)
        return status;
    counting.map = &map;
    counting.rows = json_array();
    status = roots_each(view, count_words, &counting, why);
    end_row(&counting);
    if (status < 0) {
        json_decref(counting.rows);
        return status;
    }
    if (view->is_opened)
        table_show(inspection, "roots", counting.rows, named_columns,
                   sizeof named_columns / sizeof named_columns[0]);
    else
        table_show(inspection, "roots", counting.rows, root_columns,
                   sizeof root_columns / sizeof root_columns[0]);
    return 0;
}

int inspect_roots(struct inspection *inspection, struct problem *why)
{
    return inspect_with(inspection, show_roots, why);
}

/* --- retained --- */

static json_t *node_row(const struct dominators *found, uint32_t node)
{
    const struct root *root = dominators_root(found, node);
    json_t *row = json_pack("{s:I, s:I}", "retained_bytes", (json_int_t)found->bytes[node],
                            "retained_blocks", (json_int_t)found->blocks[node]);
    struct block block;

    if (root) {
        add_root(row, root);
        json_object_set_new(row, "what", root_text(root));
    } else if (dominators_block(found, node, &block)) {
        char text[96];
        size_t used = (size_t)snprintf(text, sizeof text, "block 0x%" PRIx64 " of %" PRIu64,
                                       block.address, block.bytes);

        if (block.has_type)
            snprintf(text + used, sizeof text - used, ", type %" PRIu32, block.type);
        json_object_set_new(row, "kind", json_string("block"));
        json_object_set_new(row, "what", json_string(text));
        json_object_set_new(row, "address", json_integer((json_int_t)block.address));
        json_object_set_new(row, "bytes", json_integer((json_int_t)block.bytes));
        if (block.has_type)
            json_object_set_new(row, "type", json_integer(block.type));
    }
    return row;
}

/* The `most` nodes that retain most, of all or of those right below one; most first. */
struct ranking {
    uint32_t *nodes;
    uint64_t count, most;
};

static void rank(struct ranking *ranking, const struct dominators *found, uint32_t node)
{
    uint64_t at = ranking->count;

    if (at == ranking->most && found->bytes[ranking->nodes[at - 1]] >= found->bytes[node])
        return;
    if (at == ranking->most)
        at--;
    else
        ranking->count++;
    for (; at > 0 && found->bytes[ranking->nodes[at - 1]] < found->bytes[node]; at--)
        ranking->nodes[at] = ranking->nodes[at - 1];
    ranking->nodes[at] = node;
}

/* The node that the view's argument names: a root's name or kind, or an address in a block. 0: none
 * does. */
static uint32_t node_named(const struct dominators *found, const char *text)
{
    char *behind;
    uint64_t address = strtoull(text, &behind, 0), number;

    for (uint32_t node = 1; node < found->count; node++) {
        const struct root *root = dominators_root(found, node);

        if (root && *root->name && strcmp(root->name, text) == 0)
            return node;
        if (root && !*behind && root->kind == ROOT_MEMORY && root->id == address)
            return node;
        if (root && !*behind && root->kind == ROOT_REGISTERS && root->id == address)
            return node;
    }
    number = *text && !*behind ? block_map_number(found->map, address) : BLOCK_NONE;
    return number == BLOCK_NONE ? 0 : found->node_of_block[number];
}

static const struct column retained_columns[] = {
    {"retained_bytes", "retained", COLUMN_BYTES},
    {"retained_blocks", "blocks", COLUMN_NUMBER},
    {"what", "by", COLUMN_TEXT},
};
#define RETAINED_COLUMNS (sizeof retained_columns / sizeof retained_columns[0])

static void show_ranking(struct inspection *inspection, const struct dominators *found,
                         const struct ranking *ranking, uint32_t below)
{
    json_t *rows = json_array();

    if (inspection->json)
        json_object_set_new(inspection->json, "retained_by", node_row(found, below));
    else if (below)
        table_show(inspection, "", json_pack("[o]", node_row(found, below)), retained_columns,
                   RETAINED_COLUMNS);
    if (!inspection->json && below && ranking->count)
        printf("\nthrough\n");
    for (uint64_t i = 0; i < ranking->count; i++)
        json_array_append_new(rows, node_row(found, ranking->nodes[i]));
    if (inspection->json || ranking->count)
        table_show(inspection, "retained", rows, retained_columns, RETAINED_COLUMNS);
    else
        json_decref(rows);
}

static int rank_and_show(struct inspection *inspection, const struct dominators *found,
                         struct problem *why)
{
    const char *name = inspection->argument_count ? inspection->arguments[0] : NULL;
    struct ranking ranking = {.most = inspection->limit ? inspection->limit : LIST_LIMIT};
    uint32_t below = name ? node_named(found, name) : 0;

    if (name && below == 0)
        return problem_set(why, STATUS_REFUSED,
                           "'%s' is no root and lies in no block that is reached; `pheap inspect "
                           "POOL roots` lists the roots",
                           name);
    if (ranking.most > found->count)
        ranking.most = found->count;
    ranking.nodes = calloc(ranking.most + 1, sizeof *ranking.nodes);
    if (!ranking.nodes)
        return problem_set(why, -ENOMEM, "out of memory");
    for (uint32_t node = 1; node < found->count; node++)
        if (!name || found->idom[node] == below)
            rank(&ranking, found, node);
    show_ranking(inspection, found, &ranking, below);
    free(ranking.nodes);
    return 0;
}

static int show_retained(struct inspection *inspection, struct view *view, struct problem *why)
{
    struct dominators found;
    struct block_map map;
    int status = block_map_build(&map, view, why);

    if (status < 0)
        return status;
    status = dominators_find(&found, &map, why);
    if (status == 0)
        status = rank_and_show(inspection, &found, why);
    dominators_free(&found);
    return status;
}

int inspect_retained(struct inspection *inspection, struct problem *why)
{
    return inspect_with(inspection, show_retained, why);
}
