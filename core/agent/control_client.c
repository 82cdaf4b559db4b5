/*
 * control_client.c - the asking side of control.h. Any name in the abstract namespace can be
 * taken by anyone, so the listener's user is checked before it is believed.
 */
#include "core/agent/control.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "core/agent/control_name.h"
#include "core/base/sys.h"

static int wait_readable(int fd, int timeout_ms)
{
    struct pollfd poll = {fd, POLLIN, 0};
    struct timespec time = {timeout_ms / 1000, timeout_ms % 1000 * 1000000l};
    long got;

    do {
        got = sys_call(SYS_ppoll, &poll, 1, timeout_ms < 0 ? NULL : &time, 0, 8);
    } while (got == -EINTR);
    return got > 0 ? 0 : got == 0 ? -ETIMEDOUT : (int)got;
}

/* Root may ask anyone's agent; others believe their own user and root only. */
static int check_listener(int fd, int *pid)
{
    struct ucred peer = {0, 0, 0};
    uint32_t bytes = sizeof peer, self = (uint32_t)sys_call(SYS_geteuid);
    int status = (int)sys_call(SYS_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes);

    *pid = peer.pid;
    if (status < 0)
        return status;
    return self == 0 || peer.uid == self || peer.uid == 0 ? 0 : -EACCES;
}

static int exchange(int fd, const struct control_request *request, struct control_answer *answer,
                    int timeout_ms)
{
    long got = sys_call(SYS_sendto, fd, request, sizeof *request, MSG_NOSIGNAL, 0, 0);

    if (got < 0)
        return (int)got;
    got = wait_readable(fd, timeout_ms);
    if (got < 0)
        return (int)got;
    got = sys_call(SYS_recvfrom, fd, answer, sizeof *answer, 0, 0, 0);
    if (got != (long)sizeof *answer)
        return got < 0 ? (int)got : -ECONNREFUSED;
    answer->tracking[sizeof answer->tracking - 1] = 0;
    answer->storage[sizeof answer->storage - 1] = 0;
    answer->text[sizeof answer->text - 1] = 0;
    return 0;
}

int control_ask(const uint8_t uuid[16], const struct control_request *request,
                struct control_answer *answer, int timeout_ms)
{
    struct sockaddr_un address;
    uint32_t bytes = control_address(&address, uuid);
    int fd = (int)sys_call(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    int status, agent_pid = 0;

    if (fd < 0)
        return fd;
    do {
        status = (int)sys_call(SYS_connect, fd, &address, bytes);
    } while (status == -EINTR);
    if (status == 0)
        status = check_listener(fd, &agent_pid);
    if (status == 0)
        status = exchange(fd, request, answer, timeout_ms);
    if (status == 0)
        answer->agent_pid = agent_pid;
    sys_close(fd);
    return status;
}
