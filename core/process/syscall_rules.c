/*
 * syscall_rules.c - see syscall_rules.h. Argued case by case from the kernel's sources: each call
 * here returns -EINTR or a short count where an undisturbed one would have gone on waiting.
 */
#include "core/base/status.h"
#include "core/process/syscall_rules.h"

#include <sys/ioctl.h>
#include <sys/time.h>
#include <termios.h>

#include "core/base/sys.h"

#define MEMORY_DEVICE_MAJOR  1
#define KERNEL_TERMIOS_BYTES 64 /* struct termios of the kernel is smaller than libc's */

#define RETRY(call)                                                                                \
    {                                                                                              \
        call, INTERRUPTED_RETRY, 0, PARTIAL_NATURAL, ADVANCE_NONE, -1                              \
    }

static const struct syscall_rule rules[] = {
    {SYS_epoll_wait, INTERRUPTED_MILLISECONDS, 3, PARTIAL_NATURAL, ADVANCE_NONE, -1},
    {SYS_epoll_pwait, INTERRUPTED_MILLISECONDS, 3, PARTIAL_NATURAL, ADVANCE_NONE, -1},
    {SYS_epoll_pwait2, INTERRUPTED_TIMESPEC, 3, PARTIAL_NATURAL, ADVANCE_NONE, -1},
    {SYS_rt_sigtimedwait, INTERRUPTED_TIMESPEC, 2, PARTIAL_NATURAL, ADVANCE_NONE, -1},
    {SYS_semtimedop, INTERRUPTED_TIMESPEC, 3, PARTIAL_NATURAL, ADVANCE_NONE, -1},
    {SYS_io_getevents, INTERRUPTED_TIMESPEC, 4, PARTIAL_NATURAL, ADVANCE_NONE, -1},

    {SYS_read, INTERRUPTED_RECEIVE, 0, PARTIAL_DEVICE, ADVANCE_BUFFER, -1},
    {SYS_readv, INTERRUPTED_RECEIVE, 0, PARTIAL_NATURAL, ADVANCE_NONE, -1},
    {SYS_recvfrom, INTERRUPTED_RECEIVE, 0, PARTIAL_WAITALL, ADVANCE_BUFFER, 3},
    {SYS_recvmsg, INTERRUPTED_RECEIVE, 0, PARTIAL_WAITALL, ADVANCE_MESSAGE, 2},
    {SYS_recvmmsg, INTERRUPTED_RECEIVE, 0, PARTIAL_MESSAGES, ADVANCE_HEADERS, 3},
    {SYS_accept, INTERRUPTED_RECEIVE, 0, PARTIAL_NATURAL, ADVANCE_NONE, -1},
    {SYS_accept4, INTERRUPTED_RECEIVE, 0, PARTIAL_NATURAL, ADVANCE_NONE, -1},

    {SYS_write, INTERRUPTED_SEND, 0, PARTIAL_STREAM, ADVANCE_BUFFER, -1},
    {SYS_writev, INTERRUPTED_SEND, 0, PARTIAL_STREAM, ADVANCE_VECTOR, -1},
    {SYS_sendto, INTERRUPTED_SEND, 0, PARTIAL_STREAM, ADVANCE_BUFFER, 3},
    {SYS_sendmsg, INTERRUPTED_SEND, 0, PARTIAL_STREAM, ADVANCE_MESSAGE, 2},
    {SYS_sendmmsg, INTERRUPTED_SEND, 0, PARTIAL_STREAM, ADVANCE_HEADERS, 3},
    {SYS_connect, INTERRUPTED_SEND, 0, PARTIAL_NATURAL, ADVANCE_NONE, -1},
    {SYS_sendfile, INTERRUPTED_RETRY, 0, PARTIAL_SENDFILE, ADVANCE_COUNT, -1},
    {SYS_getrandom, INTERRUPTED_RETRY, 0, PARTIAL_ALWAYS, ADVANCE_FIRST, -1},

    RETRY(SYS_semop),
    RETRY(SYS_io_pgetevents),
    RETRY(SYS_io_uring_enter),
    RETRY(SYS_msgrcv),
    RETRY(SYS_msgsnd),
    /* On file systems that let a signal through (FUSE, NFS): nothing was done. */
    RETRY(SYS_open),
    RETRY(SYS_openat),
    RETRY(SYS_pread64),
    RETRY(SYS_pwrite64),
    RETRY(SYS_preadv),
    RETRY(SYS_pwritev),
    RETRY(SYS_preadv2),
    RETRY(SYS_pwritev2),
    RETRY(SYS_splice),
    RETRY(SYS_tee),
    RETRY(SYS_vmsplice),
    RETRY(SYS_fallocate),
};

const struct syscall_rule *syscall_rule(uint64_t nr)
{
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (rules[i].nr == nr)
            return &rules[i];
    return NULL;
}

bool syscall_rule_needs_look(const struct syscall_rule *rule)
{
    return rule->interrupted == INTERRUPTED_RECEIVE || rule->interrupted == INTERRUPTED_SEND ||
           rule->partial == PARTIAL_SENDFILE;
}

static int socket_option(int fd, int option, void *value, uint32_t bytes)
{
    return (int)sys_call(SYS_getsockopt, fd, SOL_SOCKET, option, value, &bytes);
}

static struct timespec socket_timeout(int fd, int option)
{
    struct timeval value = {0, 0};

    if (socket_option(fd, option, &value, sizeof value) < 0)
        return (struct timespec){0, 0};
    return (struct timespec){value.tv_sec, value.tv_usec * 1000};
}

static void look_at_socket(int fd, struct descriptor_look *out)
{
    int type = 0, domain = 0;

    (void)socket_option(fd, SO_TYPE, &type, sizeof type);
    (void)socket_option(fd, SO_DOMAIN, &domain, sizeof domain);
    out->stream_socket = type == SOCK_STREAM;
    out->internet = domain == AF_INET || domain == AF_INET6;
    out->receive_timeout = socket_timeout(fd, SO_RCVTIMEO);
    out->send_timeout = socket_timeout(fd, SO_SNDTIMEO);
}

int descriptor_look(int pidfd, int fd, struct descriptor_look *out)
{
    uint8_t termios[KERNEL_TERMIOS_BYTES];
    struct stat file;
    int copy = (int)sys_call(SYS_pidfd_getfd, pidfd, fd, 0), flags;

    if (copy < 0)
        return copy;
    *out = (struct descriptor_look){0};
    flags = (int)sys_call(SYS_fcntl, copy, F_GETFL, 0);
    if (flags >= 0 && sys_fstat(copy, &file) == 0) {
        out->mode = file.st_mode;
        out->device_major = (uint32_t)((file.st_rdev >> 8) & 0xfff);
        out->nonblocking = flags & O_NONBLOCK;
        if (S_ISSOCK(file.st_mode))
            look_at_socket(copy, out);
        else if (S_ISCHR(file.st_mode))
            out->terminal = sys_call(SYS_ioctl, copy, TCGETS, termios) == 0;
    }
    sys_close(copy);
    return 0;
}

static bool is_stream(const struct descriptor_look *look)
{
    return S_ISFIFO(look->mode) || S_ISSOCK(look->mode) || look->terminal;
}

bool syscall_is_blocking_transfer(const struct syscall_rule *rule, const uint64_t args[6],
                                  const struct descriptor_look *look)
{
    uint64_t flags = rule->flags_argument < 0 ? 0 : args[rule->flags_argument];

    if (look->nonblocking || (flags & MSG_DONTWAIT))
        return false;
    switch ((enum partial)rule->partial) {
    case PARTIAL_NATURAL:
        return false;
    case PARTIAL_STREAM:
        return is_stream(look);
    case PARTIAL_SENDFILE:
        return is_stream(look) && !S_ISFIFO(look->mode);
    case PARTIAL_WAITALL:
        return look->stream_socket && (flags & MSG_WAITALL) && !(flags & MSG_PEEK);
    case PARTIAL_MESSAGES:
        return !(flags & MSG_WAITFORONE) && args[4] == 0;
    case PARTIAL_DEVICE:
        return S_ISCHR(look->mode) && look->device_major == MEMORY_DEVICE_MAJOR;
    case PARTIAL_ALWAYS:
        return true;
    }
    return false;
}
