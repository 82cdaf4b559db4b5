/*
 * socket_options.c - the options of sockets that are kept: those of the table that differ from what
 * a new socket has.
 *
 * A connection that comes back reset keeps none. Buffer sizes are kept if the program has set them
 * (the kernel's own tuning goes on by itself), and those of Unix sockets, which have no tuning.
 *
 * Always true: an option in a record is one of the table, with a value of its size.
 */
#include <errno.h>
#include <linux/socket.h>
#include <linux/udp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include "core/process/sockets.h"

#define VALUE_BYTES SOCKET_OPTION_BYTES_MAX

enum whose { ANY, INTERNET, IPV6, TCP, UDP, UNIX };

struct socket_option {
    int level, name;
    uint32_t bytes;
    enum whose whose;
    uint32_t usual; /* what a new socket has, for the first four bytes; the rest is 0 */
    bool early;     /* bind() looks at it */
};

static const struct socket_option kept_options[] = {
    {SOL_SOCKET, SO_REUSEADDR, 4, INTERNET, 0, true},
    {SOL_SOCKET, SO_REUSEPORT, 4, INTERNET, 0, true},
    {SOL_SOCKET, SO_BINDTODEVICE, 16, INTERNET, 0, true},
    {SOL_IP, IP_FREEBIND, 4, INTERNET, 0, true},
    {SOL_IP, IP_TRANSPARENT, 4, INTERNET, 0, true},
    {SOL_IPV6, IPV6_V6ONLY, 4, IPV6, 0, true},
    {SOL_SOCKET, SO_KEEPALIVE, 4, INTERNET, 0, false},
    {SOL_SOCKET, SO_BROADCAST, 4, INTERNET, 0, false},
    {SOL_SOCKET, SO_OOBINLINE, 4, INTERNET, 0, false},
    {SOL_SOCKET, SO_DONTROUTE, 4, INTERNET, 0, false},
    {SOL_SOCKET, SO_PRIORITY, 4, INTERNET, 0, false},
    {SOL_SOCKET, SO_MARK, 4, INTERNET, 0, false},
    {SOL_SOCKET, SO_PASSCRED, 4, UNIX, 0, false},
    {SOL_SOCKET, SO_LINGER, 8, ANY, 0, false},
    {SOL_SOCKET, SO_RCVLOWAT, 4, ANY, 1, false},
    {SOL_SOCKET, SO_RCVTIMEO, 16, ANY, 0, false},
    {SOL_SOCKET, SO_SNDTIMEO, 16, ANY, 0, false},
    {SOL_SOCKET, SO_TIMESTAMP, 4, ANY, 0, false},
    {SOL_SOCKET, SO_TIMESTAMPNS, 4, ANY, 0, false},
    {SOL_SOCKET, SO_SNDBUF, 4, ANY, 0, false},
    {SOL_SOCKET, SO_RCVBUF, 4, ANY, 0, false},
    {SOL_IP, IP_TOS, 4, INTERNET, 0, false},
    {SOL_IP, IP_TTL, 4, INTERNET, 64, false},
    {SOL_IP, IP_PKTINFO, 4, INTERNET, 0, false},
    {SOL_IP, IP_RECVERR, 4, INTERNET, 0, false},
    {SOL_IP, IP_MULTICAST_TTL, 4, UDP, 1, false},
    {SOL_IP, IP_MULTICAST_LOOP, 4, UDP, 1, false},
    {SOL_IPV6, IPV6_RECVPKTINFO, 4, IPV6, 0, false},
    {SOL_IPV6, IPV6_RECVERR, 4, IPV6, 0, false},
    {SOL_IPV6, IPV6_TCLASS, 4, IPV6, 0, false},
    {SOL_TCP, TCP_NODELAY, 4, TCP, 0, false},
    {SOL_TCP, TCP_CORK, 4, TCP, 0, false},
    {SOL_TCP, TCP_KEEPIDLE, 4, TCP, 7200, false},
    {SOL_TCP, TCP_KEEPINTVL, 4, TCP, 75, false},
    {SOL_TCP, TCP_KEEPCNT, 4, TCP, 9, false},
    {SOL_TCP, TCP_DEFER_ACCEPT, 4, TCP, 0, false},
    {SOL_TCP, TCP_USER_TIMEOUT, 4, TCP, 0, false},
    {IPPROTO_UDP, UDP_SEGMENT, 4, UDP, 0, false},
    {IPPROTO_UDP, UDP_GRO, 4, UDP, 0, false},
};

#define KEPT (sizeof kept_options / sizeof *kept_options)

static bool has_option(const struct record_socket *socket, enum whose whose)
{
    switch (whose) {
    case ANY:
        return true;
    case INTERNET:
        return socket->family != AF_UNIX;
    case IPV6:
        return socket->family == AF_INET6;
    case TCP:
        return socket->family != AF_UNIX && socket->type == SOCK_STREAM;
    case UDP:
        return socket->family != AF_UNIX && socket->type == SOCK_DGRAM;
    case UNIX:
        return socket->family == AF_UNIX;
    }
    return false;
}

static bool is_buffer(const struct socket_option *option)
{
    return option->level == SOL_SOCKET && (option->name == SO_SNDBUF || option->name == SO_RCVBUF);
}

/* Buffers: the kernel gives back twice what was asked for. */
static bool was_set(const struct socket_option *option, uint32_t locks, uint32_t *value)
{
    static const uint32_t rest[VALUE_BYTES / 4 - 1];

    if (is_buffer(option)) {
        *value /= 2;
        return locks & (option->name == SO_SNDBUF ? SOCK_SNDBUF_LOCK : SOCK_RCVBUF_LOCK);
    }
    return *value != option->usual || memcmp(value + 1, rest, sizeof rest) != 0;
}

void capture_socket_options(struct descriptor_run *run, const struct socket_look *look)
{
    uint32_t locks = 0;

    if (socket_number(look->fd, SOL_SOCKET, SO_BUF_LOCK, &locks) != 0)
        locks = 0; /* before Linux 5.14: not told */
    for (size_t i = 0; i < KEPT; i++) {
        const struct socket_option *option = &kept_options[i];
        struct record_socket_option record = {.socket = look->record.id,
                                              .level = (uint32_t)option->level,
                                              .name = (uint32_t)option->name};
        uint32_t value[VALUE_BYTES / 4] = {0}, bytes = option->bytes;

        if (!has_option(&look->record, option->whose) ||
            sys_call(SYS_getsockopt, look->fd, option->level, option->name, value, &bytes) != 0)
            continue; /* a kernel or a protocol without it */
        if (look->record.state == SOCKET_CONNECTED && option->name == SO_REUSEADDR &&
            option->level == SOL_SOCKET)
            value[0] = look->reuse;
        if (was_set(option, look->record.family == AF_UNIX ? ~0u : locks, value))
            record_put(run->run->out, RECORD_SOCKET_OPTION, &record, sizeof record, value,
                       option->bytes);
    }
}

static const struct socket_option *find_option(const struct record_socket_option *record)
{
    for (size_t i = 0; i < KEPT; i++)
        if ((uint32_t)kept_options[i].level == record->level &&
            (uint32_t)kept_options[i].name == record->name)
            return &kept_options[i];
    return NULL;
}

bool socket_option_is_known(const struct record_socket_option *record, uint32_t bytes)
{
    const struct socket_option *option = find_option(record);

    return option != NULL && option->bytes == bytes;
}

/* Beyond the limit for ordinary users, where that is permitted as it may have been before. */
static void force_buffer(struct batch *batch, const struct socket_option *option,
                         struct opened opened, const void *value, const char *what)
{
    uint64_t name = option->name == SO_SNDBUF ? SO_SNDBUFFORCE : SO_RCVBUFFORCE;

    opened_add(batch, what, SYS_setsockopt, opened,
               BATCH_ARGS(0, SOL_SOCKET, name, batch_data(batch, value, 4), 4));
    batch_may_fail(batch);
}

void rebuild_socket_options(struct batch *batch, const struct image_socket *socket,
                            struct opened opened, const char *what, bool early)
{
    for (uint32_t i = 0; i < socket->option_count; i++) {
        const struct image_socket_option *option = &socket->options[i];
        const struct socket_option *known = find_option(option->record);

        if (known->early != early)
            continue;
        opened_add(batch, what, SYS_setsockopt, opened,
                   BATCH_ARGS(0, option->record->level, option->record->name,
                              batch_data(batch, option->value, known->bytes), known->bytes));
        if (is_buffer(known))
            force_buffer(batch, known, opened, option->value, what);
    }
}
