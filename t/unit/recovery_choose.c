/*
 * recovery_choose.c - which generation a restore takes, and when it gives up.
 */
#include <string.h>
#include "recovery/restore/job.h"
#include "t/lib/tap.h"

static struct superblock super;

static void list(uint32_t count, const uint64_t *numbers, uint32_t kind)
{
    memset(&super, 0, sizeof super);
    super.run_state = RUN_STARTED;
    super.run_first_generation = 1;
    super.generation_count = count;
    for (uint32_t i = 0; i < count; i++)
        super.generations[i] = (struct generation_entry){.number = numbers[i], .kind = kind};
}

/* The chosen number, or the status. */
static int64_t chosen(uint64_t wanted)
{
    struct generation_entry entry = {0};
    struct problem why = {0};
    int status = resume_choose(&super, wanted, &entry, &why);

    CHECK(status == 0 || (why.status == status && why.text[0] != 0));
    return status == 0 ? (int64_t)entry.number : status;
}

static int64_t resume(void)
{
    int64_t number = chosen(0);

    if (number > 0)
        resume_count(&super, (uint64_t)number);
    return number;
}

static void the_newest_is_tried_three_times_then_the_one_before_then_none(void)
{
    list(3, (const uint64_t[]){4, 5, 6}, GENERATION_PROCESS);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(resume(), 6);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(resume(), 5);
    CHECK_EQ(resume(), STATUS_REFUSED);
    CHECK_EQ(chosen(6), 6); /* a person may insist */
}

static void a_newer_generation_begins_the_count_again(void)
{
    list(3, (const uint64_t[]){4, 5, 6}, GENERATION_PROCESS);
    for (int i = 0; i < 5; i++)
        (void)resume();
    CHECK_EQ(super.resumed_generation, 5);
    super.generations[super.generation_count++] =
        (struct generation_entry){.number = 7, .kind = GENERATION_PROCESS};
    for (int i = 0; i < 3; i++)
        CHECK_EQ(resume(), 7);
    CHECK_EQ(resume(), 6);
}

static void a_single_generation_is_tried_three_times(void)
{
    list(1, (const uint64_t[]){9}, GENERATION_PROCESS);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(resume(), 9);
    CHECK_EQ(resume(), STATUS_REFUSED);
}

static void earlier_runs_and_other_kinds_are_passed_over(void)
{
    list(3, (const uint64_t[]){4, 5, 6}, GENERATION_PROCESS);
    super.generations[2].kind = GENERATION_CRASH;
    CHECK_EQ(chosen(0), 5);
    super.run_first_generation = 6;
    CHECK_EQ(chosen(0), STATUS_NO_GENERATION);
    CHECK_EQ(chosen(6), STATUS_NO_GENERATION);
    CHECK_EQ(chosen(4), 4);
    CHECK_EQ(chosen(17), STATUS_NO_GENERATION);
}

static void a_run_that_ended_is_not_resumed(void)
{
    list(1, (const uint64_t[]){4}, GENERATION_PROCESS);
    super.run_state = RUN_ENDED;
    CHECK_EQ(chosen(0), STATUS_ENDED);
    CHECK_EQ(chosen(4), 4);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(the_newest_is_tried_three_times_then_the_one_before_then_none);
    RUN(a_newer_generation_begins_the_count_again);
    RUN(a_single_generation_is_tried_three_times);
    RUN(earlier_runs_and_other_kinds_are_passed_over);
    RUN(a_run_that_ended_is_not_resumed);
    return tap_done();
}
