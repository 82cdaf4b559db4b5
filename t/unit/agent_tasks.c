/*
 * agent_tasks.c - what the agent learns of the program from /proc.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/agent/tasks.h"
#include "t/lib/tap.h"

static void a_descriptor_for_direct_io_is_noticed_while_it_is_open(void)
{
    const char *tmp = getenv("TMPDIR");
    char path[300];
    int fd = -1;

    snprintf(path, sizeof path, "%s/pheap-direct-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    fd = mkstemp(path);
    if (!CHECK(fd >= 0))
        return;
    close(fd);
    CHECK(!tasks_do_direct_io(getpid()));
    fd = open(path, O_RDONLY | O_DIRECT);
    if (fd < 0)
        tap_skip("no direct I/O on the file system of %s", path);
    else
        CHECK(tasks_do_direct_io(getpid()));
    close(fd);
    CHECK(!tasks_do_direct_io(getpid()));
    unlink(path);
}

static void a_process_that_is_gone_is_treated_with_care(void)
{
    CHECK(tasks_do_direct_io(0x7fffffff));
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(a_descriptor_for_direct_io_is_noticed_while_it_is_open);
    RUN(a_process_that_is_gone_is_treated_with_care);
    return tap_done();
}
