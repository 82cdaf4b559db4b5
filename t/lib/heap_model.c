/*
 * heap_model.c - see heap_model.h. Of a long block the first and the last bytes are filled and
 * checked: what overlaps is found by the map, and a stray write of the heap's own is at a block's
 * ends.
 */
#include "t/lib/heap_model.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include "core/heap/heap.h"
#include "t/lib/tap.h"

#define BLOCKS_MAX  4096
#define THREADS_MAX 16
#define END_BYTES   256
#define NOTES_MAX   5

const struct heap_calls heap_model_calls = {heap_malloc,   heap_calloc, heap_realloc,
                                            heap_memalign, heap_free,   heap_usable_bytes};

struct model_block {
    unsigned char *start;
    size_t bytes, usable_bytes;
    unsigned char fill;
};

struct model_thread {
    const struct heap_model *model;
    uint64_t random;
};

static struct model_block map[BLOCKS_MAX]; /* sorted by start */
static uint32_t map_count;
static pthread_mutex_t map_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t failures;

static void fail(const char *what, const void *block, size_t bytes)
{
    if (__atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED) < NOTES_MAX)
        tap_note("%s: block %p of %zu bytes", what, block, bytes);
}

static uint32_t random_next(uint64_t *state)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(*state >> 33);
}

static size_t random_size(uint64_t *state)
{
    uint32_t kind = random_next(state) % 1000;

    if (kind < 800)
        return random_next(state) % 600;
    if (kind < 980)
        return random_next(state) % 20000;
    if (kind < 998)
        return random_next(state) % 200000;
    return random_next(state) % 5000000;
}

static bool all_bytes_are(const unsigned char *start, size_t bytes, unsigned char value)
{
    return bytes == 0 || (start[0] == value && memcmp(start, start + 1, bytes - 1) == 0);
}

static size_t end_bytes(size_t bytes)
{
    return bytes < END_BYTES ? bytes : END_BYTES;
}

static void block_fill(const struct model_block *block)
{
    size_t ends = end_bytes(block->bytes);

    memset(block->start, block->fill, ends);
    memset(block->start + block->bytes - ends, block->fill, ends);
    memset(block->start + block->bytes, block->fill, block->usable_bytes - block->bytes);
}

static bool block_is_whole(const struct model_block *block)
{
    size_t ends = end_bytes(block->bytes);

    return all_bytes_are(block->start, ends, block->fill) &&
           all_bytes_are(block->start + block->bytes - ends,
                         ends + block->usable_bytes - block->bytes, block->fill);
}

static uint32_t map_place(const unsigned char *start)
{
    uint32_t low = 0, high = map_count;

    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (map[middle].start < start)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Both under map_lock. */
static bool map_has_room_for(const struct model_block *block, uint32_t place)
{
    const unsigned char *end = block->start + block->usable_bytes;

    if (place > 0 && map[place - 1].start + map[place - 1].usable_bytes > block->start)
        return false;
    return place == map_count || end <= map[place].start;
}

static void map_insert(const struct model_block *block)
{
    uint32_t place = map_place(block->start);

    if (map_count == BLOCKS_MAX || !map_has_room_for(block, place)) {
        fail("overlaps another block", block->start, block->bytes);
        return;
    }
    /* In the lock: another thread may take it out as soon as it is in the map. */
    block_fill(block);
    memmove(&map[place + 1], &map[place], (map_count - place) * sizeof *map);
    map[place] = *block;
    map_count++;
}

static void model_add(struct model_thread *thread, unsigned char *start, size_t bytes)
{
    struct model_block block = {start, bytes, thread->model->calls->usable_bytes(start),
                                (unsigned char)(random_next(&thread->random) | 1)};

    if (block.usable_bytes < bytes || (uintptr_t)start % 16 != 0) {
        fail("too small or not aligned", start, bytes);
        return;
    }
    pthread_mutex_lock(&map_lock);
    map_insert(&block);
    pthread_mutex_unlock(&map_lock);
}

static void model_make(struct model_thread *thread)
{
    const struct heap_calls *calls = thread->model->calls;
    size_t bytes = random_size(&thread->random);
    size_t align = (size_t)16 << random_next(&thread->random) % 14;
    unsigned char *block;

    switch (random_next(&thread->random) % 4) {
    case 0:
        block = calls->calloc(1, bytes);
        if (block && !all_bytes_are(block, bytes, 0))
            fail("calloc did not clear", block, bytes);
        break;
    case 1:
        block = calls->memalign(align, bytes);
        if ((uintptr_t)block % align != 0)
            fail("memalign did not align", block, bytes);
        break;
    default:
        block = calls->malloc(bytes);
    }
    if (block)
        model_add(thread, block, bytes);
    else
        fail("no block", block, bytes);
}

static bool model_take_out(struct model_thread *thread, struct model_block *out)
{
    bool found;

    pthread_mutex_lock(&map_lock);
    found = map_count > 0;
    if (found) {
        uint32_t place = random_next(&thread->random) % map_count;

        *out = map[place];
        map_count--;
        memmove(&map[place], &map[place + 1], (map_count - place) * sizeof *map);
    }
    pthread_mutex_unlock(&map_lock);
    if (found && !block_is_whole(out))
        fail("was written to by somebody else", out->start, out->bytes);
    return found;
}

static void model_realloc(struct model_thread *thread, const struct model_block *old)
{
    size_t bytes = random_size(&thread->random);
    size_t kept = bytes < old->bytes ? bytes : old->bytes, ends = end_bytes(old->bytes);
    unsigned char *block = thread->model->calls->realloc(old->start, bytes);

    if (block == NULL) {
        fail("no block from realloc", old->start, bytes);
        return;
    }
    if (!all_bytes_are(block, end_bytes(kept), old->fill) ||
        (bytes >= old->bytes && !all_bytes_are(block + old->bytes - ends, ends, old->fill)))
        fail("realloc lost content", block, bytes);
    model_add(thread, block, bytes);
}

static void model_change(struct model_thread *thread)
{
    struct model_block old;

    if (!model_take_out(thread, &old))
        return;
    if (random_next(&thread->random) % 2)
        thread->model->calls->free(old.start);
    else
        model_realloc(thread, &old);
}

static void model_step(struct model_thread *thread)
{
    uint32_t room = thread->model->blocks_max - thread->model->threads;
    uint32_t count;

    pthread_mutex_lock(&map_lock);
    count = map_count;
    pthread_mutex_unlock(&map_lock);
    if (count < room && random_next(&thread->random) % 1000 < 520)
        model_make(thread);
    else
        model_change(thread);
}

static void *model_thread(void *argument)
{
    struct model_thread *thread = argument;

    for (uint32_t i = 0; i < thread->model->steps; i++)
        model_step(thread);
    heap_thread_exit();
    return NULL;
}

static void model_round(const struct heap_model *model, uint64_t seed)
{
    struct model_thread threads[THREADS_MAX];
    pthread_t ids[THREADS_MAX];

    for (uint32_t i = 0; i < model->threads; i++)
        threads[i] = (struct model_thread){model, seed + i * 7919};
    for (uint32_t i = 1; i < model->threads; i++)
        if (pthread_create(&ids[i], NULL, model_thread, &threads[i]) != 0)
            fail("no thread", NULL, 0);
    for (uint32_t i = 0; i < model->steps; i++)
        model_step(&threads[0]);
    for (uint32_t i = 1; i < model->threads; i++)
        pthread_join(ids[i], NULL);
}

static void model_end(const struct heap_model *model)
{
    while (map_count > 0) {
        const struct model_block *last = &map[--map_count];

        if (!block_is_whole(last))
            fail("was written to by somebody else", last->start, last->bytes);
        model->calls->free(last->start);
    }
}

uint64_t heap_model_run(const struct heap_model *model)
{
    failures = 0;
    for (uint32_t round = 0; round < model->rounds; round++) {
        model_round(model, model->seed + round * 104729ull);
        if (model->between)
            model->between();
    }
    model_end(model);
    if (model->between)
        model->between();
    return failures;
}
