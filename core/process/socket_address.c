/*
 * socket_address.c - addresses of sockets: as texts for messages, and bound again.
 *
 * A Unix socket's path may be relative to the working directory at its bind(); it is taken for
 * relative to the present one if the file there is the socket's. Otherwise nobody can connect to it
 * by a name that we know, and the capture fails.
 *
 * Always true: a file that is unlinked for a Unix socket to take its place is a socket to which
 * nobody listened a moment ago (socket_check).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include "core/base/format_text.h"
#include "core/process/sockets.h"

#define FAMILY_BYTES offsetof(struct sockaddr_un, sun_path)

static uint32_t swapped(uint16_t port)
{
    return (uint32_t)(port >> 8 | (port & 0xff) << 8);
}

static void internet_text(const struct image_socket *socket, char *text, size_t size)
{
    const char *protocol = socket->record->type == SOCK_STREAM ? "TCP" : "UDP";
    struct sockaddr_in6 six = {0};
    struct sockaddr_in four = {0};
    const uint8_t *byte;

    if (socket->record->family == AF_INET) {
        memcpy(&four, socket->address, sizeof four);
        byte = (const uint8_t *)&four.sin_addr;
        format_text(text, size, "%s %u.%u.%u.%u:%u", protocol, byte[0], byte[1], byte[2], byte[3],
                    swapped(four.sin_port));
        return;
    }
    memcpy(&six, socket->address, sizeof six);
    byte = six.sin6_addr.s6_addr;
    format_text(text, size, "%s [%x:%x:%x:%x:%x:%x:%x:%x]:%u", protocol, byte[0] << 8 | byte[1],
                byte[2] << 8 | byte[3], byte[4] << 8 | byte[5], byte[6] << 8 | byte[7],
                byte[8] << 8 | byte[9], byte[10] << 8 | byte[11], byte[12] << 8 | byte[13],
                byte[14] << 8 | byte[15], swapped(six.sin6_port));
}

void socket_text(const struct image_socket *socket, char *text, size_t size)
{
    const struct record_socket *record = socket->record;
    char path[sizeof(struct sockaddr_un)];

    if (record->family != AF_UNIX && record->address_bytes > 0)
        internet_text(socket, text, size);
    else if (record->family != AF_UNIX)
        format_text(text, size, "%s", record->type == SOCK_STREAM ? "TCP" : "UDP");
    else if (socket_path(socket->address, record->address_bytes, path))
        format_text(text, size, "Unix %s", path);
    else if (record->address_bytes > FAMILY_BYTES + 1)
        format_text(text, size, "Unix @%.*s", (int)(record->address_bytes - FAMILY_BYTES - 1),
                    (const char *)socket->address + FAMILY_BYTES + 1);
    else
        format_text(text, size, "Unix");
}

bool socket_path(const uint8_t *address, uint32_t bytes, char path[sizeof(struct sockaddr_un)])
{
    if (bytes <= FAMILY_BYTES || bytes > sizeof(struct sockaddr_un) || address[FAMILY_BYTES] == 0)
        return false;
    memcpy(path, address + FAMILY_BYTES, bytes - FAMILY_BYTES);
    path[bytes - FAMILY_BYTES] = 0;
    return true;
}

int capture_socket_file(struct descriptor_run *run, struct socket_look *look, uint32_t inode)
{
    char path[sizeof(struct sockaddr_un)], whole[sizeof path + 32];
    struct stat stat;

    if (!socket_path(look->address, look->record.address_bytes, path))
        return 0;
    if (path[0] == '/')
        format_text(whole, sizeof whole, "%s", path);
    else
        format_text(whole, sizeof whole, "/proc/%d/cwd/%s", run->run->capture->pid, path);
    if (sys_stat(whole, &stat) != 0 || !S_ISSOCK(stat.st_mode) || (uint32_t)stat.st_ino != inode)
        return problem_set(run->run->why, STATUS_UNSUPPORTED,
                           "fd %u: a Unix socket whose file %s is gone cannot be checkpointed",
                           look->description->number, path);
    look->record.file_mode = stat.st_mode & 07777;
    look->record.file_uid = stat.st_uid;
    look->record.file_gid = stat.st_gid;
    return 0;
}

/* The file gets its mode and, where that is permitted, its owner. */
static void bind_path(struct descriptor_rebuild *run, const struct image_socket *socket,
                      struct opened opened, const char *path, const char *what)
{
    const struct process_image *image = run->rebuild->image;
    struct batch *batch = run->rebuild->batch;
    const struct record_socket *record = socket->record;
    uint64_t name = batch_string(batch, path);

    if (path[0] != '/')
        batch_add(batch, image->directory, SYS_chdir,
                  BATCH_ARGS(batch_string(batch, image->directory)));
    batch_add(batch, what, SYS_unlink, BATCH_ARGS(name));
    batch_may_fail(batch); /* not there */
    opened_call(batch, what, SYS_bind, opened,
                batch_data(batch, socket->address, record->address_bytes), record->address_bytes,
                0);
    batch_add(batch, what, SYS_fchownat,
              BATCH_ARGS((uint64_t)AT_FDCWD, name, record->file_uid, record->file_gid, 0));
    batch_may_fail(batch);
    batch_add(batch, what, SYS_fchmodat, BATCH_ARGS((uint64_t)AT_FDCWD, name, record->file_mode));
}

void rebuild_bind(struct descriptor_rebuild *run, const struct image_socket *socket,
                  struct opened opened, const char *what)
{
    const struct record_socket *record = socket->record;
    struct batch *batch = run->rebuild->batch;
    char path[sizeof(struct sockaddr_un)];

    if (record->address_bytes == 0)
        return;
    if (record->family == AF_UNIX && socket_path(socket->address, record->address_bytes, path)) {
        bind_path(run, socket, opened, path, what);
        return;
    }
    opened_call(batch, what, SYS_bind, opened,
                batch_data(batch, socket->address, record->address_bytes), record->address_bytes,
                0);
    /* The port of a connected datagram socket is mostly the kernel's choice. */
    if (record->peer_bytes > 0)
        batch_may_fail(batch);
}

/* Somebody listens there: 0 if nobody does. */
static int try_to_connect(const struct image_socket *socket)
{
    int fd =
        (int)sys_call(SYS_socket, AF_UNIX, socket->record->type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    long status =
        fd < 0 ? fd : sys_call(SYS_connect, fd, socket->address, socket->record->address_bytes);

    if (fd >= 0)
        (void)sys_close(fd);
    return status == -ECONNREFUSED || status == -ENOENT ? 0 : -EADDRINUSE;
}

int socket_check(const struct image_socket *socket, struct problem *why)
{
    char path[sizeof(struct sockaddr_un)];
    struct stat stat;

    if (socket->record->family != AF_UNIX ||
        !socket_path(socket->address, socket->record->address_bytes, path) ||
        sys_call(SYS_newfstatat, AT_FDCWD, path, &stat, AT_SYMLINK_NOFOLLOW) != 0)
        return 0;
    if (!S_ISSOCK(stat.st_mode))
        return problem_set(why, STATUS_CHANGED,
                           "%s, where the program had a Unix socket, is now something else", path);
    if (try_to_connect(socket) != 0)
        return problem_set(why, STATUS_CHANGED,
                           "%s, where the program had a Unix socket, is now in use by another",
                           path);
    return 0;
}
