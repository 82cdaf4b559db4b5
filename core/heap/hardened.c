/*
 * hardened.c - see hardened.h: which slab or span serves a call, and the quarantine.
 *
 * A signal handler over an interrupted call of ours finds the lock its own thread's: it is served
 * by a large block, and what it frees is lost.
 */
#include "core/heap/hardened.h"

#include <string.h>
#include "core/base/format_text.h"
#include "core/base/sys.h"
#include "core/heap/fast_path.h"
#include "core/heap/hardened_large.h"
#include "core/heap/hardened_slab.h"
#include "core/heap/heap.h"
#include "core/heap/memcheck.h"
#include "core/heap/misuse.h"

/* Of address space, large blocks having given their memory back. */
#define QUARANTINE_BYTES (64ull << 20)

int hardened_start(struct heap *heap, enum heap_mode mode)
{
    struct hardened *state = heap_hardened(heap);
    int status = sys_mprotect(state, sizeof *state, PROT_READ | PROT_WRITE);

    if (status < 0)
        return status;
    lock_init(&state->lock, LOCK_RANK_HARDENED);
    state->random = heap->secret | 1;
    heap->mode = mode;
    return 0;
}

static struct lock *hardened_lock(const struct heap *heap)
{
    return &heap_hardened(heap)->lock;
}

/* Whoever holds our lock may be waiting for that of the spans. */
static bool is_interrupted(const struct heap *heap)
{
    return lock_held_by(hardened_lock(heap), heap_holder()) || heap_is_interrupted(heap);
}

/* --- the quarantine --- */

static uint64_t quarantined_bytes(const struct span *span)
{
    return span->kind == SPAN_HARD_SLAB ? size_class_block_bytes(span->size_class)
                                        : span->large_bytes;
}

static uint64_t *quarantine_entry(struct hardened *state, uint64_t age_rank)
{
    return &state->quarantine[(state->quarantine_first + age_rank) % QUARANTINE_BLOCKS];
}

/* The one of this rank by age; the oldest takes its place. */
static uint64_t quarantine_take(struct heap *heap, uint64_t age_rank)
{
    struct hardened *state = heap_hardened(heap);
    uint64_t *chosen = quarantine_entry(state, age_rank);
    uint64_t block = *chosen;

    *chosen = *quarantine_entry(state, 0);
    state->quarantine_first = (state->quarantine_first + 1) % QUARANTINE_BLOCKS;
    state->quarantine_count--;
    state->quarantine_bytes -= quarantined_bytes(heap_block_span((const void *)block));
    return block;
}

static void quarantine_put(struct heap *heap, uint64_t block)
{
    struct hardened *state = heap_hardened(heap);

    *quarantine_entry(state, state->quarantine_count++) = block;
    state->quarantine_bytes += quarantined_bytes(heap_block_span((const void *)block));
}

static void quarantine_leave(struct heap *heap, uint64_t age_rank)
{
    uint64_t block = quarantine_take(heap, age_rank);
    struct span *span = heap_block_span((const void *)block);

    if (span->kind == SPAN_HARD_SLAB)
        hard_slab_release(heap, span, (void *)block);
    else if (!hard_large_release(heap, span))
        quarantine_put(heap, block);
}

static void quarantine_leave_any(struct heap *heap)
{
    quarantine_leave(heap, hard_random(heap) % (heap_hardened(heap)->quarantine_count / 2 + 1));
}

static void quarantine_enter(struct heap *heap, void *block)
{
    const struct hardened *state = heap_hardened(heap);

    if (state->quarantine_count > 0 && state->quarantine_bytes > QUARANTINE_BYTES)
        quarantine_leave_any(heap);
    for (int i = 0; state->quarantine_count == QUARANTINE_BLOCKS && i < QUARANTINE_BLOCKS; i++)
        quarantine_leave_any(heap);
    /* Full of what the kernel does not give back: this one is lost. */
    if (state->quarantine_count < QUARANTINE_BLOCKS)
        quarantine_put(heap, (uint64_t)block);
}

/* False: nothing came out of it. */
static bool quarantine_empty(struct heap *heap)
{
    struct hardened *state = heap_hardened(heap);
    uint32_t before;

    if (is_interrupted(heap))
        return false;
    heap_lock(heap, &state->lock);
    before = state->quarantine_count;
    for (uint32_t i = 0; i < before; i++)
        quarantine_leave(heap, 0);
    before -= state->quarantine_count;
    heap_unlock(heap, &state->lock);
    return before > 0;
}

/* --- allocation --- */

/* Where memory is out, a place in any slab of larger blocks will do. */
static struct span *larger_slab(const struct heap *heap, uint32_t size_class, size_t align)
{
    const struct hardened *state = heap_hardened(heap);

    for (uint32_t i = 0; i < SIZE_CLASSES; i++)
        if (state->partial[i] && size_class_block_bytes(i) % align == 0 &&
            size_class_block_bytes(i) > size_class_block_bytes(size_class))
            return heap_span(heap, state->partial[i]);
    return NULL;
}

static void *small_alloc(struct heap *heap, uint32_t size_class, size_t bytes, size_t align)
{
    struct hardened *state = heap_hardened(heap);
    struct span *slab;
    void *block = NULL;

    heap_lock(heap, &state->lock);
    slab = state->partial[size_class] ? heap_span(heap, state->partial[size_class])
                                      : hard_slab_create(heap, size_class);
    if (slab == NULL)
        slab = larger_slab(heap, size_class, align);
    if (slab)
        block = hard_slab_take(heap, slab, bytes);
    heap_unlock(heap, &state->lock);
    return block;
}

/* Blocks of a slab start behind pages of its own, so they are aligned to a page at most. */
static uint32_t class_for(const struct heap *heap, size_t bytes, size_t align)
{
    if (align > PAGE_BYTES || bytes > BLOCK_MAX_BYTES - CANARY_BYTES || is_interrupted(heap))
        return SIZE_CLASSES;
    return size_class_of_aligned(bytes + CANARY_BYTES, align < 16 ? 16 : align);
}

static void *try_alloc(struct heap *heap, size_t bytes, size_t align, bool *is_zero)
{
    uint32_t size_class = class_for(heap, bytes, align);

    if (size_class < SIZE_CLASSES)
        return small_alloc(heap, size_class, bytes, align);
    return hard_large_alloc(heap, bytes, align, is_zero);
}

void *hardened_alloc(struct heap *heap, size_t bytes, size_t align, bool *is_zero)
{
    bool is_clean = false;
    void *block = try_alloc(heap, bytes, align, &is_clean);

    if (block == NULL && quarantine_empty(heap))
        block = try_alloc(heap, bytes, align, &is_clean);
    if (block == NULL)
        return NULL;
    memcheck_block_made(heap, block, bytes, is_zero && is_clean);
    if (is_zero && !is_clean)
        memset(block, 0, bytes);
    if (is_zero)
        *is_zero = true;
    return block;
}

/* --- what a pointer is --- */

static bool is_in_use(const struct heap *heap, const struct span *span, const void *block)
{
    uint32_t place;

    if (span->kind == SPAN_HARD_LARGE)
        return !(span->flags & HARD_FREED);
    place = hard_slab_place(heap, span, block);
    return hard_table(heap, span)->words[place] >= PLACE_USED;
}

static bool is_block(const struct heap *heap, const struct span *span, const void *block)
{
    if (span->kind == SPAN_HARD_LARGE)
        return (uintptr_t)block == heap_large_block(heap, span);
    return span->kind == SPAN_HARD_SLAB && hard_slab_place(heap, span, block) != UINT32_MAX;
}

/* Aborts unless it is a block in use; NULL: foreign. */
static struct span *span_checked(const struct heap *heap, const void *block, const char *call)
{
    struct span *span = heap_block_span(block);

    if (span == NULL && !heap_owns(block))
        return NULL;
    if (span == NULL || !is_block(heap, span, block))
        misuse_invalid_pointer(heap, block, call);
    if (!is_in_use(heap, span, block))
        misuse_freed_already(heap, span, block, call);
    return span;
}

static size_t bytes_of(const struct heap *heap, const struct span *span, const void *block)
{
    if (span->kind == SPAN_HARD_LARGE)
        return span->large_bytes;
    return hard_place_bytes(heap, span, hard_slab_place(heap, span, block));
}

size_t hardened_usable_bytes(const struct heap *heap, const void *block)
{
    const struct span *span = heap_block_span(block);

    if (span == NULL || !is_block(heap, span, block) || !is_in_use(heap, span, block))
        return 0;
    return bytes_of(heap, span, block);
}

/* --- free, realloc --- */

void hardened_free(struct heap *heap, void *block)
{
    struct hardened *state = heap_hardened(heap);
    struct span *span;

    if (is_interrupted(heap))
        return;
    heap_lock(heap, &state->lock);
    span = span_checked(heap, block, "free");
    if (span) {
        memcheck_block_freed(heap, block);
        if (span->kind == SPAN_HARD_SLAB)
            hard_slab_quarantine(heap, span, block);
        else
            hard_large_quarantine(heap, span);
        quarantine_enter(heap, block);
    }
    heap_unlock(heap, &state->lock);
}

/* Always to another place: a pointer that is kept across a realloc is a fault to be found. */
void *hardened_realloc(struct heap *heap, void *block, size_t bytes)
{
    const struct span *span = span_checked(heap, block, "realloc");
    size_t old_bytes;
    void *moved;

    if (span == NULL)
        return NULL;
    old_bytes = bytes_of(heap, span, block);
    moved = hardened_alloc(heap, bytes, 16, NULL);
    if (moved == NULL)
        return bytes <= old_bytes ? block : NULL;
    memcpy(moved, block, bytes < old_bytes ? bytes : old_bytes);
    hardened_free(heap, block);
    return moved;
}

/* --- faults --- */

/* The span that the address lies in, found by walking: the descriptors inside of a large one say
 * nothing. */
static const struct span *span_around(const struct heap *heap, uint64_t slice)
{
    for (uint32_t at = heap->data_slice; at < heap->top;) {
        const struct span *span = heap_span(heap, at);

        if (span->slices == 0 || slice < at)
            break;
        if (slice < (uint64_t)at + span->slices)
            return span;
        at += span->slices;
    }
    return NULL;
}

static void explain_large(const struct heap *heap, const struct span *span, const void *address)
{
    void *block = (void *)heap_large_block(heap, span);
    const char *where = address < block ? "before" : "behind";
    char what[160];

    if (span->flags & HARD_FREED)
        where = "in or beside";
    format_text(what, sizeof what, "%s the large block %p of %lu bytes%s, span at %p", where, block,
                span->large_bytes, span->flags & HARD_FREED ? ", which was freed" : "",
                (void *)heap_span_address(heap, span));
    misuse_fault(address, what);
}

void heap_explain_fault(const void *address)
{
    const struct heap *heap = heap_here();
    const struct span *span;
    char what[160];

    if (!heap_owns(address) || heap->mode != HEAP_HARDENED)
        return;
    span = span_around(heap, ((uintptr_t)address - (uintptr_t)heap) >> SLICE_SHIFT);
    if (span && span->kind == SPAN_HARD_LARGE)
        explain_large(heap, span, address);
    if (span && span->kind == SPAN_HARD_SLAB) {
        format_text(what, sizeof what, "a guard page of the slab at %p, size class %u",
                    (void *)heap_span_address(heap, span),
                    size_class_block_bytes(span->size_class));
        misuse_fault(address, what);
    }
    misuse_fault(address, "the heap has handed out nothing there");
}
