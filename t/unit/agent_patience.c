/*
 * agent_patience.c - when rounds of the pre-copy end, and what a program costs that writes faster
 * than its pages are copied.
 */
#include "core/agent/patience.h"
#include "t/lib/tap.h"

#define MS 1000000ull

static void rounds_go_on_while_they_halve_what_is_left(void)
{
    CHECK(patience_goes_on(1, 45000, UINT64_MAX));
    CHECK(patience_goes_on(2, 22500, 45000));
    CHECK(!patience_goes_on(2, 22501, 45000));
    CHECK(!patience_goes_on(PATIENCE_ROUNDS, 22500, 45000));
}

static void rounds_end_when_the_cut_will_find_little(void)
{
    CHECK(!patience_goes_on(1, PATIENCE_ENOUGH_PAGES, UINT64_MAX));
    CHECK(patience_goes_on(1, PATIENCE_ENOUGH_PAGES + 1, UINT64_MAX));
    CHECK(patience_goes_on(2, 2 * PATIENCE_ENOUGH_PAGES + 2, 4 * PATIENCE_ENOUGH_PAGES + 4));
    CHECK(!patience_goes_on(2, 2 * PATIENCE_ENOUGH_PAGES, 4 * PATIENCE_ENOUGH_PAGES));
}

static void what_is_left_shrinks_as_the_rounds_did(void)
{
    CHECK_EQ(patience_left(100, UINT64_MAX), 100); /* one round: not more than that */
    CHECK_EQ(patience_left(10000, 40000), 2500);
    CHECK_EQ(patience_left(30000, 40000), 22500);
    CHECK_EQ(patience_left(50000, 40000), 50000);
    CHECK_EQ(patience_left(0, 0), 0);
}

static void patience_ends_after_five_intervals(void)
{
    struct patience patience = {0};

    CHECK_EQ(patience_limit(&patience, 300 * MS, 10000 * MS), PATIENCE_CUT_PAGES);
    patience_exceeded(&patience, 300 * MS, 10000 * MS, 20 * MS);
    CHECK_EQ(patience_limit(&patience, 300 * MS, 11499 * MS), PATIENCE_CUT_PAGES);
    CHECK_EQ(patience_limit(&patience, 300 * MS, 11500 * MS), 0);
    patience_exceeded(&patience, 300 * MS, 11000 * MS, 20 * MS); /* it began with the first */
    CHECK_EQ(patience_limit(&patience, 300 * MS, 11500 * MS), 0);
    patience_committed(&patience);
    CHECK_EQ(patience_limit(&patience, 300 * MS, 11500 * MS), PATIENCE_CUT_PAGES);
}

static void short_and_long_intervals_have_their_bounds(void)
{
    struct patience patience = {.large_since_ns = 1};

    CHECK_EQ(patience_limit(&patience, 10 * MS, 250 * MS), PATIENCE_CUT_PAGES);
    CHECK_EQ(patience_limit(&patience, 10 * MS, 250 * MS + 1), 0);
    CHECK_EQ(patience_limit(&patience, 0, 1000 * MS), PATIENCE_CUT_PAGES);
    CHECK_EQ(patience_limit(&patience, 0, 1000 * MS + 1), 0);
    CHECK_EQ(patience_limit(&patience, 60000 * MS, 5000 * MS), PATIENCE_CUT_PAGES);
    CHECK_EQ(patience_limit(&patience, 60000 * MS, 5000 * MS + 1), 0);
}

static void rounds_that_did_not_suffice_are_followed_by_four_times_as_long_without(void)
{
    struct patience patience = {0};

    patience_exceeded(&patience, 1000 * MS, 10000 * MS, 200 * MS);
    CHECK_EQ(patience.wait_ns, 800 * MS);
    patience_exceeded(&patience, 1000 * MS, 14500 * MS, 200 * MS);
    CHECK_EQ(patience.wait_ns, 500 * MS); /* not beyond the end of patience */
    patience_exceeded(&patience, 1000 * MS, 15001 * MS, 200 * MS);
    CHECK_EQ(patience.wait_ns, 0);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(rounds_go_on_while_they_halve_what_is_left);
    RUN(rounds_end_when_the_cut_will_find_little);
    RUN(what_is_left_shrinks_as_the_rounds_did);
    RUN(patience_ends_after_five_intervals);
    RUN(short_and_long_intervals_have_their_bounds);
    RUN(rounds_that_did_not_suffice_are_followed_by_four_times_as_long_without);
    return tap_done();
}
