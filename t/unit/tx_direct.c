/*
 * tx_direct.c - direct transactions: what commits is there after opening again, what aborts has not
 * happened, with and without checkpoints in between.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/wait.h>
#include "core/tx/operation.h"
#include "t/lib/tx_fixture.h"

#define TYPE_A 1u
#define TYPE_B 2u

static struct pheap_tx *begin(void)
{
    struct pheap_tx *tx = NULL;

    CHECK_OK(tx_begin(heap, &tx));
    return tx;
}

static void *make(size_t bytes, uint32_t type, const char *name)
{
    struct pheap_tx *tx = begin();
    void *block = NULL;

    CHECK_OK(tx_alloc(tx, bytes, type, &block));
    memset(block, 'x', bytes);
    CHECK_OK(root_set(tx, name, block, type));
    CHECK_OK(tx_commit(tx));
    return block;
}

static void store(uint64_t *word, uint64_t value)
{
    struct pheap_tx *tx = begin();

    CHECK_OK(tx_add(tx, word, sizeof *word));
    *word = value;
    CHECK_OK(tx_commit(tx));
}

static unsigned count(uint32_t type)
{
    struct block block = {0};
    unsigned found = 0;

    while (blocks_next(&heap->blocks, block.address, type, &block))
        found++;
    return found;
}

static void a_commit_is_there_after_opening_again(void)
{
    uint32_t type = 0;
    char *block;

    fixture_create();
    block = make(100, TYPE_A, "first");
    fixture_reopen();
    CHECK(root_find(heap, "first", &type) == block);
    CHECK_EQ(type, TYPE_A);
    CHECK(block[0] == 'x' && block[99] == 'x');
    CHECK_EQ(heap->log.sequence, 1);
    fixture_close();
}

static void aligned_objects_are_aligned_and_come_back(void)
{
    const size_t wrong[] = {0, 3, 24, 131072};
    void *blocks[17];
    struct pheap_tx *tx;

    fixture_create();
    tx = begin();
    for (unsigned i = 0; i < 4; i++)
        CHECK_EQ(tx_alloc_aligned(tx, wrong[i], 8, TYPE_A, &blocks[0]), -EINVAL);
    for (unsigned i = 0; i < 17; i++) {
        CHECK_OK(tx_alloc_aligned(tx, (size_t)1 << i, 100 + i, TYPE_B, &blocks[i]));
        CHECK_EQ((uintptr_t)blocks[i] % ((size_t)1 << i), 0);
        memset(blocks[i], (int)i, 100 + i);
    }
    CHECK_OK(tx_commit(tx));
    for (int round = 0; round < 2; round++) {
        fixture_reopen();
        CHECK_EQ(count(TYPE_B), 17);
        for (unsigned i = 0; i < 17; i++)
            CHECK(((uint8_t *)blocks[i])[0] == i && ((uint8_t *)blocks[i])[99 + i] == i);
        CHECK(fixture_checkpoint() > 0);
    }
    tx = begin();
    for (unsigned i = 0; i < 17; i++)
        CHECK_OK(tx_free(tx, blocks[i]));
    CHECK_OK(tx_commit(tx));
    fixture_reopen();
    CHECK_EQ(count(TYPE_B), 0);
    fixture_close();
}

static void so_it_is_when_a_generation_has_it(void)
{
    uint64_t *word;

    fixture_create();
    word = make(8, TYPE_A, "word");
    store(word, 1);
    CHECK_EQ(fixture_checkpoint(), 2);
    CHECK_EQ(log_bytes(&heap->log), 0);
    fixture_reopen();
    CHECK_EQ(*word, 1);
    store(word, 2);
    fixture_reopen();
    CHECK_EQ(*word, 2);
    CHECK_EQ(heap->log.sequence, 3);
    CHECK_EQ(fixture_checkpoint(), 3);
    CHECK_EQ(fixture_checkpoint(), 4);
    store(word, 3);
    fixture_reopen();
    CHECK_EQ(*word, 3);
    fixture_close();
}

static void an_abort_undoes_everything(void)
{
    struct pheap_tx *tx;
    uint64_t *word;
    void *block, *kept;

    fixture_create();
    word = make(8, TYPE_A, "word");
    kept = make(5000, TYPE_A, "kept");
    store(word, 1);
    tx = begin();
    CHECK_OK(tx_add(tx, word, 8));
    *word = 2;
    CHECK_OK(tx_add(tx, word, 8));
    *word = 3;
    CHECK_OK(tx_alloc(tx, 200000, TYPE_B, &block));
    CHECK_OK(tx_alloc(tx, 20, TYPE_B, &block));
    CHECK_OK(tx_free(tx, kept));
    CHECK_EQ(tx_free(tx, kept), -EINVAL);
    CHECK_OK(root_set(tx, "word", NULL, 0));
    tx_abort(tx);
    CHECK_EQ(*word, 1);
    CHECK_EQ(count(TYPE_A), 2);
    CHECK_EQ(count(TYPE_B), 0);
    CHECK(root_find(heap, "word", NULL) == word);
    fixture_reopen();
    CHECK_EQ(*word, 1);
    CHECK_EQ(count(TYPE_A), 2);
    fixture_close();
}

static void what_was_open_when_the_process_died_has_not_happened(void)
{
    uint64_t *word;

    fixture_create();
    word = make(8, TYPE_A, "word");
    store(word, 1);
    CHECK_EQ(opened_close(heap), 0);
    if (fork() == 0) {
        struct pheap_tx *tx;

        CHECK_OK(fixture_open());
        tx = begin();
        CHECK_OK(tx_add(tx, word, 8));
        *word = 7;
        _exit(0);
    }
    wait(NULL);
    CHECK_OK(fixture_open());
    CHECK_EQ(*word, 1);
    fixture_close();
}

static void an_inner_abort_leaves_the_outer_one(void)
{
    struct pheap_tx *tx;
    uint64_t *words;

    fixture_create();
    words = make(32, TYPE_A, "words");
    tx = begin();
    CHECK_OK(tx_add(tx, words, 8));
    words[0] = 1;
    CHECK_OK(tx_begin(heap, &tx));
    CHECK_OK(tx_add(tx, words, 16));
    words[0] = words[1] = 2;
    tx_abort(tx);
    CHECK_OK(tx_begin(heap, &tx));
    CHECK_OK(tx_add(tx, words + 2, 8));
    words[2] = 3;
    CHECK_OK(tx_commit(tx));
    CHECK_OK(tx_commit(tx));
    fixture_reopen();
    CHECK_EQ(words[0], 1);
    CHECK_EQ(words[1], 0x7878787878787878);
    CHECK_EQ(words[2], 3);
    fixture_close();
}

static char calls[16];

static void note_call(void *letter)
{
    strcat(calls, letter);
}

static void calls_are_made_when_it_is_over(void)
{
    static char a[] = "a", b[] = "b", c[] = "c", d[] = "d";
    struct pheap_tx *tx;

    fixture_create();
    calls[0] = 0;
    tx = begin();
    CHECK_OK(tx_on_commit(tx, note_call, a));
    CHECK_OK(tx_on_commit(tx, note_call, b));
    CHECK_OK(tx_on_abort(tx, note_call, c));
    CHECK_OK(tx_begin(heap, &tx));
    CHECK_OK(tx_on_abort(tx, note_call, d));
    CHECK_OK(tx_on_commit(tx, note_call, d));
    tx_abort(tx);
    CHECK_STR(calls, "d");
    CHECK_OK(tx_commit(tx));
    CHECK_STR(calls, "dab");
    fixture_close();
}

static void a_freed_block_is_not_handed_out_before_the_commit(void)
{
    struct pheap_tx *freeing, *other;
    void *old, *block;

    fixture_create();
    old = make(64, TYPE_A, "old");
    freeing = begin();
    CHECK_OK(tx_free(freeing, old));
    other = begin();
    CHECK_OK(tx_alloc(other, 64, TYPE_A, &block));
    CHECK(block != old);
    CHECK_OK(tx_alloc(freeing, 64, TYPE_A, &block));
    CHECK(block != old);
    CHECK_OK(tx_commit(freeing));
    freeing = begin();
    CHECK_OK(tx_alloc(freeing, 64, TYPE_A, &block));
    CHECK(block == old);
    CHECK_EQ(*(char *)block, 0);
    CHECK_OK(tx_commit(freeing));
    CHECK_OK(tx_commit(other));
    fixture_reopen();
    CHECK_EQ(count(TYPE_A), 3);
    fixture_close();
}

static void blocks_of_all_sizes_come_and_go(void)
{
    static void *blocks[400];
    struct pheap_tx *tx;
    void *block;

    fixture_create();
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 400; i++) {
            size_t bytes = (size_t)i * i * (i % 50 == 0 ? 20 : 1);

            tx = begin();
            CHECK_OK(tx_alloc(tx, bytes, TYPE_B, &blocks[i]));
            memset(blocks[i], (int)i, bytes);
            CHECK_OK(tx_commit(tx));
        }
        CHECK(opened_is_valid(heap));
        if (round == 1)
            CHECK(fixture_checkpoint() > 0);
        fixture_reopen();
        CHECK_EQ(count(TYPE_B), 400);
        for (unsigned i = 0; i < 400; i++) {
            size_t bytes = (size_t)i * i * (i % 50 == 0 ? 20 : 1);
            const uint8_t *byte = blocks[i];

            CHECK(bytes == 0 || (byte[0] == (uint8_t)i && byte[bytes - 1] == (uint8_t)i));
        }
        tx = begin();
        for (unsigned i = 0; i < 400; i++)
            CHECK_OK(tx_free(tx, blocks[i]));
        CHECK_OK(tx_commit(tx));
    }
    tx = begin();
    CHECK_EQ(tx_alloc(tx, 1ull << 50, TYPE_A, &block), -ENOMEM);
    CHECK_EQ(tx_alloc(tx, SIZE_MAX, TYPE_A, &block), -ENOMEM);
    CHECK_OK(tx_commit(tx));
    fixture_reopen();
    CHECK_EQ(count(TYPE_B), 0);
    fixture_close();
}

static void the_log_grows_and_is_cut_by_itself(void)
{
    struct pheap_tx *tx;
    uint8_t *block;

    fixture_create();
    block = make(3 << 20, TYPE_A, "large");
    CHECK(heap->pool.super.log.extent_count > 1);
    for (unsigned i = 0; i < 8; i++) {
        tx = begin();
        CHECK_OK(tx_add(tx, block, 3 << 20));
        memset(block, (int)i, 3 << 20);
        CHECK_OK(tx_commit(tx));
    }
    CHECK_EQ(pool_generation(&heap->pool, 0)->number, 2);
    fixture_reopen();
    CHECK(block[0] == 7 && block[(3 << 20) - 1] == 7);
    fixture_close();
}

static void a_checkpoint_waits_for_open_transactions(void)
{
    struct pheap_tx *tx, *second;

    fixture_create();
    tx = begin();
    CHECK_EQ(fixture_checkpoint(), STATUS_DEFERRED);
    second = begin();
    CHECK_EQ(opened_close(heap), STATUS_DEFERRED);
    CHECK_OK(tx_commit(tx));
    CHECK_OK(tx_commit(second));
    CHECK_EQ(fixture_checkpoint(), 2);
    fixture_close();
}

static void what_is_not_in_the_heap_is_refused(void)
{
    uint64_t *word, local = 0;
    struct pheap_tx *tx;

    fixture_create();
    word = make(8, TYPE_A, "word");
    tx = begin();
    CHECK_EQ(tx_add(tx, &local, 8), -EINVAL);
    CHECK_EQ(tx_add(tx, (void *)heap->memory.base, 8), -EINVAL);
    CHECK_EQ(tx_add(tx, word, SIZE_MAX), -EINVAL);
    CHECK_EQ(tx_add(tx, word, 1ull << 36), -EINVAL);
    CHECK_EQ(tx_free(tx, &local), -EINVAL);
    CHECK_EQ(tx_free(tx, word + 1), -EINVAL);
    CHECK_EQ(tx_free(tx, NULL), -EINVAL);
    CHECK_EQ(root_set(tx, "", word, 0), -EINVAL);
    CHECK_EQ(root_set(tx, "x", &local, 0), -EINVAL);
    CHECK_EQ(root_set(tx, "a name that is much longer than forty-seven bytes", word, 0), -EINVAL);
    tx_abort(tx);
    fixture_close();
}

static void a_pool_of_a_program_is_refused(void)
{
    static struct arena arena;
    struct generation_entry entry = {.kind = GENERATION_PROCESS, .slot = FIXTURE_SLOT};
    struct pool pool;

    unlink(fixture_path);
    CHECK_OK(arena_create(&arena, 1 << 28));
    CHECK_OK(pool_create(fixture_path, FIXTURE_SLOT, 3, &why));
    CHECK_EQ(fixture_open_path(&heap, fixture_path, true), STATUS_NO_GENERATION);
    CHECK_OK(pool_open(&pool, fixture_path, POOL_WRITE, &why));
    CHECK_OK(pool_load(&pool, &arena, 0, &why));
    CHECK_OK(pool_commit(&pool, &entry, NULL, 0, &why));
    pool_close(&pool);
    arena_destroy(&arena);
    CHECK_EQ(fixture_open(), STATUS_REFUSED);
}

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
    RUN(a_commit_is_there_after_opening_again);
    RUN(aligned_objects_are_aligned_and_come_back);
    RUN(so_it_is_when_a_generation_has_it);
    RUN(an_abort_undoes_everything);
    RUN(what_was_open_when_the_process_died_has_not_happened);
    RUN(an_inner_abort_leaves_the_outer_one);
    RUN(calls_are_made_when_it_is_over);
    RUN(a_freed_block_is_not_handed_out_before_the_commit);
    RUN(blocks_of_all_sizes_come_and_go);
    RUN(the_log_grows_and_is_cut_by_itself);
    RUN(a_checkpoint_waits_for_open_transactions);
    RUN(what_is_not_in_the_heap_is_refused);
    RUN(a_pool_of_a_program_is_refused);
    RUN(a_commit_is_one_record_and_one_sync);
    RUN(on_persistent_memory_it_is_one_copy_and_one_fence);
    RUN(a_heap_may_be_for_direct_ones_only);
    RUN(a_commit_can_be_durable_later);
    RUN(one_sync_is_for_all_that_wait);
    RUN(threads_with_data_of_their_own_do_not_meet);
    fixture_end();
    return tap_done();
}
