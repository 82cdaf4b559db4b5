/*
 * tx_hands.c - blocks are handed out by each transaction on its own (core/tx/blocks.h): what is
 * whose, what becomes of blocks that others free, and that no block is ever lost or two's.
 */
#include <errno.h>
#include <pthread.h>

#include "t/lib/tx_fixture.h"

#define TYPE   7u
#define BYTES  64u
#define IN_ONE 910u /* blocks of a slab (core/tx/slab_shape.h) */

static struct pheap_tx *begin(void)
{
    struct pheap_tx *tx = NULL;

    CHECK_OK(tx_begin(heap, &tx));
    return tx;
}

static void *take(struct pheap_tx *tx)
{
    void *block = NULL;

    CHECK_OK(tx_alloc(tx, BYTES, TYPE, &block));
    return block;
}

static uint64_t slab_of(const void *block)
{
    return (uintptr_t)block / SLICE_BYTES;
}

static unsigned count(void)
{
    struct block block = {0};
    unsigned found = 0;

    while (blocks_next(&heap->blocks, block.address, TYPE, &block))
        found++;
    return found;
}

static void transactions_that_are_open_share_no_slab(void)
{
    struct pheap_tx *a, *b;

    fixture_create();
    a = begin();
    b = begin();
    for (unsigned i = 0; i < 100; i++)
        CHECK(slab_of(take(a)) != slab_of(take(b)));
    CHECK_OK(tx_commit(a));
    tx_abort(b);
    CHECK(blocks_are_valid(&heap->blocks));
    CHECK_EQ(count(), 100);
    fixture_reopen();
    CHECK_EQ(count(), 100);
    fixture_close();
}

/* A slab full, one of its blocks freed by another: that is the next block of who has the slab. */
static void what_another_frees_comes_back_to_who_has_the_slab(void)
{
    struct pheap_tx *a, *b;
    void *first = NULL;

    fixture_create();
    a = begin();
    b = begin();
    (void)take(b);
    for (unsigned i = 0; i < IN_ONE; i++)
        first = i == 0 ? take(a) : (take(a), first);
    CHECK_OK(tx_commit(a));
    CHECK_OK(tx_free(b, first));
    CHECK_OK(tx_commit(b));
    CHECK(blocks_are_valid(&heap->blocks));
    b = begin();
    a = begin();
    CHECK(take(b) != first && take(a) == first);
    CHECK_OK(tx_commit(a));
    CHECK_OK(tx_commit(b));
    CHECK(blocks_are_valid(&heap->blocks));
    fixture_close();
}

/* Two slabs of one's own, all of it freed: another takes one of them and makes none. */
static void an_empty_slab_is_for_all(void)
{
    static void *blocks[2 * IN_ONE];
    struct pheap_tx *a, *b;
    void *taken;

    fixture_create();
    a = begin();
    b = begin();
    for (unsigned i = 0; i < 2 * IN_ONE; i++)
        blocks[i] = take(a);
    for (unsigned i = 0; i < 2 * IN_ONE; i++)
        CHECK_OK(tx_free(a, blocks[i]));
    CHECK_OK(tx_commit(a));
    taken = take(b);
    CHECK(slab_of(taken) == slab_of(blocks[0]) || slab_of(taken) == slab_of(blocks[IN_ONE]));
    CHECK_OK(tx_commit(b));
    CHECK(blocks_are_valid(&heap->blocks));
    fixture_close();
}

static void a_block_is_freed_once(void)
{
    struct pheap_tx *a, *b;
    void *block, *large = NULL;

    fixture_create();
    a = begin();
    block = take(a);
    CHECK_OK(tx_alloc(a, 1 << 20, TYPE, &large));
    CHECK_OK(tx_commit(a));
    a = begin();
    b = begin();
    CHECK_OK(tx_free(a, block));
    CHECK_OK(tx_free(b, large));
    CHECK_EQ(tx_free(a, block), -EINVAL);
    CHECK_EQ(tx_free(b, block), -EINVAL);
    CHECK_EQ(tx_free(a, large), -EINVAL);
    tx_abort(a);
    CHECK_OK(tx_free(b, block));
    CHECK_OK(tx_commit(b));
    CHECK(blocks_are_valid(&heap->blocks));
    CHECK_EQ(count(), 0);
    fixture_close();
}

/* --- threads that free what others have taken --- */

#define THREADS 4u
#define PLACES  64u
#define ROUNDS  400u

static void *places[THREADS][PLACES];
static uint64_t place_of_thread[THREADS];

/* Each place has a block, whose first word is the place's number; it is replaced by the thread that
 * has the place in this round. Never two at once: the places go round among the threads. */
static void replace(void **place, uint64_t number, unsigned round)
{
    struct pheap_tx *tx = begin();
    uint64_t *block = take(tx);

    if (*place) {
        if (**(uint64_t **)place != number)
            abort();
        CHECK_OK(tx_free(tx, *place));
    }
    *block = number;
    if ((number + round) % 5 == 0) {
        tx_abort(tx);
        return;
    }
    CHECK_OK(tx_commit(tx));
    *place = block;
}

static pthread_barrier_t barrier;

static void *exchange(void *argument)
{
    uint64_t me = *(uint64_t *)argument;

    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t row = (me + round) % THREADS;

        for (unsigned i = 0; i < PLACES; i++)
            replace(&places[row][i], row * PLACES + i, round);
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

static void blocks_that_go_round_among_threads_are_never_two_s(void)
{
    pthread_t threads[THREADS];

    fixture_create();
    heap->commits_soon = true;
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (unsigned i = 0; i < THREADS; i++) {
        place_of_thread[i] = i;
        pthread_create(&threads[i], NULL, exchange, &place_of_thread[i]);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(blocks_are_valid(&heap->blocks));
    CHECK_EQ(count(), THREADS * PLACES);
    CHECK(heap->memory.slices <= TX_DATA_SLICE + 127);
    fixture_reopen();
    CHECK(blocks_are_valid(&heap->blocks));
    CHECK_EQ(count(), THREADS * PLACES);
    fixture_close();
}

int main(int argc, char **argv)
{
    fixture_begin();
    tap_arguments(argc, argv);
    RUN(transactions_that_are_open_share_no_slab);
    RUN(what_another_frees_comes_back_to_who_has_the_slab);
    RUN(an_empty_slab_is_for_all);
    RUN(a_block_is_freed_once);
    RUN(blocks_that_go_round_among_threads_are_never_two_s);
    fixture_end();
    return tap_done();
}
