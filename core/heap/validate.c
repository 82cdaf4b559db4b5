/*
 * validate.c - the invariants of heap_format.h, spans.c and slab.h, checked one by one. Each
 * finding names the place and both numbers.
 */
#include "core/heap/validate.h"

#include "core/base/sys.h"
#include "core/heap/hardened.h"
#include "core/heap/heap.h"
#include "core/heap/inbox.h"
#include "core/heap/slab.h"
#include "core/heap/slot.h"

static bool slice_is_dirty(const struct heap *heap, uint32_t slice)
{
    return ((const uint8_t *)(uintptr_t)heap->dirty_bits.start)[slice / 8] >> (slice % 8) & 1;
}

/* A free slice that is not marked dirty reads as zero; a word a page is looked at. */
static int validate_clean_slice(const struct heap *heap, uint32_t slice, struct problem *why)
{
    const uint64_t *words = (const uint64_t *)heap_slice_address(heap, slice);

    if (slice_is_dirty(heap, slice))
        return 0;
    for (uint32_t i = 0; i < SLICE_BYTES / sizeof *words; i += 4096 / sizeof *words)
        if (words[i] != 0)
            return problem_set(why, STATUS_DAMAGED,
                               "free slice %u is not marked dirty but not zero", slice);
    return 0;
}

static int validate_free_run(const struct heap *heap, uint32_t slice, struct problem *why)
{
    const struct span *run = heap_span(heap, slice);
    const struct span *last = run + run->slices - 1;
    uint32_t end = slice + run->slices;
    int status = 0;

    if (run->slices > 1 && (last->kind != SPAN_FREE_END || last->slices != run->slices))
        return problem_set(why, STATUS_DAMAGED, "free run at slice %u: end tag %u of %u, length %u",
                           slice, last->kind, last->slices, run->slices);
    if (end < heap->top && heap_span(heap, end)->kind == SPAN_FREE)
        return problem_set(why, STATUS_DAMAGED, "free runs at slices %u and %u are not merged",
                           slice, end);
    for (uint32_t i = slice; i < end && status == 0; i++)
        status = validate_clean_slice(heap, i, why);
    return status;
}

static int validate_bin(const struct heap *heap, uint32_t bin, uint64_t *free_slices,
                        struct problem *why)
{
    uint32_t previous = 0;

    if (!(heap->bins_used >> bin & 1) != (heap->bins[bin] == 0))
        return problem_set(why, STATUS_DAMAGED, "bin %u: first run %u, bins_used 0x%x", bin,
                           heap->bins[bin], heap->bins_used);
    for (uint32_t slice = heap->bins[bin]; slice;) {
        const struct span *run = heap_span(heap, slice);

        if (run->kind != SPAN_FREE || run->prev != previous || run->slices >> bin != 1)
            return problem_set(why, STATUS_DAMAGED,
                               "bin %u: slice %u has kind %u, prev %u (expected %u), length %u",
                               bin, slice, run->kind, run->prev, previous, run->slices);
        *free_slices += run->slices;
        previous = slice;
        slice = run->next;
    }
    return 0;
}

static int validate_inside(const struct heap *heap, uint32_t slice, struct problem *why)
{
    const struct span *span = heap_span(heap, slice);

    for (uint32_t i = 1; i < span->slices; i++) {
        const struct span *part = span + i;
        bool is_slab = span->kind == SPAN_SLAB || span->kind == SPAN_HARD_SLAB;
        bool right =
            is_slab ? part->kind == SPAN_INSIDE && part->slices == i : part->kind == SPAN_NONE;

        if (span->kind == SPAN_FREE && i == span->slices - 1)
            right = part->kind == SPAN_FREE_END;
        if (!right || part->owner != 0)
            return problem_set(why, STATUS_DAMAGED,
                               "slice %u inside the span at slice %u of kind %u has kind %u",
                               slice + i, slice, span->kind, part->kind);
    }
    return 0;
}

/* The one block of a large span lies in it, and begins in its first page. */
static int validate_large(const struct heap *heap, uint32_t slice, struct problem *why)
{
    const struct span *span = heap_span(heap, slice);

    if (span->kind != SPAN_LARGE ||
        (span->large_bytes > 0 && span->block_offset % 64 == 0 && span->block_offset < PAGE_BYTES &&
         span->block_offset + span->large_bytes <= slab_bytes(span)))
        return 0;
    return problem_set(why, STATUS_DAMAGED, "slice %u: %lu bytes at %u in %u slices", slice,
                       span->large_bytes, span->block_offset, span->slices);
}

static bool starts_a_span(uint8_t kind)
{
    return kind == SPAN_SLAB || kind == SPAN_LARGE || kind == SPAN_FREE || kind == SPAN_ASIDE ||
           kind == SPAN_HARD_SLAB || kind == SPAN_HARD_LARGE;
}

int validate_spans(const struct heap *heap, struct problem *why)
{
    uint64_t in_bins = 0, in_walk = 0;
    int status = 0;

    for (uint32_t bin = 0; bin < RUN_BINS && status == 0; bin++)
        status = validate_bin(heap, bin, &in_bins, why);
    for (uint32_t slice = heap->data_slice; status == 0 && slice < heap->top;) {
        const struct span *span = heap_span(heap, slice);

        if (!starts_a_span(span->kind))
            return problem_set(why, STATUS_DAMAGED, "slice %u: kind %u is no start of a span",
                               slice, span->kind);
        if (span->kind == SPAN_FREE) {
            in_walk += span->slices;
            status = validate_free_run(heap, slice, why);
        }
        if (status == 0)
            status = validate_inside(heap, slice, why);
        if (status == 0)
            status = validate_large(heap, slice, why);
        slice += span->slices;
    }
    if (status == 0 && (in_bins != in_walk || in_bins != heap->free_slices))
        return problem_set(why, STATUS_DAMAGED,
                           "free slices: %lu in bins, %lu in memory, %lu counted", in_bins, in_walk,
                           heap->free_slices);
    return status;
}

/* The length of a list of free blocks; -1 if it leads out of the slab or is too long. */
static int64_t list_length(const struct heap *heap, const struct span *slab, uint64_t block)
{
    uint64_t start = heap_span_address(heap, slab);
    uint64_t block_bytes = size_class_block_bytes(slab->size_class);
    int64_t length = 0;

    for (; block != (start | LIST_END_BIT); length++) {
        if (block - start >= slab->carved_bytes || (block - start) % block_bytes != 0 ||
            length > (int64_t)(slab_bytes(slab) / block_bytes))
            return -1;
        if (!slab_looks_free(slab, (const void *)block))
            return -1;
        block = *(const uint64_t *)block ^ slab->key;
    }
    return length;
}

static bool partial_list_has(const struct heap *heap, const struct thread_heap *owner,
                             const struct span *slab)
{
    uint32_t slice = owner->partial[slab->size_class];

    for (; slice; slice = heap_span(heap, slice)->next)
        if (heap_span(heap, slice) == slab)
            return true;
    return false;
}

/* UINT32_MAX if a bit is set that stands for no block. */
static uint32_t free_bits_set(const struct heap *heap, const struct span *slab, uint32_t carved)
{
    const uint64_t *words = heap_free_bits(heap, heap_slice_of(heap, slab));
    uint32_t count = 0;

    if (!heap_has_free_bits(heap, heap_slice_of(heap, slab)))
        return 0;
    for (uint32_t i = 0; i < FREE_BITS_BYTES * 8; i++)
        if (words[i / 64] >> i % 64 & 1)
            count = i < carved ? count + 1 : UINT32_MAX;
    return count;
}

static int validate_slab(const struct heap *heap, const struct span *slab, struct problem *why)
{
    const struct thread_heap *owner = (const struct thread_heap *)(slab->owner & ~OWNER_FULL);
    uint32_t carved = slab->carved_bytes / size_class_block_bytes(slab->size_class);
    bool current = slab->flags & SLAB_CURRENT;
    bool is_full = slab->owner & OWNER_FULL;
    int64_t free_blocks = list_length(heap, slab, slab->free_head);
    uint64_t remote = slab_remote_head(slab);
    uint32_t bits = free_bits_set(heap, slab, carved);
    void *start = (void *)heap_span_address(heap, slab);

    if (free_blocks < 0 || (remote && list_length(heap, slab, remote) != slab_remote_count(slab)))
        return problem_set(why, STATUS_DAMAGED, "slab at %p: a free list leads nowhere", start);
    if (!current && slab_used(slab) + bits + (uint64_t)free_blocks != carved)
        return problem_set(why, STATUS_DAMAGED,
                           "slab at %p: %u used + %ld in the list + %u bits != %u carved", start,
                           slab_used(slab), (long)free_blocks, bits, carved);
    if (!(slab->flags & SLAB_NOTED) ? bits > 0 : current || free_blocks > 0)
        return problem_set(why, STATUS_DAMAGED, "slab at %p: flags 0x%x, %u free bits, room %ld",
                           start, slab->flags, bits, slab->room);
    if (slab->owned_start !=
        slab_owned_start(slab, is_full || slab->flags & SLAB_NOTED ? TAG_NOBODY : slab_tag(owner)))
        return problem_set(why, STATUS_DAMAGED, "slab at %p: owned_start 0x%lx, full %u", start,
                           slab->owned_start, is_full);
    if (current != (owner->current[slab->size_class] == slab))
        return problem_set(why, STATUS_DAMAGED,
                           "slab at %p: CURRENT is %u, its thread heap differs", start, current);
    if (partial_list_has(heap, owner, slab) != (!current && !is_full))
        return problem_set(why, STATUS_DAMAGED,
                           "slab at %p: current %u, full %u, in the wrong list", start, current,
                           is_full);
    return 0;
}

int validate_slabs(const struct heap *heap, struct problem *why)
{
    int status = 0;

    for (uint32_t slice = heap->data_slice; status == 0 && slice < heap->top;) {
        const struct span *span = heap_span(heap, slice);

        if (span->kind == SPAN_SLAB)
            status = validate_slab(heap, span, why);
        slice += span->slices;
    }
    return status;
}

/* Of a block that is on its way to its slab's owner. */
static bool is_on_its_way(const struct heap *heap, uint64_t block)
{
    uint64_t slice = (block - (uintptr_t)heap) >> SLICE_SHIFT;
    const struct span *slab = heap_span(heap, (uint32_t)slice);

    return slice >= heap->data_slice && slice < heap->top && slab->kind == SPAN_SLAB &&
           block - slab->start < slab->carved_bytes &&
           slab_offset_is_block(slab, block - slab->start) &&
           !slab_looks_free(slab, (const void *)block);
}

static int validate_batches(const struct heap *heap, const struct thread_heap *some,
                            struct problem *why)
{
    for (uint32_t i = 0; i < REMOTE_BATCHES; i++)
        for (uint64_t j = 0; j < some->batches[i].count; j++)
            if (j >= REMOTE_BATCH_BLOCKS || !is_on_its_way(heap, some->batches[i].blocks[j]))
                return problem_set(why, STATUS_DAMAGED, "thread heap %u: batch %u, block %lu",
                                   some->index, i, j);
    return 0;
}

static int validate_inbox(const struct heap *heap, const struct thread_heap *owner,
                          struct problem *why)
{
    uint64_t waiting = inbox_waiting(owner);

    if (waiting > INBOX_BLOCKS || owner->inbox_next != owner->inbox_taken)
        return problem_set(why, STATUS_DAMAGED, "thread heap %u: inbox %lu, %lu of %lu taken",
                           owner->index, owner->inbox_next, owner->inbox_taken,
                           owner->inbox_reserved);
    for (uint64_t i = 0; i < INBOX_BLOCKS; i++) {
        uint64_t block = owner->inbox[(owner->inbox_taken + i) % INBOX_BLOCKS];

        if (i < waiting ? block != INBOX_GAP && !is_on_its_way(heap, block) : block != 0)
            return problem_set(why, STATUS_DAMAGED,
                               "thread heap %u: 0x%lx in its inbox, as %lu of %lu", owner->index,
                               block, i, waiting);
    }
    return 0;
}

static int validate_on_their_way(const struct heap *heap, struct problem *why)
{
    int status = 0;

    for (uint32_t i = 0; status == 0 && i < heap->thread_heap_count; i++) {
        status = validate_batches(heap, heap_thread_heap(heap, i), why);
        if (status == 0)
            status = validate_inbox(heap, heap_thread_heap(heap, i), why);
    }
    return status;
}

bool heap_is_valid(struct problem *why)
{
    const struct heap *heap = heap_here();

    return heap == NULL ||
           (validate_spans(heap, why) == 0 && validate_slabs(heap, why) == 0 &&
            validate_on_their_way(heap, why) == 0 && validate_hardened(heap, why) == 0);
}
