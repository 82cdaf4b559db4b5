/*
 * socket_pairs.c - Unix sockets with both ends inside the program, and those whose other end has
 * been closed; what is unread in them, message by message.
 *
 * Always true: looking at a queue takes nothing out of it. Messages are looked at one after the
 * other by way of SO_PEEK_OFF, which is put back. A pair is made once and each end used once.
 */
#include <errno.h>
#include <string.h>
#include "core/process/sockets.h"

#define STREAM_PART_BYTES      65536u
#define MESSAGE_OVERHEAD_BYTES 4096u
#define EMPTY_MAX              64 /* datagrams without content in a row; they are not kept */

/* Descriptors under way show as a truncated control message where there is no room for one; a
 * socket that is given credentials has room for those alone. */
static long peek(const struct socket_look *look, void *buffer, size_t bytes, bool *has_control)
{
    char control[CMSG_SPACE(sizeof(struct ucred))] __attribute__((aligned(8)));
    struct iovec vector = {buffer, bytes};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    uint32_t credentials = 0;
    long got;

    if (socket_number(look->fd, SOL_SOCKET, SO_PASSCRED, &credentials) == 0 && credentials != 0) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
    }
    got = sys_call(SYS_recvmsg, look->fd, &message,
                   MSG_PEEK | MSG_DONTWAIT | (bytes == 0 ? MSG_TRUNC : 0));
    *has_control = got >= 0 && (message.msg_flags & MSG_CTRUNC);
    return got;
}

/* One message, or a part of a stream: its bytes, 0 for none, -EAGAIN at the end. */
static long peek_message(struct descriptor_run *run, const struct socket_look *look,
                         bool *has_control)
{
    struct record_socket_message record = {.socket = look->record.id};
    long bytes = STREAM_PART_BYTES;
    uint8_t *content;

    if (look->record.type != SOCK_STREAM)
        bytes = peek(look, NULL, 0, has_control);
    if (bytes <= 0 || *has_control)
        return bytes;
    content = arena_alloc(run->run->capture->scratch, (size_t)bytes, 16);
    if (content == NULL)
        return -ENOMEM;
    bytes = peek(look, content, (size_t)bytes, has_control);
    if (bytes > 0 && !*has_control)
        record_put(run->run->out, RECORD_SOCKET_MESSAGE, &record, sizeof record, content,
                   (size_t)bytes);
    return bytes;
}

static int peek_all(struct descriptor_run *run, const struct socket_look *look)
{
    bool has_control = false;
    int empty = 0;
    long got = 1;

    while (got >= 0 && empty < EMPTY_MAX && !has_control) {
        got = peek_message(run, look, &has_control);
        empty = got == 0 ? empty + 1 : 0;
        if (got == 0 && look->record.type == SOCK_STREAM)
            break;
    }
    if (has_control)
        return socket_obstacle(run, look->description,
                               "a Unix socket with descriptors under way (SCM_RIGHTS)");
    if (got < 0 && got != -EAGAIN)
        return problem_set(run->run->why, (int)got, "fd %u: what is unread in a socket: %s",
                           look->description->number, status_text((int)got));
    return 0;
}

int capture_socket_messages(struct descriptor_run *run, const struct socket_look *look)
{
    const uint32_t begin = 0;
    uint32_t before = 0;
    int status = socket_number(look->fd, SOL_SOCKET, SO_PEEK_OFF, &before);

    if (status == 0)
        status =
            (int)sys_call(SYS_setsockopt, look->fd, SOL_SOCKET, SO_PEEK_OFF, &begin, sizeof begin);
    if (status != 0)
        return problem_set(run->run->why, status, "fd %u: SO_PEEK_OFF: %s",
                           look->description->number, status_text(status));
    status = peek_all(run, look);
    (void)sys_call(SYS_setsockopt, look->fd, SOL_SOCKET, SO_PEEK_OFF, &before, sizeof before);
    return status;
}

static void make_pair(struct descriptor_rebuild *run, uint32_t type, struct opened ends[2],
                      const char *what)
{
    struct batch *batch = run->rebuild->batch;
    uint64_t room = batch_room(batch, 8);

    batch_add(batch, what, SYS_socketpair, BATCH_ARGS(AF_UNIX, type | SOCK_CLOEXEC, 0, room));
    for (unsigned i = 0; i < 2; i++)
        ends[i] = opened_move_up(run, (struct opened){.value = room + 4u * i, .how = BATCH_INT_AT});
}

static void set_options(struct batch *batch, const struct image_socket *socket,
                        struct opened opened, const char *what)
{
    rebuild_socket_options(batch, socket, opened, what, true);
    rebuild_socket_options(batch, socket, opened, what, false);
}

/* What was sent in pieces, or by sendfile, may take more of the buffer when it is sent whole. */
static void widen_buffer(struct batch *batch, const struct image_socket *socket,
                         struct opened other, const char *what)
{
    static const int names[] = {SO_SNDBUF, SO_SNDBUFFORCE};
    uint64_t bytes = MESSAGE_OVERHEAD_BYTES;
    uint32_t wanted;

    for (uint32_t i = 0; i < socket->message_count; i++)
        bytes += socket->messages[i].bytes + MESSAGE_OVERHEAD_BYTES;
    wanted = bytes < INT32_MAX / 2 ? (uint32_t)bytes : INT32_MAX / 2;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        opened_add(batch, what, SYS_setsockopt, other,
                   BATCH_ARGS(0, SOL_SOCKET, (uint64_t)names[i], batch_data(batch, &wanted, 4), 4));
        batch_may_fail(batch); /* not permitted: as far as it goes */
    }
}

/* What is unread in `socket` is sent again through its other end, whose buffer size is to be set
 * behind this. */
static void send_messages(struct batch *batch, const struct image_socket *socket,
                          struct opened other, const char *what)
{
    if (socket->message_count > 0)
        widen_buffer(batch, socket, other, what);
    for (uint32_t i = 0; i < socket->message_count; i++) {
        const struct image_socket_message *message = &socket->messages[i];
        uint64_t content = batch_data(batch, message->content, message->bytes);

        opened_add(batch, what, SYS_sendto, other,
                   BATCH_ARGS(0, content, message->bytes, MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0));
        batch_expect(batch, message->bytes);
    }
}

static void shut_down(struct batch *batch, const struct image_socket *socket, struct opened opened,
                      const char *what)
{
    if (socket->record->shutdown != 0)
        opened_call(batch, what, SYS_shutdown, opened, socket->record->shutdown - 1, 0, 0);
}

struct opened open_socket_pair(struct descriptor_rebuild *run, uint32_t id, const char *what)
{
    const struct process_image *image = run->rebuild->image;
    uint32_t other = image->sockets[id].record->other_end;
    uint32_t ids[2] = {id, (uint32_t)image->descriptions[other].record->value};
    struct batch *batch = run->rebuild->batch;
    struct opened ends[2];

    if (run->socket_made[id])
        return run->socket_ends[id];
    make_pair(run, image->sockets[id].record->type, ends, what);
    for (int i = 0; i < 2; i++) { /* credentials go with messages, so options come first */
        set_options(batch, &image->sockets[ids[i]], ends[i], what);
        rebuild_bind(run, &image->sockets[ids[i]], ends[i], what);
    }
    for (int i = 0; i < 2; i++)
        send_messages(batch, &image->sockets[ids[i]], ends[!i], what);
    for (int i = 0; i < 2; i++) {
        rebuild_socket_options(batch, &image->sockets[ids[i]], ends[i], what, false);
        shut_down(batch, &image->sockets[ids[i]], ends[i], what);
        run->socket_ends[ids[i]] = ends[i];
        run->socket_made[ids[i]] = true;
    }
    return ends[0];
}

struct opened open_socket_ended(struct descriptor_rebuild *run, const struct image_socket *socket,
                                const char *what)
{
    struct batch *batch = run->rebuild->batch;
    struct opened ends[2];

    make_pair(run, socket->record->type, ends, what);
    set_options(batch, socket, ends[0], what);
    send_messages(batch, socket, ends[1], what);
    opened_call(batch, what, SYS_close, ends[1], 0, 0, 0);
    return ends[0];
}
