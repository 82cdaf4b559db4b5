/*
 * unfinished.c - see unfinished.h. Always true: while a handler is in place `unfinished` is the
 * whole path. A file that was renamed meanwhile is not found by it and stays.
 */
#include "recovery/copy/unfinished.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>
#include "core/base/sys.h"

static const int ends[] = {SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTERM, SIGXFSZ};
#define END_COUNT (sizeof ends / sizeof ends[0])

static char unfinished[4096 + 32];
static bool is_caught[END_COUNT];

/* SA_RESETHAND: raised again it ends the process, as it would have without us. */
static void remove_and_end(int number)
{
    unlink(unfinished);
    raise(number);
}

void unfinished_begin(const char *path)
{
    struct sigaction before,
        ending = {.sa_handler = remove_and_end, .sa_flags = SA_RESETHAND | SA_NODEFER};

    if ((size_t)snprintf(unfinished, sizeof unfinished, "%s", path) >= sizeof unfinished)
        return;
    for (unsigned i = 0; i < END_COUNT; i++) {
        is_caught[i] = sigaction(ends[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL;
        if (is_caught[i])
            sigaction(ends[i], &ending, NULL);
    }
}

int unfinished_create(const char *path)
{
    const uint64_t all = UINT64_MAX;
    uint64_t before = 0;
    int fd;

    (void)sys_call(SYS_rt_sigprocmask, SIG_BLOCK, &all, &before, sizeof all);
    fd = sys_open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0)
        unfinished_begin(path);
    (void)sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before);
    return fd;
}

void unfinished_end(void)
{
    for (unsigned i = 0; i < END_COUNT; i++) {
        if (is_caught[i])
            signal(ends[i], SIG_DFL);
        is_caught[i] = false;
    }
}
