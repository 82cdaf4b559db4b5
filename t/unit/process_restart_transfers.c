/*
 * process_restart_transfers.c - no system call of a program sees a checkpoint: a blocking transfer
 * that is stopped on its way is never short, and what it moved is there once and in order.
 */
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include "t/lib/stop_fixture.h"
#include "t/lib/tap.h"

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

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(a_blocking_write_to_a_pipe_is_never_short);
    RUN(a_blocking_writev_to_a_pipe_is_never_short);
    RUN(a_blocking_send_is_never_short);
    RUN(a_send_with_a_timeout_is_never_short);
    RUN(sendfile_is_never_short);
    RUN(recv_with_MSG_WAITALL_is_never_short);
    RUN(a_large_getrandom_is_never_short);
    return tap_done();
}
