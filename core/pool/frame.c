/*
 * frame.c - the states of frames (frame.h has the picture), on top of frame_map.c.
 *
 * What must always be true:
 *   1. a frame is free exactly when its bit says so; frames 0 and 1 never are;
 *   2. building <=> in use and born after the newest durable generation, so a commit turns all
 *      building frames into live ones by raising one number;
 *   3. a dead frame is on the list of exactly one bucket; a bucket's `last` is at or above the
 *      newest kept generation that refers to a frame on it; buckets ascend by `last`;
 *   4. an error changes nothing.
 */
#include "core/pool/frame.h"

#include <errno.h>
#include "core/pool/format.h"
#include "core/pool/frame_map.h"
#include "core/pool/frame_space.h"
#include "core/pool/mutant.h"

/* One for each kept generation, the one before, and some for numbers that failed commits used up;
 * when they run out the newest bucket takes what is younger (later freed, never earlier). */
#define BUCKETS_MAX 64

#define GROW_MIN_FRAMES (16u << (20 - FRAME_SHIFT))   /* 16 MiB: few calls for small pools */
#define GROW_MAX_FRAMES (1024u << (20 - FRAME_SHIFT)) /* 1 GiB: do not take a disk by surprise */
#define GROW_SHARE      8                             /* else an eighth of the file */
#define GROW_RUN_FRAMES (1u << (20 - FRAME_SHIFT))    /* 1 MiB, when only a long run is missing */

/* See frames_take_scattered(). */
#define SHORT_RUN_FRAMES 64
#define ROOMY_SHARE      4

struct bucket {
    uint64_t last;
    uint64_t count;
    uint32_t head; /* 0: empty */
};

struct frames {
    struct frame_map map;
    struct persist *persist;
    uint64_t origin;     /* births are counted from here */
    uint64_t committed;  /* newest durable generation */
    uint64_t cursor;     /* the search for a free run starts here */
    uint64_t longest;    /* no free run is longer, as far as is known: saves searches */
    uint64_t short_from; /* short runs are looked for from here */
    bool spare_runs;     /* long runs have become scarce: scattered pages take short ones first */
    bool growth_refused; /* the last time: growth that is not necessary is not tried */
    unsigned bucket_count;
    struct bucket buckets[BUCKETS_MAX];
};

static uint32_t birth(const struct frames *frames, uint64_t number)
{
    uint64_t since = number > frames->origin ? number - frames->origin : 0;

    return since < UINT32_MAX ? (uint32_t)since : UINT32_MAX;
}

static void set_free(struct frames *frames, uint64_t frame)
{
    frame_map_set_free(&frames->map, frame);
    frames->longest = UINT64_MAX;
    if (frame < frames->short_from)
        frames->short_from = frame;
}

int frames_create(struct frames **out, struct arena *arena, struct persist *persist,
                  uint64_t oldest)
{
    struct frames *frames = arena_alloc(arena, sizeof(*frames), 64);
    int status;

    if (frames == NULL)
        return -ENOMEM;
    frames->map.arena = arena;
    frames->persist = persist;
    frames->origin = oldest > 0 ? oldest - 1 : 0;
    frames->longest = UINT64_MAX;
    status = frame_map_extend(&frames->map, persist->file_bytes >> FRAME_SHIFT);
    if (status < 0)
        return status;
    if (persist_is_sparse(persist))
        frame_space_doubt(&frames->map);
    for (uint64_t frame = 0; frame < FRAME_FIRST && frame < frames->map.count; frame++)
        frame_map_set_used(&frames->map, frame);
    *out = frames;
    return 0;
}

/* --- dead lists --- */

/* The bucket for frames that generations up to last may refer to. */
static struct bucket *bucket_of(struct frames *frames, uint64_t last)
{
    unsigned at = frames->bucket_count;

    while (at > 0 && frames->buckets[at - 1].last > last)
        at--;
    if (at > 0 && frames->buckets[at - 1].last == last)
        return &frames->buckets[at - 1];
    if (frames->bucket_count == BUCKETS_MAX) {
        if (at == BUCKETS_MAX)
            frames->buckets[--at].last = last;
        return &frames->buckets[at];
    }
    for (unsigned i = frames->bucket_count; i > at; i--)
        frames->buckets[i] = frames->buckets[i - 1];
    frames->bucket_count++;
    frames->buckets[at] = (struct bucket){.last = last};
    return &frames->buckets[at];
}

static void bucket_push(struct frames *frames, struct bucket *bucket, uint64_t frame)
{
    frame_map_record(&frames->map, frame)->link = bucket->head;
    bucket->head = (uint32_t)frame;
    bucket->count++;
}

/* Generation `bucket->last` is dropped; kept is the newest kept one before it, 0 if none is. */
static void bucket_drop(struct frames *frames, struct bucket *bucket, uint64_t kept)
{
    uint64_t frame = bucket->head;
    struct bucket older = {.last = kept};

    while (frame != 0) {
        struct frame_record *record = frame_map_record(&frames->map, frame);
        uint64_t next = record->link;

        if (kept != 0 && record->born <= birth(frames, kept))
            bucket_push(frames, &older, frame);
        else
            set_free(frames, frame);
        frame = next;
    }
    *bucket = older;
}

/* Puts the frames of `from` on the list of `into`. */
static void bucket_merge(struct frames *frames, struct bucket *into, const struct bucket *from)
{
    uint64_t frame = from->head;

    while (frame != 0) {
        uint64_t next = frame_map_record(&frames->map, frame)->link;

        bucket_push(frames, into, frame);
        frame = next;
    }
}

/* After drops several buckets may have the same `last`, or no frame: one each is left. */
static void buckets_tidy(struct frames *frames)
{
    unsigned filled = 0;

    for (unsigned i = 0; i < frames->bucket_count; i++) {
        struct bucket bucket = frames->buckets[i];

        if (bucket.count == 0)
            continue;
        if (filled > 0 && frames->buckets[filled - 1].last == bucket.last)
            bucket_merge(frames, &frames->buckets[filled - 1], &bucket);
        else
            frames->buckets[filled++] = bucket;
    }
    frames->bucket_count = filled;
}

/* The largest of numbers (ascending) that is not above limit; 0 if there is none. */
static uint64_t newest_not_above(const uint64_t *numbers, unsigned count, uint64_t limit)
{
    uint64_t newest = 0;

    for (unsigned i = 0; i < count && numbers[i] <= limit; i++)
        newest = numbers[i];
    return newest;
}

/* Much is free, if perhaps not in one piece. */
static bool is_roomy(const struct frames *frames)
{
    return frames->map.free_count >= frames->map.count / ROOMY_SHARE &&
           frames->map.free_count > GROW_RUN_FRAMES;
}

static bool runs_are_scarce(const struct frames *frames)
{
    uint64_t enough = frames->map.count / GROW_SHARE;

    if (enough > GROW_MIN_FRAMES)
        enough = GROW_MIN_FRAMES;
    return (is_roomy(frames) || frames->growth_refused) &&
           frame_map_find(&frames->map, 0, enough, enough).length < enough;
}

void frames_keep(struct frames *frames, const uint64_t *numbers, unsigned count)
{
    for (unsigned i = 0; i < frames->bucket_count; i++) {
        struct bucket *bucket = &frames->buckets[i];
        uint64_t kept = newest_not_above(numbers, count, bucket->last);

        if (kept != bucket->last)
            bucket_drop(frames, bucket, kept);
    }
    buckets_tidy(frames);
    frames->cursor = 0; /* low frames first: what is free gathers at the end of the file */
    frames->short_from = 0;
    frames->spare_runs = runs_are_scarce(frames);
}

/* --- loading --- */

int frames_note_first(struct frames *frames, uint64_t frame, uint64_t number)
{
    struct frame_record *record;

    if (frame < FRAME_FIRST || frame >= frames->map.count)
        return STATUS_DAMAGED;
    if (!frame_map_is_free(&frames->map, frame))
        return 1;
    frame_map_set_used(&frames->map, frame);
    record = frame_map_record(&frames->map, frame);
    record->born = birth(frames, number);
    record->link = LINK_NOTED;
    return 0;
}

int frames_note_last(struct frames *frames, uint64_t frame, uint64_t number)
{
    struct frame_record *record;

    if (frame < FRAME_FIRST || frame >= frames->map.count || frame_map_is_free(&frames->map, frame))
        return STATUS_DAMAGED;
    record = frame_map_record(&frames->map, frame);
    if (record->link != LINK_NOTED)
        return 1;
    if (number == 0)
        record->link = LINK_USED;
    else
        bucket_push(frames, bucket_of(frames, number), frame);
    return 0;
}

static bool is_noted(const struct frames *frames, uint64_t frame)
{
    return !frame_map_is_free(&frames->map, frame) &&
           frame_map_record(&frames->map, frame)->link == LINK_NOTED;
}

void frames_forget(struct frames *frames, uint64_t number)
{
    for (uint64_t frame = FRAME_FIRST; frame < frames->map.count; frame++)
        if (is_noted(frames, frame) &&
            frame_map_record(&frames->map, frame)->born == birth(frames, number))
            set_free(frames, frame);
}

/* What the second pass did not come to (only an index that names one frame as a node and as a
 * page can bring that about) may belong to any generation. */
void frames_loaded(struct frames *frames, uint64_t newest)
{
    for (uint64_t frame = FRAME_FIRST; frame < frames->map.count; frame++)
        if (is_noted(frames, frame))
            bucket_push(frames, bucket_of(frames, newest), frame);
    frames->committed = newest;
}

/* --- taking and releasing --- */

static bool is_out_of_space(int status)
{
    return status == -ENOSPC || status == -EDQUOT || status == -EFBIG;
}

/* A roomy file grows because a long run is missing: by little, then. */
static uint64_t growth_step(const struct frames *frames)
{
    uint64_t step = frames->map.count / GROW_SHARE;

    if (is_roomy(frames))
        return GROW_RUN_FRAMES;
    if (step < GROW_MIN_FRAMES)
        return GROW_MIN_FRAMES;
    return step < GROW_MAX_FRAMES ? step : GROW_MAX_FRAMES;
}

/* At least need frames more, more than that while the disk has room. */
static int grow(struct frames *frames, uint64_t need)
{
    uint64_t count = frames->map.count;
    uint64_t step = growth_step(frames);
    int status;

    if (step < need)
        step = need;
    if (need > FRAME_COUNT_LIMIT - count)
        return STATUS_LIMIT;
    if (step > FRAME_COUNT_LIMIT - count)
        step = need;
    for (;;) {
        status = persist_grow(frames->persist, (count + step) << FRAME_SHIFT);
        if (!is_out_of_space(status) || step == need)
            break;
        step = step / 2 > need ? step / 2 : need;
    }
    frames->growth_refused = status < 0;
    if (status < 0)
        return status;
    frames->longest = UINT64_MAX;
    return frame_map_extend(&frames->map, count + step);
}

static struct frame_run find_run(struct frames *frames, uint64_t want, bool exact)
{
    uint64_t target = exact || want < frames->longest ? want : frames->longest;
    struct frame_run run = frame_map_find(&frames->map, frames->cursor, target, want);

    if (run.length < target)
        frames->longest = run.length;
    return run;
}

static int use_run(struct frames *frames, struct frame_run run)
{
    uint32_t born = birth(frames, frames->committed + 1);
    int status = frame_space_reserve(&frames->map, frames->persist, run);

    if (status < 0)
        return status;
    for (uint64_t frame = run.first; frame < run.first + run.length; frame++) {
        struct frame_record *record = frame_map_record(&frames->map, frame);

        frame_map_set_used(&frames->map, frame);
        record->born = born;
        record->link = LINK_USED;
    }
    return 0;
}

/* A longer run than the file has, for pages that could be done without it. */
static bool may_grow(const struct frames *frames, struct frame_run run, uint64_t want)
{
    return run.length < want && run.length < SHORT_RUN_FRAMES && !is_roomy(frames) &&
           !frames->growth_refused;
}

/* run is what the file has; it becomes what the file has after growing. */
static int grow_for(struct frames *frames, uint64_t want, bool exact, struct frame_run *run)
{
    int status;

    if (run->length == 0 || (exact && run->length < want)) {
        status = grow(frames, exact ? want - frame_map_free_at_end(&frames->map) : 1);
        if (status < 0)
            return status;
        *run = find_run(frames, want, exact);
    } else if (may_grow(frames, *run, want)) {
        if (grow(frames, SHORT_RUN_FRAMES) == 0)
            *run = find_run(frames, want, exact);
    }
    return 0;
}

int frames_take(struct frames *frames, uint64_t want, bool exact, uint64_t *first, uint64_t *got)
{
    struct frame_run run;
    int status;

    if (want == 0)
        return -EINVAL;
    run = find_run(frames, want, exact);
    status = grow_for(frames, want, exact, &run);
    if (status == 0)
        status = use_run(frames, run);
    if (status < 0)
        return status;
    frames->cursor = run.first + run.length;
    *first = run.first;
    *got = run.length;
    return 0;
}

int frames_take_scattered(struct frames *frames, uint64_t want, uint64_t *first, uint64_t *got)
{
    struct frame_run run = {0, 0};
    int status;

    if (frames->spare_runs && want > 0) {
        run = frame_map_find_short(&frames->map, frames->short_from, SHORT_RUN_FRAMES);
        if (run.length == 0)
            frames->short_from = frames->map.count;
    }
    if (run.length == 0)
        return frames_take(frames, want, false, first, got);
    if (run.length > want)
        run.length = want;
    status = use_run(frames, run);
    if (status < 0)
        return status;
    frames->short_from = run.first + run.length;
    *first = run.first;
    *got = run.length;
    return 0;
}

int frames_take_at(struct frames *frames, uint64_t frame)
{
    if (frame < FRAME_FIRST || frame >= frames->map.count)
        return -EINVAL;
    if (!frame_map_is_free(&frames->map, frame))
        return -EBUSY;
    return use_run(frames, (struct frame_run){frame, 1});
}

int frames_release(struct frames *frames, uint64_t frame)
{
    struct frame_record *record;

    if (frame < FRAME_FIRST || frame >= frames->map.count || frame_map_is_free(&frames->map, frame))
        return STATUS_DAMAGED;
    record = frame_map_record(&frames->map, frame);
    if (record->link != LINK_USED)
        return STATUS_DAMAGED;
    if (record->born > birth(frames, frames->committed) ||
        POOL_MUTANT(MUTANT_RELEASED_REUSED_AT_ONCE))
        set_free(frames, frame);
    else
        bucket_push(frames, bucket_of(frames, frames->committed), frame);
    return 0;
}

bool frames_is_building(const struct frames *frames, uint64_t frame)
{
    const struct frame_record *record;

    if (frame < FRAME_FIRST || frame >= frames->map.count || frame_map_is_free(&frames->map, frame))
        return false;
    record = frame_map_record(&frames->map, frame);
    return record->link == LINK_USED && record->born > birth(frames, frames->committed);
}

void frames_committed(struct frames *frames, uint64_t number)
{
    frames->committed = number;
}

uint64_t frames_give_back(struct frames *frames, uint64_t margin)
{
    return frame_space_give_back(&frames->map, frames->persist, margin);
}

uint64_t frames_count(const struct frames *frames)
{
    return frames->map.count;
}

uint64_t frames_free_count(const struct frames *frames)
{
    return frames->map.free_count;
}

/* A list must have as many frames as its bucket says, none of them free. */
static bool bucket_is_valid(const struct frames *frames, const struct bucket *bucket)
{
    uint64_t frame = bucket->head, seen = 0;

    while (frame != 0 && seen <= bucket->count) {
        if (frame >= frames->map.count || frame_map_is_free(&frames->map, frame))
            return false;
        seen++;
        frame = frame_map_record(&frames->map, frame)->link;
    }
    return frame == 0 && seen == bucket->count;
}

bool frames_are_valid(const struct frames *frames)
{
    if (!frame_map_is_valid(&frames->map))
        return false;
    for (uint64_t frame = 0; frame < FRAME_FIRST && frame < frames->map.count; frame++)
        if (frame_map_is_free(&frames->map, frame))
            return false;
    for (unsigned i = 0; i < frames->bucket_count; i++) {
        if (!bucket_is_valid(frames, &frames->buckets[i]))
            return false;
        if (i > 0 && frames->buckets[i - 1].last >= frames->buckets[i].last)
            return false;
    }
    return true;
}
