/*
 * tx_optimistic.c - optimistic transactions, one step after the other: what each sees, which one
 * loses. tx_optimistic_objects.c has what they allocate and free; tx_serial.c lets them run freely.
 */
#include <errno.h>
#include <pthread.h>
#include "t/lib/tx_words.h"

static void what_it_writes_is_its_own_until_it_commits(void)
{
    struct pheap_tx *tx, *other;
    uint8_t bytes[100], expected[100];

    make_words();
    tx = begin();
    CHECK_OK(put(tx, 1, 7));
    CHECK_EQ(seen(tx, 1), 7);
    CHECK_EQ(words[1].value, 0);
    memset(expected, 0, sizeof expected);
    memset(expected + 30, 'x', 45);
    CHECK_OK(tx_write(tx, (uint8_t *)&words[4] + 30, expected + 30, 45)); /* over a line's end */
    CHECK_OK(tx_write(tx, (uint8_t *)&words[4] + 75, "y", 1));
    expected[75] = 'y';
    CHECK_OK(tx_read(tx, bytes, &words[4], sizeof bytes));
    CHECK(memcmp(bytes, expected, sizeof bytes) == 0);
    other = begin();
    CHECK_EQ(seen(other, 1), 0);
    CHECK_OK(tx_commit(other));
    CHECK_OK(tx_commit(tx));
    CHECK_EQ(words[1].value, 7);
    fixture_reopen();
    CHECK_EQ(words[1].value, 7);
    CHECK(memcmp(&words[4], expected, sizeof expected) == 0);
    fixture_close();
}

/* What is newer than the clock raises it, once. */
static void one_that_only_reads_writes_nothing(void)
{
    struct pheap_tx *tx;
    uint64_t sequence, clock;

    make_words();
    clock = stripes_clock();
    store(1, 5);
    CHECK_EQ(stripes_clock(), clock);
    tx = begin();
    CHECK_EQ(seen(tx, 1), 5);
    CHECK_EQ(stripes_clock(), clock + 1);
    CHECK_OK(tx_commit(tx));
    sequence = heap->log.sequence;
    clock = stripes_clock();
    tx = begin();
    CHECK_EQ(seen(tx, 1), 5);
    CHECK_EQ(gate_count_inside(&heap->gate), 0);
    CHECK(fixture_checkpoint() > 0); /* nobody waits for it */
    CHECK_EQ(seen(tx, 2), 0);
    CHECK_OK(tx_commit(tx));
    CHECK_EQ(heap->log.sequence, sequence);
    CHECK_EQ(stripes_clock(), clock);
    fixture_close();
}

static void who_has_read_what_another_one_changes_loses(void)
{
    struct pheap_tx *tx;
    uint64_t value;

    make_words();
    tx = begin();
    CHECK_EQ(seen(tx, 1), 0);
    CHECK_OK(put(tx, 2, 1));
    store(1, 9);
    CHECK_EQ(tx_commit(tx), STATUS_CONFLICT);
    CHECK_EQ(get(tx, 1, &value), STATUS_CONFLICT);
    CHECK_EQ(put(tx, 1, value), STATUS_CONFLICT);
    CHECK_EQ(tx_commit(tx), STATUS_CONFLICT);
    CHECK_EQ(words[2].value, 0);
    CHECK_OK(tx_retry(tx));
    CHECK_EQ(seen(tx, 1), 9);
    CHECK_OK(put(tx, 2, 2));
    CHECK_OK(tx_commit(tx));
    CHECK_EQ(words[2].value, 2);
    fixture_close();
}

static void of_two_that_each_write_what_the_other_has_read_one_loses(void)
{
    struct pheap_tx *one, *other;

    make_words();
    one = begin();
    other = begin();
    CHECK_EQ(seen(one, 1) + seen(one, 2), 0);
    CHECK_EQ(seen(other, 1) + seen(other, 2), 0);
    CHECK_OK(put(one, 1, 1));
    CHECK_OK(put(other, 2, 1));
    CHECK_OK(tx_commit(one));
    CHECK_EQ(tx_commit(other), STATUS_CONFLICT);
    tx_abort(other);
    CHECK_EQ(words[1].value, 1);
    CHECK_EQ(words[2].value, 0);
    fixture_close();
}

/* Two words that are always equal. */
static void it_never_sees_half_of_another_one(void)
{
    struct pheap_tx *tx, *other;
    uint64_t value;

    make_words();
    tx = begin();
    CHECK_EQ(seen(tx, 1), 0);
    other = begin();
    CHECK_OK(put(other, 1, 5));
    CHECK_OK(put(other, 2, 5));
    CHECK_OK(tx_commit(other));
    CHECK_EQ(get(tx, 2, &value), STATUS_CONFLICT);
    CHECK_OK(tx_retry(tx));
    CHECK_EQ(seen(tx, 1), 5);
    CHECK_EQ(seen(tx, 2), 5);
    CHECK_OK(tx_commit(tx));
    fixture_close();
}

static void what_is_newer_is_seen_if_nothing_before_it_has_changed(void)
{
    struct pheap_tx *tx;

    make_words();
    tx = begin();
    CHECK_EQ(seen(tx, 1), 0);
    store(2, 5);
    CHECK_EQ(seen(tx, 2), 5);
    CHECK_OK(put(tx, 3, 1));
    CHECK_OK(tx_commit(tx));
    fixture_close();
}

static void nested_ones_are_undone_by_themselves(void)
{
    struct pheap_tx *tx;
    uint64_t value = 0;
    void *block;

    make_words();
    tx = begin();
    CHECK_OK(put(tx, 1, 1));
    CHECK_OK(tx_begin_optimistic(heap, &tx));
    CHECK_OK(put(tx, 1, 2));
    CHECK_OK(put(tx, 2, 2));
    CHECK_OK(tx_begin(heap, &tx));
    CHECK_OK(put(tx, 1, 3));
    CHECK_OK(tx_alloc(tx, 100, 2, &block));
    CHECK_OK(tx_commit(tx));
    CHECK_EQ(seen(tx, 1), 3);
    tx_abort(tx);
    CHECK_EQ(seen(tx, 1), 1);
    CHECK_EQ(seen(tx, 2), 0);
    CHECK_OK(tx_begin(heap, &tx));
    CHECK_OK(put(tx, 3, 4));
    CHECK_OK(tx_commit(tx));
    CHECK_OK(tx_commit(tx));
    CHECK_EQ(words[1].value, 1);
    CHECK_EQ(words[3].value, 4);
    tx = begin();
    CHECK_EQ(seen(tx, 1), 1);
    store(1, 8);
    CHECK_OK(tx_begin(heap, &tx));
    CHECK_OK(put(tx, 3, 5));
    CHECK_OK(put(tx, 4, 5));
    store(2, 9);
    CHECK_EQ(get(tx, 2, &value), STATUS_CONFLICT); /* in the inner one; the outer one has lost */
    CHECK_EQ(tx_commit(tx), STATUS_CONFLICT);
    CHECK_EQ(tx_commit(tx), STATUS_CONFLICT);
    tx_abort(tx);
    CHECK_EQ(words[3].value, 4);
    fixture_close();
}

/* Of any length, anywhere, nested and undone: as in an array beside it. */
static void random_writes_are_as_in_an_array(void)
{
    static uint8_t array[2000], before[2000], seen_bytes[2000], from[300];
    uint8_t *bytes;

    make_words();
    bytes = (uint8_t *)words;
    srand(7);
    memset(array, 0, sizeof array);
    for (unsigned round = 0; round < 200; round++) {
        struct pheap_tx *tx = begin();
        bool nested = false;

        for (unsigned i = 0; i < 30; i++) {
            size_t at = (size_t)rand() % 1700, count = (size_t)rand() % (rand() % 2 ? 300 : 12);

            memset(from, rand(), count);
            CHECK_OK(tx_write(tx, bytes + at, from, count));
            memcpy(array + at, from, count);
            if (!nested && i == 10) {
                memcpy(before, array, sizeof array);
                CHECK_OK(tx_begin(heap, &tx));
                nested = true;
            } else if (nested && i == 20 && round % 2) {
                tx_abort(tx);
                memcpy(array, before, sizeof array);
                nested = false;
            }
            CHECK_OK(tx_read(tx, seen_bytes + at, bytes + at, 250));
            CHECK(memcmp(seen_bytes + at, array + at, 250) == 0);
        }
        if (nested)
            CHECK_OK(tx_commit(tx));
        CHECK_OK(tx_commit(tx));
        CHECK(memcmp(bytes, array, sizeof array) == 0);
    }
    fixture_reopen();
    CHECK(memcmp(bytes, array, sizeof array) == 0);
    fixture_close();
}

static void a_direct_one_keeps_others_off_what_it_has_added(void)
{
    struct pheap_tx *direct, *tx, *another;
    uint64_t value;

    make_words();
    direct = begin_direct();
    CHECK_OK(tx_add(direct, &words[1], 8));
    words[1].value = 5;
    CHECK_EQ(seen(direct, 1), 5);
    tx = begin();
    CHECK_EQ(get(tx, 1, &value), STATUS_CONFLICT);
    CHECK_OK(tx_retry(tx));
    CHECK_EQ(tx_add(tx, &words[2], 8), -EINVAL);
    CHECK_OK(put(tx, 1, 6));
    CHECK_EQ(tx_commit(tx), STATUS_CONFLICT);
    another = begin_direct(); /* direct ones do not keep each other off */
    CHECK_OK(tx_add(another, &words[1].rest, 8));
    tx_abort(direct);
    CHECK_OK(tx_retry(tx));
    CHECK_EQ(get(tx, 1, &value), STATUS_CONFLICT);
    CHECK_OK(tx_commit(another));
    CHECK_OK(tx_retry(tx));
    CHECK_EQ(seen(tx, 1), 0);
    CHECK_OK(tx_commit(tx));
    fixture_close();
}

static void who_has_read_what_a_direct_one_has_stored_to_loses(void)
{
    struct pheap_tx *direct, *tx;

    make_words();
    tx = begin();
    CHECK_EQ(seen(tx, 1), 0);
    direct = begin_direct();
    CHECK_OK(put(direct, 1, 4));
    CHECK_OK(tx_commit(direct));
    CHECK_OK(put(tx, 2, 1));
    CHECK_EQ(tx_commit(tx), STATUS_CONFLICT);
    CHECK_OK(tx_retry(tx));
    CHECK_EQ(seen(tx, 1), 4);
    direct = begin_direct(); /* undone, but it was there */
    CHECK_OK(put(direct, 1, 5));
    tx_abort(direct);
    CHECK_OK(put(tx, 2, 1));
    CHECK_EQ(tx_commit(tx), STATUS_CONFLICT);
    tx_abort(tx);
    fixture_close();
}

static void what_is_not_in_the_heap_is_refused(void)
{
    struct pheap_tx *tx;
    uint64_t value = 0;

    make_words();
    tx = begin();
    CHECK_EQ(tx_read(tx, &value, &value, 8), -EINVAL);
    CHECK_EQ(tx_write(tx, &value, &value, 8), -EINVAL);
    CHECK_EQ(tx_read(tx, &value, (void *)heap->memory.base, 8), -EINVAL);
    CHECK_OK(tx_read(tx, &value, words, 0));
    CHECK_OK(tx_commit(tx));
    tx = begin_direct();
    CHECK_EQ(tx_retry(tx), -EINVAL);
    CHECK_OK(tx_commit(tx));
    fixture_close();
}

/* --- starvation --- */

static bool stop;

static void *hammer(void *argument)
{
    uint64_t i = 0;

    (void)argument;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        struct pheap_tx *tx = begin();

        while (put(tx, (unsigned)(++i % WORDS), 1) < 0 || tx_commit(tx) < 0)
            if (tx_retry(tx) < 0)
                return NULL;
    }
    return NULL;
}

/* Reads everything, slowly: each of the others' commits makes it lose. */
static void who_loses_often_is_let_go_first(void)
{
    struct pheap_tx *tx;
    pthread_t threads[3];
    unsigned losses = 0;
    int status = 0;

    make_words();
    heap->log.long_at = UINT64_MAX;
    stop = false;
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, hammer, NULL), 0);
    tx = begin();
    do {
        uint64_t value, sum = 0;

        status = 0;
        for (unsigned i = 0; status == 0 && i < WORDS; i++) {
            status = get(tx, i, &value);
            sum += value;
            if (i % 8 == 0)
                usleep(200);
        }
        if (status == 0)
            status = put(tx, 0, sum);
        if (status == 0)
            status = tx_commit(tx);
    } while (status == STATUS_CONFLICT && ++losses < 1000 && tx_retry(tx) == 0);
    CHECK_OK(status);
    CHECK(losses < 30);
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    tap_note("%u losses before it", losses);
    CHECK(heap->stripes.token == NULL);
    fixture_close();
}

int main(int argc, char **argv)
{
    fixture_begin();
    tap_arguments(argc, argv);
    RUN(what_it_writes_is_its_own_until_it_commits);
    RUN(one_that_only_reads_writes_nothing);
    RUN(who_has_read_what_another_one_changes_loses);
    RUN(of_two_that_each_write_what_the_other_has_read_one_loses);
    RUN(it_never_sees_half_of_another_one);
    RUN(what_is_newer_is_seen_if_nothing_before_it_has_changed);
    RUN(nested_ones_are_undone_by_themselves);
    RUN(random_writes_are_as_in_an_array);
    RUN(a_direct_one_keeps_others_off_what_it_has_added);
    RUN(who_has_read_what_a_direct_one_has_stored_to_loses);
    RUN(what_is_not_in_the_heap_is_refused);
    RUN(who_loses_often_is_let_go_first);
    fixture_end();
    return tap_done();
}
