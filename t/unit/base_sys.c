/*
 * base_sys.c - the loops around raw system calls.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "core/base/sys.h"
#include "t/lib/tap.h"

static void a_small_file_is_read_whole_and_terminated(void)
{
    char text[256];

    memset(text, 'x', sizeof text);
    CHECK_EQ(sys_read_file("/proc/self/comm", text, sizeof text), 9);
    CHECK_STR(text, "base_sys\n");
}

static void of_a_file_that_does_not_fit_the_beginning_is_there_and_terminated(void)
{
    char text[9] = "xxxxxxxx";

    text[8] = 'x';
    CHECK_EQ(sys_read_file("/proc/self/comm", text, 4), -E2BIG);
    CHECK_EQ(text[3], 0);
    CHECK_EQ(text[4], 'x');
    CHECK_STR(text, "bas");
}

static void a_file_that_is_not_there_is_an_error(void)
{
    char text[8];

    CHECK_EQ(sys_read_file("/proc/self/no such file", text, sizeof text), -ENOENT);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(a_small_file_is_read_whole_and_terminated);
    RUN(of_a_file_that_does_not_fit_the_beginning_is_there_and_terminated);
    RUN(a_file_that_is_not_there_is_an_error);
    return tap_done();
}
