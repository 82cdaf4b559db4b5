/*
 * recovery_blocks.c - the map of blocks and the marker, on this process's own heap: they are told
 * that the slot is mapped already, and find no page of an image.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "recovery/view/blocks.h"
#include "recovery/view/reach.h"
#include "t/lib/tap.h"

#define BLOCKS 20000u

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

/* What the program knows of its blocks. */
static struct own_block {
    uint64_t address;
    size_t bytes;
    bool is_freed;
} blocks[BLOCKS];

static size_t random_size(void)
{
    switch (rand() % 100) {
    case 0:
        return 65537 + (size_t)rand() % 1000000;
    case 1 ... 10:
        return 1 + (size_t)rand() % 60000;
    default:
        return 1 + (size_t)rand() % 300;
    }
}

static void allocate_all(void)
{
    for (uint32_t i = 0; i < BLOCKS; i++) {
        blocks[i].bytes = random_size();
        blocks[i].address = (uint64_t)(uintptr_t)heap_calloc(1, blocks[i].bytes);
        blocks[i].is_freed = false;
    }
}

static sem_t freed, looked;

static void free_some(uint32_t first)
{
    for (uint32_t i = first; i < BLOCKS; i += 4) {
        heap_free((void *)blocks[i].address);
        blocks[i].is_freed = true;
    }
}

/* Lives on with what it freed in its batches. */
static void *free_from_another_thread(void *unused)
{
    heap_free(heap_malloc(1)); /* a thread heap of its own */
    free_some(1);
    sem_post(&freed);
    sem_wait(&looked);
    heap_thread_exit();
    return unused;
}

static uint64_t count_disagreements(const struct block_map *map)
{
    uint64_t wrong = 0, in_use = 0;

    for (uint32_t i = 0; i < BLOCKS; i++) {
        uint64_t inside = blocks[i].address + (uint64_t)rand() % blocks[i].bytes;
        struct block block;
        bool found = block_map_find(map, inside, &block);

        in_use += !blocks[i].is_freed;
        if (blocks[i].is_freed)
            wrong += found && block.address == blocks[i].address && block.is_used;
        else
            wrong += !found || block.address != blocks[i].address || !block.is_used ||
                     block.bytes < blocks[i].bytes;
    }
    return wrong + (map->used_count != in_use);
}

static uint64_t disagreements(void)
{
    struct block_map map;
    pthread_t other;
    uint64_t wrong;

    srand(1);
    sem_init(&freed, 0, 0);
    sem_init(&looked, 0, 0);
    allocate_all();
    free_some(0);
    if (pthread_create(&other, NULL, free_from_another_thread, NULL) != 0)
        return BLOCKS;
    sem_wait(&freed);
    look_at_own_heap();
    wrong = block_map_build(&map, &view, NULL) < 0 ? BLOCKS : count_disagreements(&map);
    arena_destroy(&view.arena);
    sem_post(&looked);
    pthread_join(other, NULL);
    free_some(2);
    free_some(3);
    return wrong;
}

static void every_block_is_in_use_or_not_as_the_program_knows(void)
{
    CHECK_EQ(disagreements(), 0);
}

/* In a child, which has no heap yet. */
static void the_same_is_true_of_a_hardened_heap(void)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        heap_harden();
        _exit(heap_start(SLOT_VOLATILE) < 0 ? 2 : disagreements() != 0);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK_EQ(status, 0);
}

/* A list of three from a register; its second points into the middle of a large block. */
static void what_no_register_leads_to_is_unreached(void)
{
    uint64_t *list[3], *large = heap_malloc(1 << 20), *lost = heap_malloc(100);
    struct block_map map;
    struct reach reach;

    for (int i = 0; i < 3; i++) {
        list[i] = heap_calloc(1, 48);
        if (i > 0)
            list[i][0] = (uint64_t)(uintptr_t)list[i - 1];
    }
    list[1][3] = (uint64_t)(uintptr_t)large + 70000;
    memset(large, 0, 1 << 20);
    thread_record.registers[3] = (uint64_t)(uintptr_t)list[2] + 47;
    thread_record.registers[4] = (uint64_t)(uintptr_t)lost + 112; /* behind its end */
    look_at_own_heap();
    CHECK_OK(block_map_build(&map, &view, NULL));
    CHECK_OK(reach_mark(&reach, &map, NULL));
    CHECK_EQ(map.used_count, 5);
    CHECK_EQ(reach.unreached_count, 1);
    CHECK(block_bit(reach.unreached, block_map_number(&map, (uint64_t)(uintptr_t)lost)));
    thread_record.registers[3] = 0;
    CHECK_OK(reach_mark(&reach, &map, NULL));
    CHECK_EQ(reach.unreached_count, 5);
    arena_destroy(&view.arena);
    for (int i = 0; i < 3; i++)
        heap_free(list[i]);
    heap_free(large);
    heap_free(lost);
}

static struct span *span_of(uint64_t address)
{
    const struct heap *heap = (const struct heap *)SLOT_BASE(heap_slot());

    return heap_span(heap, (uint32_t)((address - (uint64_t)(uintptr_t)heap) >> SLICE_SHIFT));
}

/* As in a thread that was stopped while it freed it. */
static void a_large_block_is_reached_by_its_descriptor_too(void)
{
    void *large = heap_malloc(1 << 20), *small = heap_malloc(100);
    struct block_map map;
    struct reach reach;

    look_at_own_heap();
    thread_record.registers[3] = (uint64_t)(uintptr_t)span_of((uint64_t)(uintptr_t)large) + 8;
    thread_record.registers[4] = (uint64_t)(uintptr_t)span_of((uint64_t)(uintptr_t)small);
    CHECK_OK(block_map_build(&map, &view, NULL));
    CHECK_OK(reach_mark(&reach, &map, NULL));
    CHECK_EQ(reach.unreached_count, 1);
    CHECK(block_bit(reach.unreached, block_map_number(&map, (uint64_t)(uintptr_t)small)));
    thread_record.registers[3] = 0;
    CHECK_OK(reach_mark_in_place(&reach, &map, NULL));
    CHECK_EQ(reach.unreached_count, 2);
    arena_destroy(&view.arena);
    heap_free(large);
    heap_free(small);
}

static void choose(const struct block_map *map, uint64_t *chosen, const void *block)
{
    uint64_t number = block_map_number(map, (uint64_t)(uintptr_t)block);

    chosen[number / 64] |= 1ull << number % 64;
}

static bool is_chosen(const struct block_map *map, const uint64_t *chosen, const void *block)
{
    return block_bit(chosen, block_map_number(map, (uint64_t)(uintptr_t)block));
}

/* Five that nothing leads to: the first leads to the second, that one to the third; the fourth and
 * the fifth, a large one, lead to each other. */
static void what_a_block_that_stays_leads_to_stays_too(void)
{
    uint64_t *lost[5];
    struct block_map map;
    struct reach reach;
    uint64_t *chosen;

    thread_record.registers[3] = thread_record.registers[4] = 0;
    for (int i = 0; i < 5; i++)
        lost[i] = heap_calloc(1, i == 4 ? 200000 : 48);
    lost[0][2] = (uint64_t)(uintptr_t)lost[1];
    lost[1][3] = (uint64_t)(uintptr_t)lost[2] + 5;
    lost[3][0] = (uint64_t)(uintptr_t)lost[4] + 100000;
    lost[4][9000] = (uint64_t)(uintptr_t)lost[3];
    look_at_own_heap();
    CHECK_OK(block_map_build(&map, &view, NULL));
    CHECK_OK(reach_mark_in_place(&reach, &map, NULL));
    CHECK_EQ(reach.unreached_count, 5);
    chosen = arena_alloc(&view.arena, map.count / 8 + 8, 8);
    for (int i = 1; i < 5; i++)
        choose(&map, chosen, lost[i]);
    CHECK_OK(reach_keep_apart(&reach, &map, chosen, NULL));
    CHECK(!is_chosen(&map, chosen, lost[1]) && !is_chosen(&map, chosen, lost[2]));
    CHECK(is_chosen(&map, chosen, lost[3]) && is_chosen(&map, chosen, lost[4]));
    choose(&map, chosen, lost[0]);
    choose(&map, chosen, lost[1]);
    choose(&map, chosen, lost[2]);
    chosen[block_map_number(&map, (uint64_t)(uintptr_t)lost[4]) / 64] &=
        ~(1ull << block_map_number(&map, (uint64_t)(uintptr_t)lost[4]) % 64);
    CHECK_OK(reach_keep_apart(&reach, &map, chosen, NULL));
    CHECK(is_chosen(&map, chosen, lost[0]) && is_chosen(&map, chosen, lost[1]) &&
          is_chosen(&map, chosen, lost[2]) && !is_chosen(&map, chosen, lost[3]));
    arena_destroy(&view.arena);
    for (int i = 0; i < 5; i++)
        heap_free(lost[i]);
}

/* Free lists that lead nowhere or in a circle. */
static void damaged_lists_are_followed_no_further(void)
{
    uint64_t *first = heap_malloc(2000), *second = heap_malloc(2000);
    struct span *slab = span_of((uint64_t)(uintptr_t)first);
    struct block_map map;
    uint64_t head = slab->free_head;
    const uint64_t heads[] = {0, 8, (uint64_t)(uintptr_t)first, (uint64_t)(uintptr_t)first + 16,
                              UINT64_MAX};

    first[0] = (uint64_t)(uintptr_t)second ^ slab->key;
    second[0] = (uint64_t)(uintptr_t)first ^ slab->key;
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        slab->free_head = heads[i];
        look_at_own_heap();
        CHECK_OK(block_map_build(&map, &view, NULL));
        CHECK(map.used_count <= slab->carved_bytes / 2048 + 1);
        arena_destroy(&view.arena);
    }
    slab->free_head = head;
    heap_free(first);
    heap_free(second);
}

/* Any bits of the header, of descriptors and of blocks: a status or a finding, never a fault. */
static void look_at_a_damaged_heap(unsigned seed)
{
    static struct class_table table[BLOCK_CLASSES];
    struct heap *heap = (struct heap *)SLOT_BASE(heap_slot());
    uint8_t *const areas[] = {(uint8_t *)heap, (uint8_t *)heap_span(heap, heap->data_slice),
                              (uint8_t *)heap->data.start, (uint8_t *)heap->thread_heaps.start};
    const size_t sizes[] = {sizeof *heap, (heap->top - heap->data_slice) * sizeof(struct span),
                            1 << 16, sizeof(struct thread_heap)};
    struct block_map map;
    struct reach reach;

    srand(seed);
    alarm(20);
    for (unsigned i = 0; i < 1 + seed % 40; i++) {
        unsigned area = (unsigned)rand() % (seed % 3 ? 3 : 4);

        area = seed % 5 && area == 0 ? 1 : area; /* a damaged header hides the others */
        areas[area][(unsigned)rand() % sizes[area]] ^= (uint8_t)(1 << rand() % 8);
    }
    look_at_own_heap();
    if (block_map_build(&map, &view, NULL) < 0)
        return;
    block_map_classes(&map, map.used, table);
    if (reach_mark(&reach, &map, NULL) == 0 && reach.unreached_count > map.used_count)
        abort();
}

static void damaged_heaps_are_looked_at_without_a_fault(void)
{
    allocate_all();
    free_some(0);
    thread_record.registers[7] = blocks[1].address;
    for (unsigned seed = 1; seed <= 100; seed++) {
        int status = 0;
        pid_t child = fork();

        if (child == 0) {
            look_at_a_damaged_heap(seed);
            _exit(0);
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        if (status != 0)
            tap_note("seed %u", seed);
        CHECK_EQ(status, 0);
    }
    free_some(1);
    free_some(2);
    free_some(3);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(the_same_is_true_of_a_hardened_heap);
    if (heap_start(SLOT_VOLATILE) < 0)
        return 1;
    RUN(every_block_is_in_use_or_not_as_the_program_knows);
    RUN(what_no_register_leads_to_is_unreached);
    RUN(a_large_block_is_reached_by_its_descriptor_too);
    RUN(what_a_block_that_stays_leads_to_stays_too);
    RUN(damaged_lists_are_followed_no_further);
    RUN(damaged_heaps_are_looked_at_without_a_fault);
    return tap_done();
}
