/*
 * image_plan.c - decides which pages of a generation are mapped from the pool and which are read
 * in (image_reader.h).
 *
 * A segment is a maximal range of pages that all have an entry; an extent stays within one. A
 * run is a maximal part of a segment in which page - frame is constant: it could be mapped in one
 * piece. After some generations of scattered writes a segment looks like this:
 *
 *     pages    0 .. 99   100   101 .. 180   181 182   183 .. 255
 *     delta       A       B        A           C         A
 *
 * and the cheapest plan is one extent, delta A, over all 256 pages, with 100, 181 and 182 read in
 * over it: 6.5 + 3 x 1.8 us, where three mappings and three fills would cost 24.9.
 *
 * The choice is exact for given prices. Let best[i] be the price of the runs up to i, and
 * mapped[i] the same if the last extent ends with run i (its delta is run i's):
 *
 *     mapped[i] = min(best[i-1] + extent,                            a new extent
 *                     mapped[p] + fill x pages between p and i)      p: the run before of this
 * delta best[i]   = min(best[i-1] + fill x pages of i, mapped[i])
 *
 * If that makes more extents than there may be (image->extents_max), the price of an extent is
 * raised until it does not.
 */
#include "core/image/image_reader.h"

#include <errno.h>
#include <string.h>

#include "core/image/plan_runs.h"

#define PRICE_EXTENT                                                                               \
    65u /* tenths of a microsecond: docs/internals.md, "Keeping a restore fast"                    \
         */
#define PRICE_FILL 18u

/* What a longer run of the slot's pages holds is looked up again if it is to be read in: it hardly
 * ever is. */
#define RUN_KEPT_PAGES 16

/* --- the choice --- */

static int make_buckets(struct planner *planner)
{
    uint32_t size = 64;

    while (size < planner->count && size < (1u << 20))
        size *= 2;
    planner->buckets = arena_alloc(planner->image->arena, size * sizeof(uint32_t), 64);
    planner->bucket_mask = size - 1;
    return planner->buckets ? 0 : -ENOMEM;
}

static uint32_t *bucket_of(const struct planner *planner, const struct run *run)
{
    uint64_t delta = run->page - run->frame;

    return &planner->buckets[(delta * 0x9e3779b97f4a7c15ull >> 40) & planner->bucket_mask];
}

/* Finds for each run the one before of the same delta in the same segment. */
static void link_runs(struct planner *planner)
{
    uint32_t segment = 0;

    memset(planner->buckets, 0xff, ((size_t)planner->bucket_mask + 1) * sizeof(uint32_t));
    for (uint32_t i = 0; i < planner->count; i++) {
        struct run *run = &planner->runs[i];
        uint32_t *bucket = bucket_of(planner, run);
        uint32_t at = *bucket;

        segment = run->starts_segment ? i : segment;
        run->previous = PLAN_NONE;
        if (run->frame == FRAME_ZERO)
            continue;
        while (at != PLAN_NONE && at >= segment && run->previous == PLAN_NONE) {
            const struct run *other = &planner->runs[at];

            if (other->page - other->frame == run->page - run->frame)
                run->previous = at;
            at = other->next_in_bucket;
        }
        run->next_in_bucket = *bucket;
        *bucket = i;
    }
}

/* Prices every run for the given price of an extent. */
static void price_runs(struct planner *planner, uint64_t extent_price)
{
    uint64_t before = 0;

    for (uint32_t i = 0; i < planner->count; i++) {
        struct run *run = &planner->runs[i];
        uint64_t filled = before + run->pages * PRICE_FILL;

        run->mapped = before + extent_price;
        run->continues = false;
        if (run->previous != PLAN_NONE) {
            const struct run *previous = &planner->runs[run->previous];
            uint64_t between = run->page - (previous->page + previous->pages);

            if (previous->mapped + between * PRICE_FILL < run->mapped) {
                run->mapped = previous->mapped + between * PRICE_FILL;
                run->continues = true;
            }
        }
        run->is_mapped = run->frame != FRAME_ZERO && run->mapped < filled;
        run->best = run->is_mapped ? run->mapped : filled;
        before = run->best;
    }
}

/* Walks the choice from its end. With extents NULL it counts; *fills is the number of pages that
 * are in no extent of their own delta. */
static uint64_t walk_choice(const struct planner *planner, struct plan_extent *extents,
                            uint64_t *fills)
{
    uint64_t count = 0, mapped_pages = 0;

    for (uint32_t i = planner->count; i-- > 0;) {
        const struct run *run = &planner->runs[i], *first = run;
        uint32_t at = i;

        if (!run->is_mapped)
            continue;
        mapped_pages += first->pages;
        while (first->continues) {
            at = first->previous;
            first = &planner->runs[at];
            mapped_pages += first->pages;
        }
        if (extents)
            extents[count] = (struct plan_extent){first->page, first->frame,
                                                  run->page + run->pages - first->page};
        count++;
        i = at; /* what lies between is filled over the extent */
    }
    *fills = planner->page_count - mapped_pages;
    return count;
}

static void choose(struct planner *planner)
{
    uint64_t price = PRICE_EXTENT, fills = 0;

    price_runs(planner, price);
    while (walk_choice(planner, NULL, &fills) > planner->image->extents_max) {
        price += price / 4;
        price_runs(planner, price);
    }
}

/* --- the plan --- */

static void reverse(struct plan_extent *extents, uint64_t count)
{
    for (uint64_t i = 0; i < count / 2; i++) {
        struct plan_extent swap = extents[i];

        extents[i] = extents[count - 1 - i];
        extents[count - 1 - i] = swap;
    }
}

/* Is it in an extent of its own? *e: the first extent that does not end before it. */
static bool is_in_extent(const struct image_plan *plan, const struct run *run, uint64_t *e)
{
    const struct plan_extent *extent;

    while (*e < plan->extent_count && plan->extents[*e].page + plan->extents[*e].pages <= run->page)
        ++*e;
    if (*e == plan->extent_count || run->frame == FRAME_ZERO)
        return false;
    extent = &plan->extents[*e];
    return extent->page <= run->page && run->page - run->frame == extent->page - extent->frame;
}

static int add_fills(struct planner *planner, struct image_plan *plan)
{
    int status = 0;

    for (uint64_t i = 0, e = 0; status == 0 && i < planner->count; i++) {
        const struct run *run = &planner->runs[i];

        if (is_in_extent(plan, run, &e))
            continue;
        status = planner_fill(planner, run, &plan->fills[plan->fill_count]);
        plan->fill_count += run->pages;
    }
    return status;
}

#define RADIX_BITS 11
#define RADIX_SIZE (1u << RADIX_BITS)

/* Orders the fills by frame: pages of one frame number (zeroes) stay in order of pages. */
static int sort_fills(struct image_plan *plan, struct arena *arena)
{
    struct plan_fill *from = plan->fills;
    struct plan_fill *to = arena_alloc(arena, plan->fill_count * sizeof *to, 64);
    uint64_t highest = 0;

    if (!to)
        return -ENOMEM;
    for (uint64_t i = 0; i < plan->fill_count; i++)
        if (from[i].entry.frame > highest)
            highest = from[i].entry.frame;
    for (unsigned shift = 0; shift < 64 && highest >> shift; shift += RADIX_BITS) {
        uint64_t places[RADIX_SIZE] = {0}, place = 0;
        struct plan_fill *swap = from;

        for (uint64_t i = 0; i < plan->fill_count; i++)
            places[from[i].entry.frame >> shift & (RADIX_SIZE - 1)]++;
        for (uint32_t i = 0; i < RADIX_SIZE; i++) {
            uint64_t size = places[i];

            places[i] = place;
            place += size;
        }
        for (uint64_t i = 0; i < plan->fill_count; i++)
            to[places[from[i].entry.frame >> shift & (RADIX_SIZE - 1)]++] = from[i];
        from = to;
        to = swap;
    }
    plan->fills = from;
    return 0;
}

int image_plan(struct image *image, uint64_t first_page, uint64_t end_page, bool may_map,
               struct image_plan *plan, struct problem *why)
{
    struct planner planner = {.image = image, .kept_pages = may_map ? RUN_KEPT_PAGES : UINT64_MAX};
    uint64_t fills = 0;
    int status = planner_collect(&planner, first_page, end_page, why);

    *plan = (struct image_plan){0};
    if (status < 0)
        return status;
    fills = planner.page_count;
    if (may_map && planner.count) {
        status = make_buckets(&planner);
        if (status < 0)
            goto out;
        link_runs(&planner);
        choose(&planner);
        plan->extent_count = walk_choice(&planner, NULL, &fills);
        plan->extents =
            arena_alloc(image->arena, plan->extent_count * sizeof(struct plan_extent), 64);
        status = plan->extents ? 0 : -ENOMEM;
        if (status < 0)
            goto out;
        walk_choice(&planner, plan->extents, &fills);
        reverse(plan->extents, plan->extent_count);
    }
    plan->fills = arena_alloc(image->arena, fills * sizeof(struct plan_fill), 64);
    status = plan->fills ? add_fills(&planner, plan) : -ENOMEM;
    if (status >= 0)
        status = sort_fills(plan, image->arena);
out:
    if (status < 0)
        return problem_set(why, status, "%s: cannot plan generation %lu: %s", image->pool->path,
                           (unsigned long)image->generation.number, status_text(status));
    return 0;
}
