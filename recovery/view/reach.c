/*
 * reach.c - see reach.h.
 *
 * Each block in use has two bits: white, not reached yet; grey, reached and not looked through yet.
 * A word that leads to a white block makes it grey, and whoever looks through a block takes its
 * grey bit first, so each is looked through once. There is no stack: two bits a block are all the
 * memory, whatever the heap's shape.
 *
 * Grey blocks are found again by region, 2 MiB of slices: a region has a bit for each of its spans
 * that may have grey blocks, and is in the queue of one worker while any is set. One region is
 * worked through until nothing in it is grey: its pages are in the TLB by then. (A heap that points
 * about at random spends more than half of its time in page walks otherwise.)
 *
 * Between workers: bits change by atomic read-modify-write alone. Who makes a block grey sets, in
 * this order, grey bit, span bit, is_queued; who works a region through clears is_queued and then
 * looks once more for a span bit, and takes span bits before it reads grey bits. So no grey block
 * is overlooked. A worker with more than one region gives half of them away as soon as another
 * waits.
 *
 * Pages that the image does not hold are zero and lead nowhere: of large blocks they are not looked
 * at. So a heap with few pages in much address space costs what its pages cost.
 */
#include "recovery/view/reach.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include "core/pool/index.h"
#include "recovery/view/layouts.h"
#include "recovery/view/roots.h"

#define ARENA_BYTES   (16ull << 30) /* reserved, not used */
#define REGION_SHIFT  5             /* of slices: 2 MiB */
#define REGION_SLICES (1u << REGION_SHIFT)
#define WORKERS_MAX   16u
#define BLOCKS_WORKER 20000u /* fewer are not worth a thread */
#define NEAR_MAX      64u

struct region {
    uint32_t spans; /* a bit a slice: the span that begins there may have grey blocks */
    uint32_t is_queued;
};

struct queue { /* a ring of regions; each region is in one at most */
    uint32_t *regions;
    uint32_t first, count;
};

struct marker {
    const struct block_map *map;
    uint64_t *white, *grey;
    uint64_t slot;
    uint64_t low, bytes; /* of the data area */
    uint64_t *held;      /* a bit a page of it that may not be zero; NULL: not known */
    uint32_t block_bytes[SIZE_CLASSES];
    struct layouts layouts;
    struct region *regions;
    uint32_t region_count;
    /* Of the workers together; under the lock, but for a look at `waiting`. */
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct queue shared;
    uint32_t workers, waiting;
};

/* near: blocks of the region at hand, white no more and never grey: a list is followed without a
 * search for its next one. */
struct worker {
    struct marker *marker;
    struct queue own;
    uint32_t region; /* the one at hand */
    uint32_t near_count;
    struct near {
        uint64_t start, bytes;
    } near[NEAR_MAX];
    pthread_t thread;
};

/* --- queues --- */

static void put(const struct marker *marker, struct queue *queue, uint32_t region)
{
    queue->regions[(queue->first + queue->count++) % marker->region_count] = region;
}

static uint32_t take(const struct marker *marker, struct queue *queue)
{
    uint32_t region = queue->regions[queue->first];

    queue->first = (queue->first + 1) % marker->region_count;
    queue->count--;
    return region;
}

static void move_half(const struct marker *marker, struct queue *from, struct queue *to)
{
    for (uint32_t half = (from->count + 1) / 2; half > 0; half--)
        put(marker, to, take(marker, from));
}

static void give_away(struct worker *worker)
{
    struct marker *marker = worker->marker;

    pthread_mutex_lock(&marker->lock);
    move_half(marker, &worker->own, &marker->shared);
    pthread_cond_broadcast(&marker->more);
    pthread_mutex_unlock(&marker->lock);
}

/* False: nobody has anything left. */
static bool wait_for_more(struct worker *worker)
{
    struct marker *marker = worker->marker;
    bool is_done;

    pthread_mutex_lock(&marker->lock);
    __atomic_add_fetch(&marker->waiting, 1, __ATOMIC_RELAXED);
    while (marker->shared.count == 0 && marker->waiting < marker->workers)
        pthread_cond_wait(&marker->more, &marker->lock);
    is_done = marker->shared.count == 0;
    if (is_done) {
        pthread_cond_broadcast(&marker->more);
    } else {
        __atomic_sub_fetch(&marker->waiting, 1, __ATOMIC_RELAXED);
        move_half(marker, &marker->shared, &worker->own);
    }
    pthread_mutex_unlock(&marker->lock);
    return !is_done;
}

/* --- marking --- */

/* Most blocks begin and end within two cache lines; of longer ones the processor sees the rest
 * coming. */
static inline void fetch(uint64_t block)
{
    __builtin_prefetch((const void *)block);
    __builtin_prefetch((const void *)(block + 64));
}

static inline void add_near(struct worker *worker, const struct span_note *note, uint64_t number)
{
    const struct marker *marker = worker->marker;
    struct near near = {.start = marker->slot + ((uint64_t)note->slice << SLICE_SHIFT) +
                                 (uint64_t)note->start * BLOCK_UNIT,
                        .bytes = marker->block_bytes[note->class]};

    near.start += (number - note->number) * near.bytes;
    fetch(near.start);
    worker->near[worker->near_count++] = near;
}

static inline void make_grey(struct worker *worker, uint32_t slice, uint64_t number, uint64_t bit)
{
    struct region *region = &worker->marker->regions[slice >> REGION_SHIFT];
    uint32_t span = 1u << slice % REGION_SLICES;

    __atomic_fetch_or(&worker->marker->grey[number / 64], bit, __ATOMIC_SEQ_CST);
    if (!(__atomic_load_n(&region->spans, __ATOMIC_SEQ_CST) & span))
        __atomic_fetch_or(&region->spans, span, __ATOMIC_SEQ_CST);
    if (!__atomic_load_n(&region->is_queued, __ATOMIC_SEQ_CST) &&
        !__atomic_exchange_n(&region->is_queued, 1, __ATOMIC_SEQ_CST))
        put(worker->marker, &worker->own, slice >> REGION_SHIFT);
}

/* The block with this number, which holds address, is white no more, and will be looked through;
 * unless somebody was faster. */
static inline void reach_block(struct worker *worker, uint64_t address, uint64_t number)
{
    const struct marker *marker = worker->marker;
    const struct span_note *note = &marker->map->notes[(address - marker->slot) >> SLICE_SHIFT];
    uint64_t bit = 1ull << number % 64;

    if (!(__atomic_fetch_and(&marker->white[number / 64], ~bit, __ATOMIC_SEQ_CST) & bit))
        return;
    if (note->slice >> REGION_SHIFT == worker->region && worker->near_count < NEAR_MAX &&
        note->class != BLOCK_CLASS_LARGE)
        add_near(worker, note, number);
    else
        make_grey(worker, note->slice, number, bit);
}

static inline void look_at(struct worker *worker, uint64_t word)
{
    const struct marker *marker = worker->marker;
    uint64_t number;

    if (word - marker->low >= marker->bytes)
        return;
    number = block_map_number(marker->map, word);
    if (number != BLOCK_NONE &&
        __atomic_load_n(&marker->white[number / 64], __ATOMIC_RELAXED) >> number % 64 & 1)
        reach_block(worker, word, number);
}

static void look_at_pointer(void *worker, uint64_t place, uint32_t kind, uint64_t target)
{
    (void)place;
    (void)kind;
    look_at(worker, target);
}

static inline void look_at_words(struct worker *worker, uint64_t start, uint64_t bytes)
{
    const uint64_t *words = (const uint64_t *)start;

    for (uint64_t i = 0; i < bytes / 8; i++) {
        look_at(worker, words[i]);
        look_at(worker, block_self_relative(start + i * 8, words[i]));
    }
}

/* Page by page. */
static void look_through_large(struct worker *worker, uint64_t start, uint64_t end)
{
    const struct marker *marker = worker->marker;

    while (start < end) {
        uint64_t page_end = (start | (PAGE_BYTES - 1)) + 1;
        uint64_t part_end = page_end < end ? page_end : end;

        if (block_bit(marker->held, (start - marker->low) >> PAGE_SHIFT))
            look_at_words(worker, start, part_end - start);
        start = part_end;
    }
}

static void look_through(struct worker *worker, uint64_t block, uint64_t bytes)
{
    const struct layouts *layouts = &worker->marker->layouts;

    if (layouts->count > 0 && layouts_each(layouts, block, look_at_pointer, worker))
        return;
    if (bytes > PAGE_BYTES && worker->marker->held)
        look_through_large(worker, block, block + bytes);
    else
        look_at_words(worker, block, bytes);
}

static void look_through_near(struct worker *worker)
{
    while (worker->near_count > 0) {
        struct near near = worker->near[--worker->near_count];

        look_through(worker, near.start, near.bytes);
    }
}

/* A span: where its blocks are, as its note says. */
struct row {
    uint64_t number, end; /* of its blocks */
    uint64_t start, bytes;
};

static struct row row_of(const struct marker *marker, uint32_t slice)
{
    const struct span_note *note = &marker->map->notes[slice];
    struct row row = {.number = note->number,
                      .end = note->number + block_map_span_numbers(marker->map, slice),
                      .start = marker->slot + ((uint64_t)slice << SLICE_SHIFT) +
                               (uint64_t)note->start * BLOCK_UNIT};

    row.bytes = note->class == BLOCK_CLASS_LARGE ? block_map_large_bytes(marker->map, slice)
                                                 : marker->block_bytes[note->class];
    return row;
}

/* The blocks of the bits in `grey`, a word of them that begins with this number. */
static void work_through_word(struct worker *worker, const struct row *row, uint64_t number,
                              uint64_t grey)
{
    for (uint64_t bits = grey; bits; bits &= bits - 1)
        fetch(row->start + (number + (uint64_t)__builtin_ctzll(bits) - row->number) * row->bytes);
    for (uint64_t bits = grey; bits; bits &= bits - 1) {
        uint64_t index = number + (uint64_t)__builtin_ctzll(bits) - row->number;

        look_through(worker, row->start + index * row->bytes, row->bytes);
        look_through_near(worker);
    }
}

/* Numbers of neighbouring spans share a word. */
static uint64_t bits_of_row(const struct row *row, uint64_t number)
{
    uint64_t bits = UINT64_MAX;

    if (row->number > number)
        bits &= UINT64_MAX << (row->number - number);
    if (row->end - number < 64)
        bits &= (1ull << (row->end - number)) - 1;
    return bits;
}

static void work_through_span(struct worker *worker, uint32_t slice)
{
    struct row row = row_of(worker->marker, slice);

    for (uint64_t number = row.number & ~63ull; number < row.end; number += 64) {
        uint64_t *word = &worker->marker->grey[number / 64];
        uint64_t mine = bits_of_row(&row, number);

        if (__atomic_load_n(word, __ATOMIC_RELAXED) & mine)
            work_through_word(worker, &row, number,
                              __atomic_fetch_and(word, ~mine, __ATOMIC_SEQ_CST) & mine);
    }
}

static void work_through_region(struct worker *worker, uint32_t index)
{
    struct region *region = &worker->marker->regions[index];
    uint32_t spans;

    worker->region = index;
    do {
        while ((spans = __atomic_exchange_n(&region->spans, 0, __ATOMIC_SEQ_CST)) != 0)
            for (; spans; spans &= spans - 1)
                work_through_span(worker, index * REGION_SLICES + (uint32_t)__builtin_ctz(spans));
        __atomic_store_n(&region->is_queued, 0, __ATOMIC_SEQ_CST);
    } while (__atomic_load_n(&region->spans, __ATOMIC_SEQ_CST) != 0 &&
             !__atomic_exchange_n(&region->is_queued, 1, __ATOMIC_SEQ_CST));
}

static void *work(void *context)
{
    struct worker *worker = context;

    do {
        while (worker->own.count > 0) {
            work_through_region(worker, take(worker->marker, &worker->own));
            if (worker->own.count > 1 &&
                __atomic_load_n(&worker->marker->waiting, __ATOMIC_RELAXED) > 0)
                give_away(worker);
        }
    } while (wait_for_more(worker));
    return NULL;
}

/* --- roots --- */

/* A thread that is allocating or freeing a block that is a span may know its descriptor alone. */
static void look_at_descriptor(struct worker *worker, uint64_t word)
{
    const struct block_map *map = worker->marker->map;
    uint64_t slice = (word - worker->marker->slot - SPANS_OFFSET) >> SPAN_SHIFT;

    if (slice >= map->first_slice && slice < map->top && !map->is_opened &&
        map->notes[slice].class == BLOCK_CLASS_LARGE)
        look_at(worker, worker->marker->slot + (slice << SLICE_SHIFT) +
                            (uint64_t)map->notes[slice].start * BLOCK_UNIT);
}

static void root_words(void *context, const struct root *root, const void *data, size_t bytes)
{
    struct worker *worker = context;

    (void)root;
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        uint64_t word;

        memcpy(&word, (const uint8_t *)data + i, 8);
        look_at(worker, word);
        look_at_descriptor(worker, word);
    }
}

/* --- in order --- */

static uint64_t bits_bytes(const struct block_map *map)
{
    return (map->count / 64 + 1) * 8;
}

static int make_queue(struct marker *marker, struct queue *queue)
{
    queue->regions =
        arena_alloc(&marker->map->view->arena, marker->region_count * sizeof *queue->regions, 64);
    return queue->regions ? 0 : -ENOMEM;
}

static int note_held(void *context, uint64_t first_page,
                     const struct index_entry entries[INDEX_NODE_ENTRIES])
{
    const struct marker *marker = context;

    for (uint64_t i = 0; i < INDEX_NODE_ENTRIES; i++) {
        uint64_t page = first_page + i - (marker->low >> PAGE_SHIFT);

        if (entries[i].frame >= FRAME_FIRST && page < marker->bytes >> PAGE_SHIFT)
            marker->held[page / 64] |= 1ull << page % 64;
    }
    return 0;
}

/* What is read of the index, 16 bytes a page, goes when it has been looked through. */
static int look_through_index(struct marker *marker, struct arena *scratch)
{
    struct view *view = marker->map->view;
    struct image image;
    int status = image_open(&image, &view->pool, &view->generation, scratch, NULL);

    return status < 0
               ? status
               : index_each_leaf(image.index, marker->low >> PAGE_SHIFT,
                                 (marker->low + marker->bytes) >> PAGE_SHIFT, note_held, marker);
}

/* Of an opened heap the log has changed pages that the index does not know of; memory that is of no
 * generation (number 0) has no index. */
static void find_held(struct marker *marker)
{
    struct view *view = marker->map->view;
    struct arena scratch;

    if (view->is_opened || view->generation.number == 0 || arena_create(&scratch, ARENA_BYTES) < 0)
        return;
    marker->held = arena_alloc(&view->arena, (marker->bytes >> PAGE_SHIFT) / 8 + 8, 64);
    if (marker->held && look_through_index(marker, &scratch) < 0)
        marker->held = NULL;
    arena_destroy(&scratch);
}

/* white: a bit a block of those that are to be reached or not. */
static int start(struct marker *marker, struct reach *reach, uint64_t *white)
{
    const struct block_map *map = marker->map;
    struct arena *arena = &map->view->arena;

    layouts_load(&marker->layouts, map);
    marker->slot = view_slot_base(map->view);
    marker->low = marker->slot + ((uint64_t)map->first_slice << SLICE_SHIFT);
    marker->bytes = (uint64_t)(map->top - map->first_slice) << SLICE_SHIFT;
    for (uint32_t i = 0; i < SIZE_CLASSES; i++)
        marker->block_bytes[i] = size_class_block_bytes(i);
    marker->region_count = (map->top >> REGION_SHIFT) + 1;
    marker->white = white;
    if (reach->none == NULL)
        reach->none = arena_alloc(arena, bits_bytes(map), 64);
    marker->grey = reach->none;
    marker->regions = arena_alloc(arena, marker->region_count * sizeof *marker->regions, 64);
    if (!marker->white || !marker->grey || !marker->regions)
        return -ENOMEM;
    find_held(marker);
    return make_queue(marker, &marker->shared);
}

/* Those that cannot be started are no loss. */
static void work_together(struct marker *marker, struct worker *workers)
{
    uint32_t wanted = sys_worker_count(marker->map->used_count, BLOCKS_WORKER, WORKERS_MAX);
    uint32_t started = 1;

    marker->workers = 1;
    while (started < wanted && make_queue(marker, &workers[started].own) == 0) {
        struct worker *worker = &workers[started];

        worker->marker = marker;
        pthread_mutex_lock(&marker->lock);
        if (pthread_create(&worker->thread, NULL, work, worker) != 0)
            wanted = started;
        else
            marker->workers = ++started;
        pthread_mutex_unlock(&marker->lock);
    }
    (void)work(&workers[0]);
    for (uint32_t i = 1; i < started; i++)
        pthread_join(workers[i].thread, NULL);
}

static uint64_t count_bits(const struct block_map *map, const uint64_t *bits)
{
    uint64_t count = 0;

    for (uint64_t i = 0; i < bits_bytes(map) / 8; i++)
        count += (uint64_t)__builtin_popcountll(bits[i]);
    return count;
}

/* The first of the workers looks at what all begins with. */
typedef int begin_marking(struct worker *first, const struct reach *reach, struct problem *why);

static int mark(struct reach *reach, const struct block_map *map, uint64_t *white,
                begin_marking *begin, struct problem *why)
{
    struct marker marker = {
        .map = map, .lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};
    struct worker workers[WORKERS_MAX] = {{.marker = &marker, .region = UINT32_MAX}};
    int status = start(&marker, reach, white);

    if (status == 0)
        status = make_queue(&marker, &workers[0].own);
    if (status < 0)
        return problem_set(why, status, "no memory to mark %lu blocks",
                           (unsigned long)map->used_count);
    status = begin(&workers[0], reach, why);
    work_together(&marker, workers);
    return status;
}

static int begin_at_roots(struct worker *first, const struct reach *reach, struct problem *why)
{
    (void)reach;
    return roots_each(first->marker->map->view, root_words, first, why);
}

static int mark_from_roots(struct reach *reach, const struct block_map *map, uint64_t *white,
                           struct problem *why)
{
    int status;

    memset(reach, 0, sizeof *reach);
    reach->unreached = white;
    status = mark(reach, map, white, begin_at_roots, why);
    if (white != NULL)
        reach->unreached_count = count_bits(map, white);
    return status;
}

int reach_mark(struct reach *reach, const struct block_map *map, struct problem *why)
{
    uint64_t *white = arena_alloc(&map->view->arena, bits_bytes(map), 64);

    if (white != NULL)
        memcpy(white, map->used, bits_bytes(map));
    return mark_from_roots(reach, map, white, why);
}

int reach_mark_in_place(struct reach *reach, const struct block_map *map, struct problem *why)
{
    return mark_from_roots(reach, map, map->used, why);
}

static bool look_through_unless_chosen(void *context, const struct block *block)
{
    struct worker *worker = context;

    if (!block_bit(worker->marker->white, block->number)) {
        look_through(worker, block->address, block->bytes);
        look_through_near(worker);
    }
    return true;
}

static int begin_at_unchosen(struct worker *first, const struct reach *reach, struct problem *why)
{
    (void)why;
    block_map_each(first->marker->map, reach->unreached, look_through_unless_chosen, first);
    return 0;
}

int reach_keep_apart(struct reach *reach, const struct block_map *map, uint64_t *chosen,
                     struct problem *why)
{
    return mark(reach, map, chosen, begin_at_unchosen, why);
}
