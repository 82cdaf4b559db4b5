/*
 * tx_optimistic_objects.c - objects and roots of optimistic transactions: who loses leaves none
 * behind, one that is freed is seen by nobody, what fails has not happened.
 */
#include <errno.h>
#include "t/lib/persist_recorder.h"
#include "t/lib/tx_words.h"

#define LARGE_BYTES (3u << 20)

static unsigned called;

static void call(void *context)
{
    (void)context;
    called++;
}

static unsigned count_objects(uint32_t type)
{
    struct block block = {0};
    unsigned found = 0;

    while (blocks_next(&heap->blocks, block.address, type, &block))
        found++;
    return found;
}

static void who_loses_leaves_no_object_behind(void)
{
    struct pheap_tx *tx;
    void *block;

    make_words();
    called = 0;
    tx = begin();
    CHECK_EQ(seen(tx, 1), 0);
    CHECK_OK(tx_on_abort(tx, call, NULL));
    CHECK_OK(tx_on_commit(tx, call, NULL));
    CHECK_OK(tx_alloc(tx, 500, 2, &block));
    CHECK_OK(tx_free(tx, root_find(heap, "words", NULL)));
    store(1, 1);
    CHECK_EQ(tx_commit(tx), STATUS_CONFLICT);
    CHECK_EQ(called, 1);
    CHECK_EQ(count_objects(2), 0);
    CHECK_EQ(count_objects(1), 1);
    CHECK_EQ(gate_count_inside(&heap->gate), 0);
    CHECK_OK(tx_retry(tx));
    CHECK_OK(tx_alloc(tx, 500, 2, &block));
    CHECK_OK(tx_on_commit(tx, call, NULL));
    CHECK_OK(tx_commit(tx));
    CHECK_EQ(called, 2);
    CHECK_EQ(count_objects(2), 1);
    fixture_close();
}

/* The pointer is read, then the object is freed and its place used again. */
static void free_under_a_reader(size_t bytes)
{
    struct pheap_tx *tx, *other;
    uint8_t *object, byte;
    void *block, *again;

    other = begin();
    CHECK_OK(tx_alloc(other, bytes, 2, &block));
    CHECK_OK(tx_write(other, &words[1].value, &block, sizeof block));
    CHECK_OK(tx_commit(other));
    tx = begin();
    CHECK_OK(tx_read(tx, &object, &words[1].value, sizeof object));
    CHECK(object == block);
    other = begin();
    CHECK_OK(put(other, 1, 0));
    CHECK_OK(tx_free(other, object));
    CHECK_OK(tx_commit(other));
    other = begin();
    CHECK_OK(tx_alloc(other, bytes, 3, &again));
    memset(again, 'z', bytes);
    CHECK_EQ(tx_read(tx, &byte, object + bytes / 2, 1), STATUS_CONFLICT);
    tx_abort(other);
    CHECK_OK(tx_retry(tx));
    CHECK_EQ(tx_free(tx, object), -EINVAL); /* not late, but wrong */
    CHECK_EQ(seen(tx, 1), 0);
    CHECK_OK(tx_commit(tx));
}

static void a_freed_object_is_never_seen_as_another_one(void)
{
    make_words();
    free_under_a_reader(100);
    free_under_a_reader(20000);
    free_under_a_reader(LARGE_BYTES);
    fixture_close();
}

static void what_is_freed_twice_is_refused(void)
{
    struct pheap_tx *tx, *other;
    void *block, *found;

    make_words();
    tx = begin();
    CHECK_OK(tx_alloc(tx, 40, 2, &block));
    CHECK_OK(root_set(tx, "object", block, 2));
    CHECK_OK(tx_commit(tx));
    tx = begin();
    CHECK_OK(tx_free(tx, block));
    CHECK_OK(tx_free(tx, block));
    CHECK_EQ(tx_commit(tx), -EINVAL);
    CHECK_EQ(count_objects(2), 1);
    tx = begin();
    other = begin();
    CHECK_OK(root_get(tx, "object", &found, NULL));
    CHECK_OK(root_get(other, "object", &found, NULL));
    CHECK_OK(tx_free(tx, found));
    CHECK_OK(tx_free(other, found));
    CHECK_OK(root_set(tx, "object", NULL, 0));
    CHECK_OK(root_set(other, "object", NULL, 0));
    CHECK_OK(tx_commit(tx));
    CHECK_EQ(tx_commit(other), STATUS_CONFLICT);
    CHECK_OK(tx_retry(other));
    CHECK_OK(root_get(other, "object", &found, NULL));
    CHECK(found == NULL);
    tx_abort(other);
    fixture_close();
}

static void roots_are_read_and_set_as_everything_else(void)
{
    struct pheap_tx *tx, *other;
    uint32_t type = 0;
    void *found;

    make_words();
    tx = begin();
    CHECK_OK(root_set(tx, "one", &words[1], 5));
    CHECK_OK(root_get(tx, "one", &found, &type));
    CHECK(found == &words[1] && type == 5);
    CHECK(root_find(heap, "one", NULL) == NULL);
    other = begin();
    CHECK_OK(root_set(other, "two", &words[2], 6));
    CHECK_OK(tx_commit(other));
    CHECK_EQ(tx_commit(tx), STATUS_CONFLICT); /* both took the first free place */
    CHECK_OK(tx_retry(tx));
    CHECK_OK(root_set(tx, "one", &words[1], 5));
    CHECK_OK(tx_commit(tx));
    CHECK(root_find(heap, "one", NULL) == &words[1] && root_find(heap, "two", NULL) == &words[2]);
    fixture_close();
}

static void a_commit_that_fails_is_undone(void)
{
    static struct recording recording;
    struct pheap_tx *tx;
    void *block;

    make_words();
    store(1, 1);
    memset(&recording, 0, sizeof recording);
    recording_attach(&recording, &heap->log.persist);
    recording.fail_at = 1;
    recording.fail_status = -ENOSPC;
    tx = begin();
    CHECK_OK(put(tx, 1, 2));
    CHECK_OK(tx_alloc(tx, 100, 2, &block));
    CHECK_EQ(tx_commit(tx), -ENOSPC);
    CHECK_EQ(words[1].value, 1);
    CHECK_EQ(count_objects(2), 0);
    tx = begin();
    CHECK_EQ(seen(tx, 1), 1);
    CHECK_OK(put(tx, 1, 3));
    CHECK_OK(tx_commit(tx));
    fixture_reopen();
    CHECK_EQ(words[1].value, 3);
    fixture_close();
    recording_free(&recording);
}

int main(int argc, char **argv)
{
    fixture_begin();
    tap_arguments(argc, argv);
    RUN(who_loses_leaves_no_object_behind);
    RUN(a_freed_object_is_never_seen_as_another_one);
    RUN(what_is_freed_twice_is_refused);
    RUN(roots_are_read_and_set_as_everything_else);
    RUN(a_commit_that_fails_is_undone);
    fixture_end();
    return tap_done();
}
