/*
 * sockets.c - sockets: which there are and in which state, and the open and the listening ones made
 * again. The other states have files of their own (sockets.h).
 *
 * What other processes hold of a connection died with the program. So a socket that listened
 * listens again, at the same address with the same options; one that was connected, or about to be,
 * comes back reset, unless it is kept (connections.h); what was under way in the network, and
 * connections that had not been accepted, are gone. A Unix socket pair inside the program is inside
 * the image, whole.
 *
 * Connected sockets that are standard streams are stdio_files.c's.
 *
 * Always true: a socket is looked at through a descriptor that is borrowed and given back, and what
 * is done with it changes nothing that the program can see.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include "core/base/format_text.h"
#include "core/process/sockets.h"

#define SHUT_BOTH 3u

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

int socket_number(int fd, int level, int name, uint32_t *value)
{
    uint32_t bytes = sizeof *value;

    return (int)sys_call(SYS_getsockopt, fd, level, name, value, &bytes);
}

int socket_obstacle(struct descriptor_run *run, const struct open_description *description,
                    const char *what)
{
    return problem_set(run->run->why, STATUS_UNSUPPORTED,
                       "fd %u: %s cannot be checkpointed; close it, or run the program without it",
                       description->number, what);
}

static int look_failed(struct descriptor_run *run, const struct socket_look *look, const char *what,
                       long status)
{
    return problem_set(run->run->why, (int)status, "fd %u: %s of a socket: %s",
                       look->description->number, what, status_text((int)status));
}

/* SYS_getsockname or SYS_getpeername; an address that says nothing has 0 bytes. */
static uint32_t address_of(const struct socket_look *look, long call, uint8_t *address)
{
    uint32_t bytes = SOCKET_ADDRESS_BYTES, longest = sizeof(struct sockaddr_un);
    struct sockaddr_in port; /* stands where that of IPv6 does */

    if (sys_call(call, look->fd, address, &bytes) != 0)
        return 0;
    if (look->record.family == AF_UNIX)
        return bytes <= sizeof(sa_family_t) ? 0 : bytes < longest ? bytes : longest;
    memcpy(&port, address, sizeof port);
    return port.sin_port != 0 ? bytes : 0;
}

/* A connection that has ended is not one that was never made: there is an end of file to read. */
static bool has_ended(int fd)
{
    struct pollfd ended = {.fd = fd, .events = POLLRDHUP};

    return sys_call(SYS_poll, &ended, 1, 0) > 0 && (ended.revents & POLLRDHUP);
}

static int look_connected(struct descriptor_run *run, struct socket_look *look,
                          const struct tcp_info *info)
{
    int status = capture_connection(run, look, info);

    look->record.state = SOCKET_RESET;
    if (status <= 0)
        return status;
    look->record.state = SOCKET_CONNECTED;
    look->record.address_bytes = address_of(look, SYS_getsockname, look->address);
    look->record.peer_bytes = address_of(look, SYS_getpeername, look->peer);
    return 0;
}

static int look_tcp(struct descriptor_run *run, struct socket_look *look)
{
    struct tcp_info info = {0};
    uint32_t bytes = sizeof info;
    long status = sys_call(SYS_getsockopt, look->fd, SOL_TCP, TCP_INFO, &info, &bytes);

    if (status != 0)
        return look_failed(run, look, "TCP_INFO", status);
    if (info.tcpi_state == TCP_LISTEN) {
        look->record.state = SOCKET_LISTENING;
        look->record.backlog = info.tcpi_sacked; /* so says tcp_get_info() of a listening one */
    } else if (info.tcpi_state == TCP_CLOSE && !has_ended(look->fd)) {
        look->record.state = SOCKET_OPEN;
    } else {
        return look_connected(run, look, &info);
    }
    look->record.address_bytes = address_of(look, SYS_getsockname, look->address);
    return 0;
}

static int look_udp(struct descriptor_run *run, struct socket_look *look)
{
    (void)run;
    look->record.state = SOCKET_OPEN;
    look->record.address_bytes = address_of(look, SYS_getsockname, look->address);
    look->record.peer_bytes = address_of(look, SYS_getpeername, look->peer);
    return 0;
}

/* The description of the socket with this inode, RECORD_ID_NONE if it is not the program's. */
static uint32_t find_socket(const struct descriptor_run *run, uint32_t inode)
{
    for (uint32_t i = 0; i < run->count; i++)
        if (S_ISSOCK(run->descriptions[i].stat.st_mode) &&
            (uint32_t)run->descriptions[i].stat.st_ino == inode)
            return i;
    return RECORD_ID_NONE;
}

/* Do two datagram sockets without a place in the file system have nobody but each other? */
static bool is_mutual(struct descriptor_run *run, const struct socket_look *look, uint32_t peer)
{
    struct unix_socket_state other;
    char path[sizeof(struct sockaddr_un)];

    return !socket_path(look->address, look->record.address_bytes, path) &&
           !socket_path(look->peer, look->record.peer_bytes, path) &&
           socket_diag_unix(run, (uint32_t)run->descriptions[peer].stat.st_ino, &other) == 0 &&
           other.peer_inode == (uint32_t)look->description->stat.st_ino;
}

static void decide_datagram(struct descriptor_run *run, struct socket_look *look,
                            const struct unix_socket_state *state)
{
    uint32_t peer = state->peer_inode != 0 ? find_socket(run, state->peer_inode) : RECORD_ID_NONE;

    look->record.state = SOCKET_OPEN;
    if (peer != RECORD_ID_NONE && is_mutual(run, look, peer)) {
        look->record.state = SOCKET_PAIR;
        look->record.other_end = peer;
    } else if (state->connected && look->record.peer_bytes == 0 &&
               look->record.address_bytes == 0) {
        look->record.state = SOCKET_RESET;
    }
}

static void decide_stream(struct descriptor_run *run, struct socket_look *look,
                          const struct unix_socket_state *state)
{
    uint32_t peer = state->peer_inode != 0 ? find_socket(run, state->peer_inode) : RECORD_ID_NONE;

    if (state->state == TCP_LISTEN) {
        look->record.state = SOCKET_LISTENING;
        look->record.backlog = state->backlog;
    } else if (!state->connected && state->shutdown != SHUT_BOTH) {
        look->record.state = SOCKET_OPEN;
    } else if (peer != RECORD_ID_NONE) {
        look->record.state = SOCKET_PAIR;
        look->record.other_end = peer;
    } else {
        look->record.state =
            state->peer_inode == 0 && state->shutdown == SHUT_BOTH ? SOCKET_ENDED : SOCKET_RESET;
    }
}

static int look_unix(struct descriptor_run *run, struct socket_look *look)
{
    struct unix_socket_state state;
    int status = socket_diag_unix(run, (uint32_t)look->description->stat.st_ino, &state);

    if (status != 0)
        return look_failed(run, look, "the diagnosis (NETLINK_SOCK_DIAG)", status);
    look->record.address_bytes = address_of(look, SYS_getsockname, look->address);
    look->record.peer_bytes = address_of(look, SYS_getpeername, look->peer);
    look->record.shutdown = state.shutdown;
    if (look->record.type == SOCK_DGRAM)
        decide_datagram(run, look, &state);
    else
        decide_stream(run, look, &state);
    if (look->record.state == SOCKET_OPEN || look->record.state == SOCKET_LISTENING)
        return capture_socket_file(run, look, state.file_inode);
    look->record.peer_bytes = 0;
    if (look->record.state != SOCKET_PAIR || look->record.type != SOCK_DGRAM)
        look->record.address_bytes = 0; /* its listener's, or of no use any more */
    return 0;
}

static const struct supported_socket {
    uint32_t family, type, protocol;
    int (*look)(struct descriptor_run *run, struct socket_look *look);
} supported[] = {
    {AF_INET, SOCK_STREAM, IPPROTO_TCP, look_tcp},
    {AF_INET6, SOCK_STREAM, IPPROTO_TCP, look_tcp},
    {AF_INET, SOCK_STREAM, IPPROTO_MPTCP, look_tcp},
    {AF_INET6, SOCK_STREAM, IPPROTO_MPTCP, look_tcp},
    {AF_INET, SOCK_DGRAM, IPPROTO_UDP, look_udp},
    {AF_INET6, SOCK_DGRAM, IPPROTO_UDP, look_udp},
    {AF_UNIX, SOCK_STREAM, 0, look_unix},
    {AF_UNIX, SOCK_DGRAM, 0, look_unix},
    {AF_UNIX, SOCK_SEQPACKET, 0, look_unix},
};

static const struct supported_socket *find_supported(const struct record_socket *record)
{
    for (size_t i = 0; i < sizeof supported / sizeof *supported; i++)
        if (supported[i].family == record->family && supported[i].type == record->type &&
            supported[i].protocol == record->protocol)
            return &supported[i];
    return NULL;
}

bool socket_is_supported(const struct record_socket *record)
{
    return find_supported(record) != NULL;
}

static int refuse(struct descriptor_run *run, const struct socket_look *look)
{
    static const struct {
        uint32_t family;
        const char *name;
    } names[] = {
        {AF_NETLINK, "a netlink socket"},       {AF_PACKET, "a packet socket"},
        {AF_INET, "a raw IPv4 socket"},         {AF_INET6, "a raw IPv6 socket"},
        {AF_ALG, "a socket of the crypto API"}, {AF_VSOCK, "a vsock socket"},
        {AF_BLUETOOTH, "a bluetooth socket"},   {AF_CAN, "a CAN socket"},
    };
    char text[48];

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].family == look->record.family)
            return socket_obstacle(run, look->description, names[i].name);
    format_text(text, sizeof text, "a socket of family %u", look->record.family);
    return socket_obstacle(run, look->description, text);
}

static int look_at(struct descriptor_run *run, struct socket_look *look)
{
    struct record_socket *record = &look->record;
    const struct supported_socket *kind;
    int status = socket_number(look->fd, SOL_SOCKET, SO_DOMAIN, &record->family);

    if (status == 0)
        status = socket_number(look->fd, SOL_SOCKET, SO_TYPE, &record->type);
    if (status == 0)
        status = socket_number(look->fd, SOL_SOCKET, SO_PROTOCOL, &record->protocol);
    if (status != 0)
        return look_failed(run, look, "the kind", status);
    kind = find_supported(record);
    if (kind == NULL)
        return look->description->standard >= 0 ? 0 : refuse(run, look);
    return kind->look(run, look);
}

/* The other side of a standard stream is the restorer's business. */
static bool is_standard_stream(const struct socket_look *look)
{
    return look->description->standard >= 0 &&
           (look->record.state == 0 || look->record.state == SOCKET_RESET ||
            look->record.state == SOCKET_ENDED);
}

static int put_socket(struct descriptor_run *run, const struct socket_look *look)
{
    const struct record_socket *record = &look->record;
    uint8_t tail[2 * SOCKET_ADDRESS_BYTES];

    memcpy(tail, look->address, record->address_bytes);
    memcpy(tail + record->address_bytes, look->peer, record->peer_bytes);
    record_put(run->run->out, RECORD_SOCKET, record, sizeof *record, tail,
               record->address_bytes + record->peer_bytes);
    if (record->state == SOCKET_RESET)
        return 0;
    capture_socket_options(run, look);
    if (record->state == SOCKET_CONNECTED)
        return capture_connection_content(run, look);
    return record->state == SOCKET_PAIR || record->state == SOCKET_ENDED
               ? capture_socket_messages(run, look)
               : 0;
}

static int capture_socket(struct descriptor_run *run, const struct open_description *description,
                          struct record_description *record)
{
    struct socket_look look = {.description = description,
                               .record = {.id = run->socket_count, .other_end = RECORD_ID_NONE}};
    bool ours = false;
    int status;

    if (!S_ISSOCK(description->stat.st_mode))
        return 0;
    look.fd = descriptor_borrow(run->run, description->number);
    if (look.fd < 0)
        return look.fd;
    status = look_at(run, &look);
    if (status == 0 && !is_standard_stream(&look)) {
        ours = true;
        status = put_socket(run, &look);
    }
    (void)sys_close(look.fd);
    if (status != 0 || !ours)
        return status;
    record->kind = DESCRIPTION_SOCKET;
    record->value = run->socket_count++;
    return 1;
}

static struct opened open_new(struct descriptor_rebuild *run, const struct image_socket *socket,
                              const char *what)
{
    const struct record_socket *record = socket->record;
    struct batch *batch = run->rebuild->batch;
    struct opened opened = {
        .value =
            batch_add(batch, what, SYS_socket,
                      BATCH_ARGS(record->family, record->type | SOCK_CLOEXEC, record->protocol)),
        .how = BATCH_RESULT};

    rebuild_socket_options(batch, socket, opened, what, true);
    return opened;
}

/* connections_make() does the rest, from outside. */
static struct opened open_unconnected(struct descriptor_rebuild *run,
                                      const struct image_socket *socket, const char *what)
{
    struct opened opened = open_new(run, socket, what);

    rebuild_socket_options(run->rebuild->batch, socket, opened, what, false);
    return opened;
}

static struct opened open_plain(struct descriptor_rebuild *run, const struct image_socket *socket,
                                const char *what)
{
    const struct record_socket *record = socket->record;
    struct batch *batch = run->rebuild->batch;
    struct opened opened = open_new(run, socket, what);

    rebuild_bind(run, socket, opened, what);
    rebuild_socket_options(batch, socket, opened, what, false);
    if (record->state == SOCKET_LISTENING)
        opened_call(batch, what, SYS_listen, opened, record->backlog, 0, 0);
    if (record->peer_bytes > 0) {
        opened_call(batch, what, SYS_connect, opened,
                    batch_data(batch, socket->peer, record->peer_bytes), record->peer_bytes, 0);
        batch_may_fail(batch); /* nobody there, as it may be with datagrams at any time */
    }
    return opened;
}

static struct opened open_socket(struct descriptor_rebuild *run,
                                 const struct image_description *description)
{
    uint32_t id = (uint32_t)description->record->value;
    const struct image_socket *socket = &run->rebuild->image->sockets[id];
    char text[SOCKET_TEXT_BYTES];
    struct opened opened;
    const char *what;

    socket_text(socket, text, sizeof text);
    what = rebuild_text(run->rebuild, "socket %u, %s", id, text);
    if (socket->record->state == SOCKET_CONNECTED && run->rebuild->keeps_connections)
        opened = open_unconnected(run, socket, what);
    else if (socket->record->state == SOCKET_RESET || socket->record->state == SOCKET_CONNECTED)
        opened = open_socket_reset(run, socket, what);
    else if (socket->record->state == SOCKET_PAIR)
        opened = open_socket_pair(run, id, what);
    else if (socket->record->state == SOCKET_ENDED)
        opened = open_socket_ended(run, socket, what);
    else
        opened = open_plain(run, socket, what);
    opened_set_flags(run->rebuild->batch, opened, description->record->open_flags);
    return opened;
}

const struct description_kind socket_kind = {capture_socket, open_socket};
