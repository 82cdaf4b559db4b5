/*
 * process_restart.c - no system call of a program sees a checkpoint: one thread in each call that
 * the kernel does not restart by itself, stopped a hundred times by a tracer that shares the
 * memory.
 */
#include <errno.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/arena.h"
#include "core/base/sys.h"
#include "core/process/syscall_restart.h"
#include "core/process/tracee.h"
#include "t/lib/tap.h"

#define STOPS         100
#define STOP_EVERY_NS 2000000
#define TIMEOUT_NS    60000000ll /* of the calls under test: many stops long */
/* On a busy machine. A call that began its time anew at each stop would be later than this: the
 * stops go on for longer. */
#define LATE_NS     320000000ll
#define TIMED_STOPS 200
#define MIB         (1u << 20)

/* ---- a tracer that stops one thread again and again ---------------------------------------- */

static struct {
    int pid, tid;
    struct restart_table *table;
    _Atomic int stops;
    _Atomic int wanted;
    _Atomic int failed; /* status of what went wrong */
    char stack[65536] __attribute__((aligned(16)));
} tracer;

static void pause_ns(long ns)
{
    struct timespec time = {0, ns};

    sys_call(SYS_nanosleep, &time, 0);
}

static int stop_once(struct tracee *tracee)
{
    int status = tracee_seize(tracee, tracer.tid, 0), got = 0;

    if (status == 0)
        status = tracee_interrupt(tracee);
    while (status == 0 && (got = tracee_poll(tracee)) == 0)
        pause_ns(20000);
    if (status == 0)
        status = got < 0 ? got : tracee_read_registers(tracee);
    if (status == 0)
        status =
            syscall_restart_fix(tracer.table, tracee, tracer.pid, sys_clock_ns(CLOCK_MONOTONIC));
    if (status == 0)
        status = tracee_detach(tracee);
    return status;
}

static int tracer_main(void *unused)
{
    static struct tracee tracee;
    int status = 0;

    (void)unused;
    while (status == 0 && tracer.stops < tracer.wanted) {
        pause_ns(STOP_EVERY_NS);
        status = stop_once(&tracee);
        if (status == 0)
            tracer.stops++;
    }
    tracer.failed = status;
    tracer.stops = tracer.wanted;
    sys_call(SYS_exit_group, 0);
    return 0;
}

static bool stops_go_on(void)
{
    return tracer.stops < tracer.wanted;
}

static struct {
    void (*body)(void);
    _Atomic int tid;
    pthread_t thread;
} victim;

static void *victim_main(void *unused)
{
    (void)unused;
    victim.tid = sys_gettid();
    while (!tracer.tid)
        sched_yield();
    while (stops_go_on())
        victim.body();
    return NULL;
}

static int tracer_pid;

static void start_tracing(void *(*main)(void *), int wanted)
{
    static struct arena arena;

    if (!arena.base)
        CHECK_OK(arena_create(&arena, 64 * MIB));
    /* each tracer has descriptors of its own, so it needs a table of its own */
    CHECK_OK(restart_table_create(&tracer.table, &arena));
    tracer.pid = getpid();
    tracer.tid = 0;
    tracer.stops = tracer.failed = 0;
    tracer.wanted = wanted;
    victim.tid = 0;
    pthread_create(&victim.thread, NULL, main, NULL);
    while (!victim.tid)
        sched_yield();
    tracer.tid = victim.tid;
    tracer_pid = clone(tracer_main, tracer.stack + sizeof tracer.stack, CLONE_VM, NULL);
    CHECK(tracer_pid > 0);
    prctl(PR_SET_PTRACER, tracer_pid, 0, 0, 0);
}

static void start_stops(void (*body)(void), int wanted)
{
    victim.body = body;
    start_tracing(victim_main, wanted);
}

static void finish_stops(void)
{
    int status;

    while (waitpid(tracer_pid, &status, __WALL) < 0 && errno == EINTR)
        ;
    pthread_join(victim.thread, NULL);
    CHECK_EQ(tracer.failed, 0);
}

/* Runs body again and again in a thread of its own until it has been stopped a hundred times. */
static void under_stops(void (*body)(void))
{
    start_stops(body, STOPS);
    finish_stops();
}

static void on_time_under_stops(void (*body)(void))
{
    start_stops(body, TIMED_STOPS);
    finish_stops();
}

/* ---- timeouts ------------------------------------------------------------------------------ */

static int64_t elapsed_since(uint64_t start_ns)
{
    return (int64_t)(sys_clock_ns(CLOCK_MONOTONIC) - start_ns);
}

/* A socket's own timeout counts in ticks of up to 10 ms, and may end within the last one. */
#define EARLY_NS 11000000ll

static void check_on_time(const char *call, uint64_t start_ns)
{
    int64_t late_ns = elapsed_since(start_ns) - TIMEOUT_NS;

    tap_check(late_ns > -EARLY_NS, __FILE__, __LINE__, "%s: %lld us early", call,
              (long long)-late_ns / 1000);
    tap_check(late_ns < LATE_NS, __FILE__, __LINE__, "%s: %lld us late", call,
              (long long)late_ns / 1000);
}

#define TIMED_CALL(call, result, error)                                                            \
    do {                                                                                           \
        uint64_t start_ns_ = sys_clock_ns(CLOCK_MONOTONIC);                                        \
        errno = 0;                                                                                 \
        CHECK_EQ((call), (result));                                                                \
        CHECK_EQ(errno, (error));                                                                  \
        check_on_time(#call, start_ns_);                                                           \
    } while (0)

static const struct timespec timeout = {0, TIMEOUT_NS};
static int pipe_ends[2], pair[2], epoll_fd, listener;

static void make_epoll(void)
{
    struct epoll_event event = {.events = EPOLLIN};

    CHECK_EQ(pipe(pipe_ends), 0);
    epoll_fd = epoll_create1(0);
    CHECK_EQ(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pipe_ends[0], &event), 0);
}

static void close_epoll(void)
{
    close(epoll_fd);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
}

static void nanosleep_body(void)
{
    TIMED_CALL(nanosleep(&timeout, NULL), 0, 0);
}

static void nanosleep_ends_on_time(void)
{
    on_time_under_stops(nanosleep_body);
}

static void poll_body(void)
{
    TIMED_CALL(poll(NULL, 0, (int)(TIMEOUT_NS / 1000000)), 0, 0);
}

static void poll_ends_on_time(void)
{
    on_time_under_stops(poll_body);
}

static void epoll_wait_body(void)
{
    struct epoll_event event;

    TIMED_CALL(epoll_wait(epoll_fd, &event, 1, (int)(TIMEOUT_NS / 1000000)), 0, 0);
}

static void epoll_wait_ends_on_time(void)
{
    make_epoll();
    on_time_under_stops(epoll_wait_body);
    close_epoll();
}

static void epoll_pwait_body(void)
{
    struct epoll_event event;
    sigset_t mask;

    sigemptyset(&mask);
    TIMED_CALL(epoll_pwait(epoll_fd, &event, 1, (int)(TIMEOUT_NS / 1000000), &mask), 0, 0);
}

static void epoll_pwait_ends_on_time(void)
{
    make_epoll();
    on_time_under_stops(epoll_pwait_body);
    close_epoll();
}

static void epoll_pwait2_body(void)
{
    struct epoll_event event;

    TIMED_CALL(epoll_pwait2(epoll_fd, &event, 1, &timeout, NULL), 0, 0);
}

static void epoll_pwait2_ends_on_time(void)
{
    make_epoll();
    on_time_under_stops(epoll_pwait2_body);
    close_epoll();
}

static void sigtimedwait_body(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    TIMED_CALL(sigtimedwait(&set, NULL, &timeout), -1, EAGAIN);
}

static void sigtimedwait_ends_on_time(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    on_time_under_stops(sigtimedwait_body);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static int semaphores;

static void semtimedop_body(void)
{
    struct sembuf take = {0, -1, 0};

    TIMED_CALL(semtimedop(semaphores, &take, 1, &timeout), -1, EAGAIN);
}

static void semtimedop_ends_on_time(void)
{
    semaphores = semget(IPC_PRIVATE, 1, 0600);
    on_time_under_stops(semtimedop_body);
    semctl(semaphores, 0, IPC_RMID);
}

static void futex_timed_body(void)
{
    static int word;

    TIMED_CALL(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &timeout, NULL, 0), -1, ETIMEDOUT);
}

static void futex_with_a_timeout_ends_on_time(void)
{
    on_time_under_stops(futex_timed_body);
}

static void set_socket_timeout(int fd, int option)
{
    struct timeval time = {0, TIMEOUT_NS / 1000};

    CHECK_EQ(setsockopt(fd, SOL_SOCKET, option, &time, sizeof time), 0);
}

static void make_pair(void)
{
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
}

static void close_pair(void)
{
    close(pair[0]);
    close(pair[1]);
}

static void recv_timed_body(void)
{
    char byte;

    TIMED_CALL(recv(pair[0], &byte, 1, 0), -1, EAGAIN);
}

static void read_timed_body(void)
{
    char byte;

    TIMED_CALL(read(pair[0], &byte, 1), -1, EAGAIN);
}

static void readv_timed_body(void)
{
    char bytes[2];
    struct iovec iov[2] = {{bytes, 1}, {bytes + 1, 1}};

    TIMED_CALL(readv(pair[0], iov, 2), -1, EAGAIN);
}

static void recvmsg_timed_body(void)
{
    char bytes[2];
    struct iovec iov = {bytes, 2};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

    TIMED_CALL(recvmsg(pair[0], &message, 0), -1, EAGAIN);
}

static void receiving_with_SO_RCVTIMEO_ends_on_time(void)
{
    make_pair();
    set_socket_timeout(pair[0], SO_RCVTIMEO);
    on_time_under_stops(recv_timed_body);
    on_time_under_stops(read_timed_body);
    on_time_under_stops(readv_timed_body);
    on_time_under_stops(recvmsg_timed_body);
    close_pair();
}

static void make_listener(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    listener = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_EQ(listen(listener, 8), 0);
}

static void accept_timed_body(void)
{
    TIMED_CALL(accept(listener, NULL, NULL), -1, EAGAIN);
}

static void accept_with_SO_RCVTIMEO_ends_on_time(void)
{
    make_listener();
    set_socket_timeout(listener, SO_RCVTIMEO);
    on_time_under_stops(accept_timed_body);
    close(listener);
}

static void fill_socket(int fd)
{
    static char data[65536];

    while (send(fd, data, sizeof data, MSG_DONTWAIT) > 0)
        ;
    while (send(fd, data, 1, MSG_DONTWAIT) > 0)
        ;
}

static void send_timed_body(void)
{
    TIMED_CALL(send(pair[0], "x", 1, 0), -1, EAGAIN);
}

static void sending_with_SO_SNDTIMEO_ends_on_time(void)
{
    make_pair();
    fill_socket(pair[0]);
    set_socket_timeout(pair[0], SO_SNDTIMEO);
    on_time_under_stops(send_timed_body);
    close_pair();
}

/* ---- waits without an end ------------------------------------------------------------------ */

static _Atomic int partner_quits;

/* What a partner does a few milliseconds after the call under test has begun. */
static void late_byte(int fd)
{
    pause_ns(7000000);
    CHECK_EQ(write(fd, "x", 1), 1);
}

static void *byte_sender(void *fd)
{
    while (!partner_quits)
        late_byte(*(int *)fd);
    return NULL;
}

static void under_stops_with(void *(*partner)(void *), void *argument, void (*body)(void))
{
    pthread_t thread;

    partner_quits = 0;
    pthread_create(&thread, NULL, partner, argument);
    under_stops(body);
    partner_quits = 1;
    pthread_join(thread, NULL);
}

static void epoll_forever_body(void)
{
    struct epoll_event event;
    char byte;

    CHECK_EQ(epoll_wait(epoll_fd, &event, 1, -1), 1);
    CHECK_EQ(read(pipe_ends[0], &byte, 1), 1);
}

static void epoll_wait_without_a_timeout_sees_no_EINTR(void)
{
    make_epoll();
    under_stops_with(byte_sender, &pipe_ends[1], epoll_forever_body);
    close_epoll();
}

static void recv_some_body(void)
{
    char byte = 0;

    CHECK_EQ(recv(pair[0], &byte, 1, 0), 1);
    CHECK_EQ(byte, 'x');
}

static void a_timed_recv_gets_what_arrives_in_time(void)
{
    make_pair();
    set_socket_timeout(pair[0], SO_RCVTIMEO);
    under_stops_with(byte_sender, &pair[1], recv_some_body);
    close_pair();
}

static void readv_some_body(void)
{
    char bytes[2] = {0, 0};
    struct iovec iov[2] = {{bytes, 1}, {bytes + 1, 1}};
    ssize_t got = readv(pair[0], iov, 2);

    CHECK(got == 1 || got == 2);
    CHECK_EQ(bytes[0], 'x');
}

static void a_timed_readv_gets_what_arrives_in_time(void)
{
    make_pair();
    set_socket_timeout(pair[0], SO_RCVTIMEO);
    under_stops_with(byte_sender, &pair[1], readv_some_body);
    close_pair();
}

static void *connector(void *unused)
{
    struct sockaddr_in address;
    socklen_t bytes = sizeof address;

    (void)unused;
    CHECK_EQ(getsockname(listener, (struct sockaddr *)&address, &bytes), 0);
    while (!partner_quits) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);

        pause_ns(9000000);
        CHECK_EQ(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
        close(fd);
    }
    return NULL;
}

static void accept_body(void)
{
    int fd = accept(listener, NULL, NULL);

    CHECK(fd >= 0);
    close(fd);
}

static void a_timed_accept_gets_a_connection_in_time(void)
{
    make_listener();
    set_socket_timeout(listener, SO_RCVTIMEO);
    under_stops_with(connector, NULL, accept_body);
    close(listener);
}

static void *poster(void *unused)
{
    struct sembuf give = {0, 1, 0};

    (void)unused;
    while (!partner_quits) {
        pause_ns(7000000);
        CHECK_EQ(semop(semaphores, &give, 1), 0);
    }
    return NULL;
}

static void semop_body(void)
{
    struct sembuf take = {0, -1, 0};

    CHECK_EQ(semop(semaphores, &take, 1), 0);
}

static void semop_sees_no_EINTR(void)
{
    semaphores = semget(IPC_PRIVATE, 1, 0600);
    under_stops_with(poster, NULL, semop_body);
    semctl(semaphores, 0, IPC_RMID);
}

static int shared_word;

static void *waker(void *unused)
{
    (void)unused;
    while (!partner_quits) {
        pause_ns(7000000);
        __atomic_add_fetch(&shared_word, 1, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, &shared_word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
    return NULL;
}

static void futex_body(void)
{
    int seen = __atomic_load_n(&shared_word, __ATOMIC_SEQ_CST);
    long result = syscall(SYS_futex, &shared_word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);

    CHECK(result == 0 || errno == EAGAIN);
    CHECK(__atomic_load_n(&shared_word, __ATOMIC_SEQ_CST) != seen);
}

static void futex_without_a_timeout_sees_no_EINTR(void)
{
    under_stops_with(waker, NULL, futex_body);
}

/* ---- transfers ------------------------------------------------------------------------------ */

static unsigned char *pattern(void)
{
    static unsigned char bytes[MIB];

    if (!bytes[1])
        for (size_t i = 0; i < MIB; i++)
            bytes[i] = (unsigned char)(i * 31 + (i >> 8) * 7 + 1);
    return bytes;
}

/* Takes what comes through the pipe, slowly, and compares it with the pattern, time after time. */
static void *slow_reader(void *fd)
{
    unsigned char buffer[16384];
    size_t at = 0;
    ssize_t got;

    while ((got = read(*(int *)fd, buffer, sizeof buffer)) > 0) {
        for (ssize_t i = 0; i < got; i++, at = (at + 1) % MIB)
            if (!tap_check(buffer[i] == pattern()[at], __FILE__, __LINE__, "byte %zu", at))
                return NULL;
        if (!partner_quits)
            pause_ns(400000);
    }
    CHECK_EQ(at, 0);
    return NULL;
}

static void write_to_slow_reader(int write_end, int read_end, void (*body)(void))
{
    pthread_t thread;

    partner_quits = 0;
    pthread_create(&thread, NULL, slow_reader, &read_end);
    under_stops(body);
    partner_quits = 1;
    close(write_end);
    pthread_join(thread, NULL);
    close(read_end);
}

static void write_body(void)
{
    CHECK_EQ(write(pipe_ends[1], pattern(), MIB), MIB);
}

static void a_blocking_write_to_a_pipe_is_never_short(void)
{
    CHECK_EQ(pipe(pipe_ends), 0);
    write_to_slow_reader(pipe_ends[1], pipe_ends[0], write_body);
}

static void writev_body(void)
{
    struct iovec iov[3] = {{pattern(), 100000}, {pattern() + 100000, 1}, {pattern() + 100001, 0}};

    iov[2].iov_len = MIB - 100001;
    CHECK_EQ(writev(pipe_ends[1], iov, 3), MIB);
    CHECK_EQ(iov[0].iov_len, 100000);
}

static void a_blocking_writev_to_a_pipe_is_never_short(void)
{
    CHECK_EQ(pipe(pipe_ends), 0);
    write_to_slow_reader(pipe_ends[1], pipe_ends[0], writev_body);
}

static void send_body(void)
{
    CHECK_EQ(send(pair[0], pattern(), MIB, MSG_NOSIGNAL), MIB);
}

static void sendmsg_body(void)
{
    struct iovec iov[2] = {{pattern(), 300000}, {pattern() + 300000, MIB - 300000}};
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};

    CHECK_EQ(sendmsg(pair[0], &message, 0), MIB);
}

static void a_blocking_send_is_never_short(void)
{
    make_pair();
    write_to_slow_reader(pair[0], pair[1], send_body);
    make_pair();
    write_to_slow_reader(pair[0], pair[1], sendmsg_body);
}

static void set_long_send_timeout(void)
{
    struct timeval time = {30, 0};

    CHECK_EQ(setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time), 0);
}

static void socket_writev_body(void)
{
    struct iovec iov[2] = {{pattern(), 300000}, {pattern() + 300000, MIB - 300000}};

    CHECK_EQ(writev(pair[0], iov, 2), MIB);
}

static void a_send_with_a_timeout_is_never_short(void)
{
    make_pair();
    set_long_send_timeout();
    write_to_slow_reader(pair[0], pair[1], send_body);
    make_pair();
    set_long_send_timeout();
    write_to_slow_reader(pair[0], pair[1], socket_writev_body);
}

static int pattern_file;

static void sendfile_body(void)
{
    off_t offset = 0;

    CHECK_EQ(sendfile(pair[0], pattern_file, &offset, MIB), MIB);
    CHECK_EQ(offset, MIB);
}

static void sendfile_is_never_short(void)
{
    pattern_file = memfd_create("pattern", 0);
    CHECK_EQ(write(pattern_file, pattern(), MIB), MIB);
    make_pair();
    write_to_slow_reader(pair[0], pair[1], sendfile_body);
    close(pattern_file);
}

static void *slow_sender(void *fd)
{
    size_t at = 0;

    while (!partner_quits || at != 0) {
        size_t count = MIB - at < 8192 ? MIB - at : 8192;

        if (send(*(int *)fd, pattern() + at, count, MSG_NOSIGNAL) != (ssize_t)count)
            break;
        at = (at + count) % MIB;
        pause_ns(200000);
    }
    shutdown(*(int *)fd, SHUT_WR);
    return NULL;
}

static void recv_all_body(void)
{
    static unsigned char got[MIB];

    CHECK_EQ(recv(pair[0], got, MIB, MSG_WAITALL), MIB);
    CHECK(memcmp(got, pattern(), MIB) == 0);
}

static void recvmsg_all_body(void)
{
    static unsigned char got[MIB];
    struct iovec iov[2] = {{got, 12345}, {got + 12345, MIB - 12345}};
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};

    CHECK_EQ(recvmsg(pair[0], &message, MSG_WAITALL), MIB);
    CHECK(memcmp(got, pattern(), MIB) == 0);
}

static void recv_from_slow_sender(void (*body)(void))
{
    pthread_t thread;
    char rest[65536];

    make_pair();
    partner_quits = 0;
    pthread_create(&thread, NULL, slow_sender, &pair[1]);
    under_stops(body);
    partner_quits = 1;
    while (recv(pair[0], rest, sizeof rest, 0) > 0)
        ;
    pthread_join(thread, NULL);
    close_pair();
}

static void recv_with_MSG_WAITALL_is_never_short(void)
{
    recv_from_slow_sender(recv_all_body);
    recv_from_slow_sender(recvmsg_all_body);
}

static void getrandom_body(void)
{
    static char buffer[8 * MIB];

    CHECK_EQ(getrandom(buffer, sizeof buffer, 0), sizeof buffer);
}

static void a_large_getrandom_is_never_short(void)
{
    under_stops(getrandom_body);
}

/* ---- signals ------------------------------------------------------------------------------- */

static _Atomic int handled;

static void on_signal(int signal)
{
    (void)signal;
    handled++;
}

static _Atomic int interrupted_calls;
static _Atomic int begun_calls;

/* A signal ends a call only if it has begun: the thread was seen asleep since it said so. */
static bool is_asleep(int tid)
{
    char path[64], stat[512];
    const char *end;

    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    if (sys_read_file(path, stat, sizeof stat) <= 0)
        return false;
    end = strrchr(stat, ')');
    return end && end[2] == 'S';
}

static void wait_for_call(int number)
{
    for (int i = 0; i < 20000 && !(begun_calls == number && is_asleep(victim.tid)); i++)
        pause_ns(100000);
}

/* Each body is one call that only a signal can end. */
static void note_interrupted(long result)
{
    CHECK_EQ(result, -1);
    CHECK_EQ(errno, EINTR);
    interrupted_calls++;
}

static void signalled_epoll_body(void)
{
    struct epoll_event event;

    begun_calls++;
    note_interrupted(epoll_wait(epoll_fd, &event, 1, -1));
}

static void signalled_timed_epoll_body(void)
{
    struct epoll_event event;

    begun_calls++;
    note_interrupted(epoll_wait(epoll_fd, &event, 1, 20000));
}

static void signalled_recv_body(void)
{
    char byte;

    begun_calls++;
    note_interrupted(recv(pair[0], &byte, 1, 0));
}

/* Sends signals between and into the stops; each must end one call. */
static void under_stops_and_signals(void (*body)(void))
{
    struct sigaction action = {.sa_handler = on_signal};

    sigaction(SIGUSR1, &action, NULL);
    handled = interrupted_calls = begun_calls = 0;
    start_stops(body, STOPS);
    while (stops_go_on()) {
        int before = interrupted_calls;

        pause_ns(3100000);
        wait_for_call(before + 1);
        pthread_kill(victim.thread, SIGUSR1);
        for (int i = 0; i < 2000 && interrupted_calls == before; i++)
            pause_ns(1000000);
        if (!tap_check(interrupted_calls == before + 1, __FILE__, __LINE__, "a signal was lost"))
            break;
    }
    while (pthread_tryjoin_np(victim.thread, NULL)) {
        pthread_kill(victim.thread, SIGUSR1);
        pause_ns(1000000);
    }
    CHECK(handled > 5);
}

static void reap_tracer(void)
{
    int status;

    waitpid(tracer_pid, &status, __WALL);
    CHECK_EQ(tracer.failed, 0);
}

static void a_real_signal_still_ends_epoll_wait(void)
{
    make_epoll();
    under_stops_and_signals(signalled_epoll_body);
    reap_tracer();
    under_stops_and_signals(signalled_timed_epoll_body);
    reap_tracer();
    close_epoll();
}

static void a_real_signal_still_ends_a_timed_recv(void)
{
    struct timeval time = {20, 0};

    make_pair();
    CHECK_EQ(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time), 0);
    under_stops_and_signals(signalled_recv_body);
    reap_tracer();
    close_pair();
}

/* A write that has moved something and then meets a signal returns what it moved. */
static _Atomic long cut_write;

static void *cut_writer(void *unused)
{
    (void)unused;
    victim.tid = sys_gettid();
    while (!tracer.tid)
        sched_yield();
    cut_write = write(pipe_ends[1], pattern(), MIB);
    return NULL;
}

static void a_real_signal_still_cuts_a_write(void)
{
    struct sigaction action = {.sa_handler = on_signal};

    CHECK_EQ(pipe(pipe_ends), 0);
    sigaction(SIGUSR1, &action, NULL);
    cut_write = 0;
    start_tracing(cut_writer, 20);
    while (tracer.stops < 10)
        pause_ns(1000000);
    CHECK_EQ(cut_write, 0);
    pthread_kill(victim.thread, SIGUSR1);
    pthread_join(victim.thread, NULL);
    CHECK_EQ(cut_write, 65536);
    tracer.wanted = 0;
    waitpid(tracer_pid, NULL, __WALL);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
}

/* A thread that is cancelled inside a continuation unwinds through it. */
static void *cancelled_reader(void *unused)
{
    char byte;

    (void)unused;
    victim.tid = sys_gettid();
    while (!tracer.tid)
        sched_yield();
    recv(pair[0], &byte, 1, 0);
    return NULL;
}

static void a_thread_can_be_cancelled_in_a_continuation(void)
{
    struct timeval time = {20, 0};
    void *result = NULL;

    make_pair();
    CHECK_EQ(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time), 0);
    start_tracing(cancelled_reader, 20);
    while (tracer.stops < 10)
        pause_ns(1000000);
    tracer.wanted = 0;
    waitpid(tracer_pid, NULL, __WALL);
    pthread_cancel(victim.thread);
    pthread_join(victim.thread, &result);
    CHECK(result == PTHREAD_CANCELED);
    close_pair();
}

/* ---- registers ----------------------------------------------------------------------------- */

/* rdi: fd, rsi: event, rdx: out, room for 14 + 16 + 16 words. Fills every register and the red
 * zone, calls epoll_wait(fd, event, 1, 30 ms), stores them all. */
long call_with_full_registers(long fd, void *event, uint64_t *out);
__asm__(".text\n"
        "call_with_full_registers:\n"
        "    push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "    push %rdx\n"
        "    mov $0xb0b0, %ebx; mov $0xb1b1, %ebp; mov $0xc0c0, %r12d; mov $0xd0d0, %r13d\n"
        "    mov $0xe0e0, %r14d; mov $0xf0f0, %r15d; mov $0x808, %r8d; mov $0x909, %r9d\n"
        "    movq %rdi, %xmm0; movq %rsi, %xmm1; movq %rdx, %xmm2; movq %rbx, %xmm7\n"
        "    movq %r15, %xmm15\n"
        "    mov $1, %edx; mov $30, %r10d\n"
        "    movq $0x11, -8(%rsp); movq $0x22, -64(%rsp); movq $0x33, -128(%rsp)\n"
        "    mov $232, %eax\n" /* epoll_wait */
        "    stc\n"
        "    syscall\n"
        "    movq (%rsp), %rcx\n"
        "    setc %r11b\n"
        "    movzbl %r11b, %r11d\n"
        "    movq %rdi, 0(%rcx); movq %rsi, 8(%rcx); movq %rdx, 16(%rcx); movq %r10, 24(%rcx)\n"
        "    movq %r8, 32(%rcx); movq %r9, 40(%rcx); movq %rbx, 48(%rcx); movq %rbp, 56(%rcx)\n"
        "    movq %r12, 64(%rcx); movq %r13, 72(%rcx); movq %r14, 80(%rcx); movq %r15, 88(%rcx)\n"
        "    movq %r11, 96(%rcx)\n"
        "    movq %xmm0, 104(%rcx); movq %xmm1, 112(%rcx); movq %xmm2, 120(%rcx)\n"
        "    movq %xmm7, 128(%rcx); movq %xmm15, 136(%rcx)\n"
        "    movq -8(%rsp), %r11; movq %r11, 144(%rcx)\n"
        "    movq -64(%rsp), %r11; movq %r11, 152(%rcx)\n"
        "    movq -128(%rsp), %r11; movq %r11, 160(%rcx)\n"
        "    pop %rdx\n"
        "    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "    ret\n");

static void registers_body(void)
{
    struct epoll_event event;
    uint64_t out[21] = {0};
    const uint64_t event_at = (uint64_t)&event, out_at = (uint64_t)out, fd = (uint64_t)epoll_fd;
    const uint64_t expected[21] = {fd,       event_at, 1,      30,     0x808,  0x909, 0xb0b0,
                                   0xb1b1,   0xc0c0,   0xd0d0, 0xe0e0, 0xf0f0, 1,     fd,
                                   event_at, out_at,   0xb0b0, 0xf0f0, 0x11,   0x22,  0x33};

    CHECK_EQ(call_with_full_registers(epoll_fd, &event, out), 0);
    for (int i = 0; i < 21; i++)
        tap_check(out[i] == expected[i], __FILE__, __LINE__, "word %d: %llx, not %llx", i,
                  (unsigned long long)out[i], (unsigned long long)expected[i]);
}

static void a_continuation_leaves_every_register_alone(void)
{
    make_epoll();
    under_stops(registers_body);
    close_epoll();
}

/* ---- the image ----------------------------------------------------------------------------- */

static void an_image_stands_at_the_system_call(void)
{
    struct user_regs_struct regs = {.rip = 0x1002, .rax = (uint64_t)-516, .orig_rax = 35};

    syscall_restart_for_image(&regs);
    CHECK_EQ(regs.rip, 0x1000);
    CHECK_EQ(regs.rax, 35);
    CHECK_EQ(regs.orig_rax, -1);
    regs = (struct user_regs_struct){.rip = 0x1002, .rax = 17, .orig_rax = 0};
    syscall_restart_for_image(&regs);
    CHECK_EQ(regs.rip, 0x1002);
    CHECK_EQ(regs.rax, 17);
    CHECK_EQ(regs.orig_rax, -1);
    regs = (struct user_regs_struct){.rip = 0x1002, .rax = (uint64_t)-516, .orig_rax = 219};
    syscall_restart_for_image(&regs);
    CHECK_EQ(regs.rip, 0x1002);
    CHECK_EQ(regs.rax, -EINTR);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(nanosleep_ends_on_time);
    RUN(poll_ends_on_time);
    RUN(epoll_wait_ends_on_time);
    RUN(epoll_pwait_ends_on_time);
    RUN(epoll_pwait2_ends_on_time);
    RUN(sigtimedwait_ends_on_time);
    RUN(semtimedop_ends_on_time);
    RUN(futex_with_a_timeout_ends_on_time);
    RUN(receiving_with_SO_RCVTIMEO_ends_on_time);
    RUN(accept_with_SO_RCVTIMEO_ends_on_time);
    RUN(sending_with_SO_SNDTIMEO_ends_on_time);
    RUN(epoll_wait_without_a_timeout_sees_no_EINTR);
    RUN(a_timed_recv_gets_what_arrives_in_time);
    RUN(a_timed_readv_gets_what_arrives_in_time);
    RUN(a_timed_accept_gets_a_connection_in_time);
    RUN(semop_sees_no_EINTR);
    RUN(futex_without_a_timeout_sees_no_EINTR);
    RUN(a_blocking_write_to_a_pipe_is_never_short);
    RUN(a_blocking_writev_to_a_pipe_is_never_short);
    RUN(a_blocking_send_is_never_short);
    RUN(a_send_with_a_timeout_is_never_short);
    RUN(sendfile_is_never_short);
    RUN(recv_with_MSG_WAITALL_is_never_short);
    RUN(a_large_getrandom_is_never_short);
    RUN(a_real_signal_still_ends_epoll_wait);
    RUN(a_real_signal_still_ends_a_timed_recv);
    RUN(a_real_signal_still_cuts_a_write);
    RUN(a_thread_can_be_cancelled_in_a_continuation);
    RUN(a_continuation_leaves_every_register_alone);
    RUN(an_image_stands_at_the_system_call);
    return tap_done();
}
