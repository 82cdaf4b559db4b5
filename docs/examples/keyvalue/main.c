/*
 * main.c - a key-value server that keeps all it acknowledges: keyvalue FILE PORT
 *
 * It speaks the Redis protocol: redis-cli and redis-benchmark work against it. Its data are
 * ordinary structures in a pheap heap; there is no other file, no loading at the start and no
 * saving at the end. kill -9 at any moment loses nothing that a client has an answer for.
 *
 * One thread. In each round it does what all clients have asked, makes all of it durable by one
 * sync, and then sends the replies.
 *
 *     cc *.c $(pkg-config --cflags --libs pheap) -o keyvalue
 */
#define _GNU_SOURCE 1 /* accept4 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "commands.h"

#define EVENTS     256
#define READ_BYTES 65536
#define TICK_MS    100

static struct server server;
static int epoll_fd, listen_fd;

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "keyvalue: %s: %s\n", what, why);
    exit(1);
}

static void open_heap(const char *path)
{
    char problem[512] = "";
    struct pheap_options options = {0};
    int status;

    options.problem = problem;
    options.problem_bytes = sizeof problem;
    if (pheap_open(path, PHEAP_CREATE, &options, &server.heap) < 0)
        fail(path, problem);
    status = store_open(server.heap, &server.store);
    if (status < 0)
        fail(path, pheap_error_text(status));
}

static void watch(int fd, void *client, uint32_t events, int how)
{
    struct epoll_event event = {.events = events, .data.ptr = client};

    if (epoll_ctl(epoll_fd, how, fd, &event) < 0)
        fail("epoll", strerror(errno));
}

static uint16_t port_number(const char *port)
{
    char *end;
    long number = strtol(port, &end, 10);

    if (end == port || *end || number < 1 || number > 65535)
        fail(port, "a port is a number from 1 to 65535");
    return (uint16_t)number;
}

static void listen_at(const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(port_number(port)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;

    listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (listen_fd < 0 || bind(listen_fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listen_fd, 511) < 0)
        fail(port, strerror(errno));
    watch(listen_fd, NULL, EPOLLIN, EPOLL_CTL_ADD);
}

static void client_end(struct client *client)
{
    close(client->fd);
    free(client->in.bytes);
    free(client->out.bytes);
    free(client->words);
    free(client);
}

static void accept_clients(void)
{
    int fd, one = 1;

    while ((fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct client *client = calloc(1, sizeof *client);

        if (!client) {
            close(fd);
            return;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        client->fd = fd;
        watch(fd, client, EPOLLIN, EPOLL_CTL_ADD);
    }
}

/* What has come, done as far as it is whole. False: the client is gone. */
static bool take(struct client *client)
{
    ssize_t got;
    int more;

    buffer_reserve(&client->in, READ_BYTES);
    got = read(client->fd, client->in.bytes + client->in.used, READ_BYTES);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        return false;
    client->in.used += got > 0 ? (size_t)got : 0;
    while (!client->ends && (more = client_next_command(client)) != 0) {
        if (more < 0) {
            reply_error(client, "ERR Protocol error");
            client->ends = true;
        } else {
            command_do(&server, client);
        }
    }
    client_forget_commands(client);
    return true;
}

/* False: the client is gone, or has all that it is going to get. */
static bool send_replies(struct client *client)
{
    ssize_t sent;

    while (client->sent < client->out.used) {
        sent = send(client->fd, client->out.bytes + client->sent, client->out.used - client->sent,
                    MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno == EAGAIN) {
            watch(client->fd, client, EPOLLOUT, EPOLL_CTL_MOD);
            return true;
        }
        if (sent < 0)
            return false;
        client->sent += (size_t)sent;
    }
    client->sent = client->out.used = 0;
    watch(client->fd, client, EPOLLIN, EPOLL_CTL_MOD);
    return !client->ends;
}

static void serve(const struct epoll_event *events, int count)
{
    struct client *clients[EVENTS];
    int served = 0, status;

    for (int i = 0; i < count; i++) {
        struct client *client = events[i].data.ptr;

        if (!client)
            accept_clients();
        else if ((events[i].events & EPOLLOUT) || take(client))
            clients[served++] = client;
        else
            client_end(client);
    }
    status = pheap_sync(server.heap); /* nothing to do if nobody has changed anything */
    if (status < 0)
        fail("nothing can be made durable any more, so nothing is acknowledged",
             pheap_error_text(status));
    for (int i = 0; i < served; i++)
        if (!send_replies(clients[i]))
            client_end(clients[i]);
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS];
    struct timespec now, then = {0};
    int count;

    if (argc != 3) {
        fprintf(stderr, "usage: keyvalue FILE PORT\n");
        return 2;
    }
    open_heap(argv[1]);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    listen_at(argv[2]);
    printf("ready, with %llu keys\n", (unsigned long long)server.store->keys->count);
    fflush(stdout);
    while (!server.ends) {
        count = epoll_wait(epoll_fd, events, EVENTS, TICK_MS);
        serve(events, count > 0 ? count : 0);
        clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
        if (now.tv_sec != then.tv_sec || count == 0)
            expire_some(&server);
        then = now;
    }
    return pheap_close(server.heap) < 0;
}
