/*
 * base_sys.c - the loops around raw system calls; how many threads.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
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

static void there_are_no_more_threads_than_processors_and_work(void)
{
    cpu_set_t all, one;
    unsigned processors;

    CHECK_OK(sched_getaffinity(0, sizeof all, &all));
    processors = (unsigned)CPU_COUNT(&all);
    CHECK_EQ(sys_worker_count(1000000, 1, 8192), processors);
    CHECK_EQ(sys_worker_count(1000000, 1, 1), 1);
    CHECK_EQ(sys_worker_count(99, 100, 16), 1);
    CHECK_EQ(sys_worker_count(0, 100, 16), 1);
    CHECK_EQ(sys_worker_count(200, 100, 16), processors < 2 ? processors : 2);
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &all))
            CPU_SET(i, &one);
    CHECK_OK(sched_setaffinity(0, sizeof one, &one));
    CHECK_EQ(sys_worker_count(1000000, 1, 16), 1);
    CHECK_OK(sched_setaffinity(0, sizeof all, &all));
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(a_small_file_is_read_whole_and_terminated);
    RUN(of_a_file_that_does_not_fit_the_beginning_is_there_and_terminated);
    RUN(a_file_that_is_not_there_is_an_error);
    RUN(there_are_no_more_threads_than_processors_and_work);
    return tap_done();
}
