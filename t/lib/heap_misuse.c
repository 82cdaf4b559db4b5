/*
 * heap_misuse.c - see heap_misuse.h.
 */
#include "t/lib/heap_misuse.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "t/lib/tap.h"

static void child_output(void (*misuse)(void), char *out, size_t size, int *status)
{
    int pipe_fds[2];
    size_t length = 0;
    ssize_t count;
    pid_t child;

    if (!CHECK_EQ(pipe(pipe_fds), 0))
        return;
    fflush(stdout);
    child = fork();
    if (child == 0) {
        struct rlimit no_core = {0, 0};

        setrlimit(RLIMIT_CORE, &no_core);
        dup2(pipe_fds[1], 2);
        misuse();
        _exit(0);
    }
    close(pipe_fds[1]);
    while ((count = read(pipe_fds[0], out + length, size - 1 - length)) > 0)
        length += (size_t)count;
    out[length] = 0;
    close(pipe_fds[0]);
    waitpid(child, status, 0);
}

void heap_misuse_check(const struct heap_misuse *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char text[1024] = "";
        int status = 0;

        child_output(cases[i].misuse, text, sizeof text, &status);
        if (!CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) ||
            !CHECK(strstr(text, cases[i].expected) != NULL))
            tap_note("case %zu: status 0x%x, \"%s\", expected \"%s\"", i, status, text,
                     cases[i].expected);
    }
}
