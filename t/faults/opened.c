/*
 * opened.c - the n-th system call, or the n-th allocation, of a heap that is opened fails, n = 1,
 * 2,
 * ... until a life passes untouched: opening, transactions, a checkpoint, closing. What fails has
 * not happened, or is there whole; the heap goes on, or says that it does not; and opened again it
 * holds what was committed.
 *
 * Without PHEAP_TEST_LONG some of the later n are left out, others each time.
 */
#include "t/lib/tx_fixture.h"

#include "t/lib/sys_faults.h"

#define STEPS 4

struct model {
    uint64_t words[2];
    uint64_t objects;
};

static struct model now, tried;

static unsigned long next_n(unsigned long n)
{
    return getenv("PHEAP_TEST_LONG") ? n + 1 : n + 1 + (unsigned long)rand() % (1 + n / 12);
}

static bool holds(const struct pheap *at, const struct model *model)
{
    const uint64_t *words = root_find(at, "words", NULL);
    struct block block = {0};
    uint64_t objects = 0;

    while (blocks_next(&at->blocks, block.address, 2, &block))
        objects++;
    return words && objects == model->objects &&
           memcmp(words, model->words, sizeof model->words) == 0;
}

static int change(struct pheap_tx *tx, struct model *model)
{
    uint64_t *words = root_find(heap, "words", NULL);
    void *block;
    int status = words ? tx_add(tx, words, sizeof model->words) : 0;

    if (!words) {
        status = tx_alloc(tx, sizeof model->words, 1, &block);
        words = block;
        if (status == 0)
            status = root_set(tx, "words", words, 1);
    }
    if (status == 0)
        status = tx_alloc(tx, model->objects % 3 == 2 ? 70000 : 100, 2, &block);
    if (status < 0)
        return status;
    words[0] = ++model->words[0];
    words[1] = model->words[1] = model->words[0] * 7;
    model->objects++;
    return 0;
}

static int transact(void)
{
    struct pheap_tx *tx = NULL;
    struct model model = now;
    int status = tx_begin(heap, &tx);

    if (status < 0)
        return status;
    status = change(tx, &model);
    if (status < 0) {
        tx_abort(tx);
        return status;
    }
    tried = model;
    status = tx_commit(tx);
    if (status == 0)
        now = model;
    return status;
}

/* The first status that is not 0. */
static int live(void)
{
    int first = 0;

    for (unsigned step = 0; step < STEPS; step++) {
        int64_t status = step == 1 ? fixture_checkpoint() : transact();

        if (status < 0 && first == 0)
            first = (int)status;
        CHECK(holds(heap, &now) || now.objects == 0);
        CHECK(blocks_are_valid(&heap->blocks));
    }
    return first;
}

static bool try_life(enum fault_kind kind, unsigned long n, bool is_new, int *status)
{
    bool hit;

    why = (struct problem){0};
    faults_arm(kind, n);
    *status = opened_attach(&heap, fixture_path, false, &why);
    if (*status == 0) {
        *status = opened_load(heap, &why);
        if (!CHECK(*status == 0 || why.text[0] != 0))
            tap_note("%s, n = %lu, call %ld, status %d", fault_names[kind], n, faults_failed_call(),
                     *status);
        if (*status == 0)
            *status = live();
        hit = faults_disarm();
        CHECK_EQ(opened_close(heap), 0);
    } else {
        hit = faults_disarm();
        CHECK(why.text[0] != 0 && heap == NULL);
    }
    if (!CHECK(hit || *status == 0))
        tap_note("%s, n = %lu%s: status %d %s", fault_names[kind], n, is_new ? ", new" : "",
                 *status, why.text);
    return hit;
}

static bool check_what_is_left(enum fault_kind kind, unsigned long n)
{
    if (!tap_check(fixture_open() == 0, __FILE__, __LINE__, "%s, n = %lu, call %ld: %s",
                   fault_names[kind], n, faults_failed_call(), why.text))
        return false;
    if (now.objects > 0 && !CHECK(holds(heap, &now) || holds(heap, &tried)))
        tap_note("%s, n = %lu, call %ld", fault_names[kind], n, faults_failed_call());
    if (holds(heap, &tried))
        now = tried;
    CHECK(opened_is_valid(heap));
    CHECK_OK(transact());
    CHECK(fixture_checkpoint() > 0);
    CHECK_EQ(opened_close(heap), 0);
    return true;
}

static void fail_lives_of(bool is_new)
{
    for (enum fault_kind kind = 0; kind < FAULT_KINDS; kind++) {
        unsigned long failures = 0;
        bool hit = true;

        for (unsigned long n = 1; hit; n = next_n(n)) {
            int status;

            if (is_new) {
                unlink(fixture_path);
                CHECK_OK(pool_create(fixture_path, FIXTURE_SLOT, 2, &why));
                now = tried = (struct model){0};
            }
            hit = try_life(kind, n, is_new, &status);
            failures += status < 0;
            if (!check_what_is_left(kind, n))
                return;
        }
        tap_note("%s: %lu places, %lu lives were hit", fault_names[kind], faults_counted(),
                 failures);
    }
}

static void whatever_fails_in_the_life_of_a_new_heap(void)
{
    fail_lives_of(true);
}

static void whatever_fails_in_the_life_of_a_heap_that_is_opened_again(void)
{
    unlink(fixture_path);
    CHECK_OK(pool_create(fixture_path, FIXTURE_SLOT, 2, &why));
    now = tried = (struct model){0};
    CHECK_OK(fixture_open());
    CHECK_OK(transact());
    CHECK_EQ(opened_close(heap), 0);
    fail_lives_of(false);
}

int main(int argc, char **argv)
{
    fixture_begin();
    tap_arguments(argc, argv);
    srand((unsigned)getpid());
    RUN(whatever_fails_in_the_life_of_a_new_heap);
    RUN(whatever_fails_in_the_life_of_a_heap_that_is_opened_again);
    fixture_end();
    return tap_done();
}
