/*
 * tx_join.c - one transaction in several heaps: what it does, what it costs, what is refused, and
 * records of it that lie. tx_two_pools.c cuts it at every point.
 */
#include <errno.h>
#include <fcntl.h>
#include "core/heap/heap.h"
#include "t/lib/persist_recorder.h"
#include "t/lib/tx_fixture.h"

#define POOLS 3

static struct pheap *heaps[POOLS];
static char paths[POOLS][200], away[200];
static uint64_t *words[POOLS]; /* two of each, in stripes of their own */

static bool close_may_fail; /* its sync */

static int open_one(unsigned i, bool read_only)
{
    int status = fixture_open_path(&heaps[i], paths[i], read_only);

    if (status < 0)
        heaps[i] = NULL;
    else
        words[i] = root_find(heaps[i], "words", NULL);
    return status;
}

static void close_all(void)
{
    for (unsigned i = 0; i < POOLS; i++)
        if (heaps[i]) {
            CHECK(heaps[i]->read_only || opened_is_valid(heaps[i]));
            CHECK(opened_close(heaps[i]) == 0 || close_may_fail);
            heaps[i] = NULL;
        }
}

static void open_all(void)
{
    for (unsigned i = 0; i < POOLS; i++)
        if (!tap_check(open_one(i, false) == 0, __FILE__, __LINE__, "open: %s", why.text))
            exit(1);
}

static struct pheap_tx *begin(unsigned i, bool optimistic)
{
    struct pheap_tx *tx = NULL;

    CHECK_OK(optimistic ? tx_begin_optimistic(heaps[i], &tx) : tx_begin(heaps[i], &tx));
    return tx;
}

static struct pheap_tx *join(struct pheap_tx *tx, unsigned i)
{
    struct pheap_tx *part = NULL;

    CHECK_OK(tx_join(tx, heaps[i], &part));
    return part;
}

static void put(struct pheap_tx *tx, unsigned i, unsigned word, uint64_t value)
{
    CHECK_OK(tx_write(tx, &words[i][word * 8], &value, sizeof value));
}

static uint64_t word_of(unsigned i, unsigned word)
{
    return words[i][word * 8];
}

static void make_all(void)
{
    for (unsigned i = 0; i < POOLS; i++) {
        struct pheap_tx *tx;
        void *block;

        unlink(paths[i]);
        CHECK_OK(pool_create(paths[i], FIXTURE_SLOT + i, 2, &why));
        CHECK_OK(open_one(i, false));
        tx = begin(i, false);
        CHECK_OK(tx_alloc(tx, 128, 1, &block));
        CHECK_OK(root_set(tx, "words", block, 1));
        CHECK_OK(tx_commit(tx));
        words[i] = block;
    }
}

/* One in the first two heaps. */
static void pair(unsigned decides, unsigned other, uint64_t value)
{
    struct pheap_tx *tx = begin(decides, false);

    put(tx, decides, 0, value);
    put(join(tx, other), other, 0, value);
    CHECK_OK(tx_commit(tx));
}

static unsigned decisions(unsigned i)
{
    unsigned count = 0;

    for (unsigned k = 0; k < TX_DECISIONS; k++)
        count += heaps[i]->decisions.table[k].id != 0;
    return count;
}

static void what_commits_is_in_all_of_them(void)
{
    struct pheap_tx *tx, *part;

    for (int optimistic = 0; optimistic < 2; optimistic++) {
        make_all();
        tx = begin(0, optimistic);
        part = join(tx, 1);
        put(tx, 0, 0, 5);
        put(part, 1, 0, 6);
        put(join(tx, 2), 2, 0, 7);
        CHECK(join(tx, 1) == part);
        CHECK(join(tx, 0) == tx);
        CHECK_OK(tx_commit(tx));
        CHECK(word_of(0, 0) == 5 && word_of(1, 0) == 6 && word_of(2, 0) == 7);
        close_all();
        open_all();
        CHECK(word_of(0, 0) == 5 && word_of(1, 0) == 6 && word_of(2, 0) == 7);
        CHECK_EQ(heaps[1]->settled, 0);
        tx = begin(0, optimistic);
        put(tx, 0, 0, 8);
        put(join(tx, 2), 2, 0, 8);
        tx_abort(tx);
        CHECK(word_of(0, 0) == 5 && word_of(2, 0) == 7);
        close_all();
    }
}

static void nested_ones_are_nested_in_all_parts(void)
{
    struct pheap_tx *tx, *part;

    for (int optimistic = 0; optimistic < 2; optimistic++) {
        make_all();
        tx = begin(0, optimistic);
        part = join(tx, 1);
        put(tx, 0, 0, 1);
        put(part, 1, 0, 1);
        CHECK_OK(tx_begin(heaps[0], &tx));
        put(tx, 0, 0, 2);
        put(part, 1, 0, 2);
        put(join(tx, 2), 2, 0, 2);
        CHECK_EQ(tx_begin(heaps[1], &part), -EINVAL);
        tx_abort(tx);
        CHECK_OK(tx_begin(heaps[0], &tx));
        put(part, 1, 1, 3);
        CHECK_OK(tx_commit(tx));
        CHECK_EQ(tx_commit(part), -EINVAL);
        CHECK_EQ(tx_join(part, heaps[2], &tx), -EINVAL);
        CHECK_OK(tx_commit(tx));
        CHECK(word_of(0, 0) == 1 && word_of(1, 0) == 1 && word_of(1, 1) == 3);
        CHECK_EQ(word_of(2, 0), 0);
        close_all();
    }
}

static void a_conflict_in_one_heap_is_one_in_all(void)
{
    struct pheap_tx *tx, *part, *other;
    uint64_t value;

    make_all();
    tx = begin(0, true);
    part = join(tx, 1);
    CHECK_OK(tx_read(part, &value, &words[1][0], 8));
    pair(1, 0, 9); /* changes what was read, and what will be */
    CHECK_EQ(tx_read(tx, &value, &words[0][0], 8), STATUS_CONFLICT);
    CHECK_EQ(tx_write(part, &words[1][0], &value, 8), STATUS_CONFLICT);
    CHECK_OK(tx_retry(tx));
    CHECK(join(tx, 1) == part);
    CHECK_OK(tx_read(tx, &value, &words[0][0], 8));
    CHECK_EQ(value, 9);
    put(part, 1, 0, 10);
    put(tx, 0, 1, 10);
    other = begin(0, true);
    put(other, 0, 0, 11);
    CHECK_OK(tx_commit(other));
    CHECK_EQ(tx_commit(tx), STATUS_CONFLICT); /* in the other heap nothing has happened */
    CHECK_EQ(word_of(1, 0), 9);
    tx_abort(tx);
    close_all();
}

static void one_costs_a_sync_for_each_heap(void)
{
    uint64_t before[POOLS], after[POOLS];
    struct pheap_tx *tx;

    make_all();
    pair(0, 1, 1); /* the first announces that it decides */
    for (unsigned i = 0; i < POOLS; i++)
        before[i] = heaps[i]->log.persist.syncs;
    pair(0, 1, 2);
    for (unsigned i = 0; i < POOLS; i++)
        after[i] = heaps[i]->log.persist.syncs - before[i];
    CHECK(after[0] == 1 && after[1] == 1 && after[2] == 0);
    tx = begin(0, false); /* it has changed one heap only */
    put(join(tx, 1), 1, 0, 3);
    (void)join(tx, 2);
    CHECK_OK(tx_commit(tx));
    CHECK_EQ(heaps[0]->log.persist.syncs - before[0], 1);
    CHECK_EQ(heaps[1]->log.persist.syncs - before[1], 2);
    close_all();
}

static void what_was_read_elsewhere_is_durable_before_it(void)
{
    struct pheap_tx *tx;
    uint64_t value, sequence;

    make_all();
    tx = begin(0, true);
    put(tx, 0, 0, 5);
    CHECK_OK(tx_commit_soon(tx, &sequence));
    CHECK(heaps[0]->log.durable < sequence);
    tx = begin(0, true);
    CHECK_OK(tx_read(tx, &value, &words[0][0], 8));
    put(join(tx, 1), 1, 0, value);
    CHECK_OK(tx_commit(tx));
    CHECK(heaps[0]->log.durable >= sequence);
    close_all();
}

static void a_decision_is_kept_until_its_heaps_know(void)
{
    make_all();
    pair(0, 1, 1);
    CHECK_EQ(decisions(0), 1);
    pair(0, 1, 2); /* takes the one before away */
    CHECK_EQ(decisions(0), 1);
    pair(0, 2, 3); /* knows nothing of the second heap */
    CHECK_EQ(decisions(0), 2);
    CHECK(opened_checkpoint(heaps[0], 0, &why) > 0);
    close_all();
    open_all();
    CHECK_EQ(decisions(0), 2);
    pair(0, 1, 4);
    CHECK_EQ(decisions(0), 2);
    pair(0, 2, 5);
    pair(2, 0, 6); /* another one decides */
    CHECK_EQ(decisions(0), 2);
    CHECK_EQ(decisions(2), 1);
    close_all();
}

static void with_a_full_table_everything_else_goes_on(void)
{
    struct pheap_tx *tx;

    make_all();
    memset(heaps[0]->decisions.state, DECISION_TAKEN, TX_DECISIONS);
    tx = begin(0, false);
    put(tx, 0, 0, 5);
    put(join(tx, 1), 1, 0, 5);
    CHECK_EQ(tx_commit(tx), STATUS_LIMIT);
    CHECK(word_of(0, 0) == 0 && word_of(1, 0) == 0);
    pair(1, 0, 6);
    CHECK(word_of(0, 0) == 6 && word_of(1, 0) == 6);
    close_all();
}

/* --- failures --- */

static bool fail_at(unsigned which, unsigned long n, int fail_status)
{
    struct recording recording = {.fail_at = n, .fail_status = fail_status};
    uint64_t committed = 1;
    bool hit;

    make_all();
    pair(0, 1, 1);
    recording_attach(&recording, &heaps[which]->log.persist);
    for (uint64_t value = 2; value < 5; value++) {
        struct pheap_tx *tx = NULL;

        if (tx_begin(heaps[0], &tx) < 0)
            break;
        put(tx, 0, 0, value);
        if (opened_may_change(heaps[1]) < 0) {
            tx_abort(tx);
            break;
        }
        put(join(tx, 1), 1, 0, value);
        if (tx_commit(tx) == 0)
            committed = value;
        CHECK(word_of(0, 0) == committed && word_of(1, 0) == committed);
    }
    close_may_fail = true;
    close_all();
    close_may_fail = false;
    hit = recording.operations >= n;
    if (!tap_check(open_one(1, false) == 0 && open_one(0, false) == 0, __FILE__, __LINE__,
                   "operation %lu of heap %u failed: %s", n, which, why.text))
        exit(1);
    CHECK_EQ(word_of(0, 0), word_of(1, 0)); /* as a whole, also where it was not known */
    CHECK(word_of(0, 0) >= committed);
    pair(0, 1, 9);
    close_all();
    recording_free(&recording);
    return hit;
}

static void a_failure_in_one_heap_leaves_both_alike(void)
{
    unsigned long n = 1, all = 0;

    for (unsigned which = 0; which < 2; which++)
        for (int k = 0; k < 2; k++, all += n)
            for (n = 1; fail_at(which, n, k ? -ENOSPC : -EIO); n++)
                ;
    tap_note("%lu operations failed", all);
}

/* --- doubt --- */

/* As the log of a heap is when its process was killed with a promise in it. */
static void promise_without_outcome(uint64_t id, unsigned decides)
{
    _Alignas(64) struct {
        struct log_record record;
        struct log_entry head;
        uint8_t pool[16]; /* from here on a struct log_promise */
        uint64_t sequence, reserved;
        char path[256];
        struct log_entry write;
        uint64_t value;
        uint8_t zeroes[24];
    } record = {.record = {.bytes = sizeof record, .entry_count = 2},
                .head = {.kind = LOG_PREPARE,
                         .address = id,
                         .bytes = sizeof(struct log_promise) + sizeof record.path},
                .write = {.kind = LOG_WRITE, .address = (uintptr_t)words[1], .bytes = 8},
                .value = 77};

    memcpy(record.pool, heaps[decides]->pool.super.uuid, 16);
    record.sequence = heaps[decides]->log.sequence;
    snprintf(record.path, sizeof record.path, "%s", paths[decides]);
    CHECK_OK(log_append(&heaps[1]->log, &record.record, &why));
}

static void a_heap_in_doubt_opens_for_reading(void)
{
    make_all();
    pair(0, 1, 1);
    promise_without_outcome(4711, 0);
    close_all();
    CHECK_OK(rename(paths[0], away));
    CHECK_EQ(open_one(1, false), STATUS_IN_DOUBT);
    CHECK(strstr(why.text, paths[0]) && strstr(why.text, "is not there") &&
          strstr(why.text, "--resolve"));
    CHECK_OK(open_one(1, true));
    CHECK_EQ(word_of(1, 0), 1);
    CHECK_EQ(heaps[1]->in_doubt, 1);
    close_all();
    CHECK_EQ(open_one(1, false), STATUS_IN_DOUBT); /* reading has changed nothing */
    CHECK_OK(rename(paths[2], paths[0]));          /* another pool in its place */
    CHECK_EQ(open_one(1, false), STATUS_IN_DOUBT);
    CHECK_OK(rename(paths[0], paths[2]));
    CHECK_OK(rename(away, paths[0]));
    CHECK_OK(open_one(1, false));
    CHECK_EQ(word_of(1, 0), 1);
    CHECK_EQ(heaps[1]->settled, 1);
    close_all();
    CHECK_OK(rename(paths[0], away));
    CHECK_OK(open_one(1, false)); /* that was said in its own log */
    CHECK_EQ(heaps[1]->settled, 0);
    close_all();
}

static void settle_as(enum log_outcome outcome, int expected)
{
    CHECK_OK(opened_attach(&heaps[1], paths[1], false, &why));
    heaps[1]->settle_as = outcome;
    CHECK_EQ(opened_load(heaps[1], &why), expected);
    CHECK_EQ(opened_close(heaps[1]), 0);
    heaps[1] = NULL;
}

static void who_knows_better_settles_it(void)
{
    make_all();
    pair(0, 1, 1);
    promise_without_outcome(1, 0);
    promise_without_outcome(2, 0);
    close_all();
    settle_as(LOG_COMMITTED, STATUS_REFUSED); /* the deciding pool says otherwise */
    CHECK_OK(rename(paths[0], away));
    settle_as(LOG_COMMITTED, 0);
    CHECK_OK(open_one(1, false));
    CHECK_EQ(word_of(1, 0), 77);
    close_all();
    CHECK_OK(rename(away, paths[0]));
    open_all();
    promise_without_outcome(3, 0);
    close_all();
    CHECK_OK(rename(paths[0], away));
    settle_as(LOG_UNDONE, 0);
    CHECK_OK(open_one(1, false));
    close_all();
}

/* --- records that lie --- */

struct lie {
    const char *what;
    struct log_entry entries[2];
    uint64_t payload_words; /* behind the first */
};

static void append_lie(const struct lie *lie)
{
    _Alignas(64) uint64_t bytes[64] = {0};
    struct log_record *record = (struct log_record *)bytes;
    uint64_t *at = bytes + sizeof *record / 8;

    record->bytes = sizeof bytes;
    record->entry_count = lie->entries[1].kind ? 2 : 1;
    memcpy(at, &lie->entries[0], sizeof lie->entries[0]);
    at += sizeof lie->entries[0] / 8;
    if (lie->payload_words)
        memset(at, 'x', lie->payload_words * 8);
    memcpy(at + lie->payload_words, &lie->entries[1], sizeof lie->entries[1]);
    CHECK_OK(log_append(&heaps[0]->log, record, &why));
}

static void records_that_lie_are_damage(void)
{
    static const struct lie lies[] = {
        {"an outcome of nothing", {{.kind = LOG_OUTCOME, .type = LOG_COMMITTED, .address = 9}}, 0},
        {"a promise without terms", {{.kind = LOG_PREPARE, .address = 9}}, 0},
        {"a promise without a path", {{.kind = LOG_PREPARE, .address = 9, .bytes = 32}}, 4},
        {"a path without an end", {{.kind = LOG_PREPARE, .address = 9, .bytes = 64}}, 8},
        {"a promise as long as memory", {{.kind = LOG_PREPARE, .bytes = UINT64_MAX - 7}}, 8},
        {"a promise longer than its record", {{.kind = LOG_PREPARE, .bytes = 4096}}, 8},
        {"a promise in the middle",
         {{.kind = LOG_WRITE, .bytes = 0, .address = 0}, {.kind = LOG_PREPARE, .address = 9}},
         0},
        {"a kind that is none", {{.kind = 6}}, 0},
        {"a write behind the decisions",
         {{.kind = LOG_WRITE,
           .address = SLOT_BASE(FIXTURE_SLOT) + TX_DECISIONS_OFFSET + 256 * 128 - 8,
           .bytes = 16}},
         2},
    };

    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        make_all();
        append_lie(&lies[i]);
        close_all();
        if (!CHECK_EQ(open_one(0, false), STATUS_DAMAGED))
            tap_note("%s", lies[i].what);
        CHECK_EQ(open_one(0, true), STATUS_DAMAGED);
        close_all();
    }
}

int main(int argc, char **argv)
{
    fixture_begin();
    for (unsigned i = 0; i < POOLS; i++)
        snprintf(paths[i], sizeof paths[i], "%.120s/pool-%u", fixture_dir, i);
    snprintf(away, sizeof away, "%.120s/away", fixture_dir);
    tap_arguments(argc, argv);
    RUN(what_commits_is_in_all_of_them);
    RUN(nested_ones_are_nested_in_all_parts);
    RUN(a_conflict_in_one_heap_is_one_in_all);
    RUN(one_costs_a_sync_for_each_heap);
    RUN(what_was_read_elsewhere_is_durable_before_it);
    RUN(a_decision_is_kept_until_its_heaps_know);
    RUN(with_a_full_table_everything_else_goes_on);
    RUN(a_failure_in_one_heap_leaves_both_alike);
    RUN(a_heap_in_doubt_opens_for_reading);
    RUN(who_knows_better_settles_it);
    RUN(records_that_lie_are_damage);
    for (unsigned i = 0; i < POOLS; i++)
        unlink(paths[i]);
    unlink(away);
    fixture_end();
    return tap_done();
}
