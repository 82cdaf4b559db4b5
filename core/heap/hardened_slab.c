/*
 * hardened_slab.c - see hardened_slab.h.
 *
 * Invariant: a slab in the list of its class has a free place. It leaves the list when a sixteenth
 * of its places are free and comes back with an eighth: a random place is found in a few steps, and
 * stays random.
 */
#include "core/heap/hardened_slab.h"

#include <string.h>
#include "core/base/sys.h"
#include "core/heap/epoch.h"
#include "core/heap/memcheck.h"
#include "core/heap/misuse.h"
#include "core/heap/slab.h"
#include "core/heap/slot.h"
#include "core/heap/spans.h"

/* A guarded span is two mappings more, or three. The kernel allows a process 65,530, and the
 * program wants some: beyond this number spans go without guards. */
#define GUARDED_SPANS_MAX 8192

uint64_t hard_random(struct heap *heap)
{
    uint64_t *state = &heap_hardened(heap)->random;

    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state * 0x2545f4914f6cdd1dull >> 16;
}

/* --- guards --- */

static bool guard_pages(uintptr_t first, uintptr_t last, int protection)
{
    return (first == 0 || sys_mprotect((void *)first, PAGE_BYTES, protection) == 0) &&
           sys_mprotect((void *)last, PAGE_BYTES, protection) == 0;
}

void hard_guard(struct heap *heap, struct span *span, uintptr_t first, uintptr_t last)
{
    uint32_t *count = &heap_hardened(heap)->guarded_spans;

    if (heap->mode != HEAP_HARDENED || __atomic_load_n(count, __ATOMIC_RELAXED) > GUARDED_SPANS_MAX)
        return;
    if (!guard_pages(first, last, PROT_NONE)) {
        (void)guard_pages(first, last, PROT_READ | PROT_WRITE);
        return;
    }
    __atomic_add_fetch(count, 1, __ATOMIC_RELAXED);
    span->flags |= HARD_GUARDED;
}

bool hard_unguard(struct heap *heap, struct span *span, uintptr_t first, uintptr_t last)
{
    if (!(span->flags & HARD_GUARDED))
        return true;
    if (!guard_pages(first, last, PROT_READ | PROT_WRITE))
        return false;
    span->flags &= (uint8_t)~HARD_GUARDED;
    __atomic_sub_fetch(&heap_hardened(heap)->guarded_spans, 1, __ATOMIC_RELAXED);
    return true;
}

/* --- canaries --- */

/* Depends on the address, so that a canary copied from elsewhere is none; no byte is 0, or the end
 * of a string that is one too long would go unseen. */
static uint64_t canary_word(const struct span *span, uintptr_t word_address)
{
    return (span->key ^ word_address * 0x9e3779b97f4a7c15ull) | 0x0101010101010101ull;
}

static uint8_t canary_byte(const struct span *span, uintptr_t address)
{
    return (uint8_t)(canary_word(span, address & ~7ul) >> (address % 8 * 8));
}

void hard_canary_write(const struct span *span, uintptr_t start, uintptr_t end)
{
    for (; start % 8 != 0 && start < end; start++)
        *(uint8_t *)start = canary_byte(span, start);
    for (; start < end; start += 8) /* ends of blocks are multiples of 16 */
        *(uint64_t *)start = canary_word(span, start);
}

const void *hard_canary_find_damage(const struct span *span, uintptr_t start, uintptr_t end)
{
    while (start < end) {
        bool is_word = start % 8 == 0 && *(const uint64_t *)start == canary_word(span, start);

        if (!is_word && *(const uint8_t *)start != canary_byte(span, start))
            return (const void *)start;
        start += is_word ? 8 : 1;
    }
    return NULL;
}

/* --- places --- */

struct hard_table *hard_table(const struct heap *heap, const struct span *slab)
{
    return (struct hard_table *)heap_span_address(heap, slab);
}

/* For so many places as the span could hold at most. */
static uint64_t table_bytes(const struct span *slab)
{
    uint64_t most = slab_bytes(slab) / size_class_block_bytes(slab->size_class);
    uint64_t bytes = sizeof(struct hard_table) + most * sizeof(uint16_t);

    return (bytes + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
}

uint64_t hard_slab_blocks(const struct heap *heap, const struct span *slab)
{
    return heap_span_address(heap, slab) + table_bytes(slab) + PAGE_BYTES;
}

static uintptr_t first_guard(const struct heap *heap, const struct span *slab)
{
    return heap_span_address(heap, slab) + table_bytes(slab);
}

static uintptr_t last_guard(const struct heap *heap, const struct span *slab)
{
    return heap_span_address(heap, slab) + slab_bytes(slab) - PAGE_BYTES;
}

static uint64_t place_address(const struct heap *heap, const struct span *slab, uint32_t place)
{
    return hard_slab_blocks(heap, slab) +
           (uint64_t)place * size_class_block_bytes(slab->size_class);
}

uint32_t hard_slab_place(const struct heap *heap, const struct span *slab, const void *address)
{
    uint64_t offset = (uintptr_t)address - hard_slab_blocks(heap, slab);
    uint32_t block_bytes = size_class_block_bytes(slab->size_class), place;

    if (offset >= slab_bytes(slab))
        return UINT32_MAX;
    place = (uint32_t)offset / block_bytes;
    return place * block_bytes == offset && place < hard_table(heap, slab)->places ? place
                                                                                   : UINT32_MAX;
}

size_t hard_place_bytes(const struct heap *heap, const struct span *slab, uint32_t place)
{
    uint32_t unasked = hard_table(heap, slab)->words[place] - (uint32_t)PLACE_USED;

    return size_class_block_bytes(slab->size_class) - unasked;
}

/* --- lists --- */

static void list_enter(struct heap *heap, struct span *slab)
{
    uint32_t *list = &heap_hardened(heap)->partial[slab->size_class];

    slab->prev = 0;
    slab->next = *list;
    if (slab->next)
        heap_span(heap, slab->next)->prev = heap_slice_of(heap, slab);
    *list = heap_slice_of(heap, slab);
    slab->flags |= HARD_LISTED;
}

static void list_leave(struct heap *heap, struct span *slab)
{
    if (slab->prev)
        heap_span(heap, slab->prev)->next = slab->next;
    else
        heap_hardened(heap)->partial[slab->size_class] = slab->next;
    if (slab->next)
        heap_span(heap, slab->next)->prev = slab->prev;
    slab->next = slab->prev = 0;
    slab->flags &= (uint8_t)~HARD_LISTED;
}

/* --- slabs --- */

struct span *hard_slab_create(struct heap *heap, uint32_t size_class)
{
    const struct span_request request = {
        .slices = size_class_slab_slices(size_class), .align_slices = 1, .kind = SPAN_HARD_SLAB};
    uint32_t block_bytes = size_class_block_bytes(size_class);
    bool is_zero = false;
    struct hard_table *table;
    struct span *slab;

    epoch_tick(heap);
    slab = spans_alloc(heap, &request, &is_zero);
    if (slab == NULL)
        return NULL;
    slab->size_class = (uint8_t)size_class;
    slab->key = hard_random(heap) ^ heap->secret;
    table = hard_table(heap, slab);
    memset(table, 0, table_bytes(slab));
    table->places =
        (uint32_t)((last_guard(heap, slab) - hard_slab_blocks(heap, slab)) / block_bytes);
    table->free = table->places;
    hard_guard(heap, slab, first_guard(heap, slab), last_guard(heap, slab));
    memcheck_forbid(heap, hard_slab_blocks(heap, slab), (uint64_t)table->places * block_bytes);
    list_enter(heap, slab);
    return slab;
}

/* Where the guards cannot be taken away it stays, empty. */
static void hard_slab_destroy(struct heap *heap, struct span *slab)
{
    if (!hard_unguard(heap, slab, first_guard(heap, slab), last_guard(heap, slab)))
        return;
    list_leave(heap, slab);
    memcheck_allow(heap, heap_span_address(heap, slab), slab_bytes(slab));
    spans_free(heap, slab, slab->slices);
}

static void check_fill(const struct heap *heap, const struct span *slab, const void *block)
{
    const uint8_t *bytes = block;
    uint32_t block_bytes = size_class_block_bytes(slab->size_class);

    if (heap->mode != HEAP_HARDENED ||
        (bytes[0] == FREED_FILL && memcmp(bytes, bytes + 1, block_bytes - 1) == 0))
        return;
    while (*bytes == FREED_FILL)
        bytes++;
    misuse_written_after_free(heap, slab, block, bytes);
}

static uint32_t pick_place(struct heap *heap, const struct hard_table *table)
{
    uint32_t place = (uint32_t)(hard_random(heap) % table->places);

    while (table->words[place] != PLACE_FRESH && table->words[place] != PLACE_FREE)
        place = place + 1 < table->places ? place + 1 : 0;
    return place;
}

void *hard_slab_take(struct heap *heap, struct span *slab, size_t bytes)
{
    struct hard_table *table = hard_table(heap, slab);
    uint32_t block_bytes = size_class_block_bytes(slab->size_class);
    uint32_t place = pick_place(heap, table), unasked = block_bytes - (uint32_t)bytes;
    uint64_t block = place_address(heap, slab, place);

    if (table->words[place] == PLACE_FREE)
        check_fill(heap, slab, (const void *)block);
    if (unasked > UINT16_MAX - PLACE_USED)
        unasked = UINT16_MAX - PLACE_USED;
    table->words[place] = (uint16_t)(PLACE_USED + unasked);
    table->used++;
    if (--table->free <= table->places / 16)
        list_leave(heap, slab);
    if (heap->mode == HEAP_HARDENED)
        hard_canary_write(slab, block + block_bytes - unasked, block + block_bytes);
    return (void *)block;
}

void hard_slab_quarantine(struct heap *heap, struct span *slab, void *block)
{
    struct hard_table *table = hard_table(heap, slab);
    uint32_t place = hard_slab_place(heap, slab, block);
    uint32_t block_bytes = size_class_block_bytes(slab->size_class);
    size_t bytes = hard_place_bytes(heap, slab, place);
    const void *damage = NULL;

    if (heap->mode == HEAP_HARDENED)
        damage =
            hard_canary_find_damage(slab, (uintptr_t)block + bytes, (uintptr_t)block + block_bytes);
    if (damage)
        misuse_overflow(heap, slab, block, damage);
    table->words[place] = PLACE_QUARANTINED;
    table->used--;
    if (heap->mode == HEAP_HARDENED)
        memset(block, FREED_FILL, block_bytes);
}

void hard_slab_release(struct heap *heap, struct span *slab, void *block)
{
    struct hard_table *table = hard_table(heap, slab);

    check_fill(heap, slab, block);
    table->words[hard_slab_place(heap, slab, block)] = PLACE_FREE;
    if (++table->free > table->places / 8 && !(slab->flags & HARD_LISTED))
        list_enter(heap, slab);
    if (table->free == table->places)
        hard_slab_destroy(heap, slab);
}
