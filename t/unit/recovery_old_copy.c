/*
 * recovery_old_copy.c - the whole way from an old copy of a pool that decides to a heap in doubt:
 * the pool's log has lanes, it is copied, goes on, and decides a transaction of whose end the other
 * heap is not told. With the old copy in its place nobody knows what was decided; a new copy, whose
 * log has been written anew without lanes, tells it as the pool itself does.
 */
#include <errno.h>

#include "recovery/copy/copy.h"
#include "t/lib/persist_recorder.h"
#include "t/lib/tx_dax.h"

#define TURNS 40u
#define TYPE  3u

static char old_path[200], new_path[200], away[200], other_path[200];
static struct pheap *other;
static uint64_t *word, *other_word;

static uint64_t *make_word(struct pheap *at)
{
    struct pheap_tx *tx = NULL;
    void *block = NULL;

    CHECK_OK(tx_begin(at, &tx));
    CHECK_OK(tx_alloc(tx, sizeof *word, TYPE, &block));
    CHECK_OK(root_set(tx, "word", block, TYPE));
    CHECK_OK(tx_commit(tx));
    return block;
}

static bool put(struct pheap_tx *tx, uint64_t value)
{
    bool fine = tx_add(tx, word, sizeof value) == 0;

    *word = value;
    return tx_commit(tx) == 0 && fine;
}

/* By two in turns, who have lanes then. */
static void go_on(void)
{
    for (unsigned i = 1; i < 2 * TURNS; i += 2) {
        struct pheap_tx *one = NULL, *two = NULL;

        CHECK_OK(tx_begin(heap, &one));
        CHECK_OK(tx_begin(heap, &two));
        CHECK(put(one, i) && put(two, i + 1));
    }
    CHECK_EQ(heap->log.numbers, 2);
}

static void copy_to(const char *path)
{
    static struct pool pool;
    uint64_t bytes;

    unlink(path);
    CHECK_OK(pool_open(&pool, fixture_path, POOL_READ, &why));
    CHECK_OK(pool_copy(&(struct copy_request){.pool = &pool, .to = path}, &bytes, &why));
    pool_close(&pool);
}

static int open_other(bool read_only)
{
    int status = fixture_open_path(&other, other_path, read_only);

    other_word = status == 0 ? root_find(other, "word", NULL) : NULL;
    return status;
}

/* The other one is open when this returns. */
static void make_both(void)
{
    fixture_create_on_dax();
    word = make_word(heap);
    go_on();
    unlink(other_path);
    CHECK_OK(pool_create(other_path, FIXTURE_SLOT + 1, 3, &why));
    CHECK_OK(open_other(false));
    other_word = make_word(other);
    fixture_close();
}

/* In both; the disk of the other one is full when its log is to be told. */
static void commit_untold(uint64_t value)
{
    struct recording full = {.fail_at = 3, .fail_status = -ENOSPC};
    struct pheap_tx *tx = NULL, *part = NULL;

    fixture_open_on_dax();
    recording_attach(&full, &other->log.persist);
    CHECK_OK(tx_begin(heap, &tx));
    CHECK_OK(tx_write(tx, word, &value, sizeof value));
    CHECK_OK(tx_join(tx, other, &part));
    CHECK_OK(tx_write(part, other_word, &value, sizeof value));
    CHECK_OK(tx_commit(tx));
    CHECK_EQ(*other_word, value);
    CHECK(opened_may_change(other) < 0);
    fixture_close();
    (void)opened_close(other);
    recording_free(&full);
}

static void stands_in(const char *path)
{
    CHECK_EQ(rename(fixture_path, away), 0);
    CHECK_EQ(rename(path, fixture_path), 0);
}

static void goes_back(const char *path)
{
    CHECK_EQ(rename(fixture_path, path), 0);
    CHECK_EQ(rename(away, fixture_path), 0);
}

static void settles_it(uint64_t value)
{
    CHECK_OK(open_other(false));
    CHECK_EQ(other->settled, 1);
    CHECK_EQ(*other_word, value);
    CHECK_EQ(opened_close(other), 0);
}

static void an_old_copy_leaves_it_in_doubt(void)
{
    make_both();
    copy_to(old_path);
    commit_untold(77);
    stands_in(old_path);
    CHECK_EQ(open_other(false), STATUS_IN_DOUBT);
    CHECK(strstr(why.text, fixture_path) && strstr(why.text, "is an older copy") &&
          strstr(why.text, "--resolve"));
    CHECK_OK(open_other(true));
    CHECK_EQ(other->in_doubt, 1);
    CHECK_EQ(*other_word, 0);
    CHECK_EQ(opened_close(other), 0);
    CHECK_EQ(open_other(false), STATUS_IN_DOUBT);
    goes_back(old_path);
    settles_it(77);
}

static void a_new_copy_decides(void)
{
    make_both();
    commit_untold(78);
    copy_to(new_path);
    stands_in(new_path);
    settles_it(78);
    goes_back(new_path);
}

int main(int argc, char **argv)
{
    fixture_begin();
    snprintf(old_path, sizeof old_path, "%.140s/old", fixture_dir);
    snprintf(new_path, sizeof new_path, "%.140s/new", fixture_dir);
    snprintf(away, sizeof away, "%.140s/away", fixture_dir);
    snprintf(other_path, sizeof other_path, "%.140s/other", fixture_dir);
    tap_arguments(argc, argv);
    RUN(an_old_copy_leaves_it_in_doubt);
    RUN(a_new_copy_decides);
    unlink(old_path);
    unlink(new_path);
    unlink(other_path);
    fixture_end();
    return tap_done();
}
