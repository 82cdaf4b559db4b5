/*
 * process_restart_waits.c - no system call of a program sees a checkpoint: a call with a timeout
 * ends on time, and a wait ends with what it waits for, however often a tracer stops its thread.
 */
#include <errno.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "core/base/sys.h"
#include "t/lib/stop_fixture.h"
#include "t/lib/tap.h"

#define TIMEOUT_NS 60000000ll /* of the calls under test: many stops long */
/* On a busy machine. A call that began its time anew at each stop would be later than this: the
 * stops go on for longer. */
#define LATE_NS     320000000ll
#define TIMED_STOPS 200
/* Of calls whose partner comes in time, however late a busy machine lets it. */
#define PATIENT_NS 20000000000ll

/* ---- timeouts ------------------------------------------------------------------------------ */

static void on_time_under_stops(void (*body)(void))
{
    start_stops(body, TIMED_STOPS);
    finish_stops();
}

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
static int listener;

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

static void set_socket_timeout(int fd, int option, int64_t timeout_ns)
{
    struct timeval time = {timeout_ns / 1000000000, timeout_ns % 1000000000 / 1000};

    CHECK_EQ(setsockopt(fd, SOL_SOCKET, option, &time, sizeof time), 0);
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
    set_socket_timeout(pair[0], SO_RCVTIMEO, TIMEOUT_NS);
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
    set_socket_timeout(listener, SO_RCVTIMEO, TIMEOUT_NS);
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
    set_socket_timeout(pair[0], SO_SNDTIMEO, TIMEOUT_NS);
    on_time_under_stops(send_timed_body);
    close_pair();
}

/* ---- waits without an end ------------------------------------------------------------------ */

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
    set_socket_timeout(pair[0], SO_RCVTIMEO, PATIENT_NS);
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
    set_socket_timeout(pair[0], SO_RCVTIMEO, PATIENT_NS);
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
    set_socket_timeout(listener, SO_RCVTIMEO, PATIENT_NS);
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
    return tap_done();
}
