/*
 * wait.c - stays as the restored program's parent: passes signals on, stops when it stops, waits
 * for its end.
 *
 * The program is in our process group, so what a terminal sends (Ctrl-C, Ctrl-Z) reaches it
 * by itself: signals that the kernel made are not passed on, those that somebody sent us are.
 *
 * Always true: forwarded signals are blocked from before the program can run, and read from a
 * signalfd, so none is lost, nor ends us and leaves the program behind; the program's pid is not
 * reused while we hold its pidfd.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include "core/base/format_text.h"
#include "core/base/sys.h"
#include "recovery/restore/job.h"
#include "recovery/restore/namespace.h"
#include "recovery/restore/restore.h"

#define SIGSET_BYTES 8
#define RETRY_NS     100000000
#define EVENT_TRIES  50
#define LINGER_STEPS 500 /* ms that what the program leaves (its agent) is waited for */

static const int forwarded[] = {SIGINT,  SIGTERM, SIGHUP,   SIGQUIT, SIGUSR1,
                                SIGUSR2, SIGCONT, SIGWINCH, SIGTSTP, SIGTTIN,
                                SIGTTOU, SIGALRM, SIGURG,   SIGIO,   SIGPWR};

struct waiting {
    const struct restored *restored;
    int pidfd; /* of the program */
    int signal_fd;
    int status_fd; /* of a namespace's init process, until that has died; else -1 */
    struct namespace_event event;
    size_t event_bytes; /* of it that were read */
    bool ended;
    int wait_status;
};

static uint64_t forwarded_mask(void)
{
    uint64_t mask = 0;

    for (size_t i = 0; i < sizeof forwarded / sizeof *forwarded; i++)
        mask |= 1ull << (forwarded[i] - 1);
    return mask;
}

uint64_t restore_hold_signals(void)
{
    uint64_t mask = forwarded_mask(), before = 0;

    (void)sys_call(SYS_rt_sigprocmask, SIG_BLOCK, &mask, &before, SIGSET_BYTES);
    return before;
}

void restore_release_signals(uint64_t before)
{
    (void)sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &before, 0, SIGSET_BYTES);
}

static int open_signals(void)
{
    uint64_t mask = forwarded_mask() | 1ull << (SIGCHLD - 1);

    (void)sys_call(SYS_rt_sigprocmask, SIG_BLOCK, &mask, 0, SIGSET_BYTES);
    return (int)sys_call(SYS_signalfd4, -1, &mask, SIGSET_BYTES, SFD_CLOEXEC | SFD_NONBLOCK);
}

static bool is_stopped(int pid)
{
    char path[64], text[512];
    const char *state;

    format_text(path, sizeof path, "/proc/%d/stat", pid);
    if (sys_read_file(path, text, sizeof text) <= 0)
        return false;
    state = strrchr(text, ')');
    return state != NULL && state[1] == ' ' && state[2] == 'T';
}

/* The shell is to see that we stop when the program does; whoever continues us continues it. News
 * of a stop may be old: what stops the program may have stopped us too. */
static void stop_too(const struct waiting *waiting)
{
    if (!is_stopped(waiting->restored->outer_pid))
        return;
    (void)sys_call(SYS_kill, sys_getpid(), SIGSTOP);
    (void)sys_call(SYS_pidfd_send_signal, waiting->pidfd, SIGCONT, 0, 0);
}

/* The next of init's events, or a part of it. */
static void take_event(struct waiting *waiting)
{
    const struct namespace_event *event = &waiting->event;
    ssize_t got = sys_read(waiting->status_fd, (char *)&waiting->event + waiting->event_bytes,
                           sizeof *event - waiting->event_bytes);

    if (got == 0)
        waiting->status_fd = -1; /* init has died; its wait status comes with SIGCHLD */
    if (got <= 0)
        return; /* else: it is there still */
    waiting->event_bytes += (size_t)got;
    if (waiting->event_bytes < sizeof *event)
        return;
    waiting->event_bytes = 0;
    if (event->kind == NAMESPACE_STOPPED) {
        stop_too(waiting);
    } else if (event->kind == NAMESPACE_ENDED) {
        waiting->ended = true;
        waiting->wait_status = event->value;
    }
}

/* What a namespace's init process said before it died comes first: it cannot die as the program
 * did. */
static void child_has_died(struct waiting *waiting, int status)
{
    for (int i = 0; i < EVENT_TRIES && waiting->status_fd >= 0 && !waiting->ended; i++)
        take_event(waiting);
    if (!waiting->ended) {
        waiting->ended = true;
        waiting->wait_status = status;
    }
}

static void reap(struct waiting *waiting)
{
    int direct =
        waiting->restored->init_pid == 0 ? waiting->restored->pid : waiting->restored->init_pid;
    int status;
    long pid;

    while ((pid = sys_call(SYS_wait4, -1, &status, WNOHANG | WUNTRACED, 0)) > 0) {
        if (pid != direct)
            continue;
        if (WIFSTOPPED(status)) {
            if (waiting->restored->init_pid == 0)
                stop_too(waiting);
        } else if (!waiting->ended) {
            child_has_died(waiting, status);
        }
    }
}

static void take_signals(struct waiting *waiting)
{
    struct signalfd_siginfo info;

    while (sys_read(waiting->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGCHLD)
            reap(waiting);
        else if (info.ssi_code <= 0) /* sent by a process, not made by the kernel */
            (void)sys_call(SYS_pidfd_send_signal, waiting->pidfd, info.ssi_signo, 0, 0);
    }
}

/* The agent writes the end mark when the program has ended: who types the next command is to find
 * it. */
static void linger(void)
{
    struct timespec step = {0, 1000000};
    int status;

    for (int i = 0; i < LINGER_STEPS; i++) {
        long pid = sys_call(SYS_wait4, -1, &status, WNOHANG, 0);

        if (pid == -ECHILD)
            return;
        if (pid == 0)
            (void)sys_call(SYS_nanosleep, &step, 0);
    }
}

/* What we wait by. The program runs: what cannot be had now (no descriptor is free, no memory) is
 * tried again, and meanwhile we look ourselves whether it has ended. */
static bool have_sources(struct waiting *waiting)
{
    if (waiting->pidfd < 0)
        waiting->pidfd = (int)sys_call(SYS_pidfd_open, waiting->restored->outer_pid, 0);
    if (waiting->signal_fd < 0)
        waiting->signal_fd = open_signals();
    reap(waiting); /* what happened before the signals were ours */
    return waiting->pidfd >= 0 && waiting->signal_fd >= 0;
}

/* False: nothing is told of the sources. Where the kernel refuses to wait for descriptors, as when
 * somebody has lowered our limit, signals alone are looked at: a dead child is among them. */
static bool wait_once(struct waiting *waiting, struct pollfd sources[2],
                      const struct timespec *timeout)
{
    const struct timespec soon = {0, RETRY_NS};
    long got = sys_call(SYS_ppoll, sources, 2, timeout, 0, 0);

    if (got < 0 && got != -EINTR) {
        (void)sys_call(SYS_nanosleep, &soon, 0);
        take_signals(waiting);
    }
    return got >= 0;
}

int restore_wait(const struct restored *restored)
{
    const struct timespec soon = {0, RETRY_NS};
    struct waiting waiting = {
        .restored = restored, .pidfd = -1, .signal_fd = -1, .status_fd = restored->status_fd};
    struct pollfd sources[2] = {{-1, POLLIN, 0}, {-1, POLLIN, 0}};
    bool complete = false;

    while (!waiting.ended) {
        if (!complete) {
            complete = have_sources(&waiting);
            sources[0].fd = waiting.signal_fd;
        }
        sources[1].fd = waiting.status_fd;
        if (waiting.ended || !wait_once(&waiting, sources, complete ? NULL : &soon))
            continue;
        if (sources[1].revents != 0)
            take_event(&waiting);
        if (!waiting.ended && sources[0].revents != 0)
            take_signals(&waiting);
    }
    linger();
    if (restored->status_fd >= 0)
        (void)sys_close(restored->status_fd);
    if (waiting.pidfd >= 0)
        (void)sys_close(waiting.pidfd);
    if (waiting.signal_fd >= 0)
        (void)sys_close(waiting.signal_fd);
    return waiting.wait_status;
}
