/*
 * socket_revival.c - kept TCP connections made again, from outside, in a process whose descriptors
 * are in their places: a socket that is new there becomes one that was connected all the time.
 *
 * What was on its way when the program ended is sent again by whoever has it: by the other side, to
 * which nothing was acknowledged, and by us. What had not been sent yet is written once more.
 *
 * Crash: until connections_wake() a connection is deaf and in repair mode; when we or the process
 * die, it closes without a word and the same generation can be restored again.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include "core/base/format_text.h"
#include "core/process/connections.h"
#include "core/process/socket_connection.h"

#define TIMESTAMP_AHEAD 8192u /* ms; more than was sent by the old one's timers behind the cut */
#define ROOM_BESIDE     65536u
#define SEGMENT_MAX     32767u /* that TCP_MAXSEG takes */

struct repair_option { /* struct tcp_repair_opt */
    uint32_t code, value;
};

enum { OPTION_SEGMENT = 2, OPTION_WINDOW = 3, OPTION_SACK = 4, OPTION_TIMESTAMP = 8 };

static int set_sequence(int fd, uint32_t queue, uint32_t sequence)
{
    int status = connection_set(fd, SOL_TCP, TCP_REPAIR_QUEUE, queue);

    return status == 0 ? connection_set(fd, SOL_TCP, TCP_QUEUE_SEQ, sequence) : status;
}

/* As they were before anything of the queues had come or gone. */
static int set_sequences(int fd, const struct record_socket_connection *record)
{
    int status = set_sequence(fd, TCP_RECV_QUEUE, record->receive_sequence - record->receive_bytes);

    return status == 0
               ? set_sequence(fd, TCP_SEND_QUEUE, record->send_sequence - record->send_bytes)
               : status;
}

/* In repair mode neither of them looks for anybody. How large segments are is chosen at the
 * connect(), for which the other side is not asked here. */
static int set_addresses(int fd, const struct image_socket *socket)
{
    uint32_t segment = socket->connection->segment_bytes;
    int status = (int)sys_call(SYS_bind, fd, socket->address, socket->record->address_bytes);

    (void)connection_set(fd, SOL_TCP, TCP_MAXSEG, segment < SEGMENT_MAX ? segment : SEGMENT_MAX);
    return status == 0 ? (int)sys_call(SYS_connect, fd, socket->peer, socket->record->peer_bytes)
                       : status;
}

static int set_agreed(int fd, const struct record_socket_connection *record)
{
    struct repair_option agreed[4] = {{OPTION_SEGMENT, record->segment_bytes}};
    uint32_t count = 1;
    int status = 0;

    if (record->options & TCPI_OPT_WSCALE)
        agreed[count++] =
            (struct repair_option){OPTION_WINDOW, record->send_scale | record->receive_scale << 16};
    if (record->options & TCPI_OPT_SACK)
        agreed[count++] = (struct repair_option){OPTION_SACK, 0};
    if (record->options & TCPI_OPT_TIMESTAMPS) {
        agreed[count++] = (struct repair_option){OPTION_TIMESTAMP, 0};
        status = connection_set(fd, SOL_TCP, TCP_TIMESTAMP, record->timestamp + TIMESTAMP_AHEAD);
    }
    return status == 0 ? (int)sys_call(SYS_setsockopt, fd, SOL_TCP, TCP_REPAIR_OPTIONS, agreed,
                                       count * sizeof *agreed)
                       : status;
}

static int send_all(int fd, const uint8_t *bytes, uint32_t count)
{
    while (count > 0) {
        long sent = sys_call(SYS_sendto, fd, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);

        if (sent <= 0)
            return sent < 0 ? (int)sent : -EIO;
        bytes += sent;
        count -= (uint32_t)sent;
    }
    return 0;
}

static int fill_queue(int fd, uint32_t queue, const uint8_t *bytes, uint32_t count)
{
    int status = connection_set(fd, SOL_TCP, TCP_REPAIR_QUEUE, queue);

    return status == 0 ? send_all(fd, bytes, count) : status;
}

/* Room for what the queues had, whatever the packets were like that it came in. */
static int widen(int fd, const struct record_socket_connection *record)
{
    int status = connection_set(fd, SOL_SOCKET, SO_SNDBUFFORCE,
                                record->send_buffer / 2 + 2 * record->send_bytes + ROOM_BESIDE);

    return status == 0 ? connection_set(fd, SOL_SOCKET, SO_RCVBUFFORCE,
                                        record->receive_buffer / 2 + 2 * record->receive_bytes +
                                            ROOM_BESIDE)
                       : status;
}

static int fill_queues(int fd, const struct image_socket *socket)
{
    const struct record_socket_connection *record = socket->connection;
    int status = fill_queue(fd, TCP_RECV_QUEUE, socket->unread, record->receive_bytes);

    return status == 0 ? fill_queue(fd, TCP_SEND_QUEUE, socket->unacknowledged,
                                    record->send_bytes - record->unsent_bytes)
                       : status;
}

static int make(int fd, const struct image_socket *socket, const char **doing)
{
    const struct record_socket_connection *record = socket->connection;
    int status = connection_deafen(fd);

    *doing = "TCP_REPAIR (CAP_NET_ADMIN)";
    if (status == 0)
        status = connection_set(fd, SOL_TCP, TCP_REPAIR, TCP_REPAIR_ON);
    if (status != 0)
        return status;
    *doing = "sequence numbers";
    status = set_sequences(fd, record);
    if (status != 0)
        return status;
    *doing = "the same addresses (are they this host's, and free?)";
    status = set_addresses(fd, socket);
    if (status != 0)
        return status;
    *doing = "what was agreed on";
    status = set_agreed(fd, record);
    if (status != 0)
        return status;
    *doing = "what was under way";
    status = widen(fd, record);
    if (status == 0)
        status = fill_queues(fd, socket);
    return status == 0 ? (int)sys_call(SYS_setsockopt, fd, SOL_TCP, TCP_REPAIR_WINDOW,
                                       record->window, sizeof record->window)
                       : status;
}

static void set_buffers(int fd, const struct record_socket_connection *record)
{
    (void)connection_set(fd, SOL_SOCKET, SO_SNDBUFFORCE, record->send_buffer / 2);
    (void)connection_set(fd, SOL_SOCKET, SO_RCVBUFFORCE, record->receive_buffer / 2);
    (void)connection_set(fd, SOL_SOCKET, SO_BUF_LOCK, record->buffer_locks);
}

static uint32_t reuse_of(const struct image_socket *socket)
{
    uint32_t value = 0;

    for (uint32_t i = 0; i < socket->option_count; i++)
        if (socket->options[i].record->level == SOL_SOCKET &&
            socket->options[i].record->name == SO_REUSEADDR)
            memcpy(&value, socket->options[i].value, sizeof value);
    return value;
}

/* The other side may be gone: the program finds that out as it would have. */
static int wake(int fd, const struct image_socket *socket, const char **doing)
{
    const struct record_socket_connection *record = socket->connection;
    int status = connection_hear(fd);

    *doing = "the end of TCP_REPAIR";
    if (status == 0)
        status = connection_set(fd, SOL_TCP, TCP_REPAIR, TCP_REPAIR_OFF);
    if (status != 0)
        return status;
    *doing = "what was not sent yet";
    status = send_all(fd, socket->unacknowledged + (record->send_bytes - record->unsent_bytes),
                      record->unsent_bytes);
    if (status == -EAGAIN || status == -ENOMEM || status == -ENOBUFS)
        return status; /* what the program sends next would follow a gap */
    set_buffers(fd, record);
    return connection_set(fd, SOL_SOCKET, SO_REUSEADDR, reuse_of(socket));
}

static uint32_t number_of(const struct process_image *image, uint32_t socket)
{
    const struct record_descriptor *descriptor = NULL;

    for (uint32_t i = 0; i < image->description_count && descriptor == NULL; i++)
        if (image->descriptions[i].record->kind == DESCRIPTION_SOCKET &&
            image->descriptions[i].record->value == socket)
            descriptor = descriptor_of(image, i);
    return descriptor != NULL ? descriptor->number : RECORD_ID_NONE;
}

typedef int one_step(int fd, const struct image_socket *socket, const char **doing);

static int with_one(const struct process_image *image, uint32_t id, int pidfd, one_step *step,
                    struct problem *why)
{
    const struct image_socket *socket = &image->sockets[id];
    uint32_t number = number_of(image, id);
    const char *doing = "its descriptor";
    int fd = (int)sys_call(SYS_pidfd_getfd, pidfd, number, 0);
    int status = fd < 0 ? fd : step(fd, socket, &doing);
    char text[SOCKET_TEXT_BYTES];

    if (fd >= 0)
        (void)sys_close(fd);
    if (status == 0)
        return 0;
    socket_text(socket, text, sizeof text);
    return problem_set(why, status == -EPERM ? STATUS_NOT_PERMITTED : status,
                       "fd %u, a connection of %s: %s: %s; without --tcp-established it comes back "
                       "reset",
                       number, text, doing, status_text(status));
}

static int with_each(const struct process_image *image, int pid, one_step *step,
                     struct problem *why)
{
    int status = 0, pidfd;

    if (connections_count(image) == 0)
        return 0;
    pidfd = (int)sys_call(SYS_pidfd_open, pid, 0);
    if (pidfd < 0)
        return problem_set(why, pidfd, "pidfd_open: %s", status_text(pidfd));
    for (uint32_t i = 0; i < image->socket_count && status == 0; i++)
        if (image->sockets[i].record->state == SOCKET_CONNECTED)
            status = with_one(image, i, pidfd, step, why);
    (void)sys_close(pidfd);
    return status;
}

uint32_t connections_count(const struct process_image *image)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < image->socket_count; i++)
        count += image->sockets[i].record->state == SOCKET_CONNECTED;
    return count;
}

int connections_make(const struct process_image *image, int pid, struct problem *why)
{
    return with_each(image, pid, make, why);
}

int connections_wake(const struct process_image *image, int pid, struct problem *why)
{
    return with_each(image, pid, wake, why);
}
