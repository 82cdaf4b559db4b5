/*
 * slab.c - see slab.h for the states.
 *
 * Pages of a slab are touched in order, one page of blocks at a time, so a program that needs
 * three blocks of a size has one page of them resident.
 */
#include "core/heap/slab.h"

#include <string.h>
#include "core/base/sys.h"
#include "core/heap/spans.h"

/* splitmix64's finalizer: every slab gets a key of its own from the heap's one secret. See
 * heap_format.h for its halves. */
static uint64_t slab_key(struct heap *heap, uint64_t start)
{
    uint64_t count = __atomic_add_fetch(&heap->key_count, 1, __ATOMIC_RELAXED);
    uint64_t key = heap->secret + count * 0x9e3779b97f4a7c15ull, mark;

    key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9ull;
    key = (key ^ (key >> 27)) * 0x94d049bb133111ebull;
    mark = (uint32_t)(key ^ (key >> 31)) | LIST_END_BIT; /* not 0: a fresh block is not free */
    return mark | (mark ^ start >> 32) << 32;
}

static bool lies_in_one_4gib(const struct heap *heap, const struct span *span)
{
    uint64_t start = heap_span_address(heap, span);

    return start >> 32 == (start + slab_bytes(span) - 1) >> 32;
}

static struct span *slab_span(struct heap *heap, uint32_t slices, bool *is_zero)
{
    struct span_request request = {.slices = slices, .align_slices = 1, .kind = SPAN_SLAB};
    struct span *span = spans_alloc(heap, &request, is_zero);

    if (span == NULL || lies_in_one_4gib(heap, span))
        return span;
    request.align_slices = SLAB_SLICES_MAX;
    spans_free(heap, span, 0);
    return spans_alloc(heap, &request, is_zero);
}

/* What the blocks leave of the slab is room for its colour. One place after the other has another
 * one. */
static uint32_t slab_colour(const struct heap *heap, const struct span *slab)
{
    uint32_t spare = (uint32_t)slab_bytes(slab) % size_class_block_bytes(slab->size_class);
    uint32_t lines = spare / COLOUR_STEP + 1;

    if (slab->slices == 1 || !size_class_is_coloured(slab->size_class))
        return 0;
    if (lines > COLOURS)
        lines = COLOURS;
    return spans_scatter(heap_slice_of(heap, slab) / slab->slices, lines) * COLOUR_STEP;
}

struct span *slab_create(struct heap *heap, struct thread_heap *owner, uint32_t size_class)
{
    bool is_zero = false;
    struct span *slab = slab_span(heap, size_class_slab_slices(size_class), &is_zero);

    if (slab == NULL)
        return NULL;
    slab->start = heap_span_address(heap, slab);
    slab->size_class = (uint8_t)size_class;
    slab->first_offset = slab_colour(heap, slab);
    slab->free_head = slab->start | LIST_END_BIT;
    slab->key = slab_key(heap, slab->start);
    slab->start_key = slab->start ^ slab->key;
    slab->reciprocal = slab_reciprocal(size_class_block_bytes(size_class));
    slab->carved_bytes = 0;
    slab->remote = 0;
    slab_set_flags(slab, is_zero ? SLAB_FRESH_ZERO : 0);
    slab->shared = 0;
    slab_uncount(heap, slab);
    slab_set_owner(slab, owner);
    return slab;
}

void slab_set_owner(struct span *slab, struct thread_heap *owner)
{
    slab->owned_start =
        slab_owned_start(slab, slab->flags & SLAB_NOTED ? TAG_NOBODY : slab_tag(owner));
    __atomic_store_n(&slab->owner, (uint64_t)owner, __ATOMIC_RELEASE);
}

static uint32_t slab_uncarved_blocks(const struct span *slab, uint32_t block_bytes)
{
    return (uint32_t)(slab_bytes(slab) - slab->first_offset - slab->carved_bytes) / block_bytes;
}

/* Other threads compare it with the addresses of blocks that they free. */
static void slab_set_carved(struct span *slab, uint32_t bytes)
{
    __atomic_store_n(&slab->carved_bytes, bytes, __ATOMIC_RELAXED);
}

bool slab_carve(const struct heap *heap, struct span *slab)
{
    uint32_t block_bytes = size_class_block_bytes(slab->size_class);
    uint32_t left = slab_uncarved_blocks(slab, block_bytes);
    uint32_t count = (PAGE_BYTES - slab->carved_bytes % PAGE_BYTES) / block_bytes;
    uint64_t block = heap_slab_blocks(heap, slab) + slab->carved_bytes, last, *words;
    const uint64_t key = slab->key;

    if (left == 0)
        return false;
    if (count == 0)
        count = 1;
    if (count > left)
        count = left;
    /* In ascending order, the last one linked to what was free before. */
    last = block + (uint64_t)(count - 1) * block_bytes;
    for (uint64_t next = block; next < last; *words = next ^ key) {
        words = (uint64_t *)next;
        next += block_bytes;
    }
    *(uint64_t *)last = slab->free_head ^ key;
    slab_set_carved(slab, slab->carved_bytes + count * block_bytes);
    slab->free_head = block;
    return true;
}

void *slab_carve_one(const struct heap *heap, struct span *slab)
{
    uint32_t block_bytes = size_class_block_bytes(slab->size_class);
    void *block = (void *)(heap_slab_blocks(heap, slab) + slab->carved_bytes);

    if (slab_uncarved_blocks(slab, block_bytes) == 0)
        return NULL;
    slab_set_carved(slab, slab->carved_bytes + block_bytes);
    return block;
}

void slab_take_remote(struct span *slab)
{
    if (slab_remote_count(slab) > 0)
        slab->free_head = __atomic_exchange_n(&slab->remote, 0, __ATOMIC_ACQUIRE) & REMOTE_BLOCK;
}

/* by_bytes has an entry for every size that a class serves. */
static void slab_point_bytes(struct thread_heap *owner, uint32_t size_class, struct span *slab)
{
    uint32_t last = size_class_block_bytes(size_class);
    uint32_t first = size_class ? size_class_block_bytes(size_class - 1) + 1 : 0;

    if (last > SMALL_MAX_BYTES)
        return;
    for (uint32_t bytes = first; bytes <= last; bytes++)
        owner->by_bytes[bytes] = slab;
}

static uint32_t slab_free_blocks(const struct heap *heap, const struct span *slab)
{
    uint64_t start = heap_span_address(heap, slab), bytes = slab_bytes(slab);
    uint64_t block = slab->free_head;
    uint32_t count = 0;

    while (block - start < bytes && !(block & LIST_END_BIT) && count < bytes / 16) {
        block = *(const uint64_t *)block ^ slab->key;
        count++;
    }
    return count;
}

static uint32_t slab_find_used(const struct heap *heap, const struct span *slab)
{
    if (!(slab->flags & SLAB_CURRENT))
        return slab_used(slab);
    return slab->carved_bytes / size_class_block_bytes(slab->size_class) -
           slab_free_blocks(heap, slab);
}

bool slab_is_unused(const struct heap *heap, const struct span *slab)
{
    return slab_find_used(heap, slab) == slab_remote_count(slab);
}

void slab_count(const struct heap *heap, struct span *slab)
{
    uint32_t used = slab_find_used(heap, slab);

    slab_set_flags(slab, slab->flags & ~(uint32_t)SLAB_CURRENT);
    slab->room = (int64_t)used - 1;
}

/* The words that hold the free bits of what is carved. */
static uint32_t slab_free_words(const struct span *slab)
{
    return (slab->carved_bytes / size_class_block_bytes(slab->size_class) + 63) / 64;
}

/* Links the blocks of one word in front of the list, the lowest first. */
static void slab_link_word(struct span *slab, uint64_t bits, uint64_t first, uint64_t bytes)
{
    uint64_t next = slab->free_head;

    while (bits) {
        uint32_t index = 63 - (uint32_t)__builtin_clzll(bits);
        uint64_t *block = (uint64_t *)(first + index * bytes);

        block[0] = next ^ slab->key;
        next = (uint64_t)block;
        bits ^= 1ull << index;
    }
    SLAB_ORDER(); /* what is in a list has its link */
    slab->free_head = next;
}

static void slab_link_noted(const struct heap *heap, struct span *slab)
{
    uint64_t *words = heap_free_bits(heap, heap_slice_of(heap, slab));
    uint64_t bytes = size_class_block_bytes(slab->size_class);

    for (uint32_t i = slab_free_words(slab); i-- > 0;) {
        uint64_t bits = words[i];

        words[i] = 0;
        slab_link_word(slab, bits, slab->start + i * 64 * bytes, bytes);
    }
    slab_set_flags(slab, slab->flags & ~(uint32_t)SLAB_NOTED);
    slab_set_owner(slab, (struct thread_heap *)slab->owner);
}

void slab_uncount(const struct heap *heap, struct span *slab)
{
    if (slab->flags & SLAB_NOTED)
        slab_link_noted(heap, slab);
    slab_set_flags(slab, slab->flags | SLAB_CURRENT);
    slab->room = ROOM_CURRENT;
}

void slab_set_current(const struct heap *heap, struct thread_heap *owner, struct span *slab)
{
    slab_uncount(heap, slab);
    owner->current[slab->size_class] = slab;
    slab_point_bytes(owner, slab->size_class, slab);
}

void slab_set_no_current(struct heap *heap, struct thread_heap *owner, uint32_t size_class)
{
    if (owner->current[size_class] == &heap->empty_slab)
        return;
    owner->current[size_class] = &heap->empty_slab;
    slab_point_bytes(owner, size_class, &heap->empty_slab);
}

void slab_drop_current(struct heap *heap, struct thread_heap *owner, uint32_t size_class)
{
    slab_count(heap, owner->current[size_class]);
    slab_set_no_current(heap, owner, size_class);
}

/* At the end: the slab that was full longest ago is taken first and has gathered most blocks. In
 * these lists the first one's prev is the last one. */
void slab_set_partial(struct heap *heap, struct thread_heap *owner, struct span *slab)
{
    uint32_t *list = &owner->partial[slab->size_class];
    uint32_t slice = heap_slice_of(heap, slab);
    struct span *first;

    slab->next = 0;
    if (*list == 0) {
        slab->prev = slice;
        *list = slice;
        return;
    }
    first = heap_span(heap, *list);
    slab->prev = first->prev;
    heap_span(heap, first->prev)->next = slice;
    first->prev = slice;
}

void slab_leave_partial(struct heap *heap, struct thread_heap *owner, struct span *slab)
{
    uint32_t *list = &owner->partial[slab->size_class];
    uint32_t slice = heap_slice_of(heap, slab);

    if (*list == slice)
        *list = slab->next;
    else
        heap_span(heap, slab->prev)->next = slab->next;
    if (slab->next)
        heap_span(heap, slab->next)->prev = slab->prev;
    else if (*list)
        heap_span(heap, *list)->prev = slab->prev;
    slab->next = slab->prev = 0;
}

bool slab_set_full(struct thread_heap *owner, struct span *slab)
{
    uint64_t nothing = 0;

    if (!__atomic_compare_exchange_n(&slab->remote, &nothing, REMOTE_NOTIFY, false,
                                     __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        return false;
    slab->owned_start = slab_owned_start(slab, TAG_NOBODY);
    __atomic_store_n(&slab->owner, (uint64_t)owner | OWNER_FULL, __ATOMIC_RELAXED);
    return true;
}

void slab_unfull(struct heap *heap, struct thread_heap *owner, struct span *slab)
{
    slab_set_owner(slab, owner);
    if (slab_is_unused(heap, slab))
        slab_release(heap, slab);
    else
        slab_set_partial(heap, owner, slab);
}

void slab_release(struct heap *heap, struct span *slab)
{
    uint32_t touched = (slab->first_offset + slab->carved_bytes + SLICE_BYTES - 1) >> SLICE_SHIFT;

    if (slab->flags & SLAB_NOTED)
        memset(heap_free_bits(heap, heap_slice_of(heap, slab)), 0, FREE_BITS_BYTES);
    __atomic_store_n(&slab->owner, 0, __ATOMIC_RELAXED);
    spans_free(heap, slab, touched);
}

bool slab_push_remote(struct span *slab, uint64_t *first, uint64_t *last, uint32_t count)
{
    uint64_t old = __atomic_load_n(&slab->remote, __ATOMIC_RELAXED), new;

    do {
        slab_link(slab, last, (const uint64_t *)(old & REMOTE_BLOCK));
        new = (uint64_t)first | ((old >> REMOTE_COUNT_SHIFT) + count) << REMOTE_COUNT_SHIFT;
    } while (!__atomic_compare_exchange_n(&slab->remote, &old, new, true, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED));
    return old & REMOTE_NOTIFY;
}

bool slab_list_has(const struct heap *heap, const struct span *slab, uint64_t head,
                   const void *wanted)
{
    uint64_t start = heap_span_address(heap, slab), bytes = slab_bytes(slab);
    uint64_t limit = bytes / 16;

    while (head - start < bytes && !(head & LIST_END_BIT) && limit-- > 0) {
        if (head == (uint64_t)wanted)
            return true;
        head = *(const uint64_t *)head ^ slab->key;
    }
    return false;
}

bool slab_bit_is_set(const struct heap *heap, const struct span *slab, const void *block)
{
    uint32_t offset = (uint32_t)((uint64_t)block - slab->start);
    uint32_t index = offset / size_class_block_bytes(slab->size_class);
    const uint64_t *words = heap_free_bits(heap, heap_slice_of(heap, slab));

    return slab_flags(slab) & SLAB_NOTED &&
           __atomic_load_n(&words[index / 64], __ATOMIC_RELAXED) >> index % 64 & 1;
}

bool slab_finds_free(const struct heap *heap, const struct span *slab, const void *block)
{
    return slab_list_has(heap, slab, slab->free_head, block) ||
           slab_list_has(heap, slab, slab_remote_head(slab), block);
}
