/*
 * tx_failures.c - the n-th write, sync, growth or reservation of a heap's life fails, n = 1, 2, ...
 * until a life passes without: the transaction that is hit has not happened, in memory too; the
 * heap goes on, or says that it does not; and opened again it holds what it should.
 */
#include <errno.h>
#include "t/lib/persist_recorder.h"
#include "t/lib/tx_fixture.h"

#define WORDS       8
#define STEPS       14
#define LARGE_BYTES (1500u << 10) /* more than the log has room for at first */

struct model {
    uint64_t words[WORDS];
    uint64_t objects;
};

struct life {
    struct recording recording;
    struct model now;   /* what memory should hold */
    struct model tried; /* by the transaction that failed and left it open whether it is durable */
    bool is_open;       /* opened_load() has passed */
    unsigned failures;
};

static struct life life;

static bool holds(const struct pheap *at, const struct model *model)
{
    const uint64_t *words = root_find(at, "words", NULL);
    struct block block = {0};
    uint64_t objects = 0;

    while (blocks_next(&at->blocks, block.address, 2, &block))
        objects++;
    if (objects != model->objects)
        return false;
    return words ? memcmp(words, model->words, sizeof model->words) == 0 : model->words[0] == 0;
}

static int change(struct pheap_tx *tx, unsigned step, struct model *model)
{
    uint64_t *words = root_find(heap, "words", NULL);
    void *block;
    int status;

    if (!words) {
        status = tx_alloc(tx, sizeof model->words, 1, &block);
        words = status == 0 ? block : NULL;
        if (status == 0)
            status = root_set(tx, "words", words, 1);
    } else {
        status = tx_add(tx, words, sizeof model->words);
    }
    if (status == 0)
        status = tx_alloc(tx, step == 6 ? LARGE_BYTES : 100, 2, &block);
    if (status < 0)
        return status;
    words[0] = model->words[0] = step + 1;
    words[step % WORDS] = model->words[step % WORDS] = step + 1;
    model->objects++;
    return 0;
}

/* 0, or the status of what failed. */
static int take_step(unsigned step)
{
    struct pheap_tx *tx = NULL;
    struct model model = life.now;
    int status;

    if (step % 5 == 4) {
        int64_t number = fixture_checkpoint();

        return number < 0 ? (int)number : 0;
    }
    status = tx_begin(heap, &tx);
    if (status < 0)
        return status;
    CHECK_OK(change(tx, step, &model));
    status = tx_commit(tx);
    if (status == 0)
        life.now = model;
    else
        life.tried = model;
    return status;
}

static void live(int fail_status)
{
    for (unsigned step = 0; step < STEPS; step++) {
        bool failed_before = heap->failed != 0;
        int status = take_step(step);

        if (status < 0) {
            life.failures++;
            CHECK(failed_before || status == fail_status);
        } else {
            CHECK(!failed_before);
        }
        CHECK(holds(heap, &life.now));
        CHECK(blocks_are_valid(&heap->blocks));
    }
}

static bool fail_at(unsigned long n, int fail_status)
{
    bool hit;

    memset(&life, 0, sizeof life);
    life.recording.fail_at = n;
    life.recording.fail_status = fail_status;
    unlink(fixture_path);
    CHECK_OK(pool_create(fixture_path, FIXTURE_SLOT, 2, &why));
    CHECK_OK(opened_attach(&heap, fixture_path, false, &why));
    recording_attach(&life.recording, &heap->pool.persist);
    life.is_open = opened_load(heap, &why) == 0;
    if (life.is_open)
        live(fail_status);
    hit = life.recording.operations >= n;
    /* What cannot grow may find room elsewhere. */
    CHECK(!hit || !life.is_open || life.failures > 0 ||
          life.recording.failed_kind == RECORDED_GROW);
    CHECK(heap->failed || life.failures <= 1);
    if (!heap->failed)
        life.tried = life.now;
    CHECK_EQ(opened_close(heap), 0);
    recording_free(&life.recording);
    return hit;
}

static void every_operation_fails_once(int fail_status)
{
    unsigned long n = 1, stopped = 0;

    for (bool hit = true; hit; n++) {
        hit = fail_at(n, fail_status);
        stopped += life.failures > 1;
        if (!tap_check(fixture_open() == 0, __FILE__, __LINE__, "n = %lu: %s", n, why.text))
            return;
        if (!CHECK(holds(heap, &life.now) || holds(heap, &life.tried)))
            tap_note("n = %lu", n);
        CHECK(opened_is_valid(heap));
        CHECK(fixture_checkpoint() > 0);
        CHECK_EQ(opened_close(heap), 0);
    }
    tap_note("%lu operations failed, after %lu the heap took no more", n - 2, stopped);
}

static void a_full_disk_stops_one_transaction(void)
{
    every_operation_fails_once(-ENOSPC);
}

static void so_does_a_disk_that_fails(void)
{
    every_operation_fails_once(-EIO);
}

int main(int argc, char **argv)
{
    fixture_begin();
    tap_arguments(argc, argv);
    RUN(a_full_disk_stops_one_transaction);
    RUN(so_does_a_disk_that_fails);
    fixture_end();
    return tap_done();
}
