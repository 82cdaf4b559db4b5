/*
 * recovery_retained.c - what each block retains, in random graphs of blocks of this process's own
 * heap, against what a search finds that goes around the block; and marking with many threads.
 */
#include <stdlib.h>
#include <string.h>
#include "recovery/view/dominators.h"
#include "recovery/view/reach.h"
#include "t/lib/tap.h"

#define NODES 40u
#define EDGES 6u

/* Sizes of classes, so that no block has a tail with words of the one before it in its place. */
#define EXACT_BYTES (48u + 16u * ((unsigned)rand() % 6))

static struct view view;
static struct record_thread thread_record;
static struct image_thread thread = {.record = &thread_record};

static void look_at_own_heap(void)
{
    const struct index_root nothing = {0};

    memset(&view, 0, sizeof view);
    if (arena_create(&view.arena, 1ull << 32) < 0 ||
        index_open(&view.image.index, &view.arena, -1, nothing) < 0)
        abort();
    view.generation.slot = heap_slot();
    view.heap_is_mapped = true;
    view.frames = (const uint8_t *)view.cached; /* mapped, and without a frame */
    view.process.threads = &thread;
    view.process.thread_count = 1;
}

static struct node {
    struct node *edges[EDGES];
} * nodes[NODES];

/* Each node has up to EDGES pointers, some to nowhere; nodes[0] is what a register leads to. */
static void make_graph(unsigned seed)
{
    srand(seed);
    for (unsigned i = 0; i < NODES; i++)
        nodes[i] = heap_calloc(1, EXACT_BYTES);
    for (unsigned i = 0; i < NODES; i++)
        for (unsigned k = 0; k < EDGES; k++)
            if ((unsigned)rand() % 100 < 5 + seed % 40)
                nodes[i]->edges[k] = nodes[(unsigned)rand() % NODES];
    thread_record.registers[3] = (uint64_t)(uintptr_t)nodes[0];
    thread_record.registers[4] = (uint64_t)(uintptr_t)nodes[1] + seed % 2 * 8;
}

static void free_graph(void)
{
    for (unsigned i = 0; i < NODES; i++)
        heap_free(nodes[i]);
    thread_record.registers[3] = thread_record.registers[4] = 0;
}

static unsigned number_of(const struct node *node)
{
    unsigned i = 0;

    while (nodes[i] != node)
        i++;
    return i;
}

static void search(bool reached[NODES], unsigned from, unsigned around)
{
    if (from == around || reached[from])
        return;
    reached[from] = true;
    for (unsigned k = 0; k < EDGES; k++)
        if (nodes[from]->edges[k])
            search(reached, number_of(nodes[from]->edges[k]), around);
}

/* Usable bytes that cannot be reached without this node; around NODES: all that can be. */
static uint64_t bytes_reached(unsigned around)
{
    bool reached[NODES] = {false};
    uint64_t bytes = 0;

    search(reached, 0, around);
    search(reached, 1, around);
    for (unsigned i = 0; i < NODES; i++)
        bytes += reached[i] ? heap_usable_bytes(nodes[i]) : 0;
    return bytes;
}

static unsigned count_wrong(const struct dominators *found, const struct block_map *map)
{
    uint64_t all = bytes_reached(NODES);
    unsigned wrong = found->bytes[0] != all;

    for (unsigned i = 0; i < NODES; i++) {
        uint64_t number = block_map_number(map, (uint64_t)(uintptr_t)nodes[i]);
        uint32_t node = found->node_of_block[number];
        uint64_t retained = all - bytes_reached(i);

        wrong += (node ? found->bytes[node] : 0) != retained;
    }
    return wrong;
}

static void retained_bytes_are_what_a_search_around_the_block_misses(void)
{
    for (unsigned seed = 1; seed <= 300; seed++) {
        struct dominators found;
        struct block_map map;

        make_graph(seed);
        look_at_own_heap();
        CHECK_OK(block_map_build(&map, &view, NULL));
        CHECK_OK(dominators_find(&found, &map, NULL));
        if (!tap_check(count_wrong(&found, &map) == 0, __FILE__, __LINE__, "seed %u", seed))
            tap_note("%u nodes wrong", count_wrong(&found, &map));
        dominators_free(&found);
        arena_destroy(&view.arena);
        free_graph();
    }
}

/* Enough of them for several threads: a random tree, of which a part is cut off. */
#define MANY 200000u

static void many_blocks_are_marked_together_as_alone(void)
{
    struct many {
        struct many *below[2], *spare;
    } **all = calloc(MANY, sizeof *all);
    struct block_map map;
    struct reach reach;

    srand(1);
    for (unsigned i = 0; i < MANY; i++) {
        struct many *parent = i ? all[(unsigned)rand() % i] : NULL;

        all[i] = heap_calloc(1, EXACT_BYTES);
        for (int way = rand(); parent; way = rand()) {
            if (!parent->below[way & 1]) {
                parent->below[way & 1] = all[i];
                break;
            }
            parent = parent->below[way & 1];
        }
    }
    all[0]->below[0] = NULL;
    thread_record.registers[3] = (uint64_t)(uintptr_t)all[0];
    look_at_own_heap();
    CHECK_OK(block_map_build(&map, &view, NULL));
    CHECK_OK(reach_mark(&reach, &map, NULL));
    {
        struct many **stack = calloc(MANY, sizeof *stack);
        uint64_t depth = 0, reached = 0;

        stack[depth++] = all[0];
        while (depth > 0) {
            struct many *at = stack[--depth];

            reached++;
            CHECK(!block_bit(reach.unreached, block_map_number(&map, (uint64_t)(uintptr_t)at)));
            for (int way = 0; way < 2; way++)
                if (at->below[way])
                    stack[depth++] = at->below[way];
        }
        CHECK_EQ(reach.unreached_count, map.used_count - reached);
        CHECK(reach.unreached_count > 0 && reached > 1);
        free(stack);
    }
    arena_destroy(&view.arena);
    for (unsigned i = 0; i < MANY; i++)
        heap_free(all[i]);
    free(all);
    thread_record.registers[3] = 0;
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    if (heap_start(SLOT_VOLATILE) < 0)
        return 1;
    RUN(retained_bytes_are_what_a_search_around_the_block_misses);
    RUN(many_blocks_are_marked_together_as_alone);
    return tap_done();
}
