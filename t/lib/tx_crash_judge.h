/*
 * tx_crash_judge.h - the judge of what a power cut leaves of the life in tx_crash_life.h: each file
 * is opened and compared with what is known, every word, every object and its bytes, the number of
 * objects; a share of them is gone on with, and cut again meanwhile.
 */
#ifndef PHEAP_T_LIB_TX_CRASH_JUDGE_H
#define PHEAP_T_LIB_TX_CRASH_JUDGE_H

#include "t/lib/tx_crash_life.h"

struct verdict {
    const struct history *history;
    unsigned long written, nested_states;
    bool may_write;
};

static int acked_at(const struct history *history, size_t position)
{
    int acked = -1;

    for (size_t i = 0; i < position; i++)
        if (history->recording.trace[i].kind == RECORDED_MARK &&
            (int)history->recording.trace[i].mark > acked)
            acked = (int)history->recording.trace[i].mark;
    return acked;
}

/* What may be there too: all that was under way (two at once: their marks come in any order). */
static int begun_at(const struct history *history, size_t position)
{
    for (size_t i = position; i < history->recording.count; i++)
        if (history->recording.trace[i].kind == RECORDED_MARK)
            return (int)history->recording.trace[i].mark + 1;
    return (int)history->ack_count - 1;
}

/* Is the heap as it was acknowledged, or as it will be when what was under way is durable, in part
 * or as a whole? Then *model is that. */
static bool is_right(const struct history *history, const struct pheap *at, size_t position,
                     struct model *model)
{
    int acked = acked_at(history, position), begun = begun_at(history, position);
    const char *fault = "nothing is right before the first";

    for (int i = acked < 0 ? 0 : acked; i <= begun && i < (int)history->ack_count; i++) {
        *model = history->acks[i];
        fault = difference(at, model);
        if (!fault)
            return true;
    }
    return wrong("cut after operation", position, fault);
}

static bool judge_state(void *context, const char *path, size_t position, bool *changed);

static bool judge_again(struct verdict *outer)
{
    struct verdict verdict = {.history = &again};
    struct crash_run run = {.media = medium,
                            .recording = &again.recording,
                            .path = nested_path,
                            .first_judged = CRASH_FILE_OPERATIONS,
                            .seed = SEED,
                            .judge = judge_state,
                            .context = &verdict};

    crash_states_run(&run);
    outer->nested_states += run.states;
    return !run.failed;
}

/* Opened for writing, gone on with, opened again; all that recorded, and judged in its turn. */
static bool judge_writing(struct verdict *verdict, const char *path, size_t position, bool nested)
{
    struct model model;
    bool fine;

    recording_free(&again.recording);
    memset(&again, 0, sizeof again);
    if (nested)
        crash_record_file(&again.recording, path, nested_path);
    recorded = nested ? &again : NULL;
    if (attach(path) < 0)
        return wrong("open for writing, cut after operation", position, why.text);
    fine = acked_at(verdict->history, position) < 0 ||
           is_right(verdict->history, heap, position, &model);
    if (fine && table_of(heap)) {
        now = model;
        acknowledge();
        words(2, 7000);
        words_soon(2, 7100);
        objects(2, 70);
        checkpoint();
        words(1, 8000);
    }
    recorded = NULL;
    fine = fine && !text[0] && opened_is_valid(heap);
    end_life();
    if (!fine)
        return wrong("gone on with, cut after operation", position, "");
    if (fixture_open_path(&heap, path, true) < 0)
        return wrong("opened again, cut after operation", position, why.text);
    if (table_of(heap) && difference(heap, &now))
        wrong("after going on, cut after operation", position, difference(heap, &now));
    end_life();
    return !text[0] && (!nested || again.ack_count == 0 || judge_again(verdict));
}

static bool judge_state(void *context, const char *path, size_t position, bool *changed)
{
    struct verdict *verdict = context;
    static unsigned long states;
    struct model model;
    bool fine;
    int status = fixture_open_path(&heap, path, true);

    if (status < 0)
        fine = (status == STATUS_NO_GENERATION && acked_at(verdict->history, position) < 0) ||
               wrong("open, cut after operation", position, why.text);
    else {
        fine = is_right(verdict->history, heap, position, &model);
        end_life();
    }
    if (!fine || !verdict->may_write || ++states % WRITE_EVERY != 0)
        return fine;
    *changed = true;
    verdict->written++;
    return judge_writing(verdict, path, position, states % (WRITE_EVERY * NESTED_EVERY) == 0);
}

static inline struct verdict try_scenario(enum crash_media on, enum tx_mutant mutant,
                                          bool may_write, unsigned long *states)
{
    struct verdict verdict = {.history = &scenario, .may_write = may_write};
    struct crash_run run = {.media = on,
                            .recording = &scenario.recording,
                            .path = scratch_path,
                            .first_judged = 2,
                            .seed = SEED,
                            .judge = judge_state,
                            .context = &verdict};

    medium = on;
    tx_mutant = mutant;
    record_scenario();
    if (!text[0])
        crash_states_run(&run);
    tx_mutant = TX_MUTANT_NONE;
    *states = run.states;
    return verdict;
}

/* Of three records that no sync had covered the first is not there after a power cut. */
static inline void try_leftovers(enum tx_mutant mutant)
{
    uint8_t zeroes[LOG_ALIGN] = {0};
    uint64_t at = 0;

    medium = CRASH_BLOCK;
    tx_mutant = mutant;
    if (!prepare())
        abort();
    step(attach(pool_path), why.text);
    make_table();
    words(1, 10);
    for (unsigned i = 0; i < 3 && !text[0]; i++) {
        struct model model = now;
        struct pheap_tx *tx = begin();
        uint64_t sequence;

        if (i == 0)
            at = log_offset(&heap->pool.super.log, heap->log.extent, heap->log.used);
        put_word(tx, 2 + i, 20 + i, &model);
        step(tx_commit_soon(tx, &sequence), "commit");
    }
    if (!text[0])
        step(sys_pwrite_all(heap->pool.fd, zeroes, sizeof zeroes, at), "pwrite");
    memset(&now, 0, sizeof now);
    now.words[0] = 1;
    now.words[1] = 10;
    next_life();
    words(1, 30); /* exactly where the first was */
    next_life();
    end_life();
    tx_mutant = TX_MUTANT_NONE;
}

static inline bool tx_crash_begin(void)
{
    fixture_begin();
    snprintf(pool_path, sizeof pool_path, "%s", fixture_path);
    snprintf(scratch_path, sizeof scratch_path, "%.140s/scratch", fixture_dir);
    snprintf(nested_path, sizeof nested_path, "%.140s/nested", fixture_dir);
    window = mmap(NULL, TEST_WINDOW_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return window != MAP_FAILED;
}

static inline void tx_crash_end(void)
{
    recording_free(&scenario.recording);
    recording_free(&again.recording);
    unlink(scratch_path);
    unlink(nested_path);
    fixture_end();
}

#endif
