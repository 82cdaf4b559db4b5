/*
 * inspect_heap.c - the view heap: a generation's slot is mapped at its own address and walked with
 * the same walker that a live heap has.
 *
 * True always: the generation is locked while it is mapped, so that a running program's agent does
 * not reuse its frames.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "core/base/sys.h"
#include "core/heap/heap.h"
#include "core/image/image_reader.h"
#include "tools/command.h"
#include "tools/inspect.h"

#define ARENA_BYTES (16ull << 30) /* reserved, not used: plans of very large heaps */

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0.0;
}

static json_t *class_json(const struct heap_class_totals *class)
{
    return json_pack("{s:i, s:I, s:I, s:I, s:I, s:f}", "block_bytes", (int)class->block_bytes,
                     "slabs", (json_int_t) class->slabs, "slab_bytes",
                     (json_int_t) class->slab_bytes, "blocks_used", (json_int_t) class->blocks_used,
                     "blocks_total", (json_int_t) class->blocks_total, "occupancy_percent",
                     percent(class->blocks_used, class->blocks_total));
}

static void census_json(json_t *json, uint64_t generation, const struct heap_census *census)
{
    const struct heap_totals *totals = &census->totals;
    json_t *classes = json_array();

    for (uint32_t i = 0; i < census->class_count && i < HEAP_CLASSES_MAX; i++)
        if (census->classes[i].block_bytes && census->classes[i].slabs)
            json_array_append_new(classes, class_json(&census->classes[i]));
    json_object_set_new(
        json, "heap",
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "generation",
                  (json_int_t)generation, "live_bytes", (json_int_t)totals->live_bytes,
                  "live_blocks", (json_int_t)totals->live_blocks, "committed_bytes",
                  (json_int_t)totals->committed_bytes, "span_bytes", (json_int_t)totals->span_bytes,
                  "free_bytes", (json_int_t)totals->free_bytes, "large_blocks",
                  (json_int_t)census->large_blocks, "large_bytes", (json_int_t)census->large_bytes,
                  "thread_heaps", (json_int_t)census->thread_heaps, "classes", classes));
}

static void census_print(const struct inspection *inspection, uint64_t generation,
                         const struct heap_census *census)
{
    const struct heap_totals *totals = &census->totals;
    char a[32], b[32], c[32], d[32];

    printf("generation %" PRIu64 ": %s live in %" PRIu64 " blocks, %s in spans, %s free, "
           "%s committed, %" PRIu64 " thread heaps\n",
           generation, show_bytes(a, totals->live_bytes), totals->live_blocks,
           show_bytes(b, totals->span_bytes), show_bytes(c, totals->free_bytes),
           show_bytes(d, totals->committed_bytes), census->thread_heaps);
    inspect_heading(inspection,
                    "     block   slabs        size        used       total  occupancy");
    for (uint32_t i = 0; i < census->class_count && i < HEAP_CLASSES_MAX; i++) {
        const struct heap_class_totals *class = &census->classes[i];

        if (class->block_bytes && class->slabs)
            printf("%10s %7" PRIu64 " %11s %11" PRIu64 " %11" PRIu64 "    %5.1f %%\n",
                   show_bytes(a, class->block_bytes), class->slabs,
                   show_bytes(b, class->slab_bytes), class->blocks_used, class->blocks_total,
                   percent(class->blocks_used, class->blocks_total));
    }
    if (census->large_blocks)
        printf("%10s %7s %11s %11" PRIu64 "\n", "large", "", show_bytes(b, census->large_bytes),
               census->large_blocks);
}

/* Maps the slot of the generation and counts what is in it. */
static int take_census(const struct pool *pool, const struct generation_entry *entry,
                       struct heap_census *census, struct problem *why)
{
    struct arena arena;
    struct image image;
    uint64_t first_page = SLOT_BASE(entry->slot) >> PAGE_SHIFT;
    int status = arena_create(&arena, ARENA_BYTES);

    if (status < 0)
        return problem_set(why, status, "cannot reserve memory: %s", status_text(status));
    status = image_open(&image, pool, entry, &arena, why);
    if (status == 0)
        status = image_map(&image, first_page, first_page + (SLOT_BYTES >> PAGE_SHIFT), why);
    if (status == 0)
        status = heap_census(entry->slot, census, why);
    arena_destroy(&arena);
    return status;
}

static int census_of_pool(struct inspection *inspection, const struct pool *pool,
                          struct problem *why)
{
    const struct generation_entry *newest = pool_state_newest(&inspection->state);
    uint64_t number = inspection->generation;
    const struct generation_entry *entry =
        pool_generation(pool, number || !newest ? number : newest->number);
    struct heap_census *census = calloc(1, sizeof *census);
    int lock_fd = -1, status;

    if (!census)
        return problem_set(why, -ENOMEM, "out of memory");
    if (!entry) {
        status = problem_set(why, STATUS_NO_GENERATION,
                             "%s: no such generation; pheap inspect POOL generations lists them",
                             pool->path);
        goto out;
    }
    status = lock_fd = pool_lock_generation(pool, entry->number, why);
    if (status < 0)
        goto out;
    status = take_census(pool, entry, census, why);
    sys_close(lock_fd);
    if (status < 0)
        goto out;
    if (inspection->json)
        census_json(inspection->json, entry->number, census);
    else
        census_print(inspection, entry->number, census);
out:
    free(census);
    return status;
}

int inspect_heap(struct inspection *inspection, struct problem *why)
{
    static struct pool pool;
    int status = pool_open(&pool, inspection->state.path, POOL_READ, why);

    if (status < 0)
        return status;
    status = census_of_pool(inspection, &pool, why);
    pool_close(&pool);
    return status;
}
