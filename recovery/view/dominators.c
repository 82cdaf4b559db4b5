/*
 * dominators.c - see dominators.h. The algorithm is SEMI-NCA (Georgiadis, 2005): semidominators as
 * by Lengauer and Tarjan, then the nearest common ancestor of each node's parent and semidominator.
 *
 * Nodes are numbered in the order in which a depth-first search meets them. The search keeps
 * pointers to follow on a stack; a block is numbered when it is taken off, by the newest pointer
 * that leads to it, so the tree is one of a depth-first search. All other pointers that lead to it
 * are `edges`. In heaps that are lists and trees there are few of them, and all else goes through
 * arrays in order.
 *
 * The search itself goes all over the heap, block by block, on one processor: it follows the lists
 * of pointers.h, and what has to be known of a block is fetched when it is put on the stack.
 */
#include "recovery/view/dominators.h"

#include <errno.h>
#include <string.h>
#include "recovery/view/pointers.h"

#define ARENA_BYTES (64ull << 30) /* reserved, not used */
#define GROW        (64u << 10)   /* entries */
#define ROOTS_MAX   (1u << 20)

struct pair { /* a pointer in node `from` to: a block's number; later, a node */
    uint32_t from, to;
};

struct pairs { /* an arena of its own, which only grows, so that it is one array */
    struct arena arena;
    struct pair *all;
    uint64_t count, room;
};

struct finding_dominators {
    struct dominators *out;
    const struct block_map *map;
    struct pointers pointers;
    struct pairs stack, edges;
    uint32_t *node_of, *parent, *semi, *label, *idom, *what, *blocks;
    uint64_t *retained;
    uint32_t root_node; /* of the root whose words are looked at; 0: not numbered yet */
    int failed;
};

/* --- arrays that grow --- */

static int pairs_open(struct pairs *pairs)
{
    int status = arena_create(&pairs->arena, ARENA_BYTES);

    pairs->all = (struct pair *)pairs->arena.base;
    return status;
}

static void pairs_close(struct pairs *pairs)
{
    if (pairs->arena.base)
        arena_destroy(&pairs->arena);
}

static inline bool pairs_add(struct pairs *pairs, uint32_t from, uint32_t to)
{
    if (pairs->count == pairs->room) {
        if (!arena_alloc(&pairs->arena, GROW * sizeof *pairs->all, 8))
            return false;
        pairs->room += GROW;
    }
    pairs->all[pairs->count++] = (struct pair){from, to};
    return true;
}

/* --- the search --- */

static uint32_t add_node(struct finding_dominators *find, uint32_t parent, uint32_t what,
                         uint64_t bytes)
{
    uint32_t node = find->out->count++;

    find->parent[node] = find->idom[node] = parent;
    find->semi[node] = find->label[node] = node;
    find->what[node] = what;
    find->retained[node] = bytes;
    find->blocks[node] = what < find->map->count;
    return node;
}

/* It is followed later. */
static inline void push(struct finding_dominators *find, uint32_t from, uint32_t number)
{
    __builtin_prefetch(&find->node_of[number]);
    __builtin_prefetch(&find->pointers.first[number]);
    if (!pairs_add(&find->stack, from, number))
        find->failed = -ENOMEM;
}

static void visit_block(struct finding_dominators *find, struct pair pair)
{
    const struct pointers *pointers = &find->pointers;
    uint64_t begin = pointers_begin(pointers, pair.to);
    uint64_t end = pointers_begin(pointers, pair.to + 1ull);
    uint32_t node = add_node(find, pair.from, pair.to, pointers_block_bytes(pointers, pair.to));

    find->node_of[pair.to] = node;
    for (uint64_t i = end; i-- > begin;)
        push(find, node, pointers->to[i]);
}

static void search(struct finding_dominators *find)
{
    while (find->stack.count > 0 && find->failed == 0) {
        struct pair pair = find->stack.all[--find->stack.count];
        uint32_t node = find->node_of[pair.to];

        if (node == 0)
            visit_block(find, pair);
        else if (!pairs_add(&find->edges, pair.from, node))
            find->failed = -ENOMEM;
    }
}

static bool is_same_root(const struct root *a, const struct root *b)
{
    return a->kind == b->kind && a->id == b->id && strcmp(a->name, b->name) == 0;
}

/* A node for it, the first time. */
static void begin_root(struct finding_dominators *find, const struct root *root)
{
    struct dominators *out = find->out;
    uint32_t last = out->root_count - 1;
    size_t length = strlen(root->name) + 1;
    char *name;

    if (out->root_count > 0 && is_same_root(&out->roots[last], root))
        return;
    if (out->root_count == ROOTS_MAX || !(name = arena_alloc(&out->arena, length, 1))) {
        find->failed = -ENOMEM;
        return;
    }
    memcpy(name, root->name, length);
    out->roots[out->root_count] = *root;
    out->roots[out->root_count].name = name;
    find->root_node = add_node(find, 0, (uint32_t)(find->map->count + 1 + out->root_count++), 0);
}

static void root_words(void *context, const struct root *root, const void *data, size_t bytes)
{
    struct finding_dominators *find = context;

    if (find->failed < 0)
        return;
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        uint64_t word, number;

        memcpy(&word, (const uint8_t *)data + i, 8);
        number = block_map_number(find->map, word);
        if (number == BLOCK_NONE || !block_bit(find->map->used, number))
            continue;
        begin_root(find, root);
        push(find, find->root_node, (uint32_t)number);
        search(find);
    }
}

/* --- semidominators --- */

/* Edges by the node that they lead to: those of node n are sources[first[n]] to sources[first[n +
 * 1]
 * - 1]. */
static uint32_t *sort_edges(struct finding_dominators *find, uint64_t *first)
{
    uint32_t count = find->out->count;
    const struct pairs *edges = &find->edges;
    uint32_t *sources = arena_alloc(&find->out->arena, (edges->count + 1) * sizeof *sources, 64);

    if (!sources)
        return NULL;
    for (uint64_t i = 0; i < edges->count; i++)
        first[edges->all[i].to]++;
    for (uint32_t n = 0; n < count; n++) /* where those of n end, for now */
        first[n + 1] += first[n];
    for (uint64_t i = edges->count; i-- > 0;)
        sources[--first[edges->all[i].to]] = edges->all[i].from;
    return sources;
}

/* The node with the least semidominator on the way from node up to, and not including, the first
 * one below `linked`; ways are shortened as they are gone. */
static uint32_t evaluate(struct finding_dominators *find, uint32_t node, uint32_t linked)
{
    uint32_t *parent = find->parent, *label = find->label, above;
    struct pairs *way = &find->stack;

    if (parent[node] < linked)
        return label[node];
    way->count = 0;
    do {
        if (!pairs_add(way, node, 0)) {
            find->failed = -ENOMEM;
            return label[node];
        }
        node = parent[node];
    } while (parent[node] >= linked);
    for (above = node; way->count > 0; above = node) {
        node = way->all[--way->count].from;
        parent[node] = parent[above];
        if (find->semi[label[above]] < find->semi[label[node]])
            label[node] = label[above];
    }
    return label[node];
}

static int find_semidominators(struct finding_dominators *find)
{
    uint32_t count = find->out->count;
    uint64_t *first = arena_alloc(&find->out->arena, (count + 2ull) * sizeof *first, 64);
    uint32_t *sources = first ? sort_edges(find, first) : NULL;

    if (!sources)
        return -ENOMEM;
    for (uint32_t node = count; node-- > 1;) {
        uint32_t least = find->parent[node];

        for (uint64_t i = first[node]; i < first[node + 1]; i++) {
            uint32_t semi = find->semi[evaluate(find, sources[i], node + 1)];

            least = semi < least ? semi : least;
        }
        find->semi[node] = least;
    }
    return find->failed;
}

static void find_dominators(struct finding_dominators *find)
{
    uint32_t count = find->out->count;

    for (uint32_t node = 1; node < count; node++)
        while (find->idom[node] > find->semi[node])
            find->idom[node] = find->idom[find->idom[node]];
    for (uint32_t node = count; node-- > 1;) {
        find->retained[find->idom[node]] += find->retained[node];
        find->blocks[find->idom[node]] += find->blocks[node];
    }
}

/* --- in order --- */

static int make_arrays(struct finding_dominators *find)
{
    struct arena *arena = &find->out->arena;
    uint64_t nodes = find->map->used_count + ROOTS_MAX + 1;
    uint32_t **arrays[] = {&find->parent, &find->semi, &find->label,
                           &find->idom,   &find->what, &find->blocks};

    /* The one that is looked at in no order: in large pages. */
    arena_expect(arena, (find->map->count + 1) * sizeof *find->node_of);
    find->node_of = arena_alloc(arena, (find->map->count + 1) * sizeof *find->node_of, 64);
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++)
        if (!(*arrays[i] = arena_alloc(arena, nodes * sizeof **arrays[i], 64)))
            return -ENOMEM;
    find->retained = arena_alloc(arena, nodes * sizeof *find->retained, 64);
    find->out->roots = arena_alloc(arena, ROOTS_MAX * sizeof *find->out->roots, 64);
    return find->retained && find->node_of && find->out->roots ? 0 : -ENOMEM;
}

static int prepare(struct finding_dominators *find)
{
    int status = arena_create(&find->out->arena, ARENA_BYTES);

    if (status == 0)
        status = pairs_open(&find->stack);
    if (status == 0)
        status = pairs_open(&find->edges);
    if (status == 0)
        status = pointers_find(&find->pointers, find->map);
    if (status < 0)
        return status;
    return make_arrays(find);
}

static int find_all(struct finding_dominators *find, struct problem *why)
{
    int status = prepare(find);

    if (status == 0) {
        add_node(find, 0, (uint32_t)find->map->count, 0);
        status = roots_each(find->map->view, root_words, find, why);
    }
    if (status == 0)
        status = find->failed;
    if (status == 0)
        status = find_semidominators(find);
    if (status == 0)
        find_dominators(find);
    return status;
}

int dominators_find(struct dominators *out, const struct block_map *map, struct problem *why)
{
    struct finding_dominators find = {.out = out, .map = map};
    int status;

    memset(out, 0, sizeof *out);
    out->map = map;
    if (map->count >= UINT32_MAX - ROOTS_MAX - 2)
        return problem_set(why, STATUS_LIMIT, "the heap has more than %u blocks",
                           UINT32_MAX - ROOTS_MAX - 2);
    status = find_all(&find, why);
    out->idom = find.idom;
    out->bytes = find.retained;
    out->blocks = find.blocks;
    out->what = find.what;
    out->node_of_block = find.node_of;
    pairs_close(&find.stack);
    pairs_close(&find.edges);
    pointers_free(&find.pointers);
    if (status == -ENOMEM)
        return problem_set(why, status, "no memory for what keeps %lu blocks",
                           (unsigned long)map->used_count);
    return status;
}

void dominators_free(struct dominators *dominators)
{
    if (dominators->arena.base)
        arena_destroy(&dominators->arena);
    memset(dominators, 0, sizeof *dominators);
}

/* --- looking --- */

const struct root *dominators_root(const struct dominators *dominators, uint32_t node)
{
    uint64_t what = dominators->what[node];

    return what > dominators->map->count ? &dominators->roots[what - dominators->map->count - 1]
                                         : NULL;
}

bool dominators_block(const struct dominators *dominators, uint32_t node, struct block *out)
{
    return dominators->what[node] < dominators->map->count &&
           block_map_by_number(dominators->map, dominators->what[node], out);
}
