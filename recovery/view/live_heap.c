/*
 * live_heap.c - see live_heap.h.
 *
 * Always true: a count, a length or an address of the other process is used only after it was
 * found to be possible in a heap of this reserve; every read is into memory of the size that is
 * asked for.
 */
#include "recovery/view/live_heap.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <string.h>
#include "core/base/sys.h"
#include "core/heap/hardened_slab.h"
#include "core/heap/heap.h"
#include "core/heap/profile_format.h"
#include "core/heap/slab.h"
#include "core/tx/tx_format.h"

#define SLAB_BYTES_MAX ((uint64_t)SLAB_SLICES_MAX << SLICE_SHIFT)
#define LIST_BYTES_MAX (64ull << 20) /* of slabs copied in one look, to count their free blocks */
#define ROOM_STEP      4096ull       /* slices */
#define STACKS_MAX     (1u << 16)    /* of a profile: more are not summed up */

struct live_span {
    uint64_t id; /* of a slab its key; 1: large; 0: nothing in use begins here */
    uint64_t used_bytes;
};

/* --- memory of the other process --- */

static int read_memory(const struct live_heap *heap, uint64_t address, void *buffer, size_t bytes)
{
    struct iovec mine = {buffer, bytes}, theirs = {(void *)(uintptr_t)address, bytes};
    long got = sys_call(SYS_process_vm_readv, heap->pid, &mine, 1, &theirs, 1, 0);

    return got == (long)bytes ? 0 : got < 0 ? (int)got : -EFAULT;
}

static void *get_memory(uint64_t bytes)
{
    void *memory =
        sys_mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return sys_failed((long)memory) ? NULL : memory;
}

static void drop_memory(void *memory, uint64_t bytes)
{
    if (memory)
        (void)sys_munmap(memory, bytes);
}

static void drop_room(struct live_heap *heap)
{
    drop_memory(heap->spans, heap->room * sizeof(struct span));
    drop_memory(heap->now, heap->room * sizeof(struct live_span));
    drop_memory(heap->before, heap->room * sizeof(struct live_span));
    heap->spans = NULL;
    heap->now = heap->before = NULL;
    heap->room = 0;
}

/* For so many slices; what the look before had found stays. */
static int make_room(struct live_heap *heap, uint64_t slices)
{
    struct live_heap grown = *heap;

    if (slices <= heap->room)
        return 0;
    grown.room = (slices + slices / 2 + ROOM_STEP) / ROOM_STEP * ROOM_STEP;
    grown.spans = get_memory(grown.room * sizeof(struct span));
    grown.now = get_memory(grown.room * sizeof(struct live_span));
    grown.before = get_memory(grown.room * sizeof(struct live_span));
    if (!grown.spans || !grown.now || !grown.before) {
        drop_room(&grown);
        return -ENOMEM;
    }
    if (heap->room)
        memcpy(grown.before, heap->before, heap->room * sizeof(struct live_span));
    drop_room(heap);
    *heap = grown;
    return 0;
}

/* --- the header --- */

static bool area_is_possible(const struct live_heap *heap, const struct area *area)
{
    uint64_t end = heap->base + SLOT_BYTES;

    return area->start >= heap->base && area->start <= area->committed_end &&
           area->committed_end <= end;
}

static int check_header(const struct live_heap *heap, struct problem *why)
{
    const struct heap *header = heap->header;

    if (header->magic == TX_MAGIC)
        return problem_set(why, STATUS_UNSUPPORTED, "pid %d has opened the heap by its path",
                           heap->pid);
    if (header->magic != HEAP_MAGIC || header->version != HEAP_VERSION)
        return problem_set(why, STATUS_DAMAGED,
                           "pid %d has no heap of this version at 0x%lx (magic 0x%lx, version %u)",
                           heap->pid, (unsigned long)heap->base, (unsigned long)header->magic,
                           header->version);
    if (!area_is_possible(heap, &header->spans) || !area_is_possible(heap, &header->data) ||
        !area_is_possible(heap, &header->thread_heaps) ||
        header->spans.start != heap->base + SPANS_OFFSET || header->top < header->data_slice ||
        header->top > SLOT_BYTES >> SLICE_SHIFT ||
        (header->top > header->data_slice &&
         header->top > (header->spans.committed_end - header->spans.start) >> SPAN_SHIFT))
        return problem_set(why, STATUS_DAMAGED, "pid %d: the header of the heap makes no sense",
                           heap->pid);
    return 0;
}

static int read_header(struct live_heap *heap, struct problem *why)
{
    int status = read_memory(heap, heap->base, heap->header, PAGE_BYTES);

    if (status == -EPERM)
        return problem_set(why, status,
                           "the memory of pid %d may not be read (ptrace is restricted, see "
                           "pheap doctor)",
                           heap->pid);
    if (status < 0)
        return problem_set(why, status, "cannot read the heap of pid %d: %s", heap->pid,
                           status_text(status));
    return check_header(heap, why);
}

/* --- spans --- */

static const struct span *span_copy(const struct live_heap *heap, uint32_t slice)
{
    return (const struct span *)heap->spans + slice;
}

/* The length of the free list of a slab that a thread is allocating from; 0 if it cannot be
 * counted. */
static uint64_t free_blocks(struct live_heap *heap, uint64_t start, const struct span *slab,
                            struct live_figures *out)
{
    uint64_t most = slab->carved_bytes / size_class_block_bytes(slab->size_class), count = 0;
    uint64_t offset;

    start += slab->first_offset;
    offset = slab->free_head - start;
    if (offset >= slab->carved_bytes || offset % 16 != 0)
        return 0;
    if (heap->list_bytes + slab->carved_bytes > LIST_BYTES_MAX ||
        read_memory(heap, start, heap->slab, slab->carved_bytes) < 0) {
        out->uncounted_slabs++;
        return 0;
    }
    heap->list_bytes += slab->carved_bytes;
    while (offset < slab->carved_bytes && offset % 16 == 0 && count < most) {
        uint64_t link;

        memcpy(&link, (const uint8_t *)heap->slab + offset, sizeof link);
        offset = (link ^ slab->key) - start;
        count++;
    }
    return count;
}

static uint64_t slab_blocks(struct live_heap *heap, uint64_t start, const struct span *slab,
                            struct live_figures *out)
{
    uint64_t carved = slab->carved_bytes / size_class_block_bytes(slab->size_class);
    uint64_t used = slab_used(slab), remote = slab->remote >> REMOTE_COUNT_SHIFT;

    if (slab->flags & SLAB_CURRENT)
        used = carved - free_blocks(heap, start, slab, out);
    used = used < carved ? used : carved;
    return remote < used ? used - remote : 0;
}

static uint64_t hard_slab_blocks_used(const struct live_heap *heap, uint64_t start,
                                      const struct span *slab)
{
    uint64_t most = slab_bytes(slab) / size_class_block_bytes(slab->size_class);
    struct hard_table table;

    if (read_memory(heap, start, &table, sizeof table) < 0 || table.used > most)
        return 0;
    return table.used;
}

static void count(struct live_heap *heap, uint32_t slice, uint32_t class, uint64_t used,
                  uint64_t used_bytes, struct live_figures *out)
{
    const struct span *span = span_copy(heap, slice);
    struct live_class *row = &out->classes[class];

    row->spans++;
    row->span_bytes += slab_bytes(span);
    row->used += used;
    row->used_bytes += used_bytes;
    out->used += used;
    out->used_bytes += used_bytes;
    out->span_bytes += slab_bytes(span);
    heap->now[slice] = (struct live_span){class < SIZE_CLASSES ? span->key | 2 : 1, used_bytes};
}

static bool slab_is_possible(const struct span *span)
{
    return span->size_class < SIZE_CLASSES && span->slices <= SLAB_SLICES_MAX &&
           span->carved_bytes <= slab_bytes(span) &&
           span->first_offset <= slab_bytes(span) - span->carved_bytes;
}

/* False: nothing that makes sense begins here. */
static bool look_at_span(struct live_heap *heap, uint32_t slice, struct live_figures *out)
{
    const struct span *span = span_copy(heap, slice);
    uint64_t start = heap->base + ((uint64_t)slice << SLICE_SHIFT), used = 0;
    uint32_t block_bytes;

    if (span->kind == SPAN_FREE || span->kind == SPAN_ASIDE) {
        out->free_bytes += slab_bytes(span);
        return true;
    }
    if (span->kind == SPAN_LARGE || span->kind == SPAN_HARD_LARGE) {
        bool is_used = span->large_bytes <= slab_bytes(span) &&
                       span->block_offset <= slab_bytes(span) - span->large_bytes &&
                       !(span->flags & HARD_FREED);

        if (is_used)
            count(heap, slice, SIZE_CLASSES, 1, span->large_bytes, out);
        return true;
    }
    if ((span->kind != SPAN_SLAB && span->kind != SPAN_HARD_SLAB) || !slab_is_possible(span))
        return false;
    block_bytes = size_class_block_bytes(span->size_class);
    used = span->kind == SPAN_SLAB ? slab_blocks(heap, start, span, out)
                                   : hard_slab_blocks_used(heap, start, span);
    count(heap, slice, span->size_class, used, used * block_bytes, out);
    return true;
}

static void look_at_spans(struct live_heap *heap, struct live_figures *out)
{
    const struct heap *header = heap->header;
    uint32_t slice = header->data_slice;

    while (slice < header->top) {
        const struct span *span = span_copy(heap, slice);
        bool fits = span->slices > 0 && span->slices <= header->top - slice;

        slice += fits && look_at_span(heap, slice, out) ? span->slices : 1;
    }
}

static int read_spans(struct live_heap *heap, struct problem *why)
{
    const struct heap *header = heap->header;
    uint64_t bytes = (uint64_t)header->top * sizeof(struct span);
    int status = make_room(heap, header->top);

    if (status < 0)
        return problem_set(why, status, "no memory for a look at %u spans", header->top);
    memset(heap->now, 0, heap->room * sizeof(struct live_span));
    if (header->top == header->data_slice)
        return 0;
    status = read_memory(heap, header->spans.start, heap->spans, bytes);
    return status < 0 ? problem_set(why, status, "cannot read the heap of pid %d: %s", heap->pid,
                                    status_text(status))
                      : 0;
}

/* --- what came and went --- */

static void compare_span(struct live_heap *heap, const struct live_span *was,
                         const struct live_span *is)
{
    uint64_t before = was->used_bytes, now = is->used_bytes;

    if (was->id != is->id) { /* another span: nothing of the first one is left */
        heap->seen_freed_bytes += before;
        heap->seen_allocated_bytes += now;
    } else if (now > before) {
        heap->seen_allocated_bytes += now - before;
    } else {
        heap->seen_freed_bytes += before - now;
    }
}

static void compare(struct live_heap *heap, struct live_figures *out)
{
    struct live_span *swap = heap->before;

    for (uint64_t i = 0; i < heap->room && heap->looks > 0; i++)
        compare_span(heap, &heap->before[i], &heap->now[i]);
    heap->looks++;
    heap->before = heap->now;
    heap->now = swap;
    out->seen_allocated_bytes = heap->seen_allocated_bytes;
    out->seen_freed_bytes = heap->seen_freed_bytes;
}

/* --- the profile --- */

/* What the samples of a stack stand for, as if all were of their mean size. */
static double stack_bytes(const struct profile_stack *stack, double rate_bytes)
{
    double mean = stack->taken ? (double)stack->taken_bytes / (double)stack->taken : 0;

    return mean > 0 ? (double)stack->taken_bytes / -expm1(-mean / rate_bytes) : 0;
}

static void look_at_profile(const struct live_heap *heap, struct live_figures *out)
{
    const struct heap *header = heap->header;
    struct profile_stack stacks[16];
    struct profile head;
    double sum = 0;

    if (header->profile_rate_bytes == 0 || !area_is_possible(heap, &header->profile) ||
        read_memory(heap, header->profile.start, &head, offsetof(struct profile, stack_buckets)) <
            0 ||
        head.magic != PROFILE_MAGIC || head.rate_bytes == 0 || head.stack_count > STACKS_MAX)
        return;
    for (uint32_t i = 0; i < head.stack_count; i += 16) {
        uint32_t part = head.stack_count - i < 16 ? head.stack_count - i : 16;

        if (read_memory(heap, head.stacks.start + i * sizeof stacks[0], stacks,
                        part * sizeof stacks[0]) < 0)
            return;
        for (uint32_t k = 0; k < part; k++)
            sum += stack_bytes(&stacks[k], (double)head.rate_bytes);
    }
    out->rate_bytes = head.rate_bytes;
    out->sampled_bytes = (uint64_t)sum;
}

/* --- in order --- */

static void count_thread_heaps(const struct live_heap *heap, struct live_figures *out)
{
    const struct heap *header = heap->header;

    out->thread_heaps = header->thread_heaps_live;
    out->committed_bytes = header->data.committed_end - header->data.start;
}

int live_heap_open(struct live_heap *heap, int pid, uint32_t slot)
{
    *heap = (struct live_heap){.pid = pid, .base = SLOT_BASE(slot)};
    heap->header = get_memory(PAGE_BYTES);
    heap->slab = get_memory(SLAB_BYTES_MAX);
    if (heap->header && heap->slab && slot < SLOT_COUNT)
        return 0;
    live_heap_close(heap);
    return slot < SLOT_COUNT ? -ENOMEM : -EINVAL;
}

int live_heap_look(struct live_heap *heap, struct live_figures *out, struct problem *why)
{
    int status = read_header(heap, why);

    memset(out, 0, sizeof *out);
    if (status == 0)
        status = read_spans(heap, why);
    if (status < 0)
        return status;
    heap->list_bytes = 0;
    count_thread_heaps(heap, out);
    look_at_spans(heap, out);
    compare(heap, out);
    look_at_profile(heap, out);
    return 0;
}

void live_heap_close(struct live_heap *heap)
{
    drop_room(heap);
    drop_memory(heap->header, PAGE_BYTES);
    drop_memory(heap->slab, SLAB_BYTES_MAX);
    memset(heap, 0, sizeof *heap);
}
