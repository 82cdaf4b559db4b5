/*
 * base_text.c - messages: format_text, statuses and problems.
 */
#include <errno.h>
#include <stdint.h>

#include "core/base/format_text.h"
#include "core/base/status.h"
#include "t/lib/tap.h"

static void formats_numbers_of_every_length(void)
{
    char text[128];

    format_text(text, sizeof text, "%d %u %ld %lu %zu %x", -7, 7u, -1234567890123l,
                18446744073709551615ul, (size_t)42, 0xbeefu);
    CHECK_STR(text, "-7 7 -1234567890123 18446744073709551615 42 beef");
    format_text(text, sizeof text, "%016lx|%5d|%05d", 0x2000abcul, -42, -42);
    CHECK_STR(text, "0000000002000abc|  -42|-0042");
    format_text(text, sizeof text, "%ld", INT64_MIN);
    CHECK_STR(text, "-9223372036854775808");
}

static void formats_strings_pointers_and_percent(void)
{
    char text[128];

    format_text(text, sizeof text, "%s %.*s %c %p %%", "pool", 3, "abcdef", 'x', (void *)0x1000);
    CHECK_STR(text, "pool abc x 0x1000 %");
}

static void cuts_off_what_does_not_fit(void)
{
    char text[5] = "zzzz";

    CHECK_EQ(format_text(text, sizeof text, "%s", "abcdefgh"), 4);
    CHECK_STR(text, "abcd");
    CHECK_EQ(format_text(text, 1, "%d", 123), 0);
    CHECK_STR(text, "");
}

static void a_problem_keeps_status_and_text(void)
{
    struct problem why;

    CHECK_EQ(problem_set(&why, STATUS_IN_USE, "%s: in use by pid %d", "p", 5), STATUS_IN_USE);
    CHECK_EQ(why.status, STATUS_IN_USE);
    CHECK_STR(why.text, "p: in use by pid 5");
    CHECK_EQ(problem_set(0, -ENOENT, "nobody reads this"), -ENOENT);
}

static void every_status_has_a_text_and_an_exit_status(void)
{
    for (int status = STATUS_NOT_A_POOL; status >= STATUS_ENDED; status--) {
        CHECK(status_text(status) != status_text(-9999));
        CHECK(status_exit(status) != EXIT_FINE);
    }
    CHECK_EQ(status_exit(STATUS_DAMAGED), EXIT_DAMAGED);
    CHECK_EQ(status_exit(-ENOSPC), EXIT_SYSTEM);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(formats_numbers_of_every_length);
    RUN(formats_strings_pointers_and_percent);
    RUN(cuts_off_what_does_not_fit);
    RUN(a_problem_keeps_status_and_text);
    RUN(every_status_has_a_text_and_an_exit_status);
    return tap_done();
}
