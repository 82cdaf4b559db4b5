/*
 * sys.c - the loops around raw system calls that may do less than they were asked for; how many
 * threads.
 */
#include "core/base/sys.h"

#include <errno.h>

__asm__(".pushsection .text\n"
        ".globl sys_signal_return\n.hidden sys_signal_return\n"
        ".type sys_signal_return, @function\n"
        "sys_signal_return: mov $15, %eax\n" /* rt_sigreturn */
        "syscall\n"
        ".popsection");

int sys_pread_all(int fd, void *buffer, size_t bytes, uint64_t offset)
{
    uint8_t *at = buffer;

    while (bytes) {
        ssize_t got = sys_pread(fd, at, bytes, offset);

        if (got == -EINTR)
            continue;
        if (got <= 0)
            return got ? (int)got : -EIO;
        at += got;
        bytes -= (size_t)got;
        offset += (uint64_t)got;
    }
    return 0;
}

int sys_pwrite_all(int fd, const void *buffer, size_t bytes, uint64_t offset)
{
    const uint8_t *at = buffer;

    while (bytes) {
        ssize_t put = sys_pwrite(fd, at, bytes, offset);

        if (put == -EINTR)
            continue;
        if (put <= 0)
            return put ? (int)put : -EIO;
        at += put;
        bytes -= (size_t)put;
        offset += (uint64_t)put;
    }
    return 0;
}

ssize_t sys_read_file(const char *path, char *buffer, size_t size)
{
    int fd = sys_open(path, O_RDONLY | O_CLOEXEC, 0);
    size_t used = 0;
    ssize_t got = 0;

    if (fd < 0)
        return fd;
    while (used < size) {
        got = sys_read(fd, buffer + used, size - used);
        if (got == -EINTR)
            continue;
        if (got <= 0)
            break;
        used += (size_t)got;
    }
    sys_close(fd);
    if (got < 0)
        return got;
    if (used == size) {
        buffer[size - 1] = 0; /* some callers make do with the beginning */
        return -E2BIG;
    }
    buffer[used] = 0;
    return (ssize_t)used;
}

/* A kernel that is made for more processors than these says -EINVAL. */
unsigned sys_worker_count(uint64_t work, uint64_t each, unsigned most)
{
    uint64_t set[8192 / 64] = {0}, count = work / each;
    long bytes = sys_call(SYS_sched_getaffinity, 0, sizeof set, set);
    unsigned processors = 0;

    for (long i = 0; i < bytes / 8; i++)
        processors += (unsigned)__builtin_popcountll(set[i]);
    if (count > processors)
        count = processors;
    if (count > most)
        count = most;
    return count ? (unsigned)count : 1;
}
