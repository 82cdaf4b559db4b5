/*
 * opened.c - see opened.h: a heap from its opening to its closing, but for the checkpoint.
 *
 * What must always be true: nothing is written to the pool before the heap is in memory as the pool
 * has it; the log that is applied follows the generation that was read.
 */
#include "core/tx/opened.h"

#include <errno.h>
#include <string.h>
#include "core/base/sys.h"
#include "core/heap/heap.h"
#include "core/heap/slot.h"
#include "core/tx/opened_cut.h"
#include "core/tx/refs.h"
#include "core/tx/replay.h"
#include "core/tx/settle.h"
#include "core/tx/transaction.h"

#define ARENA_BYTES      (16ull << 30)
#define SCRATCH_BYTES    (16ull << 30)
#define WINDOW_BYTES     (256ull << 30) /* what lies beyond is written by system calls */
#define READ_ATTEMPTS    20
#define DAMAGED_ATTEMPTS 3 /* for so many a writer may only not have finished */

static uint64_t heaps_made;

/* --- attaching --- */

/* A page that a forked child finds empty. */
static int watch_forks(struct pheap *heap)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    void *page = sys_mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
    int status;

    if (sys_failed((long)page))
        return (int)(long)page;
    heap->alive = page;
    status = sys_madvise(page, PAGE_BYTES, MADV_WIPEONFORK);
    *heap->alive = 1;
    return status;
}

static int make(struct pheap **out, bool read_only)
{
    struct arena arena, scratch = {0}, blocks_arena = {0};
    struct pheap *heap;
    int status = arena_create(&arena, ARENA_BYTES);

    if (status < 0)
        return status;
    status = arena_create(&scratch, SCRATCH_BYTES);
    if (status == 0)
        status = arena_create(&blocks_arena, ARENA_BYTES);
    heap = status < 0 ? NULL : arena_alloc(&arena, sizeof *heap, _Alignof(struct pheap));
    if (!heap) {
        arena_destroy(&scratch);
        arena_destroy(&arena);
        if (status == 0)
            arena_destroy(&scratch);
        return status < 0 ? status : -ENOMEM;
    }
    heap->blocks_arena = blocks_arena;
    heap->arena = arena;
    heap->scratch = scratch;
    heap->pool.fd = -1;
    heap->read_only = read_only;
    heap->log.persist.fd = -1;
    heap->id = __atomic_add_fetch(&heaps_made, 1, __ATOMIC_RELAXED);
    lock_init(&heap->checkpoint_lock, LOCK_RANK_CHECKPOINT);
    *out = heap;
    return watch_forks(heap);
}

static void close_window(struct pheap *heap)
{
    if (heap->window.start)
        (void)sys_munmap((void *)heap->window.start, WINDOW_BYTES);
    heap->window = (struct address_range){0, 0};
}

int opened_attach(struct pheap **out, const char *path, bool read_only, struct problem *why)
{
    int status;

    *out = NULL;
    status = make(out, read_only);
    if (status < 0)
        problem_set(why, status, "no memory to open '%s': %s", path, status_text(status));
    else
        status = pool_open(&(*out)->pool, path, read_only ? POOL_READ : POOL_WRITE, why);
    if (status < 0 && *out) {
        (*out)->pool.fd = -1;
        (void)opened_close(*out);
        *out = NULL;
    }
    return status;
}

void opened_use_dax(struct pheap *heap, const struct persist_pmem *pmem, log_clock *clock)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *window = sys_mmap(NULL, WINDOW_BYTES, PROT_NONE, flags, -1, 0);
    uintptr_t start = (uintptr_t)window;

    if (sys_failed((long)window))
        return; /* the file back end is right everywhere */
    heap->window = (struct address_range){start, start + WINDOW_BYTES};
    heap->clock = clock;
    if (persist_use_dax(&heap->pool.persist, pmem, window, WINDOW_BYTES) < 0)
        close_window(heap);
}

/* Not in a forked child. */
static bool opened_is_ours(const struct pheap *heap)
{
    return !heap->alive || __atomic_load_n(heap->alive, __ATOMIC_RELAXED) != 0;
}

int opened_close(struct pheap *heap)
{
    struct arena arena = heap->arena, scratch = heap->scratch;
    struct arena blocks_arena = heap->blocks_arena;
    int status = 0;

    if (gate_count_taken(&heap->gate) > 0)
        return STATUS_DEFERRED;
    if (!opened_is_ours(heap))
        heap->service = (struct service){0}; /* it is the parent's */
    if (heap->log.sequence > 0 && opened_may_change(heap) == 0)
        status = opened_wait(heap, 0);
    service_stop(&heap->service);
    tx_drop_all(heap);
    opened_drop_writer(heap);
    log_close(&heap->log);
    if (heap->memory.base)
        refs_remove(heap);
    pool_close(&heap->pool);
    close_window(heap);
    slot_memory_release(&heap->memory);
    if (heap->alive)
        (void)sys_munmap(heap->alive, PAGE_BYTES);
    arena_destroy(&blocks_arena);
    arena_destroy(&scratch);
    arena_destroy(&arena); /* heap lies in it */
    return status;
}

/* --- loading --- */

/* Does the pool hold a heap, or nothing at all? */
static int judge_pool(const struct pool *pool, struct problem *why)
{
    const struct generation_entry *newest = pool_generation(pool, 0);
    uint64_t number = newest ? newest->number : 0;

    if (pool->super.run_state != RUN_NONE || (newest && newest->kind != GENERATION_HEAP))
        return problem_set(
            why, STATUS_REFUSED,
            "pool '%s' holds a program's checkpoints: a heap needs a pool of its own", pool->path);
    if (newest && (pool->super.log.extent_count == 0 || pool->super.log.generation != number))
        return problem_set(why, STATUS_DAMAGED,
                           "pool '%s' is damaged: its log follows generation %lu, its newest "
                           "generation is %lu",
                           pool->path, pool->super.log.generation, number);
    return 0;
}

static int reserve_slot(struct pheap *heap, struct problem *why)
{
    uint32_t slot = heap->pool.super.slot;
    int status = slot_memory_reserve(&heap->memory, slot);

    if (status == -EEXIST)
        return problem_set(
            why, status,
            "cannot open heap '%s': its place in memory, slot %u, is taken by another "
            "heap or mapping",
            heap->pool.path, slot);
    if (status < 0)
        return problem_set(why, status, "cannot reserve memory for heap '%s': %s", heap->pool.path,
                           status_text(status));
    return 0;
}

static int check_header(const struct pheap *heap, struct problem *why)
{
    const struct tx_header *header = (const struct tx_header *)heap->memory.base;

    if (header->magic == TX_MAGIC && header->version == TX_VERSION &&
        header->slot == heap->pool.super.slot)
        return 0;
    return problem_set(why, STATUS_DAMAGED, "generation %lu of pool '%s' shows no opened heap",
                       pool_generation(&heap->pool, 0)->number, heap->pool.path);
}

/* The newest generation with the log applied to it, and what follows from them. */
static int read_heap(struct pheap *heap, struct problem *why)
{
    struct image image;
    int status = image_open_to_plan(&image, &heap->pool, pool_generation(&heap->pool, 0),
                                    &heap->scratch, why);

    if (status == 0)
        status = slot_memory_fill(&heap->memory, &image, why);
    arena_rewind(&heap->scratch, heap->scratch.base);
    if (status == 0)
        status = check_header(heap, why);
    if (status < 0)
        return status;
    log_begin(&heap->log, &heap->pool);
    status = replay_log(&heap->log, &heap->memory, &heap->scratch, &heap->promises, why);
    return status < 0 ? status : settle_promises(heap, why);
}

static int derive(struct pheap *heap, struct problem *why)
{
    int status = blocks_derive(&heap->blocks, &heap->memory, &heap->blocks_arena);

    if (status == 0)
        status = stripes_create(&heap->stripes, &heap->blocks_arena);
    decisions_derive(&heap->decisions, heap->memory.base);
    if (status < 0)
        return problem_set(why, status, "the heap in pool '%s' cannot be used: %s", heap->pool.path,
                           status == STATUS_DAMAGED ? "its spans contradict each other"
                                                    : status_text(status));
    return 0;
}

static int open_log(struct pheap *heap, struct problem *why)
{
    int status;

    heap->log.clock = heap->clock;
    status = log_open(&heap->log);
    return status < 0 ? problem_set(why, status, "cannot open the log of pool '%s': %s",
                                    heap->pool.path, status_text(status))
                      : 0;
}

static int format_heap(struct pheap *heap, struct problem *why)
{
    struct tx_header *header = (struct tx_header *)heap->memory.base;
    int64_t number;
    int status;

    *header = (struct tx_header){TX_MAGIC, TX_VERSION, heap->pool.super.slot};
    status = derive(heap, why);
    log_begin(&heap->log, &heap->pool);
    if (status == 0)
        status = open_log(heap, why);
    if (status == 0)
        status = log_extend(&heap->log, LOG_FIRST_FRAMES, why);
    if (status < 0)
        return status;
    number = opened_checkpoint(heap, 0, why);
    return number < 0 ? (int)number : 0;
}

static int load_for_writing(struct pheap *heap, struct problem *why)
{
    const struct generation_entry *newest = pool_generation(&heap->pool, 0);
    struct problem found = {0};
    int status = pool_load(&heap->pool, &heap->arena, newest ? newest->number : 0, &found);

    if (status < 0) {
        if (why)
            *why = found;
        return status;
    }
    if (!newest)
        return format_heap(heap, why);
    status = read_heap(heap, why);
    if (status == 0)
        status = derive(heap, why);
    if (status == 0)
        status = open_log(heap, why);
    return status < 0 ? status : settle_tell(heap, why);
}

/* --- reading beside a writer --- */

/* The pool as it is now, its newest generation locked: the descriptor. */
static int lock_newest(struct pheap *heap, struct problem *why)
{
    const struct generation_entry *newest = pool_generation(&heap->pool, 0);

    if (!newest)
        return problem_set(why, STATUS_NO_GENERATION, "pool '%s' holds no heap yet",
                           heap->pool.path);
    return pool_lock_generation(&heap->pool, newest->number, why);
}

static int reopen(struct pheap *heap, struct problem *why)
{
    char path[sizeof heap->pool.path];
    int status;

    memcpy(path, heap->pool.path, sizeof path);
    pool_close(&heap->pool);
    status = pool_open(&heap->pool, path, POOL_READ, why);
    if (status < 0)
        heap->pool.fd = -1;
    return status;
}

/* 1: the writer has gone on to another generation or superblock meanwhile. 2: it is damaged. */
static int read_once(struct pheap *heap, struct problem *why)
{
    uint64_t sequence = heap->pool.super.sequence;
    int lock = lock_newest(heap, why), status = lock;

    if (lock >= 0) {
        status = read_heap(heap, why);
        arena_rewind(&heap->scratch, heap->scratch.base);
        sys_close(lock);
    }
    if (reopen(heap, NULL) == 0 && heap->pool.super.sequence != sequence)
        return 1; /* so has who dropped the generation before it was locked */
    return status == STATUS_DAMAGED ? 2 : status;
}

/* What is read may be overwritten while it is read: it counts when no generation was committed
 * meanwhile; and what is damaged, when it is so for good. */
static int load_for_reading(struct pheap *heap, struct problem *why)
{
    int status = 1, damaged = 0;

    for (int attempt = 0; status > 0 && attempt < READ_ATTEMPTS; attempt++) {
        if (attempt > 0)
            status = slot_memory_empty(&heap->memory);
        if (status >= 0)
            status = judge_pool(&heap->pool, why);
        if (status >= 0)
            status = read_once(heap, why);
        damaged += status == 2;
        if (damaged == DAMAGED_ATTEMPTS)
            return STATUS_DAMAGED;
    }
    if (status > 0)
        return problem_set(why, STATUS_DEFERRED,
                           "heap '%s' could not be read: its writer takes checkpoints too fast",
                           heap->pool.path);
    if (status == 0)
        status = derive(heap, why);
    return status < 0 ? status : slot_memory_seal(&heap->memory);
}

int opened_load(struct pheap *heap, struct problem *why)
{
    int status = judge_pool(&heap->pool, why);

    if (status == 0)
        status = reserve_slot(heap, why);
    if (status < 0)
        return status;
    status = heap->read_only ? load_for_reading(heap, why) : load_for_writing(heap, why);
    heap->log.long_at = OPENED_LOG_BYTES;
    if (status == 0)
        refs_add(heap);
    return status;
}

void opened_fail(struct pheap *heap, int status)
{
    __atomic_store_n(&heap->failed, status, __ATOMIC_RELAXED);
}

int opened_may_change(const struct pheap *heap)
{
    if (!opened_is_ours(heap))
        return -ESRCH;
    return heap->read_only ? -EROFS : __atomic_load_n(&heap->failed, __ATOMIC_RELAXED);
}

static void note_failure(struct pheap *heap)
{
    int failed = __atomic_load_n(&heap->log.failed, __ATOMIC_ACQUIRE);

    if (failed < 0)
        opened_fail(heap, failed);
}

int opened_wait(struct pheap *heap, uint64_t sequence)
{
    uint64_t last = __atomic_load_n(&heap->log.sequence, __ATOMIC_ACQUIRE);
    int status = opened_may_change(heap);

    if (status == 0)
        status = log_wait(&heap->log, sequence == 0 || sequence > last ? last : sequence, NULL);
    note_failure(heap);
    return status;
}

void opened_note_log(struct pheap *heap, int status)
{
    if (status < 0)
        note_failure(heap);
}

bool opened_is_valid(struct pheap *heap)
{
    return pool_is_valid(&heap->pool) && log_is_valid(&heap->log) &&
           blocks_are_valid(&heap->blocks);
}
