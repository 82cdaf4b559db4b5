/*
 * tx_large.c - large blocks wherever they end: what the image does not hold, because it is zero,
 * is there all the same when the heap is opened again.
 */
#include "t/lib/tx_fixture.h"

#include "core/tx/tx_format.h"

#define SPANS_A_PAGE (PAGE_BYTES / sizeof(struct tx_span))
#define BYTES        (2 * SLICE_BYTES)
#define TYPE         3u

static void *take(uint64_t bytes)
{
    struct pheap_tx *tx = NULL;
    void *block = NULL;

    CHECK_OK(tx_begin(heap, &tx));
    CHECK_OK(tx_alloc(tx, bytes, TYPE, &block));
    CHECK_OK(tx_commit(tx));
    return block;
}

static uint32_t slice_of(const void *block)
{
    return (uint32_t)(((uintptr_t)block - heap->memory.base) >> SLICE_SHIFT);
}

/* Of the last block the image has the span's entry alone. */
static void a_block_of_zeroes_that_ends_behind_all_that_was_written(void)
{
    struct pheap_tx *tx = NULL;
    struct block found;
    char *block;

    fixture_create();
    do
        block = take(BYTES);
    while (slice_of(block) % SPANS_A_PAGE != SPANS_A_PAGE - 1);
    CHECK(fixture_checkpoint() > 0);
    fixture_reopen();
    CHECK(block_find(&heap->memory, (uintptr_t)block, &found));
    CHECK_EQ(block_bytes(&found), BYTES);
    for (size_t at = 0; at < BYTES; at += 4096)
        CHECK_EQ(block[at], 0);
    CHECK_OK(tx_begin(heap, &tx)); /* the log frees it, and is replayed */
    CHECK_OK(tx_free(tx, block));
    CHECK_OK(tx_commit(tx));
    fixture_reopen();
    CHECK(!block_find(&heap->memory, (uintptr_t)block, &found) || block_state(&found) == TX_FREE);
    fixture_close();
}

int main(int argc, char **argv)
{
    fixture_begin();
    tap_arguments(argc, argv);
    RUN(a_block_of_zeroes_that_ends_behind_all_that_was_written);
    fixture_end();
    return tap_done();
}
