/*
 * tx_crash_life.h - a heap's life, recorded once: it is made; transactions that store, allocate and
 * free, nested and aborted and interleaved ones; a layout that is told and told anew, and an object
 * of self-relative pointers that grows and shrinks; some that need not be durable at once, so that
 * any part of several is there; on persistent memory two at once; checkpoints, with transactions
 * between the cut and the commit; a log that grows; lives that end without a word.
 *
 * The sources of core/tx that have mutants or places where the life steps in are compiled into the
 * program that includes this.
 */
#ifndef PHEAP_T_LIB_TX_CRASH_LIFE_H
#define PHEAP_T_LIB_TX_CRASH_LIFE_H

#include "t/lib/tx_mutants.h"

#define LOG_FIRST_FRAMES              4u
#define LOG_BEFORE_STORE(record)      let_another_go_first()
#define LOG_BEFORE_LANE_STORE(record) let_another_go_first()
#define LOG_LANE_FIRST_BYTES          2048u
#define LOG_LANE_MEETINGS             1u
#define OPENED_AFTER_CUT(heap)        commit_after_the_cut()
static void let_another_go_first(void);
static void commit_after_the_cut(void);
#include "core/tx/draft.c"
#include "core/tx/ending.c"
#include "core/tx/log.c"
#include "core/tx/log_append.c"
#include "core/tx/log_lane.c"
#include "core/tx/log_lanes.c"
#include "core/tx/opened.c"
#include "core/tx/opened_cut.c"
#include "core/tx/operation.c"
#include "core/tx/replay.c"
#include "core/tx/transaction.c"

#include <pthread.h>
#include "t/lib/tx_crash_heap.h"

#define SEED              20260202
#define WRITE_EVERY       13  /* one state in so many is opened for writing and gone on with, */
#define NESTED_EVERY      100 /* and one in so many of those is cut again meanwhile */
#define TEST_WINDOW_BYTES (64u << 20)
#define LARGE_BYTES       6000u

static struct history scenario, again;
static enum crash_media medium;
static char pool_path[160], scratch_path[160], nested_path[160];
static void *window;

/* --- the scenario --- */

static int attach(const char *path)
{
    int status = opened_attach(&heap, path, false, &why);

    if (status < 0)
        return status;
    heap->clock = clock_gettime;
    if (recorded && medium == CRASH_DAX)
        status = recording_attach_dax(&recorded->recording, &heap->pool.persist, window,
                                      TEST_WINDOW_BYTES);
    else if (recorded)
        recording_attach(&recorded->recording, &heap->pool.persist);
    if (status == 0 && recorded)
        status = persist_sync(&heap->pool.persist); /* that of pool_open() */
    if (status == 0)
        status = opened_load(heap, &why);
    if (status < 0) {
        (void)opened_close(heap);
        heap = NULL;
    }
    return status;
}

static void make_table(void)
{
    struct pheap_tx *tx = begin();
    struct model model = now;
    void *table = NULL;

    step(tx_alloc(tx, sizeof(struct table), TYPE_TABLE, &table), "alloc");
    step(root_set(tx, "table", table, TYPE_TABLE), "root");
    put_word(tx, 0, 1, &model);
    step(end(tx, &model), "commit");
}

/* Transactions of one size, so that records of several logs begin at the same places. */
static void words(unsigned rounds, uint64_t seed)
{
    for (unsigned i = 0; i < rounds && !text[0]; i++) {
        struct pheap_tx *tx = i % 2 ? begin_unlocked() : begin();
        struct model model = now;

        put_word(tx, 1 + i % (WORDS - 1), seed + i, &model);
        step(end(tx, &model), "commit");
    }
}

/* Two transaction objects, each with a lane of its own on persistent memory; the second one's value
 * is the one that stays. */
static void in_turns(unsigned rounds, uint64_t seed)
{
    for (unsigned i = 0; i < 2 * rounds && !text[0]; i += 2) {
        struct pheap_tx *one = begin(), *two = begin();
        struct model model = now;

        put_word(one, 1, seed + i, &model);
        step(end(one, &model), "commit of the first in turn");
        put_word(two, 1, seed + i + 1, &model);
        step(end(two, &model), "commit of the second in turn");
    }
}

/* Several records that no sync has covered. */
static void words_soon(unsigned rounds, uint64_t seed)
{
    for (unsigned i = 0; i < rounds && !text[0]; i++) {
        struct pheap_tx *tx = begin();
        struct model model = now;
        uint64_t sequence;

        put_word(tx, 1 + i % (WORDS - 1), seed + i, &model);
        step(tx_commit_soon(tx, &sequence), "commit");
        note(&model);
    }
    if (!text[0])
        step(opened_wait(heap, 0), "wait");
    if (!text[0])
        acknowledge();
}

static void objects(unsigned rounds, uint32_t seed)
{
    for (unsigned i = 0; i < rounds && !text[0]; i++) {
        struct pheap_tx *tx = begin();
        struct model model = now;

        put_object(tx, (i * 7 + seed) % OBJECTS, 1 + (seed + i * 331) % 1900, (uint8_t)(seed + i),
                   &model);
        if (i % 3 == 0)
            put_object(tx, (i * 5 + seed) % OBJECTS, i % 2 ? 0 : 40, (uint8_t)i, &model);
        put_word(tx, 2 + i % 4, seed * 100 + i, &model);
        step(end(tx, &model), "commit");
    }
}

static void tell_layout(struct pheap_tx *tx, uint32_t bytes, struct model *model)
{
    struct tx_type layout = {
        .is_used = 1,
        .type = TYPE_NODE,
        .bytes = bytes,
        .element_bytes = 8,
        .run_count = 1,
        .element_run_count = 1,
        .runs = {{0, (uint16_t)(bytes / 8), TX_POINTER_SELF}, {0, 1, TX_POINTER_SELF}}};

    step(type_register(tx, &layout), "register");
    model->layout_bytes = bytes;
}

static void resize_node(struct pheap_tx *tx, uint32_t count, struct model *model)
{
    struct table *table = table_of(heap);
    void *node = table->node;

    if (node)
        step(tx_realloc(tx, &node, count * 8), "realloc");
    else
        step(tx_alloc(tx, count * 8, TYPE_NODE, &node), "alloc");
    step(tx_add(tx, &table->node, sizeof table->node), "add");
    table->node = node;
    for (uint32_t i = model->node_count; node && i < count; i++)
        table->node[i] = pointer_to_word(table, &table->node[i], i);
    model->node_count = count;
}

/* The layout and the object in one transaction or in two; and what an abort leaves of them. */
static void layouts_and_growth(unsigned seed)
{
    for (unsigned i = 0; i < 4 && !text[0]; i++) {
        struct pheap_tx *tx = begin();
        struct model model = now;

        if (i != 1)
            tell_layout(tx, 8 * (1 + (seed + i) % 4), &model);
        resize_node(tx, 4 + (seed * 7 + i * 23) % 60, &model);
        if (i == 2)
            aborted(tx);
        else
            step(end(tx, &model), "commit");
    }
}

static void nested_and_aborted(uint8_t seed)
{
    struct pheap_tx *tx = begin();
    struct model model = now, ignored;

    put_object(tx, 3, 700, seed, &model);
    step(tx_begin(heap, &tx), "nest");
    ignored = model;
    put_object(tx, 3, 50, 1, &ignored);
    put_word(tx, 3, 4711, &ignored);
    tx_abort(tx);
    step(tx_begin(heap, &tx), "nest");
    put_word(tx, 4, seed, &model);
    step(tx_commit(tx), "inner commit");
    step(end(tx, &model), "commit");

    tx = begin();
    put_object(tx, 3, 90000, 9, &ignored);
    put_object(tx, 5, 10, 9, &ignored);
    put_word(tx, 5, 1234, &ignored);
    aborted(tx);
}

/* One transaction frees; before it ends another one takes a block of that size and commits. */
static void interleaved(uint8_t seed, bool commits)
{
    struct pheap_tx *one, *other;
    struct model model = now, others;

    one = begin();
    put_object(one, 8, 600, seed, &model);
    put_object(one, 9, 600, seed, &model);
    step(end(one, &model), "commit");

    one = begin();
    put_object(one, 8, 0, 0, &model);
    other = begin();
    others = now;
    others.bytes[10] = 600;
    others.fill[10] = (uint8_t)(seed + 1);
    put_object(other, 10, 600, (uint8_t)(seed + 1), &model);
    step(tx_commit(other), "commit");
    now = others;
    acknowledge();
    if (commits)
        step(end(one, &model), "commit");
    else
        aborted(one);
}

/* --- two at once, on persistent memory --- */

static pthread_mutex_t marks = PTHREAD_MUTEX_INITIALIZER;

struct other {
    pthread_t thread;
    struct pheap_tx *tx;
    unsigned acked; /* what is acknowledged when it is durable */
    volatile bool has_begun, has_ended;
};

static struct other *other; /* waits for let_another_go_first(); NULL: none */

static void mark(unsigned acked)
{
    pthread_mutex_lock(&marks);
    if (recorded)
        recording_mark(&recorded->recording, acked);
    pthread_mutex_unlock(&marks);
}

static void *commit_other(void *argument)
{
    struct other *me = argument;

    step(tx_commit(me->tx), "commit of the other");
    mark(me->acked);
    me->has_ended = true;
    return NULL;
}

/* The first record has its place, and is not stored before the second one is. */
static void let_another_go_first(void)
{
    struct other *now_other = other;
    uint64_t deadline = sys_clock_ns(CLOCK_MONOTONIC) + 3000000000u;
    size_t before;

    other = NULL;
    if (!now_other)
        return;
    before = recorded ? ((volatile struct recording *)&recorded->recording)->count : 0;
    pthread_create(&now_other->thread, NULL, commit_other, now_other);
    while (!now_other->has_ended && recorded &&
           ((volatile struct recording *)&recorded->recording)->count < before + 2 &&
           sys_clock_ns(CLOCK_MONOTONIC) < deadline)
        (void)sched_yield();
    (void)usleep(2000); /* who does not wait for us has ended then */
}

static void two_at_once(uint64_t seed)
{
    struct other second = {0};
    struct model model = now;
    struct pheap_tx *first;
    unsigned acked;

    if (!recorded || medium != CRASH_DAX || text[0])
        return;
    heap->log.may_give = false; /* outside lanes */
    first = begin();
    second.tx = begin();
    put_word(first, 5, seed, &model);
    note(&model);
    put_word(second.tx, 6, seed, &model);
    note(&model);
    acked = recorded->ack_count - 2;
    second.acked = acked + 1;
    other = &second;
    step(tx_commit(first), "commit of the first");
    mark(acked);
    pthread_join(second.thread, NULL);
    heap->log.may_give = true;
}

/* --- between the cut and the commit of a generation --- */

static bool commits_after_cuts;

static void put_large(uint8_t seed)
{
    struct pheap_tx *tx = begin();
    struct model model = now;

    put_object(tx, 20, LARGE_BYTES, seed, &model);
    put_word(tx, 20, seed, &model);
    step(end(tx, &model), "commit");
}

/* No more than there is room for: the log cannot grow then. */
static void commit_after_the_cut(void)
{
    const unsigned bytes = LARGE_BYTES + 512;

    for (unsigned i = 0; i < 14 && commits_after_cuts && !text[0]; i++) {
        const struct log_place *place = &heap->pool.next_log;
        uint64_t left = log_extent_bytes(place, heap->log.extent) - heap->log.used;

        if (left < bytes && find_extent(&heap->log, 0, bytes) >= place->extent_count)
            return;
        put_large((uint8_t)(7 * heap->pool.super.next_generation + i));
    }
}

static void checkpoint(void)
{
    if (text[0])
        return;
    step(opened_checkpoint(heap, 0, &why), "checkpoint");
    acknowledge();
}

static void checkpoint_while_open(uint64_t seed)
{
    struct model ignored = now;
    struct pheap_tx *tx;

    if (text[0])
        return;
    tx = begin();
    put_word(tx, 7, seed, &ignored);
    if (opened_checkpoint(heap, 0, &why) != STATUS_DEFERRED && tx_mutant == TX_MUTANT_NONE)
        wrong("a checkpoint was taken while a transaction is open", 0, "");
    aborted(tx);
    acknowledge();
}

static void end_life(void)
{
    if (heap)
        step(opened_close(heap), "close");
    heap = NULL;
}

static void next_life(void)
{
    const char *fault;

    end_life();
    step(attach(pool_path), why.text);
    if (text[0])
        return;
    fault = difference(heap, &now);
    if (fault)
        wrong("memory after opening", 0, fault);
}

static bool prepare(void)
{
    recording_free(&scenario.recording);
    memset(&scenario, 0, sizeof scenario);
    memset(&now, 0, sizeof now);
    text[0] = 0;
    recorded = NULL;
    unlink(pool_path);
    return pool_create(pool_path, FIXTURE_SLOT, 2, &why) == 0;
}

static void live(void)
{
    step(attach(pool_path), why.text);
    if (text[0])
        return;
    acknowledge();
    make_table();
    words(6, 100);
    checkpoint();
    words(3, 200);
    in_turns(3, 220);
    next_life();
    words(2, 300);
    checkpoint_while_open(340);
    words_soon(4, 350);
    two_at_once(360);
    objects(12, 11);
    in_turns(2, 370);
    layouts_and_growth(1);
    if (!text[0])
        nested_and_aborted(5);
    checkpoint();
    if (!text[0])
        interleaved(40, false);
    if (!text[0])
        interleaved(60, true);
    objects(14, 90); /* more than the log had room for */
    next_life();
    commits_after_cuts = true;
    checkpoint();
    words_soon(3, 380);
    checkpoint();
    commits_after_cuts = false;
    words(1, 400);
    in_turns(4, 420);
    checkpoint();
    in_turns(2, 440);
    layouts_and_growth(2);
    next_life();
    layouts_and_growth(3);
    objects(4, 33);
    end_life();
}

static inline void record_scenario(void)
{
    if (!prepare())
        abort();
    crash_record_file(&scenario.recording, pool_path, nested_path);
    recorded = &scenario;
    live();
    recorded = NULL;
}

#endif
