/*
 * pointers.c - see pointers.h. Always true: first[] ascends, and ends at `count`.
 */
#include "recovery/view/pointers.h"

#include <errno.h>
#include <string.h>
#include "recovery/view/layouts.h"

#define ARENA_BYTES (64ull << 30) /* reserved, not used */
#define GROW        (1u << 20)    /* entries */

struct finding_pointers {
    struct pointers *out;
    const struct block_map *map;
    struct layouts layouts;
    uint64_t low, bytes; /* of the data area */
    uint64_t number;     /* whose pointers are looked for */
    int failed;
};

static bool make_room(struct pointers *out)
{
    if (!arena_alloc(&out->list, GROW * sizeof *out->to, 8))
        return false;
    out->room += GROW;
    return true;
}

static void add(struct finding_pointers *find, uint64_t word)
{
    struct pointers *out = find->out;
    uint64_t number = block_map_number(find->map, word);

    if (number == BLOCK_NONE || number == find->number || !block_bit(find->map->used, number))
        return;
    if (out->count == out->room && !make_room(out)) {
        find->failed = -ENOMEM;
        return;
    }
    out->to[out->count++] = (uint32_t)number;
}

static void add_pointer(void *context, uint64_t place, uint32_t kind, uint64_t target)
{
    struct finding_pointers *find = context;

    (void)place;
    (void)kind;
    if (target - find->low < find->bytes)
        add(find, target);
}

static void walk_words(struct finding_pointers *find, const uint64_t *words, uint64_t count)
{
    uint64_t low = find->low, bytes = find->bytes;

    for (uint64_t i = 0; i < count; i++) {
        uint64_t other = block_self_relative((uint64_t)(uintptr_t)&words[i], words[i]);

        if (words[i] - low < bytes)
            add(find, words[i]);
        if (other - low < bytes)
            add(find, other);
    }
}

static void walk_span(struct finding_pointers *find, uint32_t slice)
{
    const struct block_map *map = find->map;
    const struct span_note *note = &map->notes[slice];
    uint64_t bytes = note->class == BLOCK_CLASS_LARGE ? block_map_large_bytes(map, slice)
                                                      : size_class_block_bytes(note->class);
    uint64_t at = (uint64_t)(uintptr_t)map->heap + ((uint64_t)slice << SLICE_SHIFT) +
                  (uint64_t)note->start * BLOCK_UNIT;
    uint64_t end = note->number + block_map_span_numbers(map, slice);

    for (find->number = note->number; find->number < end; find->number++, at += bytes) {
        find->out->first[find->number] =
            find->out->count | (uint64_t)note->class << POINTERS_CLASS_SHIFT;
        if (!block_bit(map->used, find->number) ||
            (find->layouts.count > 0 && layouts_each(&find->layouts, at, add_pointer, find)))
            continue;
        walk_words(find, (const uint64_t *)(uintptr_t)at, bytes / 8);
    }
}

int pointers_find(struct pointers *out, const struct block_map *map)
{
    struct finding_pointers find = {.out = out, .map = map};
    uint64_t first_bytes = (map->count + 1) * sizeof *out->first;
    int status;

    memset(out, 0, sizeof *out);
    out->map = map;
    status = arena_create(&out->arena, first_bytes + (4ull << 20));
    if (status == 0)
        status = arena_create(&out->list, ARENA_BYTES);
    if (status < 0)
        return status;
    arena_expect(&out->arena, first_bytes);
    arena_expect(&out->list, map->used_count * sizeof *out->to);
    out->first = arena_alloc(&out->arena, first_bytes, 64);
    out->to = arena_alloc(&out->list, 0, 64);
    if (!out->first || !out->to)
        return -ENOMEM;
    layouts_load(&find.layouts, map);
    find.low = (uint64_t)(uintptr_t)map->heap + ((uint64_t)map->first_slice << SLICE_SHIFT);
    find.bytes = (uint64_t)(map->top - map->first_slice) << SLICE_SHIFT;
    for (uint32_t slice = map->first_slice; slice < map->top && find.failed == 0;
         slice += block_map_span_slices(map, slice))
        if (map->notes[slice].is_used)
            walk_span(&find, slice);
    out->first[map->count] = out->count;
    return find.failed;
}

void pointers_free(struct pointers *pointers)
{
    if (pointers->arena.base)
        arena_destroy(&pointers->arena);
    if (pointers->list.base)
        arena_destroy(&pointers->list);
    memset(pointers, 0, sizeof *pointers);
}

uint64_t pointers_block_bytes(const struct pointers *pointers, uint64_t number)
{
    uint32_t class = (uint32_t)(pointers->first[number] >> POINTERS_CLASS_SHIFT);
    struct block block;

    if (class != BLOCK_CLASS_LARGE)
        return size_class_block_bytes(class);
    return block_map_by_number(pointers->map, number, &block) ? block.bytes : 0;
}
