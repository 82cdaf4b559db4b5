/*
 * heap.c - see heap.h.
 *
 * True always: what is not in a range reads as zero; a descriptor is looked at before it is
 * believed, and no block reaches beyond its span.
 */
#include "recovery/salvage/heap.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include "core/heap/slab.h"
#include "core/tx/slab_shape.h"
#include "recovery/view/opened_heap.h"

#define RANGES_MAX 60000u /* the kernel allows 65,530 mappings; the rest is read in */

static const int slot_flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;

/* --- mapping --- */

/* Which slot: as its entry says; of an image that was found, the first that a page lies in. */
static uint32_t slot_of(const struct salvage_image *image, const struct salvage_range *ranges,
                        uint64_t count)
{
    if (image->source != SALVAGE_FOUND)
        return pool_slot_is_valid(image->entry.slot) ? image->entry.slot : 0;
    for (uint64_t i = 0; i < count; i++)
        if (ranges[i].start >= SLOT_BASE(1) && ranges[i].start < SLOT_BASE(SLOT_COUNT))
            return (uint32_t)((ranges[i].start - SLOTS_START) / SLOT_BYTES);
    return 0;
}

static int map_range(int fd, const struct salvage_range *range, bool reads)
{
    uint64_t bytes = range->end - range->start;
    void *mapped;

    if (reads)
        return sys_pread_all(fd, (void *)range->start, bytes, range->offset);
    mapped = sys_mmap((void *)range->start, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
                      fd, (int64_t)range->offset);
    return sys_failed((long)mapped) ? (int)(long)mapped : 0;
}

static int map_slot(struct salvage_heap *heap, int fd, const struct salvage_range *ranges,
                    uint64_t count)
{
    uint64_t base = view_slot_base(&heap->view), mapped_count = 0;
    void *mapped = sys_mmap((void *)base, SLOT_BYTES, PROT_READ | PROT_WRITE, slot_flags, -1, 0);
    int status = 0;

    if (sys_failed((long)mapped))
        return (int)(long)mapped;
    heap->view.heap_is_mapped = true;
    for (uint64_t i = 0; status == 0 && i < count; i++)
        if (ranges[i].start >= base && ranges[i].end <= base + SLOT_BYTES)
            status = map_range(fd, &ranges[i], mapped_count++ >= RANGES_MAX);
    return status;
}

/* What cannot be read of the log is no reason to go without the rest. */
static void apply_log(struct salvage_heap *heap, const struct salvage *salvage)
{
    struct view *view = &heap->view;

    if (!salvage->has_superblock || salvage->super.log.generation != view->generation.number ||
        salvage->super.log.extent_count == 0)
        return;
    if (pool_open(&view->pool, salvage->path, POOL_READ, NULL) < 0) {
        view->pool.fd = -1;
        return;
    }
    heap->has_log = opened_apply_log(view, NULL) == 0 && view->log_records > 0;
}

int salvage_heap_open(struct salvage_heap *heap, const struct salvage *salvage,
                      const struct salvage_image *image, int fd, const struct salvage_range *ranges,
                      uint64_t count, struct problem *why)
{
    const struct tx_header *header;
    int status;

    memset(heap, 0, sizeof *heap);
    heap->view.pool.fd = heap->view.lock_fd = -1;
    heap->view.generation = image->entry;
    heap->view.generation.slot = slot_of(image, ranges, count);
    if (heap->view.generation.slot == 0)
        return STATUS_NO_GENERATION;
    status = arena_create(&heap->view.arena, 16ull << 30);
    if (status == 0)
        status = map_slot(heap, fd, ranges, count);
    if (status < 0)
        return problem_set(why, status, "cannot map the heap of a generation: %s",
                           status_text(status));
    header = (const struct tx_header *)view_slot_base(&heap->view);
    heap->view.is_opened = header->magic == TX_MAGIC;
    if (heap->view.is_opened)
        apply_log(heap, salvage);
    heap->is_rough = block_map_build(&heap->map, &heap->view, NULL) < 0;
    return 0;
}

void salvage_heap_close(struct salvage_heap *heap)
{
    view_close(&heap->view);
}

/* --- blocks of single spans --- */

struct rough {
    const struct salvage_heap *heap;
    block_visit *visit;
    void *context;
    bool goes_on;
};

static void tell(struct rough *rough, struct block *block, uint32_t slice, uint32_t slices)
{
    block->span_start = view_slot_base(&rough->heap->view) + ((uint64_t)slice << SLICE_SHIFT);
    block->span_bytes = (uint64_t)slices << SLICE_SHIFT;
    if (rough->goes_on && block->address >= block->span_start &&
        block->address + block->bytes <= block->span_start + block->span_bytes)
        rough->goes_on = rough->visit(rough->context, block);
}

static uint64_t start_of(const struct rough *rough, uint32_t slice)
{
    return view_slot_base(&rough->heap->view) + ((uint64_t)slice << SLICE_SHIFT);
}

static void tell_slab(struct rough *rough, uint32_t slice, const struct span *span)
{
    uint64_t bytes = size_class_block_bytes(span->size_class);
    uint64_t first = span->first_offset < COLOURS * COLOUR_STEP ? span->first_offset : 0;
    uint64_t room = slab_bytes(span) - first;
    uint64_t carved = span->carved_bytes < room ? span->carved_bytes : room;

    for (uint64_t i = 0; (i + 1) * bytes <= carved; i++) {
        struct block block = {.address = start_of(rough, slice) + first + i * bytes,
                              .bytes = bytes,
                              .class = span->size_class,
                              .is_used = true};

        tell(rough, &block, slice, span->slices);
    }
}

/* Returns the slices that were made sense of. */
static uint32_t tell_span(struct rough *rough, uint32_t slice)
{
    const struct span *span =
        heap_span((const struct heap *)view_slot_base(&rough->heap->view), slice);
    struct block block = {.address = start_of(rough, slice),
                          .bytes = span->large_bytes,
                          .class = BLOCK_CLASS_LARGE,
                          .is_used = true};

    if (span->kind == SPAN_SLAB && span->size_class < SIZE_CLASSES &&
        span->slices == size_class_slab_slices(span->size_class)) {
        tell_slab(rough, slice, span);
        return span->slices;
    }
    block.address += span->block_offset;
    if (span->kind == SPAN_LARGE && span->large_bytes > 0 && span->slices > 0 &&
        span->large_bytes <= slab_bytes(span)) {
        tell(rough, &block, slice, span->slices);
        return span->slices;
    }
    return 1;
}

static uint32_t tell_opened_slab(struct rough *rough, uint32_t slice, const struct tx_span *span)
{
    struct slab_shape shape = slab_shape_of(span->size_class);
    const struct tx_note *notes = (const struct tx_note *)start_of(rough, slice);

    for (uint32_t i = 0; i < shape.count; i++) {
        struct block block = {.address = start_of(rough, slice) + shape.blocks_offset +
                                         (uint64_t)i * shape.block_bytes,
                              .bytes = shape.block_bytes,
                              .class = size_class_bare(span->size_class),
                              .is_used = (notes[i].bytes_and_state & 3) != TX_FREE,
                              .has_type = true,
                              .type = notes[i].type,
                              .asked = notes[i].bytes_and_state >> 2};

        if (block.is_used)
            tell(rough, &block, slice, shape.slices);
    }
    return shape.slices;
}

static uint32_t tell_opened(struct rough *rough, uint32_t slice, uint32_t top)
{
    const struct tx_span *span = opened_span(&rough->heap->view, slice);
    struct block block = {.address = start_of(rough, slice),
                          .bytes = span->bytes,
                          .class = BLOCK_CLASS_LARGE,
                          .is_used = true,
                          .has_type = true,
                          .type = span->type,
                          .asked = span->bytes};

    if (span->kind == TX_SLAB && span->size_class < TX_CLASSES &&
        slab_shape_of(span->size_class).slices <= top - slice)
        return tell_opened_slab(rough, slice, span);
    if (span->kind == TX_LARGE && span->bytes > 0 && span->slices > 0 &&
        span->slices <= top - slice) {
        tell(rough, &block, slice, span->slices);
        return span->slices;
    }
    return 1;
}

static void each_roughly(struct rough *rough)
{
    const struct view *view = &rough->heap->view;
    const struct heap *heap = (const struct heap *)view_slot_base(view);
    uint32_t first = view->is_opened ? TX_DATA_SLICE : heap->data_slice;
    uint32_t most = SLOT_BYTES >> SLICE_SHIFT;
    uint32_t top = view->is_opened ? opened_top(view) : heap->top, slices;

    if (!view->is_opened && (heap->magic != HEAP_MAGIC || first == 0 || top > most))
        return;
    for (uint32_t slice = first; slice < top && rough->goes_on; slice += slices) {
        slices = view->is_opened ? tell_opened(rough, slice, top) : tell_span(rough, slice);
        if (slices > top - slice)
            return;
    }
}

void salvage_heap_each(const struct salvage_heap *heap, block_visit *visit, void *context)
{
    struct rough rough = {heap, visit, context, true};

    if (heap->is_rough)
        each_roughly(&rough);
    else
        block_map_each(&heap->map, heap->map.used, visit, context);
}
