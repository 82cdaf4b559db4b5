/*
 * syscalls_survivor.c - one thread in each system call that a stop of the process could disturb.
 *
 *     syscalls_survivor SECONDS [LATE_MS]
 *
 * Each thread makes its call again and again, checks what it returned and when, and counts, until
 * the time is over or SIGTERM comes. Prints "ready"; at the end "OK" and the counts, or the first
 * failure (exit status 1). Timeouts may come late by a tolerance, never early; no call may return
 * EINTR or a short count.
 */
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define MIB             (1u << 20)
#define TIMEOUT_MS      150
#define EARLY_US        1000
#define TICK_US         11000 /* a socket's timeout counts in ticks, up to 10 ms each */
#define LATE_US_DEFAULT 250000

static long late_us = LATE_US_DEFAULT;
static atomic_bool quit;
static atomic_bool failed;
static char failure[256];

static int64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000ll + now.tv_nsec / 1000;
}

static void fail(const char *call, const char *what, long result, int error)
{
    if (!atomic_exchange(&failed, true))
        snprintf(failure, sizeof failure, "%s: %s (returned %ld, errno %d: %s)", call, what, result,
                 error, strerror(error));
    atomic_store(&quit, true);
}

static void expect(const char *call, long result, long expected, int expected_error)
{
    int error = result < 0 ? errno : 0;

    if (result != expected || (result < 0 && error != expected_error))
        fail(call, error == EINTR ? "EINTR" : "unexpected result", result, error);
}

/* A call that must end by its own timeout of TIMEOUT_MS. */
static void expect_timeout(const char *call, int64_t start_us, long result, long expected,
                           int expected_error)
{
    int64_t took_us = now_us() - start_us;

    expect(call, result, expected, expected_error);
    if (took_us < TIMEOUT_MS * 1000ll - (strstr(call, "SO_RCVTIMEO") ? TICK_US : EARLY_US))
        fail(call, "too early (us)", (long)took_us, 0);
    if (took_us > TIMEOUT_MS * 1000ll + late_us)
        fail(call, "too late (us)", (long)took_us, 0);
}

static const struct timespec timeout = {0, TIMEOUT_MS * 1000000l};

static void call_nanosleep(void)
{
    int64_t start = now_us();

    expect_timeout("nanosleep", start, nanosleep(&timeout, NULL), 0, 0);
}

static void call_poll(void)
{
    int64_t start = now_us();

    expect_timeout("poll", start, poll(NULL, 0, TIMEOUT_MS), 0, 0);
}

static int quiet_pipe[2], epoll_fd;

static void call_epoll_wait(void)
{
    struct epoll_event event;
    int64_t start = now_us();

    expect_timeout("epoll_wait", start, epoll_wait(epoll_fd, &event, 1, TIMEOUT_MS), 0, 0);
}

static void call_epoll_pwait2(void)
{
    struct epoll_event event;
    int64_t start = now_us();

    expect_timeout("epoll_pwait2", start, epoll_pwait2(epoll_fd, &event, 1, &timeout, NULL), 0, 0);
}

static void call_sigtimedwait(void)
{
    int64_t start = now_us();
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    expect_timeout("sigtimedwait", start, sigtimedwait(&set, NULL, &timeout), -1, EAGAIN);
}

static int semaphores;

static void call_semtimedop(void)
{
    struct sembuf take = {0, -1, 0};
    int64_t start = now_us();

    expect_timeout("semtimedop", start, semtimedop(semaphores, &take, 1, &timeout), -1, EAGAIN);
}

static int timed_pair[2];

static void call_timed_recv(void)
{
    int64_t start = now_us();
    char byte;

    expect_timeout("recv with SO_RCVTIMEO", start, recv(timed_pair[0], &byte, 1, 0), -1, EAGAIN);
}

static void call_timed_futex(void)
{
    int64_t start = now_us();
    int word = 0;

    expect_timeout("futex with timeout", start,
                   syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &timeout, NULL, 0), -1,
                   ETIMEDOUT);
}

static int ping, pong;

static void wait_for_change(int *word, int seen)
{
    while (__atomic_load_n(word, __ATOMIC_SEQ_CST) == seen) {
        long result = syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);

        if (result < 0 && errno != EAGAIN)
            fail("futex", "unexpected result", result, errno);
        if (atomic_load(&quit))
            return;
    }
}

static void raise_word(int *word)
{
    __atomic_add_fetch(word, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void call_futex(void)
{
    int seen = __atomic_load_n(&pong, __ATOMIC_SEQ_CST);

    raise_word(&ping);
    wait_for_change(&pong, seen);
}

static void answer_futex(void)
{
    static int seen;

    wait_for_change(&ping, seen);
    seen = __atomic_load_n(&ping, __ATOMIC_SEQ_CST);
    usleep(20000);
    raise_word(&pong);
}

static unsigned char *pattern(void)
{
    static unsigned char bytes[MIB];

    if (bytes[1] == 0)
        for (size_t i = 0; i < MIB; i++)
            bytes[i] = (unsigned char)(i * 31 + (i >> 8) * 7 + (i >> 16) * 3 + 1);
    return bytes;
}

/* Reads the pattern from fd, slowly. */
static void drain(const char *call, int fd, size_t *at)
{
    unsigned char buffer[16384];
    ssize_t got = read(fd, buffer, sizeof buffer);

    if (got <= 0) {
        if (!atomic_load(&quit))
            fail(call, "reader", got, errno);
        return;
    }
    for (ssize_t i = 0; i < got; i++, *at = (*at + 1) % MIB)
        if (buffer[i] != pattern()[*at]) {
            fail(call, "wrong byte at", (long)*at, 0);
            return;
        }
    usleep(1000);
}

static int slow_pipe[2], file_pair[2], full_pair[2], pattern_file;

static void call_write(void)
{
    expect("write", write(slow_pipe[1], pattern(), MIB), MIB, 0);
}

static void drain_write(void)
{
    static size_t at;

    drain("write", slow_pipe[0], &at);
}

static void call_sendfile(void)
{
    off_t offset = 0;

    expect("sendfile", sendfile(file_pair[0], pattern_file, &offset, MIB), MIB, 0);
}

static void drain_sendfile(void)
{
    static size_t at;

    drain("sendfile", file_pair[1], &at);
}

static void call_full_recv(void)
{
    static unsigned char got[MIB];

    expect("recv with MSG_WAITALL", recv(full_pair[0], got, MIB, MSG_WAITALL), MIB, 0);
    if (memcmp(got, pattern(), MIB) != 0)
        fail("recv with MSG_WAITALL", "wrong bytes", 0, 0);
}

static void feed_full_recv(void)
{
    static size_t at;
    size_t count = MIB - at < 16384 ? MIB - at : 16384;

    if (send(full_pair[1], pattern() + at, count, MSG_NOSIGNAL) != (ssize_t)count)
        return;
    at = (at + count) % MIB;
    usleep(1000);
}

static struct role {
    const char *name;
    void (*call)(void);
    bool counted;
    unsigned long calls;
} roles[] = {
    {"nanosleep", call_nanosleep, true, 0},
    {"poll", call_poll, true, 0},
    {"epoll_wait", call_epoll_wait, true, 0},
    {"epoll_pwait2", call_epoll_pwait2, true, 0},
    {"sigtimedwait", call_sigtimedwait, true, 0},
    {"semtimedop", call_semtimedop, true, 0},
    {"recv_timed", call_timed_recv, true, 0},
    {"futex_timed", call_timed_futex, true, 0},
    {"futex", call_futex, true, 0},
    {"write", call_write, true, 0},
    {"sendfile", call_sendfile, true, 0},
    {"recv_waitall", call_full_recv, true, 0},
    {"futex partner", answer_futex, false, 0},
    {"write partner", drain_write, false, 0},
    {"sendfile partner", drain_sendfile, false, 0},
    {"recv partner", feed_full_recv, false, 0},
};
#define ROLES (sizeof roles / sizeof roles[0])

static void *play(void *argument)
{
    struct role *role = argument;

    while (!atomic_load(&quit)) {
        role->call();
        role->calls++;
    }
    return NULL;
}

static void prepare_sockets(void)
{
    struct timeval time = {0, TIMEOUT_MS * 1000};

    pattern_file = memfd_create("pattern", 0);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, timed_pair) ||
        socketpair(AF_UNIX, SOCK_STREAM, 0, file_pair) ||
        socketpair(AF_UNIX, SOCK_STREAM, 0, full_pair) ||
        write(pattern_file, pattern(), MIB) != MIB ||
        setsockopt(timed_pair[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time)) {
        perror("syscalls_survivor: sockets");
        exit(2);
    }
}

static void prepare(void)
{
    struct epoll_event event = {.events = EPOLLIN};
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    pattern();
    epoll_fd = epoll_create1(0);
    semaphores = semget(IPC_PRIVATE, 1, 0600);
    if (pipe(quiet_pipe) || pipe(slow_pipe) || epoll_fd < 0 || semaphores < 0 ||
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, quiet_pipe[0], &event)) {
        perror("syscalls_survivor");
        exit(2);
    }
}

static void on_term(int signal)
{
    (void)signal;
    atomic_store(&quit, true);
}

/* SIGTERM reaches this thread alone: the others were made with it blocked. */
static void wait_for_the_end(double seconds)
{
    int64_t end = now_us() + (int64_t)(seconds * 1e6);
    sigset_t term;

    signal(SIGTERM, on_term);
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    pthread_sigmask(SIG_UNBLOCK, &term, NULL);

    while (!atomic_load(&quit) && now_us() < end)
        usleep(20000);
    atomic_store(&quit, true);
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 2;
    pthread_t threads[ROLES];
    bool well;

    if (argc > 2)
        late_us = atol(argv[2]) * 1000;
    prepare();
    prepare_sockets();
    for (size_t i = 0; i < ROLES; i++)
        pthread_create(&threads[i], NULL, play, &roles[i]);
    puts("ready");
    fflush(stdout);
    wait_for_the_end(seconds);
    well = !atomic_load(&failed);
    semctl(semaphores, 0, IPC_RMID); /* ends the call that waits for it, with an error */
    if (!well) {
        printf("FAILED %s\n", failure);
        fflush(stdout);
        _exit(1);
    }
    printf("OK");
    for (size_t i = 0; i < ROLES; i++)
        if (roles[i].counted && roles[i].calls)
            printf(" %s=%lu", roles[i].name, roles[i].calls);
    printf("\n");
    fflush(stdout);
    _exit(0); /* threads may be in calls that nobody ends */
}
