/*
 * tx_direct.c - direct transactions: what commits is there after opening again, what aborts has not
 * happened, with and without checkpoints in between. tx_commits.c has what a commit costs.
 */
#include <errno.h>
#include <sys/wait.h>
#include "t/lib/tx_direct.h"

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
    fixture_end();
    return tap_done();
}
