/*
 * sys.h - the host, reached by raw system calls.
 *
 * Everything under core/ goes to the kernel through this header: a raw call touches no errno, no
 * lock and no thread-local storage, so the same code serves the program's threads, the agent
 * (which runs on borrowed TLS while threads may be stopped inside libc) and the tools.
 *
 * Every call returns the kernel's value: >= 0, or -errno.
 */
#ifndef PHEAP_BASE_SYS_H
#define PHEAP_BASE_SYS_H

#include <fcntl.h>
#include <stdint.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#define PAGE_BYTES 4096u
#define PAGE_SHIFT 12

#ifdef SYS_FAULTS /* t/faults: the test has it, and makes some fail */
long sys_call6(long nr, long a, long b, long c, long d, long e, long f);
#else
static inline long sys_call6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#endif

#define SYS_NARGS_(_1, _2, _3, _4, _5, _6, _7, n, ...) n
#define SYS_CALL1_(nr)                                 sys_call6(nr, 0, 0, 0, 0, 0, 0)
#define SYS_CALL2_(nr, a)                              sys_call6(nr, (long)(a), 0, 0, 0, 0, 0)
#define SYS_CALL3_(nr, a, b)                           sys_call6(nr, (long)(a), (long)(b), 0, 0, 0, 0)
#define SYS_CALL4_(nr, a, b, c)                        sys_call6(nr, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define SYS_CALL5_(nr, a, b, c, d)                     sys_call6(nr, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define SYS_CALL6_(nr, a, b, c, d, e)                                                              \
    sys_call6(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define SYS_CALL7_(nr, a, b, c, d, e, f)                                                           \
    sys_call6(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define SYS_PICK_(n) SYS_CALL##n##_
#define SYS_PICK(n)  SYS_PICK_(n)
/* sys_call(SYS_xxx, args...): any system call, up to six arguments. */
#define sys_call(...) SYS_PICK(SYS_NARGS_(__VA_ARGS__, 7, 6, 5, 4, 3, 2, 1))(__VA_ARGS__)

/* True for -errno returned where a pointer or an offset may be returned as well. */
static inline int sys_failed(long result)
{
    return (unsigned long)result > -4096ul;
}

static inline int sys_open(const char *path, int flags, int mode)
{
    return (int)sys_call(SYS_openat, AT_FDCWD, path, flags, mode);
}

static inline int sys_close(int fd)
{
    return (int)sys_call(SYS_close, fd);
}

static inline ssize_t sys_read(int fd, void *buffer, size_t bytes)
{
    return sys_call(SYS_read, fd, buffer, bytes);
}

static inline ssize_t sys_write(int fd, const void *buffer, size_t bytes)
{
    return sys_call(SYS_write, fd, buffer, bytes);
}

static inline ssize_t sys_pread(int fd, void *buffer, size_t bytes, uint64_t offset)
{
    return sys_call(SYS_pread64, fd, buffer, bytes, offset);
}

static inline ssize_t sys_pwrite(int fd, const void *buffer, size_t bytes, uint64_t offset)
{
    return sys_call(SYS_pwrite64, fd, buffer, bytes, offset);
}

/* Returns the address, or (void *)-errno: test with sys_failed((long)p). */
static inline void *sys_mmap(void *addr, size_t bytes, int prot, int flags, int fd, uint64_t offset)
{
    return (void *)sys_call(SYS_mmap, addr, bytes, prot, flags, fd, offset);
}

static inline int sys_munmap(void *addr, size_t bytes)
{
    return (int)sys_call(SYS_munmap, addr, bytes);
}

static inline int sys_mprotect(void *addr, size_t bytes, int prot)
{
    return (int)sys_call(SYS_mprotect, addr, bytes, prot);
}

static inline int sys_madvise(void *addr, size_t bytes, int advice)
{
    return (int)sys_call(SYS_madvise, addr, bytes, advice);
}

static inline int sys_fstat(int fd, struct stat *out)
{
    return (int)sys_call(SYS_newfstatat, fd, "", out, AT_EMPTY_PATH);
}

static inline int sys_stat(const char *path, struct stat *out)
{
    return (int)sys_call(SYS_newfstatat, AT_FDCWD, path, out, 0);
}

static inline int sys_readlink(const char *path, char *out, size_t bytes)
{
    return (int)sys_call(SYS_readlinkat, AT_FDCWD, path, out, bytes);
}

static inline int sys_getpid(void)
{
    return (int)sys_call(SYS_getpid);
}

static inline int sys_gettid(void)
{
    return (int)sys_call(SYS_gettid);
}

static inline uint64_t sys_clock_ns(int clock)
{
    struct timespec now = {0, 0};

    (void)sys_call(SYS_clock_gettime, clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* What rt_sigaction takes: handlers of ours are not libc's, nor is their way back. */
struct kernel_sigaction {
    uintptr_t handler;
    uint64_t flags;
    uintptr_t restorer;
    uint64_t mask;
};

#define SA_RESTORER 0x04000000u /* the kernel's own; libc does not show it */

/* The restorer of every handler that returns. Never called. */
void sys_signal_return(void);

/* Reads or writes all bytes, across EINTR and short counts. 0, -errno, or -EIO at end of file. */
int sys_pread_all(int fd, void *buffer, size_t bytes, uint64_t offset)
    __attribute__((warn_unused_result));
int sys_pwrite_all(int fd, const void *buffer, size_t bytes, uint64_t offset)
    __attribute__((warn_unused_result));

/* Reads a whole small file (as of /proc) into buffer, NUL-terminated. Length or -errno;
 * -E2BIG when it does not fit (its beginning is there, terminated too). */
ssize_t sys_read_file(const char *path, char *buffer, size_t size)
    __attribute__((warn_unused_result));

/* How many threads are worth their while for so much work, of which each is to have `each` at
 * least: no more than `most`, or than processors that we may run on; 1 at least. */
unsigned sys_worker_count(uint64_t work, uint64_t each, unsigned most);

#endif
