/*
 * tx_crash.c - see tx_crash.h.
 */
#include "t/lib/tx_crash.h"

#include "t/lib/tx_fixture.h"

#define WORDS             24
#define OBJECTS           24
#define ACKS_MAX          256
#define WRITE_EVERY       13 /* one state in so many is opened for writing and gone on with, */
#define NESTED_EVERY      70 /* and one in so many of those is cut again meanwhile */
#define TEST_WINDOW_BYTES (64u << 20)

#define TYPE_TABLE  1u
#define TYPE_OBJECT 2u

/* In the heap, under the root "table". */
struct table {
    uint64_t words[WORDS];
    uint8_t *objects[OBJECTS];
};

/* What it should hold. */
struct model {
    uint64_t words[WORDS];
    uint32_t bytes[OBJECTS]; /* 0: no such object */
    uint8_t fill[OBJECTS];
};

struct history {
    struct recording recording;
    struct model acks[ACKS_MAX];
    unsigned ack_count;
};

static struct history scenario, again;
static struct history *recorded; /* where the present heap's operations go; NULL: nowhere */
static enum crash_media medium;
static char pool_path[160], scratch_path[160], nested_path[160];
static void *window;
static char text[512]; /* the first thing that went wrong; "": nothing did */

static bool wrong(const char *where, size_t number, const char *detail)
{
    if (!text[0])
        snprintf(text, sizeof text, "%s %zu: %.350s", where, number, detail);
    return false;
}

static void step(int64_t status, const char *what)
{
    if (status < 0)
        wrong("status -", (size_t)-status, what);
}

/* --- the heap and the model --- */

static struct table *table_of(const struct pheap *at)
{
    return root_find(at, "table", NULL);
}

static const char *object_fault(const struct pheap *at, const uint8_t *object, uint32_t bytes,
                                uint8_t fill)
{
    struct block block;

    if (!object || bytes == 0)
        return object || bytes ? "an object too many or too few" : NULL;
    if (!block_find(&at->memory, (uintptr_t)object, &block) || block_state(&block) != TX_USED ||
        block_bytes(&block) != bytes || block_type(&block) != TYPE_OBJECT)
        return "an object's block";
    for (uint32_t i = 0; i < bytes; i++)
        if (object[i] != fill)
            return "an object's bytes";
    return NULL;
}

/* NULL: the heap is as the model. */
static const char *difference(const struct pheap *at, const struct model *model)
{
    const struct table *table = table_of(at);
    struct block block = {0};
    unsigned expected = 0, found = 0;
    const char *fault = NULL;

    if (!table)
        return model->words[0] ? "no table" : NULL;
    if (memcmp(table->words, model->words, sizeof model->words) != 0)
        return "a word";
    for (unsigned i = 0; i < OBJECTS && !fault; i++) {
        fault = object_fault(at, table->objects[i], model->bytes[i], model->fill[i]);
        expected += model->bytes[i] > 0;
    }
    while (blocks_next(&at->blocks, block.address, TYPE_OBJECT, &block))
        found++;
    if (!fault && found != expected)
        fault = "the number of objects";
    return fault;
}

/* --- steps, on the heap and on the model --- */

static struct model now;

static struct pheap_tx *begin(void)
{
    struct pheap_tx *tx = NULL;

    step(tx_begin(heap, &tx), "begin");
    return tx;
}

static void acknowledge(void)
{
    if (!recorded)
        return;
    recorded->acks[recorded->ack_count] = now;
    recording_mark(&recorded->recording, recorded->ack_count++);
}

static void put_word(struct pheap_tx *tx, unsigned i, uint64_t value, struct model *model)
{
    uint64_t *word = &table_of(heap)->words[i];

    step(tx_add(tx, word, sizeof *word), "add");
    *word = value;
    model->words[i] = value;
}

static void put_object(struct pheap_tx *tx, unsigned i, uint32_t bytes, uint8_t fill,
                       struct model *model)
{
    uint8_t **object = &table_of(heap)->objects[i];

    step(tx_add(tx, object, sizeof *object), "add");
    if (*object)
        step(tx_free(tx, *object), "free");
    *object = NULL;
    if (bytes > 0)
        step(tx_alloc(tx, bytes, TYPE_OBJECT, (void **)object), "alloc");
    if (*object)
        memset(*object, fill, bytes);
    model->bytes[i] = bytes;
    model->fill[i] = fill;
}

/* A commit that fails (on purpose, in one test) has left memory as it was. */
static int end(struct pheap_tx *tx, const struct model *model)
{
    int status = tx_commit(tx);
    const char *fault;

    if (status == 0)
        now = *model;
    fault = difference(heap, &now);
    if (fault)
        wrong("memory after a commit", 0, fault);
    if (status == 0)
        acknowledge();
    return status;
}

static void aborted(struct pheap_tx *tx)
{
    const char *fault;

    tx_abort(tx);
    fault = difference(heap, &now);
    if (fault)
        wrong("memory after an abort", 0, fault);
}

/* --- the scenario --- */

static int attach(const char *path)
{
    int status = opened_attach(&heap, path, false, &why);

    if (status < 0)
        return status;
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
        struct pheap_tx *tx = begin();
        struct model model = now;

        put_word(tx, 1 + i % (WORDS - 1), seed + i, &model);
        step(end(tx, &model), "commit");
    }
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

static void checkpoint(void)
{
    if (text[0])
        return;
    step(opened_checkpoint(heap, 0, &why), "checkpoint");
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
    next_life();
    words(2, 300);
    objects(12, 11);
    if (!text[0])
        nested_and_aborted(5);
    checkpoint();
    if (!text[0])
        interleaved(40, false);
    if (!text[0])
        interleaved(60, true);
    objects(14, 90); /* more than the log had room for */
    next_life();
    checkpoint();
    checkpoint();
    words(1, 400);
    next_life();
    objects(4, 33);
    end_life();
}

static void record_scenario(void)
{
    if (!prepare())
        abort();
    crash_record_file(&scenario.recording, pool_path, nested_path);
    recorded = &scenario;
    live();
    recorded = NULL;
}

/* --- the judge --- */

struct verdict {
    const struct history *history;
    unsigned long written, nested_states;
    bool may_write;
};

/* Is the heap as it was acknowledged, or as it will be next? Then *model is that. */
static bool is_right(const struct history *history, const struct pheap *at, size_t position,
                     struct model *model)
{
    int acked = crash_acked_at(&history->recording, position);
    const char *fault = "nothing is right before the first";

    for (int i = acked < 0 ? 0 : acked; i <= acked + 1 && i < (int)history->ack_count; i++) {
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
                            .seed = TX_CRASH_SEED,
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
    fine = crash_acked_at(&verdict->history->recording, position) < 0 ||
           is_right(verdict->history, heap, position, &model);
    if (fine && table_of(heap)) {
        now = model;
        acknowledge();
        words(2, 7000);
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
        fine = (status == STATUS_NO_GENERATION &&
                crash_acked_at(&verdict->history->recording, position) < 0) ||
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

/* --- a run --- */

struct tx_crash_result tx_crash_try(enum crash_media on, bool may_write, void (*spoil)(bool on))
{
    struct verdict verdict = {.history = &scenario, .may_write = may_write};
    struct crash_run run = {.media = on,
                            .recording = &scenario.recording,
                            .path = scratch_path,
                            .first_judged = CRASH_FILE_OPERATIONS,
                            .seed = TX_CRASH_SEED,
                            .judge = judge_state,
                            .context = &verdict};

    medium = on;
    if (spoil)
        spoil(true);
    record_scenario();
    if (!text[0])
        crash_states_run(&run);
    if (spoil)
        spoil(false);
    return (struct tx_crash_result){
        .states = run.states,
        .written = verdict.written,
        .nested_states = verdict.nested_states,
        .operations = scenario.recording.count,
        .acknowledged = scenario.ack_count,
        .text = text,
    };
}

void tx_crash_begin(void)
{
    fixture_begin();
    snprintf(pool_path, sizeof pool_path, "%s", fixture_path);
    snprintf(scratch_path, sizeof scratch_path, "%.140s/scratch", fixture_dir);
    snprintf(nested_path, sizeof nested_path, "%.140s/nested", fixture_dir);
    window = mmap(NULL, TEST_WINDOW_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (window == MAP_FAILED)
        exit(1);
}

void tx_crash_end(void)
{
    recording_free(&scenario.recording);
    recording_free(&again.recording);
    unlink(scratch_path);
    unlink(nested_path);
    fixture_end();
}
