/*
 * base_options.c - durations, numbers, and the PHEAP_ variables: taken whole or not at all.
 */
#include <stdlib.h>
#include <string.h>

#include "core/base/options.h"
#include "t/lib/tap.h"

static uint64_t duration(const char *text)
{
    uint64_t ns = 12345;

    return options_duration(text, 1, &ns) == 0 ? ns : UINT64_MAX;
}

static void durations_have_units(void)
{
    CHECK_EQ(duration("250ms"), 250000000);
    CHECK_EQ(duration("1s"), 1000000000);
    CHECK_EQ(duration("1.5s"), 1500000000);
    CHECK_EQ(duration("0.25ms"), 250000);
    CHECK_EQ(duration("2m"), 120000000000);
    CHECK_EQ(duration("1.5h"), 5400000000000);
    CHECK_EQ(duration("800us"), 800000);
    CHECK_EQ(duration("5000ns"), 5000);
    CHECK_EQ(duration("7"), 7);
    CHECK_EQ(duration("0"), 0);
}

static void a_bare_number_has_the_unit_of_the_place(void)
{
    uint64_t ns = 0;

    CHECK_EQ(options_duration("2", 1000000000, &ns), 0);
    CHECK_EQ(ns, 2000000000);
}

static void what_is_no_duration_is_refused(void)
{
    static const char *const wrong[] = {"",
                                        "s",
                                        "-1s",
                                        "1 s",
                                        "1x",
                                        "1.s",
                                        ".5s",
                                        "1e3",
                                        "1mss",
                                        "1ms ",
                                        "99999999999999999999s",
                                        "999999999999h"};

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        tap_check(duration(wrong[i]) == UINT64_MAX, __FILE__, __LINE__, "\"%s\"", wrong[i]);
}

static void sizes_are_in_powers_of_1024(void)
{
    static const char *const wrong[] = {"", "M", "1.5M", "1MB", "-1", "64m", "17179869184G"};
    uint64_t bytes = 0;

    CHECK_EQ(options_size("64M", &bytes), 0);
    CHECK_EQ(bytes, 64u << 20);
    CHECK_EQ(options_size("4096", &bytes), 0);
    CHECK_EQ(bytes, 4096);
    CHECK_EQ(options_size("2T", &bytes), 0);
    CHECK_EQ(bytes, 2ull << 40);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        tap_check(options_size(wrong[i], &bytes) == STATUS_USAGE, __FILE__, __LINE__, "\"%s\"",
                  wrong[i]);
    CHECK_EQ(options_dirty("0", &bytes), 0);
    CHECK_EQ(options_dirty("1M", &bytes), 0);
    CHECK_EQ(options_dirty("1023K", &bytes), STATUS_USAGE);
}

static void a_profile_has_a_distance_or_the_usual_one(void)
{
    uint64_t bytes = 0;

    CHECK_EQ(options_profile("64K", &bytes), 0);
    CHECK_EQ(bytes, 64 << 10);
    CHECK_EQ(options_profile("1", &bytes), 0);
    CHECK_EQ(bytes, 512 << 10);
    CHECK_EQ(options_profile("0", &bytes), 0);
    CHECK_EQ(bytes, 0);
    CHECK_EQ(options_profile("2T", &bytes), STATUS_USAGE);
    CHECK_EQ(options_profile("often", &bytes), STATUS_USAGE);
}

static void numbers_stay_within_their_limit(void)
{
    uint64_t value = 99;

    CHECK_EQ(options_number("16", 16, &value), 0);
    CHECK_EQ(value, 16);
    CHECK_EQ(options_number("17", 16, &value), STATUS_USAGE);
    CHECK_EQ(options_number("", 16, &value), STATUS_USAGE);
    CHECK_EQ(options_number("1a", 16, &value), STATUS_USAGE);
    CHECK_EQ(options_number("18446744073709551616", UINT64_MAX, &value), STATUS_USAGE);
    CHECK_EQ(value, 16);
}

static void an_owner_is_a_pid_a_start_time_and_a_number_of_filters(void)
{
    static const char *const wrong[] = {"123",    "123:",    ":5:0",   "99999999999:5:0",
                                        "1:5x:0", "123:456", "123:4:", "1:5:0x"};
    struct options_owner owner = {0};

    CHECK_EQ(options_owner("123:456:2", &owner), 0);
    CHECK_EQ(owner.pid, 123);
    CHECK_EQ(owner.start_time, 456);
    CHECK_EQ(owner.filters, 2);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK_EQ(options_owner(wrong[i], &owner), STATUS_USAGE);
}

static void the_environment_is_read_by_name(void)
{
    char *environment[] = {"PHEAP_POOLS=no",       "PHEAP_POOL=/p",
                           "PHEAP_INTERVAL=100ms", "PHEAP_KEEP=5",
                           "PHEAP_TRACK=checksum", "PHEAP_AT_EXIT=1",
                           "PHEAP_FRESH=0",        "PHEAP_OWNER=1:2",
                           "PHEAP_HARDEN=1",       "PHEAP_STATS=",
                           "PHEAP_CHECK=cut",      "PHEAP_CRASH=0",
                           "PHEAP_DIRTY=16M",      NULL};
    struct environment_options options;
    struct problem why;

    CHECK_EQ(options_from_environment(&options, environment, &why), 0);
    CHECK_STR(options.pool, "/p");
    CHECK_STR(options.owner, "1:2");
    CHECK_EQ(options.interval_ns, 100000000);
    CHECK_EQ(options.keep, 5);
    CHECK_EQ(options.track, TRACKING_CHECKSUM);
    CHECK(options.checks_cuts);
    CHECK(options.omits_crash);
    CHECK_EQ(options.dirty_bytes, 16u << 20);
    CHECK(options.at_exit);
    CHECK(!options.fresh);
    CHECK(options.harden);
    CHECK(!options.stats);
}

static void the_ways_to_find_written_pages_have_names(void)
{
    char *soft_dirty[] = {"PHEAP_TRACK=soft-dirty", NULL}, *unknown[] = {"PHEAP_TRACK=magic", NULL};
    struct environment_options options;
    struct problem why;

    CHECK_EQ(options_from_environment(&options, soft_dirty, &why), 0);
    CHECK_EQ(options.track, TRACKING_SOFT_DIRTY);
    CHECK_EQ(options_from_environment(&options, unknown, &why), STATUS_USAGE);
    CHECK_EQ(options.track, TRACKING_BEST);
    CHECK(strstr(why.text, "soft-dirty") != NULL);
}

static void threads_are_stopped_by_a_signal_if_that_is_asked_for(void)
{
    char *asked[] = {"PHEAP_FREEZE=signal", NULL}, *unknown[] = {"PHEAP_FREEZE=ice", NULL};
    struct environment_options options;
    struct problem why;

    CHECK_EQ(options_from_environment(&options, asked, &why), 0);
    CHECK(options.by_signal);
    CHECK_EQ(options_from_environment(&options, unknown, &why), STATUS_USAGE);
    CHECK(!options.by_signal);
}

static void what_leaves_out_crash_images_is_not_guessed(void)
{
    char *unknown[] = {"PHEAP_CRASH=no", NULL};
    struct environment_options options;
    struct problem why;

    CHECK_EQ(options_from_environment(&options, unknown, &why), STATUS_USAGE);
    CHECK(!options.omits_crash);
    CHECK(strstr(why.text, "PHEAP_CRASH=no is not understood; it can be 0 or unset") != NULL);
}

static void an_empty_environment_has_the_defaults(void)
{
    char *environment[] = {"PHEAP_POOL=", NULL};
    struct environment_options options;
    struct problem why;

    CHECK_EQ(options_from_environment(&options, environment, &why), 0);
    CHECK(options.pool == NULL);
    CHECK_EQ(options.interval_ns, OPTIONS_INTERVAL_DEFAULT_NS);
    CHECK_EQ(options.keep, 0);
    CHECK_EQ(options.track, TRACKING_BEST);
    CHECK(!options.checks_cuts);
}

static void a_wrong_value_is_named_and_has_its_default(void)
{
    char *environment[] = {"PHEAP_POOL=/p", "PHEAP_INTERVAL=soon", NULL};
    struct environment_options options;
    struct problem why = {0, ""};

    CHECK_EQ(options_from_environment(&options, environment, &why), STATUS_USAGE);
    CHECK(strstr(why.text, "PHEAP_INTERVAL=soon") != NULL);
    CHECK_EQ(options.interval_ns, OPTIONS_INTERVAL_DEFAULT_NS);
    CHECK_STR(options.pool, "/p");
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(durations_have_units);
    RUN(a_bare_number_has_the_unit_of_the_place);
    RUN(what_is_no_duration_is_refused);
    RUN(sizes_are_in_powers_of_1024);
    RUN(a_profile_has_a_distance_or_the_usual_one);
    RUN(numbers_stay_within_their_limit);
    RUN(an_owner_is_a_pid_a_start_time_and_a_number_of_filters);
    RUN(the_environment_is_read_by_name);
    RUN(the_ways_to_find_written_pages_have_names);
    RUN(threads_are_stopped_by_a_signal_if_that_is_asked_for);
    RUN(what_leaves_out_crash_images_is_not_guessed);
    RUN(an_empty_environment_has_the_defaults);
    RUN(a_wrong_value_is_named_and_has_its_default);
    return tap_done();
}
