/*
 * free.c - free beyond the fast path, realloc, usable size: everything that starts from a block's
 * address.
 *
 * A pointer that is not in the slot is left alone: a block of ld.so's minimal malloc, from before
 * libpheap was bound. A pointer in the slot that no call returned is reported and aborts.
 */
#include <string.h>
#include "core/heap/epoch.h"
#include "core/heap/fast_path.h"
#include "core/heap/hardened.h"
#include "core/heap/heap.h"
#include "core/heap/large.h"
#include "core/heap/misuse.h"
#include "core/heap/noted.h"
#include "core/heap/profile.h"
#include "core/heap/remote.h"
#include "core/heap/spans.h"
#include "core/heap/thread_heap.h"

struct span *heap_block_span(const void *block)
{
    uint64_t slice = ((uintptr_t)block - heap_place.base) >> SLICE_SHIFT;
    struct span *span;

    if (slice >= __atomic_load_n(&heap_place.slice_count, __ATOMIC_RELAXED))
        return NULL;
    span = heap_span(heap_here(), (uint32_t)slice);
    return span->kind == SPAN_INSIDE ? span - span->slices : span;
}

static bool block_is_one(const struct heap *heap, const struct span *span, const void *block)
{
    uint64_t offset = (uintptr_t)block - heap_span_address(heap, span);
    uint32_t carved = __atomic_load_n(&span->carved_bytes, __ATOMIC_RELAXED);

    if (span->kind == SPAN_LARGE)
        return offset == span->block_offset;
    return span->kind == SPAN_SLAB && offset < carved && slab_offset_is_block(span, offset);
}

static bool is_free(const struct heap *heap, const struct span *slab, const void *block)
{
    if (slab_bit_is_set(heap, slab, block))
        return true;
    return slab_looks_free(slab, block) &&
           (slab_finds_free(heap, slab, block) || remote_finds_free(heap, block));
}

/* The span of a block that the program says it has. NULL: foreign, or, of a hardened heap, any.
 * Aborts on anything else. */
static struct span *block_span_checked(const struct heap *heap, const void *block, const char *call)
{
    struct span *span = heap_block_span(block);

    if (UNLIKELY(span == NULL || !block_is_one(heap, span, block))) {
        if (!heap_owns(block) || heap_is_hardened(heap))
            return NULL;
        misuse_invalid_pointer(heap, block, call);
    }
    if (span->kind == SPAN_SLAB && is_free(heap, span, block))
        misuse_double_free(heap, span, block);
    return span;
}

static uint64_t span_usable_bytes(const struct span *span)
{
    return span->kind == SPAN_SLAB ? size_class_block_bytes(span->size_class) : span->large_bytes;
}

/* Of a slab that is not CURRENT. */
static void free_counted(const struct heap *heap, struct span *slab, void *block)
{
    if (slab->flags & SLAB_NOTED || (noted_is_clearing() && noted_begin(heap, slab))) {
        noted_add(heap, slab, block);
    } else {
        slab_push(slab, block);
        slab->room--;
    }
}

/* Our own slab was full: from now on it has a free block. */
static void free_into_full(struct heap *heap, struct span *slab, void *block)
{
    struct thread_heap *mine = heap_thread;
    uint64_t armed = REMOTE_NOTIFY;

    if (heap_is_interrupted(heap)) {
        remote_free(heap, slab, block);
        return;
    }
    heap_lock(heap, &mine->lock);
    noted_count_full(heap, mine);
    free_counted(heap, slab, block);
    /* Not armed: another thread's notification is on its way and will do the rest. */
    if (__atomic_compare_exchange_n(&slab->remote, &armed, 0, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_RELAXED))
        slab_unfull(heap, mine, slab);
    heap_unlock(heap, &mine->lock);
}

/* The owner's last block of a slab that is not CURRENT came back. */
static void slab_emptied(struct heap *heap, struct span *slab)
{
    struct thread_heap *mine = heap_thread;

    if (heap_is_interrupted(heap))
        return; /* over an interrupted call of ours: the next epoch collects it */
    heap_lock(heap, &mine->lock);
    slab_leave_partial(heap, mine, slab);
    slab_release(heap, slab);
    heap_unlock(heap, &mine->lock);
    epoch_tick(heap);
}

/* A slab that is not ours any more: a signal handler came in between and has given it back. */
__attribute__((noinline)) void heap_slab_spent(const void *block)
{
    struct span *slab = heap_block_span(block);

    if (slab->kind != SPAN_SLAB || slab->owner != (uint64_t)heap_thread)
        return;
    if (slab->flags & SLAB_CURRENT)
        slab->room = ROOM_CURRENT;
    else if (slab_used(slab) == 0)
        slab_emptied(heap_here(), slab);
}

static void free_own(struct heap *heap, struct span *slab, void *block)
{
    if (slab->flags & SLAB_CURRENT) {
        slab_push(slab, block);
        slab->room = ROOM_CURRENT;
        return;
    }
    free_counted(heap, slab, block);
    if (slab_used(slab) == 0)
        slab_emptied(heap, slab);
}

static void free_to_slab(struct heap *heap, struct span *slab, void *block)
{
    uint64_t owner_word = __atomic_load_n(&slab->owner, __ATOMIC_RELAXED);

    if (owner_word == (uint64_t)heap_thread) {
        free_own(heap, slab, block);
    } else if (owner_word == ((uint64_t)heap_thread | OWNER_FULL)) {
        free_into_full(heap, slab, block);
    } else {
        remote_free(heap, slab, block);
    }
}

__attribute__((noinline)) static void free_checked(void *block)
{
    struct heap *heap = heap_here();
    struct span *span;

    if (block == NULL || heap == NULL)
        return;
    span = block_span_checked(heap, block, "free");
    if (UNLIKELY(span == NULL)) {
        if (heap_is_hardened(heap))
            hardened_free(heap, block);
        return;
    }
    if (UNLIKELY(slab_flags(span) & SPAN_SAMPLED))
        profile_forget(heap, block);
    if (span->kind == SPAN_LARGE)
        large_free(heap, span);
    else
        free_to_slab(heap, span, block);
}

/* Whether it is, without doubt, a block in use of a slab of one slice, of which nothing is to be
 * noted anywhere. */
static bool is_plain(const struct span *slab, const void *block)
{
    uint64_t offset = (uint64_t)block - slab->start;

    return slab->kind == SPAN_SLAB && !(slab_flags(slab) & (SPAN_SAMPLED | SLAB_NOTED)) &&
           offset < __atomic_load_n(&slab->carved_bytes, __ATOMIC_RELAXED) &&
           slab_offset_is_block(slab, offset) && !slab_looks_free(slab, block);
}

/* kind, size_class and flags of a span in one look: SPAN_SLAB for a slab of small blocks of which
 * nothing is to be noted anywhere. */
#define TRAITS_MASK                                                                                \
    (0xffu | (0xffu & ~REMOTE_CLASS_MAX) << 8 | (uint32_t)(SPAN_SAMPLED | SLAB_NOTED) << 16)

static uint32_t span_traits(const struct span *span)
{
    return __atomic_load_n((const uint32_t *)(const void *)&span->kind, __ATOMIC_RELAXED) &
           TRAITS_MASK;
}

/* Bits of owned_start that a tag has. */
#define TAG_BITS (64 - TAG_SHIFT)

/* The same as is_plain(), but for the mark, and small, and another thread's. Looks at the slab's
 * second line alone. Offsets are from one block before the slab, without the tag. */
static inline bool is_plainly_remote(const struct span *slab, const void *block,
                                     const struct thread_heap *mine)
{
    uint64_t offset = ((uint64_t)block - slab->owned_start) << TAG_BITS >> TAG_BITS;

    return span_traits(slab) == SPAN_SLAB &&
           offset - 1 < __atomic_load_n(&slab->carved_bytes, __ATOMIC_RELAXED) &&
           slab_offset_is_block(slab, offset) && slab_owner(slab) != mine;
}

__attribute__((noinline)) static void free_clearing(void *block, struct span *span)
{
    if (!noted_free_first(heap_here(), span, block))
        free_checked(block);
}

/* In a slab of several slices the block's own slice may not be the one that knows. */
__attribute__((noinline)) void heap_free_slow(void *block)
{
    struct span *span = span_of_slice(block);
    struct thread_heap *mine = heap_thread;

    if (is_plainly_remote(span, block, mine) && remote_may_gather(mine))
        remote_gather(mine, span, block);
    else if (slab_flags(span) & SLAB_NOTED && noted_free(heap_here(), span, block))
        return;
    else if (noted_is_clearing())
        free_clearing(block, span);
    else if (span->kind == SPAN_INSIDE && slab_is_own(span - span->slices, block))
        slab_free(span - span->slices, block);
    else
        free_checked(block);
}

void heap_free(void *block)
{
    fast_free(block);
}

size_t heap_usable_bytes(const void *block)
{
    const struct span *span = heap_block_span(block);

    if (span == NULL || !block_is_one(heap_here(), span, block))
        return heap_here() && heap_is_hardened(heap_here())
                   ? hardened_usable_bytes(heap_here(), block)
                   : 0;
    return span_usable_bytes(span);
}

/* Of a slab's block. */
static bool fits_well(uint64_t usable_bytes, size_t bytes)
{
    return bytes <= usable_bytes && bytes >= usable_bytes / 2;
}

/* Whether the block may stay where it is although it will hold `bytes`. */
static bool realloc_in_place(struct heap *heap, struct span *span, size_t bytes)
{
    if (span->kind == SPAN_LARGE)
        return bytes > BLOCK_MAX_BYTES / 2 && large_resize(heap, span, bytes);
    return fits_well(span_usable_bytes(span), bytes);
}

void *heap_realloc_plain(void *block, size_t bytes)
{
    const struct span *slab = span_of_slice(block);
    uint64_t usable_bytes;
    void *moved;

    if (!is_plain(slab, block))
        return NULL;
    usable_bytes = size_class_block_bytes(slab->size_class);
    if (fits_well(usable_bytes, bytes))
        return block;
    moved = fast_malloc(heap_thread, bytes);
    if (moved == NULL)
        return NULL;
    memcpy(moved, block, bytes < usable_bytes ? bytes : usable_bytes);
    fast_free(block);
    return moved;
}

static void *alloc_to_grow(struct heap *heap, size_t bytes)
{
    void *block = large_alloc_to_grow(heap, bytes);

    if (block && heap_thread->until_sample)
        profile_note_large(heap, block, bytes);
    return block;
}

void *heap_realloc(void *block, size_t bytes)
{
    struct heap *heap = heap_here();
    uint64_t usable_bytes;
    struct span *span;
    void *moved;

    if (block == NULL)
        return heap_malloc(bytes);
    if (heap == NULL)
        return NULL;
    span = block_span_checked(heap, block, "realloc");
    if (span == NULL)
        return heap_is_hardened(heap) ? hardened_realloc(heap, block, bytes) : NULL;
    if (realloc_in_place(heap, span, bytes)) {
        if (UNLIKELY(slab_flags(span) & SPAN_SAMPLED))
            profile_resize(heap, block, bytes);
        return block;
    }
    usable_bytes = span_usable_bytes(span);
    moved = span->kind == SPAN_LARGE && bytes > usable_bytes ? alloc_to_grow(heap, bytes)
                                                             : heap_malloc(bytes);
    if (moved == NULL)
        return bytes <= usable_bytes ? block : NULL;
    memcpy(moved, block, bytes < usable_bytes ? bytes : usable_bytes);
    heap_free(block);
    return moved;
}
