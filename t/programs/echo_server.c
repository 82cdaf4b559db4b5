/*
 * echo_server.c - a server with one thread and an epoll: adds up the numbers that its clients send,
 * a line each, and answers with the sum. Listens at 127.0.0.1:PORT and at the Unix socket `echo`;
 * prints a line about each client that has gone. Argument: PORT, 0: any; it is printed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct client {
    int fd;
    size_t used;
    char line[64];
};

static long sum;
static int epoll_fd;

static void must(int status, const char *what)
{
    if (status < 0) {
        perror(what);
        exit(99);
    }
}

static void watch(int fd, struct client *client, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = client};

    must(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

static struct client *new_client(int fd)
{
    struct client *client = calloc(1, sizeof *client);

    if (client == NULL)
        exit(98);
    client->fd = fd;
    return client;
}

static struct client *listen_at(int fd, const struct sockaddr *address, socklen_t bytes)
{
    const int on = 1;

    must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), "SO_REUSEADDR");
    must(bind(fd, address, bytes), "bind");
    must(listen(fd, 1024), "listen");
    return new_client(fd);
}

static struct client *listen_tcp(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)port)};
    socklen_t bytes = sizeof address;
    struct client *listener = listen_at(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0),
                                        (struct sockaddr *)&address, sizeof address);

    must(getsockname(listener->fd, (struct sockaddr *)&address, &bytes), "getsockname");
    printf("port %u\n", ntohs(address.sin_port));
    return listener;
}

static struct client *listen_unix(void)
{
    const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "echo"};

    return listen_at(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0),
                     (const struct sockaddr *)&address, sizeof address);
}

static void drop(struct client *client, const char *why)
{
    printf("client gone: %s\n", why);
    fflush(stdout);
    close(client->fd);
    free(client);
}

/* 0, or why the client must go. */
static const char *answer(struct client *client)
{
    char text[64];
    char *end;

    while ((end = memchr(client->line, '\n', client->used)) != NULL) {
        int length;

        sum += atol(client->line);
        length = snprintf(text, sizeof text, "%ld\n", sum);
        client->used -= (size_t)(end + 1 - client->line);
        memmove(client->line, end + 1, client->used);
        if (send(client->fd, text, (size_t)length, MSG_NOSIGNAL) != length)
            return "send";
    }
    return NULL;
}

static void serve(struct client *client)
{
    ssize_t got =
        recv(client->fd, client->line + client->used, sizeof client->line - client->used, 0);
    const char *wrong;

    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        drop(client, got == 0 ? "end of file" : strerrorname_np(errno));
        return;
    }
    client->used += (size_t)got;
    wrong = answer(client);
    if (wrong != NULL)
        drop(client, wrong);
}

static void accept_all(const struct client *listener)
{
    int fd;

    while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK)) >= 0)
        watch(fd, new_client(fd), EPOLLIN | EPOLLRDHUP);
}

int main(int argc, char **argv)
{
    struct epoll_event events[64];
    struct rlimit limit;
    struct client *listeners[2];

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    must(epoll_fd = epoll_create1(0), "epoll_create1");
    listeners[0] = listen_tcp(argc > 1 ? atoi(argv[1]) : 0);
    listeners[1] = listen_unix();
    for (int i = 0; i < 2; i++)
        watch(listeners[i]->fd, listeners[i], EPOLLIN);
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(epoll_fd, events, 64, -1);

        for (int i = 0; i < ready; i++) {
            struct client *client = events[i].data.ptr;

            if (client == listeners[0] || client == listeners[1])
                accept_all(client);
            else
                serve(client);
        }
    }
}
