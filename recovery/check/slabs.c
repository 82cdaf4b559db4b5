/*
 * slabs.c - slabs: what their descriptors say, and where their free lists lead.
 *
 * Lists change without a lock, one store at a time, in an order that keeps them whole (slab.h):
 * a list can be followed whenever the generation was cut. How many blocks are in use is not
 * compared with it, because that store comes apart from the others.
 */
#include <string.h>
#include "core/heap/hardened_slab.h"
#include "core/heap/slab.h"
#include "recovery/check/heap_view.h"

#define FLAGS_KNOWN                                                                                \
    (SLAB_CURRENT | SLAB_FRESH_ZERO | HARD_GUARDED | HARD_FREED | HARD_LISTED | SPAN_SAMPLED |     \
     SLAB_NOTED)

struct slab_place {
    struct heap_view *view;
    uint64_t start;
    const struct span *span;
    uint32_t block_bytes;
};

static bool tell_slab(const struct slab_place *slab, const char *expected, const char *what,
                      uint64_t found)
{
    heap_tell(slab->view, HP_SLAB, slab->start, expected, "%s 0x%lx", what, found);
    return false;
}

static bool has_shape(struct heap_view *view, uint32_t slice, const struct span *span)
{
    if (span->size_class < SIZE_CLASSES && span->slices == size_class_slab_slices(span->size_class))
        return true;
    heap_tell(view, HP_SLAB, view_slice_address(view, slice), "a size class and its slices",
              "class %u, %u slices", span->size_class, span->slices);
    return false;
}

/* Which thread heap: its number, or -1. */
static int64_t owner_of(const struct slab_place *slab)
{
    const struct heap *heap = &slab->view->heap;
    uint64_t offset = (slab->span->owner & ~OWNER_FULL) - heap->thread_heaps.start;

    if (offset % THREAD_HEAP_STRIDE != 0 ||
        offset / THREAD_HEAP_STRIDE >= heap->thread_heap_count ||
        offset >= heap->thread_heaps.committed_end - heap->thread_heaps.start)
        return -1;
    return (int64_t)(offset / THREAD_HEAP_STRIDE);
}

static bool check_fields(const struct slab_place *slab, int64_t owner)
{
    const struct span *span = slab->span;
    uint64_t tag = span->owned_start + slab->block_bytes - slab->start - span->first_offset;
    uint64_t own_tag = (uint64_t)(owner + 1) << TAG_SHIFT;

    if (span->start != slab->start)
        return tell_slab(slab, "its own address", "start", span->start);
    if (!(span->key & LIST_END_BIT) || span->start_key != (span->start ^ span->key))
        return tell_slab(slab, "an odd key, and start ^ key", "start_key", span->start_key);
    if (span->start_key >> 32 != (uint32_t)span->key)
        return tell_slab(slab, "a key whose links are marks", "key", span->key);
    if (span->reciprocal != slab_reciprocal(slab->block_bytes))
        return tell_slab(slab, "that of its block size", "reciprocal", span->reciprocal);
    if (span->first_offset >= COLOURS * COLOUR_STEP || span->first_offset % COLOUR_STEP != 0)
        return tell_slab(slab, "a multiple of 64 below a page", "first block at",
                         span->first_offset);
    if (span->carved_bytes > slab_bytes(span) - span->first_offset ||
        span->carved_bytes % slab->block_bytes != 0)
        return tell_slab(slab, "whole blocks within the slab", "carved", span->carved_bytes);
    if (tag != own_tag && tag != TAG_NOBODY)
        return tell_slab(slab, "its owner's tag, or nobody's", "owned_start", span->owned_start);
    if (span->room < -1 || span->room > ROOM_CURRENT)
        return tell_slab(slab, "room for at most 4096 blocks", "room", (uint64_t)span->room);
    if (span->flags & ~FLAGS_KNOWN)
        return tell_slab(slab, "flags that there are", "flags", span->flags);
    return true;
}

static void tell_list(const struct slab_place *slab, uint64_t block, uint64_t count,
                      const char *which)
{
    heap_tell(slab->view, HP_LIST, slab->start, "free blocks of the slab, to its end",
              "0x%lx after %lu of the %s list: a write to a freed block, or damage", block, count,
              which);
}

static void check_list(const struct slab_place *slab, uint64_t block, const char *which)
{
    uint64_t most = slab->span->carved_bytes / slab->block_bytes, count = 0;
    uint64_t link;

    for (; block != (slab->start | LIST_END_BIT); count++) {
        uint64_t offset = block - slab->start - slab->span->first_offset;

        if (count == most || offset >= slab->span->carved_bytes ||
            offset % slab->block_bytes != 0) {
            tell_list(slab, block, count, which);
            return;
        }
        heap_view_read(slab->view, &link, sizeof link, block);
        if (link >> 32 != (uint32_t)slab->span->key) {
            tell_list(slab, block, count, which);
            return;
        }
        block = link ^ slab->span->key;
    }
}

void check_slab(struct heap_view *view, uint32_t slice, const struct span *span)
{
    struct slab_place slab = {view, view_slice_address(view, slice), span, 0};
    uint64_t remote = span->remote & REMOTE_BLOCK;
    int64_t owner;

    if (span->owner == 0) /* it is being made, or given back */
        return;
    if (!has_shape(view, slice, span))
        return;
    slab.block_bytes = size_class_block_bytes(span->size_class);
    owner = owner_of(&slab);
    if (owner < 0) {
        (void)tell_slab(&slab, "a thread heap", "owner", span->owner);
        return;
    }
    if (view_is_locked(view, (span->owner & ~OWNER_FULL) +
                                 __builtin_offsetof(struct thread_heap, lock)) ||
        !check_fields(&slab, owner))
        return;
    check_list(&slab, span->free_head, "free");
    if (remote != 0)
        check_list(&slab, remote, "remote");
}

/* --- hardened --- */

static void count_words(struct heap_view *view, uint64_t start, const struct hard_table *table,
                        uint32_t *used, uint32_t *free_places)
{
    uint16_t word;

    *used = *free_places = 0;
    for (uint32_t i = 0; i < table->places; i++) {
        heap_view_read(view, &word, sizeof word, start + sizeof *table + i * sizeof word);
        *used += word >= PLACE_USED;
        *free_places += word <= PLACE_FREE;
    }
}

void check_hard_slab(struct heap_view *view, uint32_t slice, const struct span *span)
{
    uint64_t start = view_slice_address(view, slice);
    struct hard_table table;
    uint32_t used, free_places;

    if (view_is_locked(view,
                       view->base + HARDENED_OFFSET + __builtin_offsetof(struct hardened, lock)))
        return;
    if (!has_shape(view, slice, span))
        return;
    heap_view_read(view, &table, sizeof table, start);
    if (table.places > slab_bytes(span) / size_class_block_bytes(span->size_class)) {
        heap_tell(view, HP_TABLE, start, "as many places as the slab has room for", "%u",
                  table.places);
        return;
    }
    count_words(view, start, &table, &used, &free_places);
    if (used != table.used || free_places != table.free)
        heap_tell(view, HP_TABLE, start, "as many used and free places as its words say",
                  "%u and %u instead of %u and %u", table.used, table.free, used, free_places);
}
