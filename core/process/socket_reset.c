/*
 * socket_reset.c - connections to other processes. The other side was told of the end when the
 * program died; the program finds its own side reset: ECONNRESET at the next call, EPOLLERR and
 * EPOLLHUP, then end of file and EPIPE, as if the network had done it. It drops the client and goes
 * on. (Never a plain end of file: that would make half an answer look like a whole one.)
 *
 * How a socket gets there: over loopback it is connected to a listener of ours, which
 * accepts and closes with SO_LINGER 0, whereupon the kernel sends a reset. A Unix socket
 * is one of a pair whose other end is closed with a byte unread in it.
 *
 * Always true: no peer is left over; the listeners are private descriptors, closed with the others.
 */
#include <netinet/in.h>
#include <string.h>
#include "core/process/sockets.h"

static struct opened made(size_t call)
{
    return (struct opened){.value = call, .how = BATCH_RESULT};
}

/* 127.0.0.1; for IPv6 the same, mapped: it is there even where IPv6 has no loopback address. */
static uint64_t loopback_address(struct batch *batch, bool six, uint32_t *bytes)
{
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = 0x0100007f};
    struct sockaddr_in6 mapped = {.sin6_family = AF_INET6};

    memset(mapped.sin6_addr.s6_addr + 10, 0xff, 2);
    memcpy(mapped.sin6_addr.s6_addr + 12, &four.sin_addr, 4);
    *bytes = six ? sizeof mapped : sizeof four;
    return batch_data(batch, six ? (void *)&mapped : (void *)&four, *bytes);
}

static struct opened new_socket(struct batch *batch, uint64_t family, const char *what)
{
    const uint32_t off = 0;
    struct opened opened =
        made(batch_add(batch, what, SYS_socket, BATCH_ARGS(family, SOCK_STREAM | SOCK_CLOEXEC, 0)));

    if (family == AF_INET6)
        opened_add(batch, what, SYS_setsockopt, opened,
                   BATCH_ARGS(0, SOL_IPV6, IPV6_V6ONLY, batch_data(batch, &off, 4), 4));
    return opened;
}

static const struct reset_listener *need_listener(struct descriptor_rebuild *run, bool six)
{
    struct reset_listener *listener = &run->reset_listeners[six];
    struct batch *batch = run->rebuild->batch;
    const char *what = "a listener on the loopback interface, to reset connections with";
    uint32_t bytes;

    if (listener->made)
        return listener;
    listener->opened = opened_move_up(run, new_socket(batch, six ? AF_INET6 : AF_INET, what));
    listener->address = loopback_address(batch, six, &bytes);
    opened_call(batch, what, SYS_bind, listener->opened, listener->address, bytes, 0);
    opened_call(batch, what, SYS_listen, listener->opened, 1, 0, 0);
    opened_call(batch, what, SYS_getsockname, listener->opened, listener->address,
                batch_data(batch, &bytes, sizeof bytes), 0);
    listener->made = true;
    return listener;
}

static struct opened reset_connection(struct descriptor_rebuild *run, uint32_t family,
                                      const char *what)
{
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    const struct reset_listener *listener = need_listener(run, family == AF_INET6);
    struct batch *batch = run->rebuild->batch;
    struct opened ours = new_socket(batch, family, what), peer;

    opened_call(batch, what, SYS_connect, ours, listener->address,
                family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in), 0);
    peer = made(opened_call(batch, what, SYS_accept4, listener->opened, 0, 0, SOCK_CLOEXEC));
    opened_add(batch, what, SYS_setsockopt, peer,
               BATCH_ARGS(0, SOL_SOCKET, SO_LINGER, batch_data(batch, &at_once, sizeof at_once),
                          sizeof at_once));
    opened_call(batch, what, SYS_close, peer, 0, 0, 0);
    return ours;
}

static struct opened reset_unix(struct batch *batch, uint32_t type, const char *what)
{
    uint64_t ends = batch_room(batch, 8);
    struct opened ours = {.value = ends, .how = BATCH_INT_AT};
    struct opened other = {.value = ends + 4, .how = BATCH_INT_AT};

    batch_add(batch, what, SYS_socketpair, BATCH_ARGS(AF_UNIX, type | SOCK_CLOEXEC, 0, ends));
    opened_add(batch, what, SYS_sendto, ours, BATCH_ARGS(0, ends, 1, MSG_DONTWAIT, 0, 0));
    opened_call(batch, what, SYS_close, other, 0, 0, 0);
    return ours;
}

struct opened open_socket_reset(struct descriptor_rebuild *run, const struct image_socket *socket,
                                const char *what)
{
    const struct record_socket *record = socket->record;

    return record->family == AF_UNIX ? reset_unix(run->rebuild->batch, record->type, what)
                                     : reset_connection(run, record->family, what);
}
