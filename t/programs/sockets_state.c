/*
 * sockets_state.c - makes sockets of many kinds in the working directory and, at each SIGUSR1,
 * prints what it sees of them: the same each time. SIGUSR2: reads what is unread, and ends.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static struct one {
    const char *name;
    int fd;
} all[64];
static int count, epoll_fd;

static void must(int status, const char *what)
{
    if (status < 0) {
        perror(what);
        exit(99);
    }
}

static int keep(const char *name, int fd)
{
    must(fd, name);
    all[count++] = (struct one){name, fd};
    return fd;
}

static void set(int fd, int level, int name, int value)
{
    must(setsockopt(fd, level, name, &value, sizeof value), "setsockopt");
}

static void bind_internet(int fd, int family)
{
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};

    must(family == AF_INET ? bind(fd, (struct sockaddr *)&four, sizeof four)
                           : bind(fd, (struct sockaddr *)&six, sizeof six),
         "bind");
}

/* A name that begins with '@' is abstract. */
static struct sockaddr_un unix_address(const char *name, socklen_t *bytes)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    strncpy(address.sun_path, name, sizeof address.sun_path - 1);
    *bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name) + 1);
    if (name[0] == '@') {
        address.sun_path[0] = 0;
        --*bytes;
    }
    return address;
}

static void bind_unix(int fd, const char *name)
{
    socklen_t bytes;
    struct sockaddr_un address = unix_address(name, &bytes);

    must(bind(fd, (struct sockaddr *)&address, bytes), name);
}

static void make_internet(void)
{
    struct timeval second = {1, 500000};
    struct linger linger = {1, 7};
    struct sockaddr_in6 nobody = {
        .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT, .sin6_port = htons(9)};
    int fd = keep("tcp4 listening", socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));

    set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set(fd, SOL_TCP, TCP_NODELAY, 1);
    set(fd, SOL_TCP, TCP_KEEPIDLE, 300);
    bind_internet(fd, AF_INET);
    must(listen(fd, 37), "listen");
    keep("its twin", fcntl(fd, F_DUPFD_CLOEXEC, 100));
    fd = keep("tcp6 listening", socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    set(fd, SOL_IPV6, IPV6_V6ONLY, 1);
    set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    bind_internet(fd, AF_INET6);
    must(listen(fd, 5), "listen");
    fd = keep("tcp unbound", socket(AF_INET, SOCK_STREAM, 0));
    set(fd, SOL_SOCKET, SO_SNDBUF, 50000);
    must(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), "SO_LINGER");
    must(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second), "SO_RCVTIMEO");
    fd = keep("tcp bound", socket(AF_INET, SOCK_STREAM, 0));
    bind_internet(fd, AF_INET);
    fd = keep("udp4 bound", socket(AF_INET, SOCK_DGRAM, 0));
    set(fd, SOL_SOCKET, SO_BROADCAST, 1);
    set(fd, SOL_SOCKET, SO_RCVBUF, 30000);
    bind_internet(fd, AF_INET);
    fd = keep("udp6 connected", socket(AF_INET6, SOCK_DGRAM, 0));
    bind_internet(fd, AF_INET6);
    must(connect(fd, (struct sockaddr *)&nobody, sizeof nobody), "connect");
    keep("udp unbound", socket(AF_INET6, SOCK_DGRAM, 0));
}

static void make_unix(void)
{
    char name[64];
    socklen_t bytes;
    struct sockaddr_un address;
    int fd = keep("unix listening", socket(AF_UNIX, SOCK_STREAM, 0));

    bind_unix(fd, "listening");
    must(chmod("listening", 0621), "chmod");
    must(listen(fd, 11), "listen");
    fd = keep("abstract listening", socket(AF_UNIX, SOCK_SEQPACKET, 0));
    snprintf(name, sizeof name, "@sockets-state-%d", (int)getpid());
    bind_unix(fd, name);
    must(listen(fd, 12), "listen");
    fd = keep("unix datagrams", socket(AF_UNIX, SOCK_DGRAM, 0));
    bind_unix(fd, "datagrams");
    set(fd, SOL_SOCKET, SO_PASSCRED, 1);
    fd = keep("unix client", socket(AF_UNIX, SOCK_DGRAM, 0));
    address = unix_address("datagrams", &bytes);
    must(connect(fd, (struct sockaddr *)&address, bytes), "connect");
    keep("unix unbound", socket(AF_UNIX, SOCK_STREAM, 0));
}

static void make_pairs(void)
{
    static char much[90000];
    int ends[2];

    memset(much, 'm', sizeof much);
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), "socketpair");
    keep("stream a", ends[0]);
    keep("stream b", ends[1]);
    must((int)send(ends[0], much, sizeof much, 0), "send");
    must((int)send(ends[1], "backwards", 9, 0), "send");
    must(shutdown(ends[0], SHUT_WR), "shutdown");
    must(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, ends), "socketpair");
    keep("datagram a", ends[0]);
    keep("datagram b", ends[1]);
    set(ends[1], SOL_SOCKET, SO_PASSCRED, 1);
    must((int)send(ends[0], "one", 3, 0), "send");
    must((int)send(ends[0], "and two", 7, 0), "send");
    must((int)send(ends[1], "three", 5, 0), "send");
    must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), "socketpair");
    keep("packet a", ends[0]);
    keep("packet b", ends[1]);
    must((int)send(ends[1], "packet", 6, 0), "send");
    must((int)send(ends[1], "another", 7, 0), "send");
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), "socketpair");
    keep("half", ends[0]);
    must((int)send(ends[1], "last words", 10, 0), "send");
    close(ends[1]);
    must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), "socketpair");
    keep("dead", ends[0]);
    must((int)send(ends[0], "unread", 6, 0), "send");
    close(ends[1]);
    (void)recv(ends[0], much, 1, 0); /* ECONNRESET, once */
}

static void watch_all(void)
{
    must(epoll_fd = epoll_create1(0), "epoll_create1");
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.u32 = (uint32_t)i};

        must(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, all[i].fd, &event), "epoll_ctl");
    }
}

static void print_option(int fd, const char *text, int level, int name)
{
    int value[4] = {0};
    socklen_t bytes = sizeof value;

    if (getsockopt(fd, level, name, value, &bytes) == 0 && (value[0] != 0 || value[1] != 0))
        printf(" %s %d", text, value[0]);
    if (bytes > 4 && value[1] + value[2] != 0)
        printf(" %d %d", value[1], value[2]);
}

static void print_address(const char *text, const struct sockaddr_storage *address, socklen_t bytes)
{
    printf(" %s", text);
    for (socklen_t i = 0; i < bytes; i++)
        printf("%02x", ((const unsigned char *)address)[i]);
}

static void print_addresses(int fd)
{
    struct sockaddr_storage address;
    socklen_t bytes = sizeof address;

    must(getsockname(fd, (struct sockaddr *)&address, &bytes), "getsockname");
    print_address("own", &address, bytes);
    bytes = sizeof address;
    if (getpeername(fd, (struct sockaddr *)&address, &bytes) == 0)
        print_address("peer", &address, bytes);
}

static void print_unread(int fd, int flags)
{
    static char buffer[100000];
    struct pollfd ready = {.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP};
    ssize_t got;

    must(poll(&ready, 1, 0), "poll");
    printf(" events %x", (unsigned)ready.revents);
    got = recv(fd, buffer, sizeof buffer, flags | MSG_DONTWAIT);
    if (got < 0)
        printf(" recv %s", strerrorname_np(errno));
    else
        printf(" recv %zd %.*s", got, got < 20 ? (int)got : 20, buffer);
}

static void print_one(const struct one *one)
{
    struct tcp_info info = {0};
    socklen_t bytes = sizeof info;

    printf("%s: fd %d flags %x %x", one->name, one->fd, fcntl(one->fd, F_GETFD),
           fcntl(one->fd, F_GETFL));
    print_option(one->fd, "domain", SOL_SOCKET, SO_DOMAIN);
    print_option(one->fd, "type", SOL_SOCKET, SO_TYPE);
    print_option(one->fd, "listening", SOL_SOCKET, SO_ACCEPTCONN);
    print_option(one->fd, "reuseaddr", SOL_SOCKET, SO_REUSEADDR);
    print_option(one->fd, "reuseport", SOL_SOCKET, SO_REUSEPORT);
    print_option(one->fd, "keepalive", SOL_SOCKET, SO_KEEPALIVE);
    print_option(one->fd, "broadcast", SOL_SOCKET, SO_BROADCAST);
    print_option(one->fd, "passcred", SOL_SOCKET, SO_PASSCRED);
    print_option(one->fd, "sndbuf", SOL_SOCKET, SO_SNDBUF);
    print_option(one->fd, "rcvbuf", SOL_SOCKET, SO_RCVBUF);
    print_option(one->fd, "linger", SOL_SOCKET, SO_LINGER);
    print_option(one->fd, "timeout", SOL_SOCKET, SO_RCVTIMEO);
    print_option(one->fd, "nodelay", SOL_TCP, TCP_NODELAY);
    print_option(one->fd, "keepidle", SOL_TCP, TCP_KEEPIDLE);
    print_option(one->fd, "v6only", SOL_IPV6, IPV6_V6ONLY);
    if (getsockopt(one->fd, SOL_TCP, TCP_INFO, &info, &bytes) == 0)
        printf(" state %u backlog %u", info.tcpi_state, info.tcpi_sacked);
    print_addresses(one->fd);
    print_unread(one->fd, MSG_PEEK);
    printf("\n");
}

static void report(void)
{
    struct epoll_event events[64];
    struct stat stat_buffer = {0};
    int ready = epoll_wait(epoll_fd, events, 64, 0);
    unsigned long sum = 0;

    for (int i = 0; i < count; i++)
        print_one(&all[i]);
    for (int i = 0; i < ready; i++)
        sum += (events[i].data.u32 + 1) * 1000003ul * events[i].events;
    must(stat("listening", &stat_buffer), "stat");
    printf("epoll %d %lu, mode %o\nend\n", ready, sum, (unsigned)stat_buffer.st_mode);
    fflush(stdout);
}

static void read_all(void)
{
    for (int i = 0; i < count; i++) {
        printf("%s:", all[i].name);
        for (int j = 0; j < 3; j++)
            print_unread(all[i].fd, 0);
        printf("\n");
    }
}

int main(void)
{
    sigset_t both;
    int number = 0;

    sigemptyset(&both);
    sigaddset(&both, SIGUSR1);
    sigaddset(&both, SIGUSR2);
    sigprocmask(SIG_BLOCK, &both, NULL);
    make_internet();
    make_unix();
    make_pairs();
    watch_all();
    printf("ready\n");
    fflush(stdout);
    while (sigwait(&both, &number) == 0 && number == SIGUSR1)
        report();
    read_all();
    return 0;
}
