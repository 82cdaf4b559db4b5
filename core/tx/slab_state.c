/*
 * slab_state.c - see slab_state.h.
 */
#include "core/tx/slab_state.h"

static uint64_t bit_of(uint32_t i)
{
    return 1ull << (i % 64);
}

static uint32_t words_of(const struct slab_state *slab)
{
    return (slab->shape.count + 63) / 64;
}

struct slab_state *slab_state_create(struct arena *arena, uint32_t slice, uint32_t size_class)
{
    struct slab_shape shape = slab_shape_of(size_class);
    uint32_t words = (shape.count + 63) / 64;
    struct slab_state *slab = arena_alloc(arena, sizeof *slab + words * 16, 64);

    if (!slab)
        return NULL;
    slab->shape = shape;
    slab->slice = slice;
    slab->size_class = size_class;
    slab->free = shape.count;
    slab->returned = slab->taken + words;
    for (uint32_t i = shape.count; i < words * 64; i++)
        slab->taken[i / 64] |= bit_of(i);
    return slab;
}

bool slab_state_is_taken(const struct slab_state *slab, uint32_t index)
{
    return (slab->taken[index / 64] & bit_of(index)) != 0;
}

bool slab_state_is_returned(const struct slab_state *slab, uint32_t index)
{
    return (slab->returned[index / 64] & bit_of(index)) != 0;
}

void slab_state_use(struct slab_state *slab, uint32_t index)
{
    slab->taken[index / 64] |= bit_of(index);
    slab->free--;
}

/* --- the list --- */

void slab_state_list(struct slab_state *slab, struct slab_state **list)
{
    if (slab->listed || slab->free == 0)
        return;
    slab->listed = true;
    slab->before = NULL;
    slab->next = *list;
    if (slab->next)
        slab->next->before = slab;
    *list = slab;
}

void slab_state_unlist(struct slab_state *slab, struct slab_state **list)
{
    if (!slab->listed)
        return;
    slab->listed = false;
    if (slab->before)
        slab->before->next = slab->next;
    else
        *list = slab->next;
    if (slab->next)
        slab->next->before = slab->before;
}

/* --- blocks --- */

uint32_t slab_state_take(struct slab_state *slab, struct slab_state **list)
{
    uint32_t word = slab->free_from / 64, index;

    while (slab->taken[word] == ~0ull)
        word++;
    index = word * 64 + (uint32_t)__builtin_ctzll(~slab->taken[word]);
    slab->taken[word] |= bit_of(index);
    slab->free_from = index + 1;
    if (--slab->free == 0)
        slab_state_unlist(slab, list);
    return index;
}

void slab_state_put_back(struct slab_state *slab, uint32_t index, struct slab_state **list)
{
    slab->taken[index / 64] &= ~bit_of(index);
    slab->free++;
    if (index < slab->free_from)
        slab->free_from = index;
    slab_state_list(slab, list);
}

void slab_state_return(struct slab_state *slab, uint32_t index)
{
    slab->returned[index / 64] |= bit_of(index);
    slab->returned_count++;
}

void slab_state_collect(struct slab_state *slab)
{
    for (uint32_t i = 0; i < words_of(slab); i++) {
        slab->taken[i] &= ~slab->returned[i];
        slab->returned[i] = 0;
    }
    slab->free += slab->returned_count;
    slab->returned_count = 0;
    slab->free_from = 0;
}
