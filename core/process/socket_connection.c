/*
 * socket_connection.c - established TCP connections in the checkpoint that the program's end
 * follows: see connections.h.
 *
 * Only those that send and receive in both directions are kept; one that is half closed, has a
 * filter or an upper layer protocol (TLS in the kernel) of its own, has urgent data unread, or is
 * of MPTCP comes back reset; standard streams are stdio_files.c's.
 *
 * Always true: a connection that was made deaf is in the list, so it is given back if the
 * checkpoint is given up.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include "core/process/connections.h"
#include "core/process/socket_connection.h"

#define LOOKS_MAX 64 /* until two agree: what was on its way when it became deaf */

int connection_set(int fd, int level, int name, uint32_t value)
{
    return (int)sys_call(SYS_setsockopt, fd, level, name, &value, sizeof value);
}

int connection_deafen(int fd)
{
    struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
    const struct sock_fprog program = {.len = 1, .filter = &nothing};

    return (int)sys_call(SYS_setsockopt, fd, SOL_SOCKET, SO_ATTACH_FILTER, &program,
                         sizeof program);
}

int connection_hear(int fd)
{
    return connection_set(fd, SOL_SOCKET, SO_DETACH_FILTER, 0);
}

/* A filter of its own, or a protocol on top of TCP, whose state is not kept. */
static bool is_special(int fd)
{
    char protocol[16] = "";
    uint32_t bytes = sizeof protocol, instructions = 0;

    if (sys_call(SYS_getsockopt, fd, SOL_TCP, TCP_ULP, protocol, &bytes) == 0 && bytes > 0 &&
        protocol[0] != 0)
        return true;
    return sys_call(SYS_getsockopt, fd, SOL_SOCKET, SO_ATTACH_FILTER, NULL, &instructions) != 0 ||
           instructions != 0;
}

/* Ends repair mode without a word to the other side. */
static void give_back(const struct kept_connection *one)
{
    (void)connection_set(one->fd, SOL_TCP, TCP_REPAIR, (uint32_t)TCP_REPAIR_OFF_NO_WP);
    (void)connection_set(one->fd, SOL_SOCKET, SO_REUSEADDR, one->reuse);
    (void)connection_hear(one->fd);
}

void connections_give_back(struct kept_connections *connections)
{
    for (uint32_t i = 0; i < connections->count; i++)
        give_back(&connections->list[i]);
    connections_close(connections);
}

void connections_close(struct kept_connections *connections)
{
    for (uint32_t i = 0; i < connections->count; i++)
        (void)sys_close(connections->list[i].fd);
    *connections = (struct kept_connections){0};
}

static bool make_list(struct descriptor_run *run, struct kept_connections *connections)
{
    if (connections->list == NULL)
        connections->list = arena_alloc(run->run->capture->scratch,
                                        ((size_t)run->count + 1) * sizeof *connections->list, 8);
    return connections->list != NULL;
}

/* Deaf, in repair mode and in the list, with a descriptor of our own that outlives the look. */
static int take(struct descriptor_run *run, struct socket_look *look)
{
    struct kept_connections *connections = run->run->capture->connections;
    struct kept_connection one = {.fd = -1};
    int status = make_list(run, connections) ? connection_deafen(look->fd) : -ENOMEM;

    if (status != 0)
        return status;
    status = socket_number(look->fd, SOL_SOCKET, SO_REUSEADDR, &one.reuse);
    if (status == 0)
        status = one.fd = (int)sys_call(SYS_fcntl, look->fd, F_DUPFD_CLOEXEC, 0);
    if (one.fd >= 0)
        status = connection_set(look->fd, SOL_TCP, TCP_REPAIR, TCP_REPAIR_ON);
    if (status == 0) {
        connections->list[connections->count++] = one;
        look->reuse = one.reuse; /* repair mode has its own */
        return 0;
    }
    (void)connection_hear(look->fd);
    if (one.fd >= 0)
        (void)sys_close(one.fd);
    return status;
}

static int choose_queue(int fd, uint32_t queue)
{
    return connection_set(fd, SOL_TCP, TCP_REPAIR_QUEUE, queue);
}

/* While the queue of what is to be sent is chosen nothing new is sent. */
static int look_at_queues(int fd, struct record_socket_connection *out)
{
    int status = choose_queue(fd, TCP_RECV_QUEUE);

    if (status == 0)
        status = socket_number(fd, SOL_TCP, TCP_QUEUE_SEQ, &out->receive_sequence);
    if (status == 0)
        status = (int)sys_call(SYS_ioctl, fd, SIOCINQ, &out->receive_bytes);
    if (status == 0)
        status = choose_queue(fd, TCP_SEND_QUEUE);
    if (status == 0)
        status = socket_number(fd, SOL_TCP, TCP_QUEUE_SEQ, &out->send_sequence);
    if (status == 0)
        status = (int)sys_call(SYS_ioctl, fd, SIOCOUTQ, &out->send_bytes);
    if (status == 0)
        status = (int)sys_call(SYS_ioctl, fd, SIOCOUTQNSD, &out->unsent_bytes);
    return status;
}

/* What had passed the filter when it was attached may still change something. */
static int look_until_still(int fd, struct record_socket_connection *out)
{
    struct record_socket_connection before;
    int status = look_at_queues(fd, out);

    for (int looks = 0; status == 0 && looks < LOOKS_MAX; looks++) {
        before = *out;
        status = look_at_queues(fd, out);
        if (status == 0 && memcmp(&before, out, sizeof before) == 0)
            return 0;
    }
    return status < 0 ? status : STATUS_DEFERRED;
}

static int look_at_buffers(int fd, struct record_socket_connection *out)
{
    int status = socket_number(fd, SOL_SOCKET, SO_SNDBUF, &out->send_buffer);

    if (status == 0)
        status = socket_number(fd, SOL_SOCKET, SO_RCVBUF, &out->receive_buffer);
    if (status == 0 && socket_number(fd, SOL_SOCKET, SO_BUF_LOCK, &out->buffer_locks) != 0)
        out->buffer_locks = 0; /* before Linux 5.14: not told */
    return status;
}

/*
 * The kernel's timers may send more until the socket is closed, as far as the other side's window
 * allows. What could have been sent counts as sent, or the resumed side would not believe what is
 * acknowledged: it is sent again when nobody does.
 */
static void count_as_sent(struct record_socket_connection *record)
{
    uint32_t window = record->window[1]; /* snd_wnd */
    uint32_t beyond = record->send_bytes > window ? record->send_bytes - window : 0;

    if (record->unsent_bytes > beyond)
        record->unsent_bytes = beyond;
}

static int look_at_connection(int fd, const struct tcp_info *info,
                              struct record_socket_connection *out)
{
    uint32_t bytes = sizeof out->window;
    int status = look_until_still(fd, out);

    out->options = info->tcpi_options & CONNECTION_OPTIONS;
    out->send_scale = info->tcpi_snd_wscale;
    out->receive_scale = info->tcpi_rcv_wscale;
    if (status == 0)
        status = socket_number(fd, SOL_TCP, TCP_MAXSEG, &out->segment_bytes);
    if (status == 0 && (out->options & TCPI_OPT_TIMESTAMPS))
        status = socket_number(fd, SOL_TCP, TCP_TIMESTAMP, &out->timestamp);
    if (status == 0)
        status =
            (int)sys_call(SYS_getsockopt, fd, SOL_TCP, TCP_REPAIR_WINDOW, &out->window, &bytes);
    count_as_sent(out);
    return status == 0 ? look_at_buffers(fd, out) : status;
}

/* The last that was taken comes back reset like any other. */
static void let_go(struct kept_connections *connections)
{
    const struct kept_connection *last = &connections->list[--connections->count];

    give_back(last);
    (void)sys_close(last->fd);
}

/* What is not read yet reaches beyond an urgent mark: SIOCINQ and who peeks stop there. */
static bool has_urgent_data(int fd, uint32_t bytes)
{
    uint32_t before = 0, beyond = bytes;
    int status = socket_number(fd, SOL_SOCKET, SO_OOBINLINE, &before);

    if (status == 0 && before == 0) {
        status = connection_set(fd, SOL_SOCKET, SO_OOBINLINE, 1);
        if (status == 0)
            status = (int)sys_call(SYS_ioctl, fd, SIOCINQ, &beyond);
        (void)connection_set(fd, SOL_SOCKET, SO_OOBINLINE, 0);
    }
    return status != 0 || beyond != bytes;
}

/* Until it was deaf the other side could end it. */
static int check_established(int fd)
{
    struct tcp_info info = {0};
    struct sockaddr_in6 peer;
    uint32_t bytes = sizeof info, peer_bytes = sizeof peer;
    long status = sys_call(SYS_getsockopt, fd, SOL_TCP, TCP_INFO, &info, &bytes);

    if (status == 0)
        status = sys_call(SYS_getpeername, fd, &peer, &peer_bytes);
    if (status == 0 && info.tcpi_state != TCP_ESTABLISHED)
        status = -ENOTCONN;
    return (int)status;
}

static int look_whole(struct socket_look *look, const struct tcp_info *info)
{
    int status = look_at_connection(look->fd, info, &look->connection);

    if (status == 0)
        status = check_established(look->fd);
    if (status == 0 && has_urgent_data(look->fd, look->connection.receive_bytes))
        status = STATUS_UNSUPPORTED;
    return status;
}

int capture_connection(struct descriptor_run *run, struct socket_look *look,
                       const struct tcp_info *info)
{
    struct kept_connections *connections = run->run->capture->connections;
    int status;

    if (connections == NULL || info->tcpi_state != TCP_ESTABLISHED ||
        look->description->standard >= 0) /* whose other side is the restorer's business */
        return 0;
    status = look->record.protocol != IPPROTO_TCP || is_special(look->fd) ? STATUS_UNSUPPORTED
                                                                          : take(run, look);
    if (status == 0) {
        status = look_whole(look, info);
        if (status != 0)
            let_go(connections);
    }
    if (status != 0) {
        connections->lost++;
        connections->lost_since = status;
        return 0;
    }
    look->connection.socket = look->record.id;
    return 1;
}

/* The whole queue, as long as it was a moment ago. */
static int peek_queue(int fd, uint32_t queue, uint8_t *to, uint32_t bytes)
{
    uint32_t got = 0;
    int status = choose_queue(fd, queue);
    long more;

    if (status != 0 || bytes == 0)
        return status;
    more = sys_call(SYS_recvfrom, fd, to, bytes, MSG_PEEK | MSG_DONTWAIT, 0, 0);
    got = more > 0 ? (uint32_t)more : 0;
    return more < 0 ? (int)more : got == bytes ? 0 : STATUS_UNSUPPORTED;
}

int capture_connection_content(struct descriptor_run *run, const struct socket_look *look)
{
    const struct record_socket_connection *record = &look->connection;
    uint8_t *to = record_room(run->run->out, RECORD_SOCKET_CONNECTION, record, sizeof *record,
                              (size_t)record->receive_bytes + record->send_bytes);
    int status = 0;

    if (to == NULL)
        return 0; /* the record is full, which is said at its end */
    status = peek_queue(look->fd, TCP_RECV_QUEUE, to, record->receive_bytes);
    if (status == 0)
        status =
            peek_queue(look->fd, TCP_SEND_QUEUE, to + record->receive_bytes, record->send_bytes);
    return status == 0 ? 0
                       : problem_set(run->run->why, status,
                                     "fd %u: what is under way in a TCP connection (%s) cannot be "
                                     "kept: urgent data?",
                                     look->description->number, status_text(status));
}

int connections_possible(void)
{
    int fd = (int)sys_call(SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int status = fd < 0 ? fd : connection_set(fd, SOL_TCP, TCP_REPAIR, TCP_REPAIR_ON);

    if (fd >= 0)
        (void)sys_close(fd);
    return status;
}
