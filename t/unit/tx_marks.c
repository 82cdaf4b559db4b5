/*
 * tx_marks.c - on persistent memory each thread makes its own record durable, and waits for the
 * mark of the one before (core/tx/log.h): by more threads than there are marks, across cuts, and
 * after the log was read. tx_crash_mutants.c shows what is lost without the wait.
 */
#include <pthread.h>

#include "t/lib/tx_dax.h"

#define THREADS 20u
#define ROUNDS  300u
#define CUTS    5u
#define TYPE    7u

_Static_assert(THREADS > LOG_MARKS, "marks are used again while others wait");

static uint64_t *make_words(void)
{
    struct pheap_tx *tx = NULL;
    void *block = NULL;

    CHECK_OK(tx_begin(heap, &tx));
    CHECK_OK(tx_alloc(tx, THREADS * 64, TYPE, &block));
    CHECK_OK(root_set(tx, "words", block, TYPE));
    CHECK_OK(tx_commit(tx));
    return block;
}

/* The record that it has written is durable when the commit returns, and so are all before it. */
static bool count_one(uint64_t *word)
{
    struct pheap_tx *tx = NULL;
    uint64_t sequence = 0;

    if (tx_begin(heap, &tx) < 0 || tx_add(tx, word, 8) < 0)
        return false;
    ++*word;
    return tx_commit_soon(tx, &sequence) == 0 && log_durable(&heap->log) >= sequence;
}

static void *count_up(void *word)
{
    bool all = true;

    for (unsigned i = 0; i < ROUNDS; i++)
        all = count_one(word) && all;
    return all ? word : NULL;
}

static void more_threads_than_marks_commit_beside_cuts(void)
{
    pthread_t threads[THREADS];
    uint64_t *words, sequence;
    void *all;

    fixture_create_on_dax();
    words = make_words();
    heap->log.numbers = LOG_LANES; /* none is left for a lane */
    sequence = heap->log.sequence;
    for (unsigned i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, count_up, words + i * 8);
    for (unsigned i = 0; i < CUTS; i++)
        CHECK(opened_checkpoint(heap, 60000000000, &why) > 0);
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &all);
        CHECK(all != NULL);
    }
    CHECK_EQ(heap->log.sequence, sequence + THREADS * ROUNDS);
    CHECK_EQ(log_durable(&heap->log), heap->log.sequence);
    fixture_reopen();
    for (unsigned i = 0; i < THREADS; i++)
        CHECK_EQ(words[i * 8], ROUNDS);
    fixture_close();
}

static void what_was_read_is_durable(void)
{
    uint64_t *words, sequence;

    fixture_create_on_dax();
    words = make_words();
    for (unsigned i = 0; i < 3 * LOG_MARKS; i++)
        CHECK(count_one(words));
    CHECK_EQ(opened_close(heap), 0);
    fixture_open_on_dax();
    sequence = heap->log.sequence;
    CHECK_EQ(log_durable(&heap->log), sequence);
    for (uint64_t old = 1; old <= sequence; old++)
        CHECK_OK(log_wait(&heap->log, old, &why));
    CHECK(count_one(words));
    CHECK_EQ(log_durable(&heap->log), sequence + 1);
    fixture_reopen();
    CHECK_EQ(words[0], 3 * LOG_MARKS + 1);
    fixture_close();
}

int main(int argc, char **argv)
{
    fixture_begin();
    tap_arguments(argc, argv);
    RUN(more_threads_than_marks_commit_beside_cuts);
    RUN(what_was_read_is_durable);
    fixture_end();
    return tap_done();
}
