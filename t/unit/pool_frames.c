/*
 * pool_frames.c - frames: states, growth, runs, speed. The file behind them is pretended: growing
 * it changes a number, and a limit makes it full.
 */
#include "core/pool/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/sys.h"
#include "core/pool/format.h"
#include "t/lib/tap.h"

static struct arena arena;
static uint64_t disk_frames; /* the pretended file grows up to here */

static int pretend_grow(struct persist *persist, uint64_t file_bytes)
{
    (void)persist;
    return file_bytes >> FRAME_SHIFT > disk_frames ? -ENOSPC : 0;
}

static int pretend_reserve(struct persist *persist, uint64_t offset, uint64_t bytes)
{
    (void)persist, (void)offset, (void)bytes;
    return 0;
}

static const struct persist_ops pretended = {.grow = pretend_grow, .reserve = pretend_reserve};
static struct persist persist;

static struct frames *fresh(uint64_t file_frames, uint64_t limit)
{
    struct frames *frames = NULL;

    persist = (struct persist){.ops = &pretended, .file_bytes = file_frames << FRAME_SHIFT};
    disk_frames = limit;
    CHECK_OK(frames_create(&frames, &arena, &persist, 0));
    return frames;
}

static uint64_t take_one(struct frames *frames)
{
    uint64_t first = 0, got = 0;

    CHECK_OK(frames_take(frames, 1, false, &first, &got));
    CHECK_EQ(got, 1);
    return first;
}

static void keep(struct frames *frames, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t numbers[] = {a, b, c};

    frames_keep(frames, numbers, 3);
    CHECK(frames_are_valid(frames));
}

static void the_superblocks_frames_are_never_free(void)
{
    struct frames *frames = fresh(16, 16);
    uint64_t first, got;

    CHECK_EQ(frames_free_count(frames), 14);
    CHECK_OK(frames_take(frames, 100, false, &first, &got));
    CHECK_EQ(first, FRAME_FIRST);
    CHECK_EQ(got, 14);
    CHECK_EQ(frames_release(frames, 0), STATUS_DAMAGED);
    CHECK_EQ(frames_release(frames, 1), STATUS_DAMAGED);
}

static void a_building_frame_that_is_released_is_free_at_once(void)
{
    struct frames *frames = fresh(16, 16);
    uint64_t frame = take_one(frames);

    CHECK_EQ(frames_free_count(frames), 13);
    CHECK_OK(frames_release(frames, frame));
    CHECK_EQ(frames_free_count(frames), 14);
    CHECK_EQ(frames_release(frames, frame), STATUS_DAMAGED);
    CHECK(frames_are_valid(frames));
}

static void a_live_frame_that_is_released_is_free_when_its_last_generation_is_dropped(void)
{
    struct frames *frames = fresh(16, 16);
    uint64_t frame = take_one(frames);

    frames_committed(frames, 1);
    CHECK_OK(frames_release(frames, frame)); /* while 2 is built: dead(1) */
    CHECK_EQ(frames_release(frames, frame), STATUS_DAMAGED);
    CHECK_EQ(frames_free_count(frames), 13);
    frames_committed(frames, 2);
    keep(frames, 1, 2, 2);
    CHECK_EQ(frames_free_count(frames), 13);
    keep(frames, 2, 2, 2);
    CHECK_EQ(frames_free_count(frames), 14);
}

/* The example in frame.h. */
static void a_pinned_generation_holds_its_own_frames_and_no_others(void)
{
    struct frames *frames = fresh(16, 16);
    uint64_t of_one = take_one(frames), of_two;

    frames_committed(frames, 1);
    of_two = take_one(frames);
    frames_committed(frames, 2);
    frames_committed(frames, 3);
    CHECK_OK(frames_release(frames, of_two)); /* while 4 is built */
    CHECK_OK(frames_release(frames, of_one));
    frames_committed(frames, 4);
    keep(frames, 1, 3, 4);
    CHECK_EQ(frames_free_count(frames), 12);
    frames_committed(frames, 5);
    keep(frames, 1, 4, 5);
    CHECK_EQ(frames_free_count(frames), 13); /* of_two is free, of_one is not */
    CHECK_EQ(take_one(frames), of_two);
    keep(frames, 4, 5, 5);
    CHECK_EQ(take_one(frames), of_one);
}

static void a_run_is_contiguous_and_the_longest_when_none_is_long_enough(void)
{
    struct frames *frames = fresh(64, 64);
    uint64_t first, got;

    CHECK_OK(frames_take(frames, 62, true, &first, &got));
    for (uint64_t frame = 10; frame < 13; frame++)
        CHECK_OK(frames_release(frames, frame));
    for (uint64_t frame = 30; frame < 37; frame++)
        CHECK_OK(frames_release(frames, frame));
    for (uint64_t frame = 40; frame < 42; frame++)
        CHECK_OK(frames_release(frames, frame));
    CHECK_OK(frames_take(frames, 5, false, &first, &got));
    CHECK_EQ(first, 30);
    CHECK_EQ(got, 5);
    CHECK_OK(frames_take(frames, 5, false, &first, &got));
    CHECK_EQ(first, 10);
    CHECK_EQ(got, 3);
    CHECK_EQ(frames_take(frames, 5, true, &first, &got), -ENOSPC);
    CHECK_OK(frames_take(frames, 5, false, &first, &got));
    CHECK_EQ(got, 2);
    CHECK_OK(frames_take(frames, 5, false, &first, &got));
    CHECK_EQ(got, 2);
    CHECK_EQ(frames_take(frames, 1, false, &first, &got), -ENOSPC);
    CHECK(frames_are_valid(frames));
}

static void the_file_grows_in_steps_and_by_little_when_space_is_short(void)
{
    struct frames *frames = fresh(16, 4096 * 3);
    uint64_t first, got;

    CHECK_OK(frames_take(frames, 14, true, &first, &got));
    CHECK_OK(frames_take(frames, 100, true, &first, &got));
    CHECK_EQ(first, 16);
    CHECK_EQ(frames_count(frames), 16 + 4096); /* 16 MiB */
    CHECK_EQ(persist.file_bytes, (16ull + 4096) << FRAME_SHIFT);
    disk_frames = 16 + 4096 + 10;
    CHECK_OK(frames_take(frames, 4096 - 100, true, &first, &got));
    CHECK_OK(frames_take(frames, 7, true, &first, &got));
    CHECK_EQ(got, 7);
    CHECK(frames_count(frames) <= disk_frames);
    CHECK_EQ(frames_take(frames, 7, true, &first, &got), -ENOSPC);
    CHECK(frames_are_valid(frames));
}

/* An exact run may begin in what the file ends with. */
static void growth_for_an_exact_run_uses_the_free_end_of_the_file(void)
{
    struct frames *frames = fresh(16, 20);
    uint64_t first, got;

    CHECK_OK(frames_take(frames, 10, true, &first, &got));
    CHECK_OK(frames_take(frames, 8, true, &first, &got));
    CHECK_EQ(first, 12);
    CHECK_EQ(frames_count(frames), 20);
}

#define SCATTERED 20000
#define RECORD    25

static uint64_t durable; /* newest durable generation */

/* It belongs to the generation that becomes durable here, and to no later one. */
static bool release_record(struct frames *frames, uint64_t record)
{
    int status = 0;

    frames_committed(frames, ++durable);
    for (uint64_t i = 0; status == 0 && i < RECORD; i++)
        status = frames_release(frames, record + i);
    return status == 0;
}

/* One generation: a record in one piece (whose place is put aside early, as pool_record.h says) and
 * `want` pages written anew. False when a step failed. */
static bool scattered_generation(struct frames *frames, uint64_t *pages, uint64_t want, bool all)
{
    uint64_t first, got, record = 0;
    int status = frames_take(frames, RECORD, true, &record, &got);

    for (uint64_t done = 0; status == 0 && done < want; done += got) {
        status = frames_take_scattered(frames, want - done, &first, &got);
        for (uint64_t i = 0; status == 0 && i < got; i++) {
            uint64_t *page = &pages[all ? done + i : (uint64_t)rand() % SCATTERED];

            if (*page != 0)
                status = frames_release(frames, *page);
            *page = first + i;
        }
    }
    return status == 0 && release_record(frames, record);
}

/* Frames of the file after 200 generations, of which two are kept; a twentieth of the pages is
 * replaced in each, and nothing brings them back together. 0: a step failed. */
static uint64_t grow_scattered(uint64_t limit)
{
    static uint64_t pages[SCATTERED];
    struct frames *frames = fresh(16, limit);
    uint64_t at_half = 0;

    memset(pages, 0, sizeof pages);
    durable = 0;
    for (uint64_t number = 1; number <= 200; number++) {
        uint64_t kept[2] = {number - 1, number};

        if (!scattered_generation(frames, pages, number == 1 ? SCATTERED : 1000, number == 1))
            return 0;
        frames_keep(frames, number > 1 ? kept : kept + 1, number > 1 ? 2 : 1);
        if (number == 100)
            at_half = frames_count(frames);
    }
    CHECK(frames_are_valid(frames));
    CHECK_EQ(frames_count(frames), at_half);
    return frames_count(frames);
}

static void scattered_pages_do_not_make_the_file_grow_for_ever(void)
{
    uint64_t roomy = grow_scattered(1000000), tight = grow_scattered(25000);

    CHECK(roomy > 0 && roomy < SCATTERED * 2);
    CHECK(tight > 0 && tight <= 25000); /* on a full disk records still find a run */
    tap_note("%u pages and their changes in %lu frames, or in %lu", SCATTERED, roomy, tight);
}

static void a_frame_can_be_taken_by_number_if_it_is_free(void)
{
    struct frames *frames = fresh(16, 16);
    uint64_t first, got;

    CHECK_OK(frames_take_at(frames, 9));
    CHECK_EQ(frames_take_at(frames, 9), -EBUSY);
    CHECK_EQ(frames_take_at(frames, 1), -EINVAL);
    CHECK_EQ(frames_take_at(frames, 16), -EINVAL);
    CHECK_OK(frames_take(frames, 20, false, &first, &got));
    CHECK_EQ(first, 2);
    CHECK_EQ(got, 7);
    CHECK_OK(frames_release(frames, 9));
    CHECK(frames_are_valid(frames));
}

static void loading_tells_birth_and_last_use(void)
{
    struct frames *frames = fresh(16, 16);

    /* Generations 3, 5, 6; 5 is the base. Frame 4: in 3 and 5; 5: in 3; 6: in 5; 7: in 6; 8: all */
    CHECK_EQ(frames_note_first(frames, 4, 3), 0);
    CHECK_EQ(frames_note_first(frames, 5, 3), 0);
    CHECK_EQ(frames_note_first(frames, 8, 3), 0);
    CHECK_EQ(frames_note_first(frames, 4, 5), 1);
    CHECK_EQ(frames_note_first(frames, 6, 5), 0);
    CHECK_EQ(frames_note_first(frames, 7, 6), 0);
    CHECK_EQ(frames_note_first(frames, 16, 6), STATUS_DAMAGED);
    CHECK_EQ(frames_note_first(frames, 1, 6), STATUS_DAMAGED);
    CHECK_EQ(frames_note_last(frames, 4, 0), 0);
    CHECK_EQ(frames_note_last(frames, 6, 0), 0);
    CHECK_EQ(frames_note_last(frames, 8, 0), 0);
    CHECK_EQ(frames_note_last(frames, 7, 6), 0);
    CHECK_EQ(frames_note_last(frames, 8, 6), 1);
    CHECK_EQ(frames_note_last(frames, 5, 3), 0);
    frames_loaded(frames, 6);
    CHECK_EQ(frames_free_count(frames), 9);
    CHECK(frames_are_valid(frames));
    keep(frames, 5, 6, 6);
    CHECK_EQ(frames_free_count(frames), 10); /* frame 5 */
    keep(frames, 5, 5, 5);
    CHECK_EQ(frames_free_count(frames), 11); /* frame 7, younger than 5 */
}

static void a_damaged_generation_is_forgotten(void)
{
    struct frames *frames = fresh(16, 16);

    CHECK_EQ(frames_note_first(frames, 4, 3), 0);
    CHECK_EQ(frames_note_first(frames, 5, 4), 0);
    frames_forget(frames, 3);
    CHECK_EQ(frames_free_count(frames), 13);
    CHECK_EQ(frames_note_first(frames, 4, 4), 0); /* its real birth is 3, which is gone */
    CHECK(frames_are_valid(frames));
}

/* --- a model: the set of generations that refer to each frame, kept in full --- */

#define MODEL_FRAMES 300

struct model {
    uint64_t refers[MODEL_FRAMES]; /* bit g % 64: generation g, kept, refers to it */
    bool now[MODEL_FRAMES];        /* the generation in progress does */
};

static void model_step(struct model *model, struct frames *frames)
{
    uint64_t first, got, want = 1 + (uint64_t)rand() % 20;

    for (uint64_t frame = FRAME_FIRST; frame < MODEL_FRAMES; frame++)
        if (model->now[frame] && rand() % 4 == 0) {
            CHECK_OK(frames_release(frames, frame));
            model->now[frame] = false;
        }
    if (frames_take(frames, want, false, &first, &got) < 0)
        return;
    for (uint64_t frame = first; frame < first + got; frame++) {
        CHECK(model->refers[frame] == 0 && !model->now[frame]);
        model->now[frame] = true;
    }
}

static void model_commit(struct model *model, struct frames *frames, uint64_t number,
                         const uint64_t kept[3])
{
    uint64_t mask = 1ull << (kept[0] % 64) | 1ull << (kept[1] % 64) | 1ull << (kept[2] % 64);
    uint64_t in_use = FRAME_FIRST;

    for (uint64_t frame = FRAME_FIRST; frame < MODEL_FRAMES; frame++) {
        if (model->now[frame])
            model->refers[frame] |= 1ull << (number % 64);
        model->refers[frame] &= mask;
        in_use += model->refers[frame] != 0;
    }
    frames_committed(frames, number);
    frames_keep(frames, kept, 3);
    CHECK(frames_are_valid(frames));
    CHECK_EQ(frames_free_count(frames), MODEL_FRAMES - in_use);
}

/* Each kept set: the pinned one (a new one now and then), the one before, the new one. */
static void a_random_history_frees_exactly_what_nobody_refers_to(void)
{
    struct frames *frames = fresh(MODEL_FRAMES, MODEL_FRAMES);
    static struct model model;
    uint64_t kept[3] = {1, 1, 1};

    srand(7);
    for (uint64_t number = 1; number < 400; number++) {
        for (int i = rand() % 5; i >= 0; i--)
            model_step(&model, frames);
        if (number % 37 == 0)
            kept[0] = kept[2];
        kept[1] = kept[2];
        kept[2] = number;
        model_commit(&model, frames, number, kept);
    }
}

/* 12 GB of pool, then every frame of a scattered third released and taken again. */
static void three_million_frames_are_quick(void)
{
    uint64_t count = 3000000, first, got, begun = sys_clock_ns(CLOCK_MONOTONIC), taken, done = 0;
    uint64_t numbers[] = {2};
    struct frames *frames = fresh(count, count);

    for (; done < count - 2; done += got)
        CHECK_OK(frames_take(frames, 1024, false, &first, &got));
    frames_committed(frames, 1);
    for (uint64_t frame = FRAME_FIRST; frame < count; frame += 3)
        CHECK_OK(frames_release(frames, frame));
    frames_committed(frames, 2);
    frames_keep(frames, numbers, 1);
    CHECK_EQ(frames_free_count(frames), (count - 2 + 2) / 3);
    for (taken = 0; taken < 900000; taken += got)
        if (!CHECK_OK(frames_take(frames, 256, false, &first, &got)))
            break;
    begun = sys_clock_ns(CLOCK_MONOTONIC) - begun;
    tap_note("%lu ms for 3 M frames", begun / 1000000);
    CHECK(begun < 2000000000);
    CHECK(frames_are_valid(frames));
}

int main(int argc, char **argv)
{
    if (arena_create(&arena, 1ull << 30) < 0)
        return 1;
    tap_arguments(argc, argv);
    RUN(the_superblocks_frames_are_never_free);
    RUN(a_building_frame_that_is_released_is_free_at_once);
    RUN(a_live_frame_that_is_released_is_free_when_its_last_generation_is_dropped);
    RUN(a_pinned_generation_holds_its_own_frames_and_no_others);
    RUN(a_run_is_contiguous_and_the_longest_when_none_is_long_enough);
    RUN(the_file_grows_in_steps_and_by_little_when_space_is_short);
    RUN(growth_for_an_exact_run_uses_the_free_end_of_the_file);
    RUN(scattered_pages_do_not_make_the_file_grow_for_ever);
    RUN(a_frame_can_be_taken_by_number_if_it_is_free);
    RUN(loading_tells_birth_and_last_use);
    RUN(a_damaged_generation_is_forgotten);
    RUN(a_random_history_frees_exactly_what_nobody_refers_to);
    RUN(three_million_frames_are_quick);
    return tap_done();
}
