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
 * If that makes more than PLAN_EXTENTS_MAX extents, the price of an extent is raised until it
 * does not.
 */
#include "core/image/image_reader.h"

#include <errno.h>
#include <string.h>

#include "core/base/sys.h"

#define PRICE_EXTENT                                                                               \
    65u /* tenths of a microsecond: docs/internals.md, "Keeping a restore fast"                    \
         */
#define PRICE_FILL 18u
#define NONE       UINT32_MAX

struct run {
    uint64_t page, frame, pages; /* frame FRAME_ZERO: zeroes, never mapped */
    uint64_t mapped, best;       /* prices */
    uint32_t previous;           /* run before of the same delta in this segment, or NONE */
    uint32_t next_in_bucket;
    bool starts_segment;
    bool continues; /* mapped: prolongs the extent that ends with `previous` */
    bool is_mapped; /* best: this run is the end of an extent */
};

struct planner {
    struct image *image;
    struct run *runs;
    uint32_t count, limit;
    uint32_t *buckets; /* last run of each delta's hash, chained by next_in_bucket */
    uint32_t bucket_mask;
    uint64_t page_count;
};

/* --- runs --- */

static int grow_runs(struct planner *planner)
{
    uint32_t limit = planner->limit ? planner->limit * 2 : 4096;
    struct run *runs = NULL;

    if (limit > NONE / 2)
        return STATUS_LIMIT;
    runs = arena_alloc(planner->image->arena, (size_t)limit * sizeof(struct run), 64);
    if (!runs)
        return -ENOMEM;
    if (planner->count)
        memcpy(runs, planner->runs, planner->count * sizeof(struct run));
    planner->runs = runs;
    planner->limit = limit;
    return 0;
}

static int add_page(struct planner *planner, uint64_t page, uint64_t frame)
{
    struct run *last = planner->count ? &planner->runs[planner->count - 1] : NULL;
    bool adjoins = last && last->page + last->pages == page;
    int status = 0;

    planner->page_count++;
    if (adjoins &&
        (frame == FRAME_ZERO ? last->frame == FRAME_ZERO
                             : last->frame != FRAME_ZERO && last->frame + last->pages == frame)) {
        last->pages++;
        return 0;
    }
    if (planner->count == planner->limit)
        status = grow_runs(planner);
    if (status < 0)
        return status;
    planner->runs[planner->count++] =
        (struct run){.page = page, .frame = frame, .pages = 1, .starts_segment = !adjoins};
    return 0;
}

struct collecting {
    struct planner *planner;
    uint64_t first_page, end_page, frames;
    uint64_t page; /* the one at hand, for the message */
    struct problem *why;
};

static int frame_beyond_file(const struct collecting *collecting, uint64_t frame)
{
    const struct image *image = collecting->planner->image;

    return problem_set(collecting->why, STATUS_DAMAGED,
                       "%s: generation %lu refers to frame %lu of a file of %lu frames",
                       image->pool->path, (unsigned long)image->generation.number,
                       (unsigned long)frame, (unsigned long)collecting->frames);
}

static int collect_leaf(void *context, uint64_t first_page,
                        const struct index_entry entries[INDEX_NODE_ENTRIES])
{
    struct collecting *collecting = context;
    uint64_t page = first_page > collecting->first_page ? first_page : collecting->first_page;
    uint64_t end = first_page + INDEX_NODE_ENTRIES;
    int status = 0;

    end = end < collecting->end_page ? end : collecting->end_page;
    for (; page < end && status >= 0; page++) {
        uint64_t frame = entries[page - first_page].frame;

        collecting->page = page;
        if (frame >= collecting->frames)
            status = frame_beyond_file(collecting, frame);
        else if (frame != FRAME_NONE)
            status = add_page(collecting->planner, page, frame);
    }
    return status;
}

static int collect_runs(struct planner *planner, uint64_t first_page, uint64_t end_page,
                        struct problem *why)
{
    struct image *image = planner->image;
    struct collecting collecting = {.planner = planner,
                                    .first_page = first_page,
                                    .end_page = end_page,
                                    .frames = pool_frames_present(image->pool),
                                    .page = first_page,
                                    .why = why};
    int status = index_each_leaf(image->index, first_page, end_page, collect_leaf, &collecting);

    if (status < 0 && (why == NULL || why->status != status))
        return problem_set(why, status, "%s: cannot plan generation %lu from 0x%lx on: %s",
                           image->pool->path, (unsigned long)image->generation.number,
                           (unsigned long)(collecting.page << PAGE_SHIFT), status_text(status));
    return status;
}

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
        run->previous = NONE;
        if (run->frame == FRAME_ZERO)
            continue;
        while (at != NONE && at >= segment && run->previous == NONE) {
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
        if (run->previous != NONE) {
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
    while (walk_choice(planner, NULL, &fills) > PLAN_EXTENTS_MAX) {
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

static int add_fills(struct planner *planner, struct image_plan *plan, uint64_t room)
{
    uint64_t e = 0;

    for (uint32_t i = 0; i < planner->count; i++) {
        const struct run *run = &planner->runs[i];

        while (e < plan->extent_count &&
               plan->extents[e].page + plan->extents[e].pages <= run->page)
            e++;
        if (e < plan->extent_count && plan->extents[e].page <= run->page &&
            run->frame != FRAME_ZERO &&
            run->page - run->frame == plan->extents[e].page - plan->extents[e].frame)
            continue;
        for (uint64_t k = 0; k < run->pages; k++) {
            struct plan_fill *fill = &plan->fills[plan->fill_count];
            int status = 0;

            if (plan->fill_count == room)
                return STATUS_DAMAGED;
            fill->page = run->page + k;
            status = index_lookup(planner->image->index, fill->page, &fill->entry);
            if (status < 0)
                return status;
            plan->fill_count++;
        }
    }
    return 0;
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
    struct planner planner = {.image = image};
    uint64_t fills = 0;
    int status = collect_runs(&planner, first_page, end_page, why);

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
    status = plan->fills ? add_fills(&planner, plan, fills) : -ENOMEM;
    if (status >= 0)
        status = sort_fills(plan, image->arena);
out:
    if (status < 0)
        return problem_set(why, status, "%s: cannot plan generation %lu: %s", image->pool->path,
                           (unsigned long)image->generation.number, status_text(status));
    return 0;
}
