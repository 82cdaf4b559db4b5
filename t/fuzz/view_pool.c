/*
 * view_pool.c - fuzz target: what pheap inspect shows of a generation. Its heap is mapped, walked
 * and marked, its profile read, its threads and mappings looked at, two generations compared. Last,
 * what nothing leads to is freed, if the checker finds no damage.
 */
#include <stdlib.h>
#include "core/heap/reclaim.h"
#include "recovery/collect/collect.h"
#include "recovery/view/diff.h"
#include "recovery/view/heap_map.h"
#include "recovery/view/largest.h"
#include "recovery/view/profile.h"
#include "recovery/view/links.h"
#include "recovery/view/search.h"
#include "recovery/view/thread_state.h"
#include "t/fuzz/packed_pool.h"
#include "t/fuzz/target.h"

#define TEXT_BYTES_LEAST 8
#define HITS_MAX         1000u

static struct view view, other;
static struct problem why;

static void must_say_why(int status)
{
    if (status < 0 && why.text[0] == 0)
        abort();
    why = (struct problem){0};
}

static bool count_text(void *context, uint64_t address, const char *text, size_t bytes)
{
    unsigned *count = context;

    (void)address, (void)text, (void)bytes;
    return ++*count < HITS_MAX;
}

static bool count_block(void *context, const struct block *block)
{
    unsigned *count = context;

    if (block->bytes == 0)
        abort();
    return ++*count < HITS_MAX;
}

static void look_at_profile(const struct block_map *map)
{
    struct profile_reading reading;
    struct profile_total *totals;
    int status = profile_read(&reading, map, &why);

    must_say_why(status);
    totals = status == 0 ? calloc(reading.stack_count + 1ull, sizeof *totals) : NULL;
    if (totals != NULL && reading.rate_bytes != 0)
        profile_sum(&reading, map, map->used, totals);
    free(totals);
}

/* The cells have what the size classes have. */
static void look_at_cells(const struct block_map *map, const struct reach *reach,
                          const struct class_table table[BLOCK_CLASSES])
{
    struct heap_map cells;
    uint64_t used = 0, lost = 0, expected = 0;
    int status = heap_map_make(&cells, map, reach, &why);

    must_say_why(status);
    for (uint32_t i = 0; status == 0 && i < cells.count; i++) {
        used += cells.cells[i].used_bytes;
        lost += cells.cells[i].lost_bytes;
        if (cells.cells[i].used_bytes > cells.cells[i].span_bytes)
            abort();
    }
    for (uint32_t class = 0; class < BLOCK_CLASSES; class ++)
        expected += table[class].used_bytes;
    if (status == 0 && (used != expected || lost > used))
        abort();
}

static bool count_pointer(void *context, uint64_t place, uint32_t kind, uint64_t target)
{
    unsigned *count = context;

    (void)place, (void)kind, (void)target;
    return ++*count < HITS_MAX;
}

static bool follow_block(void *context, const struct block *block)
{
    const struct block_map *map = context;
    unsigned count = 0;

    if (!map->is_opened && reclaim_holds(map->heap, block->address))
        (void)reclaim_identity(map->heap, block->address);
    links_of(map, block, count_pointer, &count);
    must_say_why(
        links_to(map, block->address, block->address + block->bytes, count_pointer, &count, &why));
    return false;
}

static void look_at_unreached(struct block_map *map, struct reach *reach)
{
    uint64_t *chosen = arena_alloc(&view.arena, map->count / 8 + 64, 64);

    block_map_each(map, reach->unreached, follow_block, map);
    if (!map->is_opened)
        must_say_why(reclaim_ready(map->heap, &why));
    if (chosen == NULL)
        return;
    for (uint64_t i = 0; i < map->count / 64 + 1; i++)
        chosen[i] = reach->unreached[i] & 0x5555555555555555ull;
    must_say_why(reach_keep_apart(reach, map, chosen, &why));
}

static void look_at_heap(void)
{
    static struct block_map map;
    struct class_table table[BLOCK_CLASSES];
    struct largest largest;
    struct reach reach;
    unsigned count = 0;
    int status = block_map_build(&map, &view, &why);

    must_say_why(status);
    if (status < 0)
        return;
    block_map_each(&map, map.used, count_block, &count);
    block_map_classes(&map, map.used, table);
    status = reach_mark(&reach, &map, &why);
    must_say_why(status);
    if (status < 0)
        return;
    look_at_cells(&map, &reach, table);
    must_say_why(largest_find(&largest, &map, HITS_MAX, &why));
    look_at_profile(&map);
    look_at_unreached(&map, &reach);
}

static void collect(const char *path)
{
    const struct collect_request request = {.path = path, .from_programs = true, .now = true};
    struct collect_result result;

    must_say_why(collect_heap(&request, &result, &why));
}

static void look_at_process(void)
{
    struct thread_state state;
    unsigned count = 0;
    uint8_t word[8];

    for (uint32_t i = 0; i < view.process.thread_count; i++) {
        thread_state_read(&view, &view.process.threads[i], &state);
        must_say_why(view_read(&view, state.registers[REG_RSP], word, sizeof word, &why));
    }
    for (uint32_t i = 0; i < view.process.mapping_count && i < HITS_MAX; i++)
        (void)view_mapping_name(&view, &view.process.mappings[i]);
    must_say_why(search_texts(&view, TEXT_BYTES_LEAST, count_text, &count, &why));
}

static void compare(const char *path)
{
    struct page_changes heap, rest;
    int status = view_open(&other, path, view.pool.super.generations[0].number, &why);

    must_say_why(status);
    if (status == 0)
        must_say_why(diff_pages(&other, &view, &heap, &rest, &why));
    view_close(&other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = packed_pool_write(data, size);
    bool is_programs;
    int status = view_open(&view, path, 0, &why);

    must_say_why(status);
    if (status == 0) {
        look_at_heap();
        look_at_process();
        compare(path);
    }
    is_programs = status == 0 && view.generation.kind == GENERATION_PROCESS;
    view_close(&view);
    if (is_programs)
        collect(path);
    return 0;
}
