/*
 * slab_state.h - of a slab of an opened heap, which blocks may be handed out; kept outside the slot
 * and derived when the heap is opened.
 *
 * A slab is a hand's (blocks.h), and then who has the hand alone takes blocks of it and puts them
 * back; or it is nobody's, and then who has the blocks' lock does. Who frees a block of another
 * hand's slab notes it in `returned`, under the lock; the hand collects it later.
 *
 * Invariant: bit i of taken is set if and only if block i is not TX_FREE or its bit in returned is
 * set; bits behind the last block are set; free counts the others; no block before free_from is
 * free. A slab is in the list of its hand, or of nobody, while free > 0.
 */
#ifndef PHEAP_TX_SLAB_STATE_H
#define PHEAP_TX_SLAB_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/tx/slab_shape.h"

struct blocks_hand;

/* A cache line of its own: neighbours may be other threads'. */
struct slab_state {
    _Alignas(64) struct slab_state *next; /* in a list, if it is listed */
    struct slab_state *before;
    struct blocks_hand *hand; /* NULL: nobody's. Changes under the lock, and by the hand itself */
    struct slab_shape shape;
    uint32_t slice;
    uint32_t size_class;
    uint32_t free;
    uint32_t free_from;
    bool listed;
    uint32_t returned_count;          /* this and the rest under the lock */
    struct slab_state *next_returned; /* in the hand's list, while there are any */
    uint64_t *returned;
    uint64_t taken[];
};

/* Of a slab whose notes are all TX_FREE. NULL: no memory. */
struct slab_state *slab_state_create(struct arena *arena, uint32_t slice, uint32_t size_class);

/* While it is derived: this block is in use. */
void slab_state_use(struct slab_state *slab, uint32_t index);

/* In and out of the list of slabs with a free block. Nothing if it has none, or is in it. */
void slab_state_list(struct slab_state *slab, struct slab_state **list);
void slab_state_unlist(struct slab_state *slab, struct slab_state **list);

/* The lowest free block, of the first slab of the list. */
uint32_t slab_state_take(struct slab_state *slab, struct slab_state **list);
void slab_state_put_back(struct slab_state *slab, uint32_t index, struct slab_state **list);

/* Under the lock: by another than the hand; by the hand. */
void slab_state_return(struct slab_state *slab, uint32_t index);
void slab_state_collect(struct slab_state *slab);

bool slab_state_is_taken(const struct slab_state *slab, uint32_t index);
bool slab_state_is_returned(const struct slab_state *slab, uint32_t index);

#endif
