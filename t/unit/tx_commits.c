/*
 * tx_commits.c - what a commit costs, on files and on persistent memory; when it is durable; and
 * threads whose commits share a sync.
 */
#include <errno.h>
#include <pthread.h>
#include "core/tx/operation.h"
#include "t/lib/tx_direct.h"

/* Of the log, since the last call. */
static void check_cost(uint64_t syncs, uint64_t bytes)
{
    static uint64_t syncs_before, bytes_before;
    const struct persist *persist = &heap->log.persist;

    if (syncs + bytes > 0) {
        CHECK_EQ(persist->syncs - syncs_before, syncs);
        CHECK_EQ(persist->bytes_written - bytes_before, bytes);
    }
    syncs_before = persist->syncs;
    bytes_before = persist->bytes_written;
}

/* A change of these is a deliberate commit. */
static void a_commit_is_one_record_and_one_sync(void)
{
    struct pheap_tx *tx;
    void *block, *other;
    uint64_t *word;

    fixture_create();
    word = make(8, TYPE_A, "word");
    block = make(64, TYPE_A, "block");
    check_cost(0, 0);
    store(word, 1);
    check_cost(1, 2 * 64);
    tx = begin();
    CHECK_OK(tx_free(tx, block));
    CHECK_OK(tx_alloc(tx, 64, TYPE_A, &other));
    CHECK_OK(tx_commit(tx));
    check_cost(1, 4 * 64);
    CHECK_OK(tx_commit(begin()));
    tx = begin();
    CHECK_OK(tx_add(tx, word, 8));
    tx_abort(tx);
    store(word, 2);
    check_cost(1, 2 * 64); /* of the last alone */
    fixture_close();
}

/* In libpmem's place, counting. */
static uint64_t copies, copied_bytes, fences;

static void *count_copy(void *to, const void *from, size_t bytes, unsigned flags)
{
    (void)flags;
    copies++;
    copied_bytes += bytes;
    return memcpy(to, from, bytes);
}

static void count_fence(void)
{
    fences++;
}

static void check_dax_cost(uint64_t copies_before, uint64_t bytes_before, uint64_t fences_before,
                           uint64_t bytes)
{
    CHECK_EQ(copies - copies_before, bytes > 0);
    CHECK_EQ(copied_bytes - bytes_before, bytes);
    CHECK_EQ(fences - fences_before, bytes > 0);
}

/* Neither a system call for the record, nor a second fence. */
static void on_persistent_memory_it_is_one_copy_and_one_fence(void)
{
    const struct persist_pmem pmem = {count_copy, count_fence, true};
    uint64_t *word, sequence;
    struct pheap_tx *tx;

    unlink(fixture_path);
    CHECK_OK(pool_create(fixture_path, FIXTURE_SLOT, 3, &why));
    CHECK_OK(opened_attach(&heap, fixture_path, false, &why));
    opened_use_dax(heap, &pmem, clock_gettime);
    CHECK_OK(opened_load(heap, &why));
    CHECK_STR(heap->pool.persist.ops->name, "dax"); /* else the directory is no tmpfs */
    word = make(8, TYPE_A, "word");
    uint64_t before[3] = {copies, copied_bytes, fences};
    uint64_t file_syncs = heap->log.persist.file_syncs;
    store(word, 1);
    check_dax_cost(before[0], before[1], before[2], 2 * 64);
    memcpy(before, (uint64_t[]){copies, copied_bytes, fences}, sizeof before);
    CHECK_OK(tx_commit(begin()));
    check_dax_cost(before[0], before[1], before[2], 0);
    tx = begin();
    CHECK_OK(tx_add(tx, word, 8));
    *word = 2;
    CHECK_OK(tx_commit_soon(tx, &sequence));
    check_dax_cost(before[0], before[1], before[2], 2 * 64);
    CHECK_OK(opened_wait(heap, sequence));
    CHECK_EQ(fences, before[2] + 1);
    CHECK_EQ(heap->log.persist.file_syncs, file_syncs);
    fixture_reopen();
    CHECK_EQ(*word, 2);
    fixture_close();
}

static void a_heap_may_be_for_direct_ones_only(void)
{
    struct pheap_tx *tx = NULL;
    uint64_t *word;

    fixture_create();
    heap->direct_only = true;
    word = make(8, TYPE_A, "word");
    CHECK_EQ(tx_begin_optimistic(heap, &tx), -EINVAL);
    CHECK(tx == NULL);
    tx = begin();
    CHECK_OK(tx_add(tx, word, 8));
    CHECK_EQ(tx->held.count, 0);
    CHECK_OK(tx_commit(tx));
    fixture_close();
}

static void a_commit_can_be_durable_later(void)
{
    uint64_t *word, first, last;
    struct pheap_tx *tx;

    fixture_create();
    word = make(8, TYPE_A, "word");
    check_cost(0, 0);
    for (unsigned i = 1; i <= 5; i++) {
        tx = begin();
        CHECK_OK(tx_add(tx, word, 8));
        *word = i;
        CHECK_OK(tx_commit_soon(tx, i == 1 ? &first : &last));
    }
    check_cost(0, 5 * 2 * 64);
    CHECK_EQ(last, first + 4);
    CHECK_OK(opened_wait(heap, first));
    CHECK_OK(opened_wait(heap, last));
    check_cost(1, 0);
    CHECK_OK(tx_commit_soon(begin(), &last));
    CHECK_EQ(last, 0);
    heap->commits_soon = true;
    store(word, 6);
    check_cost(0, 2 * 64);
    CHECK(fixture_checkpoint() > 0);
    CHECK_EQ(heap->log.durable, heap->log.sequence);
    store(word, 7);
    fixture_reopen(); /* closing makes it durable */
    CHECK_EQ(*word, 7);
    fixture_close();
}

#define THREADS 4
#define ROUNDS  300

static void *count_up(void *argument)
{
    uint64_t *word = argument;

    for (unsigned i = 0; i < ROUNDS; i++) {
        struct pheap_tx *tx = NULL;
        void *block;

        if (tx_begin(heap, &tx) < 0 || tx_add(tx, word, 8) < 0 || tx_alloc(tx, 48, TYPE_B, &block))
            abort();
        ++*word;
        if (i % 3 == 0)
            tx_abort(tx);
        else if (tx_commit(tx) < 0)
            abort();
    }
    return NULL;
}

static void *commit_slowly(void *argument)
{
    for (unsigned i = 0; i < 50; i++)
        store(argument, i);
    return NULL;
}

/* A sync that takes long enough for others to come. */
static int slow_sync(struct persist *persist)
{
    (void)persist;
    usleep(2000);
    return 0;
}

static void one_sync_is_for_all_that_wait(void)
{
    struct persist_ops slow;
    pthread_t threads[THREADS];
    uint64_t *words, syncs;

    fixture_create();
    words = make(THREADS * 8, TYPE_A, "words");
    slow = *heap->log.persist.ops;
    slow.sync = slow_sync;
    heap->log.persist.ops = &slow;
    syncs = heap->log.persist.syncs;
    for (unsigned i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, commit_slowly, words + i);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    syncs = heap->log.persist.syncs - syncs;
    CHECK(syncs >= 50 && syncs <= THREADS * 50 / 2);
    tap_note("%u commits by %u threads: %lu syncs", THREADS * 50, THREADS, syncs);
    fixture_reopen();
    for (unsigned i = 0; i < THREADS; i++)
        CHECK_EQ(words[i], 49);
    fixture_close();
}

static void threads_with_data_of_their_own_do_not_meet(void)
{
    pthread_t threads[THREADS];
    uint64_t *words;

    fixture_create();
    words = make(THREADS * 8, TYPE_A, "words");
    for (unsigned i = 0; i < THREADS; i++) {
        store(words + i, 0);
        pthread_create(&threads[i], NULL, count_up, words + i);
    }
    for (unsigned i = 0; i < 5; i++)
        CHECK(opened_checkpoint(heap, 5000000000, &why) > 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    fixture_reopen();
    for (unsigned i = 0; i < THREADS; i++)
        CHECK_EQ(words[i], ROUNDS * 2 / 3);
    CHECK_EQ(count(TYPE_B), THREADS * ROUNDS * 2 / 3);
    fixture_close();
}

int main(int argc, char **argv)
{
    fixture_begin();
    tap_arguments(argc, argv);
    RUN(a_commit_is_one_record_and_one_sync);
    RUN(on_persistent_memory_it_is_one_copy_and_one_fence);
    RUN(a_heap_may_be_for_direct_ones_only);
    RUN(a_commit_can_be_durable_later);
    RUN(one_sync_is_for_all_that_wait);
    RUN(threads_with_data_of_their_own_do_not_meet);
    fixture_end();
    return tap_done();
}
