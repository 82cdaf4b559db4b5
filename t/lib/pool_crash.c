/*
 * pool_crash.c - see pool_crash.h.
 */
#include "t/lib/pool_crash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/base/sys.h"
#include "core/pool/superblock.h"
#include "t/lib/pool_oracle.h"
#include "t/lib/pool_scratch.h"

#define ACKS_MAX     64
#define WRITE_EVERY  41  /* one state in so many is opened for writing and committed to */
#define NESTED_EVERY 90  /* one in so many of those is cut again, */
#define TORN_EVERY   997 /* and one in so many of those with a torn superblock */

const struct pool_medium pool_on_block = {"block", CRASH_BLOCK, 0};
const struct pool_medium pool_on_dax = {"dax", CRASH_DAX, 64 << 20};
const struct pool_medium pool_on_dax_in_part = {"dax, mapped in part", CRASH_DAX, 64 << 10};

static const struct pool_medium *medium;
static void *window;
static char pool_path[128], judged_path[128], nested_path[128];
static struct arena arena;

struct acked {
    unsigned count;
    uint64_t numbers[SUPERBLOCK_GENERATIONS];
    uint32_t resume_count;
};

struct history {
    struct recording recording;
    struct acked acks[ACKS_MAX];
    unsigned ack_count;
    /* Of a recovery: what the torn superblock that it found would have shown, or NULL. */
    const struct acked *ghost;
    const struct oracle *ghost_oracle;
};

struct scenario {
    struct pool pool;
    struct history history;
    struct oracle oracle;
    uint32_t seed; /* of the next content */
    bool open;
    bool broken; /* a step failed (only a mutant may bring that about) */
    char text[256];
};

static struct scenario scenario; /* one at a time; large */

/* --- the scenario --- */

/* From the moment that the agent would choose its back end. */
static int record(struct recording *recording, struct persist *persist)
{
    if (medium->window_bytes > 0)
        return recording_attach_dax(recording, persist, window, medium->window_bytes);
    recording_attach(recording, persist);
    return 0;
}

static struct acked acked_now(const struct pool *pool)
{
    struct acked acked = {.count = pool->super.generation_count,
                          .resume_count = pool->super.resume_count};

    for (unsigned i = 0; i < acked.count; i++)
        acked.numbers[i] = pool->super.generations[i].number;
    return acked;
}

static void acknowledge(struct history *history, const struct pool *pool)
{
    history->acks[history->ack_count] = acked_now(pool);
    recording_mark(&history->recording, history->ack_count++);
}

static void step(struct scenario *s, int status, const char *what, const char *why)
{
    if (status >= 0 || s->broken)
        return;
    s->broken = true;
    snprintf(s->text, sizeof s->text, "%s: status %d, %.150s", what, status, why);
}

static void create(struct scenario *s)
{
    int fd = sys_open(pool_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    static const uint8_t uuid[16] = "0123456789abcde";
    struct persist persist;

    step(s, fd, "create", "");
    persist_open_file(&persist, fd, 0);
    recording_attach(&s->history.recording, &persist);
    step(s, persist_grow(&persist, 16 * FRAME_BYTES), "grow", "");
    step(s, superblock_format(&persist, uuid, 7, 2, 1), "format", "");
    step(s, persist_sync(&persist), "sync", "");
    sys_close(fd);
    s->history.acks[0] = (struct acked){0};
    s->history.ack_count = 1;
    recording_mark(&s->history.recording, 0);
}

static void reopen(struct scenario *s, uint64_t base)
{
    struct problem why = {0};

    if (s->broken)
        return;
    step(s, pool_open(&s->pool, pool_path, POOL_WRITE, &why), "open", why.text);
    s->open = !s->broken;
    if (s->broken)
        return;
    step(s, record(&s->history.recording, &s->pool.persist), "attach", "");
    step(s, persist_sync(&s->pool.persist), "sync", ""); /* that of pool_open() */
    step(s, pool_load(&s->pool, &arena, base, &why), "load", why.text);
    step(s, why.status, "load", why.text);
    oracle_start_from(&s->oracle, base);
}

static void change(struct scenario *s, unsigned first, unsigned pages)
{
    if (s->broken)
        return;
    step(s, oracle_write(&s->oracle, &s->pool, first, pages, s->seed), "write", "");
    s->seed += pages;
}

static void commit(struct scenario *s, enum generation_kind kind, uint32_t flags,
                   size_t record_bytes)
{
    struct problem why = {0};

    if (s->broken)
        return;
    step(s, oracle_commit(&s->oracle, &s->pool, kind, flags, record_bytes, &why), "commit",
         why.text);
    if (!s->broken && !pool_is_valid(&s->pool))
        step(s, STATUS_DAMAGED, "pool_is_valid after a commit", "");
    acknowledge(&s->history, &s->pool);
}

static void pin(struct scenario *s, uint64_t number, bool pinned)
{
    struct problem why = {0};

    if (s->broken)
        return;
    step(s, pool_pin(&s->pool, number, pinned, &why), "pin", why.text);
    acknowledge(&s->history, &s->pool);
}

static void drop(struct scenario *s, uint64_t number)
{
    struct problem why = {0};

    if (s->broken)
        return;
    step(s, pool_drop(&s->pool, number, &why), "drop", why.text);
    acknowledge(&s->history, &s->pool);
}

static void count_resume(struct superblock *super, void *context)
{
    (void)context;
    super->resume_count++;
}

static void keep_three(struct superblock *super, void *context)
{
    (void)context;
    super->keep = 3;
}

static void update(struct scenario *s, pool_edit *edit)
{
    if (s->broken)
        return;
    step(s, pool_update(&s->pool, edit, NULL, NULL), "update", "");
    acknowledge(&s->history, &s->pool);
}

static void drop_ahead(struct scenario *s)
{
    struct problem why = {0};

    if (s->broken)
        return;
    step(s, pool_make_room(&s->pool, &why), "make room", why.text);
    acknowledge(&s->history, &s->pool);
}

/* Pages without an entry, and zero over a file, here and there. */
static void clear_some(struct scenario *s, unsigned i)
{
    if (s->broken)
        return;
    step(s, oracle_clear(&s->oracle, &s->pool, i * 11 + 2), "clear", "");
    step(s, oracle_zero(&s->oracle, &s->pool, i * 5 + 1), "zero", "");
}

static void shut(struct scenario *s)
{
    if (s->open)
        pool_close(&s->pool);
    s->open = false;
}

/* The first life: generations 1 to 6. */
static void first_life(struct scenario *s)
{
    reopen(s, 0);
    change(s, 0, 48);
    commit(s, GENERATION_PROCESS, 0, 5000);
    update(s, count_resume);
    change(s, 3, 4);
    change(s, 3, 2); /* once more before the commit */
    commit(s, GENERATION_PROCESS, GENERATION_PINNED, 100);
    for (unsigned i = 0; i < 4; i++) {
        change(s, i * 9, 7);
        clear_some(s, i);
        commit(s, i == 1 ? GENERATION_CRASH : GENERATION_PROCESS, 0, i * 3000);
    }
    change(s, 20, 10); /* abandoned: killed here */
    shut(s);
}

/* Goes on from the newest while a reader has it locked, then from an older one. */
static void later_lives(struct scenario *s)
{
    uint64_t newest = s->broken ? 0 : pool_generation(&s->pool, 0)->number;
    int locked;

    reopen(s, newest);
    update(s, count_resume);
    update(s, keep_three);
    locked = s->broken ? -1 : pool_lock_generation(&s->pool, newest, NULL);
    for (unsigned i = 0; i < 4; i++) {
        change(s, i * 8, 6);
        if (i > 1) { /* what is written from here on may go to frames that this frees */
            drop_ahead(s);
            change(s, i * 8 + 10, 9);
        }
        for (unsigned page = 40; i == 2 && page < 48 && !s->broken; page++)
            step(s, oracle_clear(&s->oracle, &s->pool, page), "clear", "");
        commit(s, GENERATION_PROCESS, 0, 4096);
        if (i == 2 && locked >= 0)
            sys_close(locked);
    }
    shut(s);
    reopen(s, s->broken ? 0 : s->pool.super.generations[0].number);
    for (unsigned i = 0; i < 4; i++) {
        change(s, i * 3 + 30, 9);
        commit(s, GENERATION_HEAP, 0, 0);
        if (i == 1)
            drop(s, s->pool.super.generations[1].number);
        if (i == 2) {
            pin(s, 2, false);
            drop(s, 2);
        }
    }
    shut(s);
}

static void record_scenario(struct scenario *s)
{
    recording_free(&s->history.recording);
    memset(s, 0, sizeof *s);
    s->seed = 100;
    s->oracle.fold_every = 5; /* deltas between */
    create(s);
    first_life(s);
    later_lives(s);
}

/* --- the judge --- */

struct verdict {
    const struct history *history;
    const struct oracle *oracle;
    unsigned long written, nested_states;
    bool may_write;
    char text[512];
};

static bool wrong(struct verdict *verdict, size_t position, const char *what, const char *detail)
{
    snprintf(verdict->text, sizeof verdict->text, "cut after operation %zu: %s%s%.250s", position,
             what, detail[0] ? ": " : "", detail);
    return false;
}

static bool is_state(const struct pool *pool, const struct acked *acked)
{
    struct acked now = acked_now(pool);

    return memcmp(&now, acked, sizeof now) == 0;
}

static bool shows_acked(const struct history *history, const struct pool *pool, int acked)
{
    if (acked >= 0 && is_state(pool, &history->acks[acked]))
        return true;
    return acked + 1 < (int)history->ack_count && is_state(pool, &history->acks[acked + 1]);
}

static bool generations_agree(struct verdict *verdict, const struct oracle *oracle,
                              const struct pool *pool, size_t position)
{
    char text[256], generation[300];

    for (uint32_t i = 0; i < pool->super.generation_count; i++) {
        const struct generation_entry *entry = &pool->super.generations[i];

        if (oracle_agrees(oracle, pool, entry, &arena, text))
            continue;
        snprintf(generation, sizeof generation, "generation %lu, %s", entry->number, text);
        return wrong(verdict, position, generation, "");
    }
    return true;
}

/* The first write of a recovery goes over the torn superblock, and torn itself it may complete
 * that (lay_ghost() in pool_load.c): until it is synced the ghost, whole, is right as well. */
static bool shows_ghost(struct verdict *verdict, const struct pool *pool, size_t position)
{
    const struct history *history = verdict->history;
    unsigned syncs = 0;

    for (size_t i = 0; i < position; i++)
        syncs += history->recording.trace[i].kind == RECORDED_SYNC;
    return history->ghost != NULL && syncs == 1 && is_state(pool, history->ghost) &&
           generations_agree(verdict, history->ghost_oracle, pool, position);
}

static bool is_right(struct verdict *verdict, const struct pool *pool, size_t position)
{
    if (shows_ghost(verdict, pool, position))
        return true;
    if (!shows_acked(verdict->history, pool,
                     crash_acked_at(&verdict->history->recording, position)))
        return wrong(verdict, position, "neither what was acknowledged nor what is in flight", "");
    return generations_agree(verdict, verdict->oracle, pool, position);
}

static bool judge_nested(struct verdict *outer, struct history *history,
                         const struct oracle *oracle);

/* The pool goes on: opened for writing, nothing is found damaged, a commit works, all is there. */
static bool judge_writing(struct verdict *verdict, const char *path, size_t position, bool nested)
{
    static struct oracle oracle;
    struct history history = {.ghost_oracle = verdict->oracle};
    unsigned in_flight = (unsigned)(crash_acked_at(&verdict->history->recording, position) + 1);
    uintptr_t mark = arena_mark(&arena);
    const struct generation_entry *newest;
    struct problem why = {0};
    struct pool pool;
    bool fine = false;

    if (nested)
        crash_record_file(&history.recording, path, nested_path);
    oracle = *verdict->oracle;
    if (pool_open(&pool, path, POOL_WRITE, &why) < 0)
        return wrong(verdict, position, "open for writing", why.text);
    if (pool.super_fell_back && in_flight < verdict->history->ack_count)
        history.ghost = &verdict->history->acks[in_flight];
    if (nested && record(&history.recording, &pool.persist) < 0)
        abort();
    if (nested)
        acknowledge(&history, &pool);
    newest = pool_generation(&pool, 0);
    oracle_start_from(&oracle, newest != NULL ? newest->number : 0);
    if (pool_load(&pool, &arena, newest != NULL ? newest->number : 0, &why) < 0 || why.status < 0) {
        wrong(verdict, position, "load", why.text);
        goto out;
    }
    if (oracle_write(&oracle, &pool, 5, 30, 5000) < 0 ||
        oracle_commit(&oracle, &pool, GENERATION_PROCESS, 0, 4097, &why) < 0) {
        wrong(verdict, position, "commit", why.text);
        goto out;
    }
    if (nested)
        acknowledge(&history, &pool);
    struct verdict after = {.text = ""};

    fine = pool_is_valid(&pool) && generations_agree(&after, &oracle, &pool, position);
    if (!fine)
        wrong(verdict, position, "after recovery and a commit", after.text);
    if (fine && nested)
        fine = judge_nested(verdict, &history, &oracle);
out:
    pool_close(&pool);
    recording_free(&history.recording);
    arena_rewind(&arena, mark);
    return fine;
}

static bool judge_state(void *context, const char *path, size_t position, bool *changed)
{
    struct verdict *verdict = context;
    static unsigned long states, torn;
    int acked = crash_acked_at(&verdict->history->recording, position);
    struct problem why = {0};
    struct pool pool;
    bool fine, nested;
    int status = pool_open(&pool, path, POOL_READ, &why);

    if (status < 0) /* while it is being made it need not be a pool */
        return (acked < 0 && (status == STATUS_NOT_A_POOL || status == STATUS_DAMAGED)) ||
               wrong(verdict, position, "open", why.text);
    fine = is_right(verdict, &pool, position);
    pool_close(&pool);
    if (!fine || !verdict->may_write)
        return fine;
    torn += pool.super_fell_back;
    nested = (pool.super_fell_back && torn % TORN_EVERY == 0) ||
             ++states % (WRITE_EVERY * NESTED_EVERY) == 0;
    if (!nested && states % WRITE_EVERY != 0)
        return true;
    *changed = true;
    verdict->written++;
    return judge_writing(verdict, path, position, nested);
}

static bool judge_nested(struct verdict *outer, struct history *history,
                         const struct oracle *oracle)
{
    struct verdict verdict = {.history = history, .oracle = oracle};
    struct crash_run run = {.media = medium->media,
                            .recording = &history->recording,
                            .path = nested_path,
                            .first_judged = CRASH_FILE_OPERATIONS,
                            .seed = POOL_CRASH_SEED,
                            .judge = judge_state,
                            .context = &verdict};

    crash_states_run(&run);
    outer->nested_states += run.states;
    if (run.failed)
        snprintf(outer->text, sizeof outer->text, "cut again during recovery: %.400s",
                 verdict.text);
    return !run.failed;
}

/* --- a run --- */

struct pool_crash_result pool_crash_try(const struct pool_medium *on, bool may_write,
                                        void (*spoil)(bool on))
{
    struct verdict verdict = {
        .history = &scenario.history, .oracle = &scenario.oracle, .may_write = may_write};
    struct crash_run run = {.media = on->media,
                            .path = judged_path,
                            .seed = POOL_CRASH_SEED,
                            .judge = judge_state,
                            .context = &verdict};
    uintptr_t mark = arena_mark(&arena);
    struct pool_crash_result result;

    medium = on;
    if (spoil)
        spoil(true);
    record_scenario(&scenario);
    if (spoil)
        spoil(false);
    run.recording = &scenario.history.recording;
    crash_states_run(&run);
    arena_rewind(&arena, mark);
    result = (struct pool_crash_result){
        .states = run.states,
        .written = verdict.written,
        .nested_states = verdict.nested_states,
        .operations = scenario.history.recording.count,
    };
    memcpy(result.broken, scenario.text, sizeof result.broken);
    memcpy(result.text, verdict.text, sizeof result.text);
    return result;
}

void pool_crash_begin(void)
{
    scratch_begin();
    window = mmap(NULL, pool_on_dax.window_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (arena_create(&arena, 1ull << 30) < 0 || window == MAP_FAILED) {
        perror("memory for the scenario");
        exit(1);
    }
    snprintf(pool_path, sizeof pool_path, "%s", scratch_path("pool"));
    snprintf(judged_path, sizeof judged_path, "%s", scratch_path("judged"));
    snprintf(nested_path, sizeof nested_path, "%s", scratch_path("nested"));
}

void pool_crash_end(void)
{
    recording_free(&scenario.history.recording);
    arena_destroy(&arena);
    unlink(judged_path);
    unlink(nested_path);
    scratch_end();
}
