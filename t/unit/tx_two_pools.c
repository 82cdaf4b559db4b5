/*
 * tx_two_pools.c - a transaction in two heaps is there in both or in none, whatever a power cut has
 * left of either file, and whatever has become of the pool that decides.
 *
 * A scenario in two pools (transactions that either one decides, direct and optimistic, aborted,
 * some in one heap alone that build on what was done in both; checkpoints of either; several
 * lives) is recorded. crash_pair.h builds what a cut at each point could leave of both files. Each
 * is opened in one of several ways: the one or the other first, the deciding pool missing or older,
 * the opening itself failing at any of its operations; what is then in both must be what was
 * acknowledged, or what was in flight, of one and the same transaction. Some are gone on with.
 * Mutants of core/tx/mutant.h are compiled in and must be caught.
 */
#include "t/lib/tx_mutants.h"

#define LOG_FIRST_FRAMES 4u
#include "core/tx/deciding_pool.c"
#include "core/tx/opened.c"
#include "core/tx/replay.c"
#include "core/tx/settle.c"
#include "core/tx/two_phase.c"

#include <fcntl.h>
#include <sys/mman.h>
#include "t/lib/crash_pair.h"
#include "t/lib/tx_fixture.h"

#define SEED     20261127
#define POOLS    2
#define WORDS    6
#define ACKS_MAX 128
#define GO_ON    7 /* one state in so many is gone on with */
#define WINDOW   (64u << 20)

enum way { FIRST_FIRST, SECOND_FIRST, OTHER_MISSING, OTHER_OLD, OPENING_FAILS, WAYS };

struct model {
    uint64_t words[POOLS][WORDS];
    uint32_t object_bytes[POOLS]; /* 0: none; filled with the word 0 */
};

struct data {
    uint64_t words[WORDS];
    uint8_t *object;
};

static const char *const mutant_names[TX_MUTANT_END] = {
    [TX_MUTANT_PROMISE_KEPT_AT_ONCE] = "promises kept at once",
    [TX_MUTANT_PREPARE_NOT_AWAITED] = "decided before promises are durable",
    [TX_MUTANT_OUTCOME_NOT_WRITTEN] = "no outcomes",
    [TX_MUTANT_DECISION_NOT_KEPT] = "no decisions",
    [TX_MUTANT_OLD_POOL_DECIDES] = "an older pool decides",
    [TX_MUTANT_UNDECIDED_COMMITS] = "what is not decided commits",
    [TX_MUTANT_DOUBT_IGNORED] = "doubt ignored",
};

static enum crash_media medium;
static void *windows[POOLS];
static struct pheap *heaps[POOLS];
static struct recording recordings[POOLS];
static struct model acks[ACKS_MAX], now;
static uint64_t ack_when[ACKS_MAX];
static unsigned ack_count;
static bool recorded;
static char live_paths[POOLS][200], cut_paths[POOLS][200], live_dir[160], cut_dir[160];
static char old_path[200], away_path[200];
static char text[600];
static unsigned long in_doubt, settled, gone_on, failed_openings;

static bool wrong(uint64_t when, const char *what)
{
    if (!text[0])
        snprintf(text, sizeof text, "cut after operation %lu: %.500s", when, what);
    return false;
}

static void step(int64_t status, const char *what)
{
    if (status < 0 && !text[0])
        snprintf(text, sizeof text, "%s: %s", what, status_text((int)status));
}

/* --- opening --- */

static int open_one(unsigned i, const char *path, bool read_only, struct recording *recording)
{
    int status = opened_attach(&heaps[i], path, read_only, &why);

    if (status < 0)
        return status;
    if (recording && recorded && medium == CRASH_DAX)
        status = recording_attach_dax(recording, &heaps[i]->pool.persist, windows[i], WINDOW);
    else if (recording)
        recording_attach(recording, &heaps[i]->pool.persist);
    if (status == 0 && recording) {
        status = persist_sync(&heaps[i]->pool.persist); /* that of pool_open() */
    }
    if (status == 0)
        status = opened_load(heaps[i], &why);
    if (status < 0) {
        (void)opened_close(heaps[i]);
        heaps[i] = NULL;
    }
    return status;
}

static void close_all(void)
{
    for (unsigned i = 0; i < POOLS; i++)
        if (heaps[i])
            step(opened_close(heaps[i]), "close");
    heaps[0] = heaps[1] = NULL;
}

/* --- what is there --- */

static struct data *data_of(unsigned i)
{
    return root_find(heaps[i], "data", NULL);
}

static const char *difference(unsigned i, const struct model *model)
{
    const struct data *data = data_of(i);
    struct block block = {0};
    unsigned objects = 0;

    if (!data)
        return model->words[i][0] ? "no data" : NULL;
    if (memcmp(data->words, model->words[i], sizeof data->words) != 0)
        return "a word";
    while (blocks_next(&heaps[i]->blocks, block.address, 2, &block))
        objects++;
    if (objects != (model->object_bytes[i] > 0) || objects != (data->object != NULL))
        return "the number of objects";
    for (uint32_t k = 0; k < model->object_bytes[i]; k++)
        if (data->object[k] != (uint8_t)model->words[i][0])
            return "an object's bytes";
    return NULL;
}

static const char *difference_of_both(const struct model *model)
{
    const char *fault = difference(0, model);

    return fault ? fault : difference(1, model);
}

/* --- steps --- */

static void acknowledge(const struct model *model)
{
    now = *model;
    if (!recorded)
        return;
    acks[ack_count] = now;
    recording_mark(&recordings[0], ack_count);
    ack_when[ack_count++] = recordings[0].trace[recordings[0].count - 1].when;
}

static void put_word(struct pheap_tx *tx, unsigned i, unsigned word, uint64_t value,
                     struct model *model)
{
    step(tx_write(tx, &data_of(i)->words[word], &value, sizeof value), "write");
    model->words[i][word] = value;
}

static void put_object(struct pheap_tx *tx, unsigned i, uint32_t bytes, struct model *model)
{
    struct data *data = data_of(i);
    uint8_t *old;
    void *object = NULL;

    step(tx_read(tx, &old, &data->object, sizeof old), "read");
    if (old)
        step(tx_free(tx, old), "free");
    if (bytes > 0) {
        step(tx_alloc(tx, bytes, 2, &object), "alloc");
        memset(object, (uint8_t)model->words[i][0], bytes);
    }
    step(tx_write(tx, &data->object, &object, sizeof object), "write");
    model->object_bytes[i] = bytes;
}

static void make_data(unsigned i)
{
    struct pheap_tx *tx = NULL;
    struct model model = now;
    void *data = NULL;

    step(tx_begin(heaps[i], &tx), "begin");
    step(tx_alloc(tx, sizeof(struct data), 1, &data), "alloc");
    step(root_set(tx, "data", data, 1), "root");
    ((struct data *)data)->words[0] = model.words[i][0] = 1;
    step(tx_commit(tx), "commit");
    acknowledge(&model);
}

enum ending { COMMITS, ABORTS };

/* The one that decides is the one it is begun on. */
static void both(unsigned decides, bool optimistic, uint64_t value, enum ending ending)
{
    struct pheap_tx *tx = NULL, *part = NULL;
    struct model model = now;
    unsigned other = 1 - decides;

    if (text[0])
        return;
    step(optimistic ? tx_begin_optimistic(heaps[decides], &tx) : tx_begin(heaps[decides], &tx),
         "begin");
    step(tx_join(tx, heaps[other], &part), "join");
    put_word(tx, decides, 0, value, &model);
    put_word(part, other, 0, value, &model);
    put_word(part, other, 1 + value % (WORDS - 1), value, &model);
    put_object(part, other, 1 + value * 37 % 300, &model);
    put_object(tx, decides, value % 3 ? 20 : 0, &model);
    if (ending == ABORTS)
        tx_abort(tx);
    else
        step(tx_commit(tx), "commit in both");
    if (ending == COMMITS)
        acknowledge(&model);
    if (!text[0] && difference_of_both(&now))
        step(-EINVAL, "memory after a transaction in both");
}

/* Builds on what both have done. */
static void one(unsigned i, uint64_t value)
{
    struct pheap_tx *tx = NULL;
    struct model model = now;

    if (text[0])
        return;
    step(tx_begin(heaps[i], &tx), "begin");
    put_word(tx, i, 0, value, &model);
    put_object(tx, i, 40, &model);
    step(tx_commit(tx), "commit");
    acknowledge(&model);
}

static void checkpoint(unsigned i)
{
    if (!text[0])
        step(opened_checkpoint(heaps[i], 0, &why), "checkpoint");
}

static void open_both(char paths[POOLS][200], bool first_first)
{
    for (unsigned k = 0; k < POOLS; k++) {
        unsigned i = first_first ? k : 1 - k;

        step(open_one(i, paths[i], false, recorded ? &recordings[i] : NULL), why.text);
    }
    if (!text[0] && difference_of_both(&now))
        step(-EINVAL, "memory after opening");
}

static void copy_file(const char *from, const char *to)
{
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    off_t bytes = lseek(in, 0, SEEK_END), at = 0;

    if (in < 0 || out < 0 || ftruncate(out, bytes) < 0)
        abort();
    while ((at = lseek(in, at, SEEK_DATA)) >= 0 && at < bytes) {
        static uint8_t piece[1 << 16];
        ssize_t got = pread(in, piece, sizeof piece, at);

        if (got <= 0 || pwrite(out, piece, (size_t)got, at) != got)
            abort();
        at += got;
    }
    close(in);
    close(out);
}

static void live(void)
{
    open_both(live_paths, true);
    if (text[0])
        return;
    acknowledge(&now);
    make_data(0);
    make_data(1);
    close_all();
    copy_file(live_paths[0], old_path);
    open_both(live_paths, true);
    both(0, false, 10, COMMITS);
    one(1, 11);
    both(0, false, 12, COMMITS);
    both(1, false, 13, COMMITS);
    checkpoint(0);
    both(0, true, 14, COMMITS);
    one(0, 15);
    both(0, false, 16, ABORTS);
    checkpoint(1);
    both(1, true, 17, COMMITS);
    close_all();
    open_both(live_paths, false);
    both(0, false, 18, COMMITS);
    checkpoint(0);
    checkpoint(0);
    one(1, 19);
    both(0, false, 20, COMMITS);
    close_all();
}

/* --- recording --- */

static void record_file(unsigned i)
{
    struct persist persist;
    struct stat info;
    uint8_t *bytes;
    int fd = open(live_paths[i], O_RDWR | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &info) < 0)
        abort();
    bytes = malloc((size_t)info.st_size);
    if (!bytes || pread(fd, bytes, (size_t)info.st_size, 0) != info.st_size)
        abort();
    persist_open_file(&persist, fd, (uint64_t)info.st_size);
    recording_attach(&recordings[i], &persist);
    if (persist_write(&persist, 0, bytes, (size_t)info.st_size) < 0 || persist_sync(&persist) < 0)
        abort();
    free(bytes);
    close(fd);
}

static void record_scenario(void)
{
    text[0] = 0;
    ack_count = 0;
    memset(&now, 0, sizeof now);
    for (unsigned i = 0; i < POOLS; i++) {
        recording_free(&recordings[i]);
        unlink(live_paths[i]);
        step(pool_create(live_paths[i], FIXTURE_SLOT + i, 2, &why), "create");
        record_file(i);
    }
    recorded = true;
    live();
    recorded = false;
    for (unsigned i = 0; i < POOLS; i++)
        unlink(live_paths[i]); /* who decides is found beside who asks */
}

/* --- the judge --- */

static int acked_at(uint64_t when)
{
    int acked = -1;

    for (unsigned i = 0; i < ack_count && ack_when[i] <= when; i++)
        acked = (int)i;
    return acked;
}

static bool is_right(uint64_t when)
{
    int acked = acked_at(when);
    const char *fault = "nothing";

    for (int i = acked < 0 ? 0 : acked; i <= acked + 1 && i < (int)ack_count; i++) {
        now = acks[i];
        fault = difference_of_both(&now);
        if (!fault)
            return true;
    }
    return wrong(when, fault);
}

static bool no_heap_yet(uint64_t when, int status)
{
    return acked_at(when) < 0 && status < 0;
}

/* The other one is away, or an older copy: only what was never promised can be opened. */
static bool open_without(uint64_t when, unsigned i, bool old)
{
    unsigned other = 1 - i;
    int status;

    if (old && other != 0)
        return true; /* there is an old copy of the first alone */
    if (rename(cut_paths[other], away_path) < 0)
        abort();
    if (old)
        copy_file(old_path, cut_paths[other]);
    status = open_one(i, cut_paths[i], false, NULL);
    if (status == STATUS_IN_DOUBT) {
        in_doubt++;
        if (!strstr(why.text, "in doubt") || open_one(i, cut_paths[i], true, NULL) < 0 ||
            heaps[i]->in_doubt != 1)
            wrong(when, "a heap in doubt does not open for reading");
    } else if (status < 0 && !no_heap_yet(when, status)) {
        wrong(when, why.text);
    }
    close_all();
    if (rename(away_path, cut_paths[other]) < 0)
        abort();
    return !text[0];
}

/* The opening stops at its n-th operation: then it is as if it had been cut there. */
static void fail_opening(unsigned i, unsigned long n)
{
    struct recording recording = {.fail_at = n, .fail_status = -EIO};

    if (open_one(i, cut_paths[i], false, &recording) < 0)
        failed_openings++;
    close_all();
    recording_free(&recording);
}

static bool go_on(uint64_t when)
{
    struct model last = now;

    if (!data_of(0) || !data_of(1))
        return true;
    both(1, false, 101, COMMITS);
    one(0, 102);
    both(0, true, 103, COMMITS);
    checkpoint(1);
    both(0, false, 104, COMMITS);
    last = now;
    close_all();
    open_both(cut_paths, false);
    gone_on++;
    if (!text[0] && difference_of_both(&last))
        return wrong(when, "after going on");
    return !text[0];
}

static bool open_and_compare(uint64_t when, bool first_first)
{
    int status = 0;

    for (unsigned k = 0; status == 0 && k < POOLS; k++) {
        unsigned i = first_first ? k : 1 - k;

        status = open_one(i, cut_paths[i], false, NULL);
        settled += status == 0 ? heaps[i]->settled : 0;
    }
    if (status < 0)
        return no_heap_yet(when, status) || wrong(when, why.text);
    return acked_at(when) < 0 || is_right(when);
}

static bool judge_pair(void *context, uint64_t when)
{
    static unsigned long states;
    unsigned long number = states++;
    enum way way = number % WAYS;
    unsigned i = number / WAYS % POOLS;
    bool fine = true;

    (void)context;
    if (way == OTHER_MISSING || way == OTHER_OLD)
        fine = open_without(when, way == OTHER_OLD ? 1 : i, way == OTHER_OLD);
    if (way == OPENING_FAILS)
        fail_opening(i, 1 + number / WAYS / POOLS % 6);
    fine = fine && open_and_compare(when, way == SECOND_FIRST || i);
    if (fine && number % GO_ON == 0 && heaps[0] && heaps[1])
        fine = go_on(when);
    close_all();
    return fine && !text[0];
}

/* --- the tests --- */

static unsigned long try_scenario(enum crash_media on, enum tx_mutant mutant)
{
    struct crash_pair run = {.media = on,
                             .recordings = {&recordings[0], &recordings[1]},
                             .paths = {cut_paths[0], cut_paths[1]},
                             .first_judged = 4,
                             .seed = SEED,
                             .judge = judge_pair};

    tx_mutant = mutant;
    medium = on;
    in_doubt = settled = gone_on = failed_openings = 0;
    record_scenario();
    if (!text[0])
        crash_pair_run(&run);
    close_all();
    tx_mutant = TX_MUTANT_NONE;
    return run.states;
}

static void agree(enum crash_media on)
{
    unsigned long states = try_scenario(on, TX_MUTANT_NONE);

    CHECK_STR(text, "");
    CHECK(states > 600 && in_doubt > 20 && settled > 50 && gone_on > 50 && failed_openings > 20);
    tap_note(
        "%s, seed %d: %u acknowledged, %lu states, %lu promises settled, %lu openings in doubt, "
        "%lu that failed, %lu gone on with",
        on == CRASH_DAX ? "dax" : "block", SEED, ack_count, states, settled, in_doubt,
        failed_openings, gone_on);
}

static void two_heaps_agree_after_a_cut_at_every_point(void)
{
    agree(CRASH_BLOCK);
}

static void so_they_do_on_persistent_memory(void)
{
    agree(CRASH_DAX);
}

/* There each record is durable before its writer goes on. */
static bool applies(enum tx_mutant mutant, enum crash_media on)
{
    return mutant_names[mutant] && !(on == CRASH_DAX && mutant == TX_MUTANT_PREPARE_NOT_AWAITED);
}

static void every_mutant_is_caught(void)
{
    unsigned caught = 0, tried = 0;

    for (enum tx_mutant mutant = TX_MUTANT_NONE + 1; mutant < TX_MUTANT_END; mutant++)
        for (enum crash_media on = CRASH_BLOCK; on <= CRASH_DAX; on++) {
            unsigned long states;

            if (!applies(mutant, on))
                continue;
            states = try_scenario(on, mutant);
            CHECK(text[0] != 0);
            tap_note("mutant '%s' on %s: state %lu: %s", mutant_names[mutant],
                     on == CRASH_DAX ? "dax" : "block", states, text);
            caught += text[0] != 0;
            tried++;
        }
    tap_note("mutants caught: %u of %u", caught, tried);
}

int main(int argc, char **argv)
{
    fixture_begin();
    snprintf(live_dir, sizeof live_dir, "%.120s/live", fixture_dir);
    snprintf(cut_dir, sizeof cut_dir, "%.120s/cut", fixture_dir);
    snprintf(old_path, sizeof old_path, "%.120s/old", fixture_dir);
    snprintf(away_path, sizeof away_path, "%.120s/away", fixture_dir);
    if (mkdir(live_dir, 0700) < 0 || mkdir(cut_dir, 0700) < 0)
        return 1;
    for (unsigned i = 0; i < POOLS; i++) {
        snprintf(live_paths[i], sizeof live_paths[i], "%s/pool-%u", live_dir, i);
        snprintf(cut_paths[i], sizeof cut_paths[i], "%s/pool-%u", cut_dir, i);
        windows[i] = mmap(NULL, WINDOW, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (windows[i] == MAP_FAILED)
            return 1;
    }
    tap_arguments(argc, argv);
    RUN(two_heaps_agree_after_a_cut_at_every_point);
    RUN(so_they_do_on_persistent_memory);
    RUN(every_mutant_is_caught);
    for (unsigned i = 0; i < POOLS; i++) {
        recording_free(&recordings[i]);
        unlink(cut_paths[i]);
        unlink(live_paths[i]);
    }
    unlink(old_path);
    unlink(away_path);
    rmdir(live_dir);
    rmdir(cut_dir);
    fixture_end();
    return tap_done();
}
