/*
 * deny_call.c - runs a command in which one system call fails, as a container's policy would have
 * it. Arguments: ptrace|tracing|userfaultfd|pagemap_scan|unshare|personality COMMAND [ARG...].
 * tracing: all that takes the right to trace, as under Yama's scope 3.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGEMAP_SCAN_REQUEST 0xc0606610u /* _IOWR('f', 16, 96 bytes) */

/* Denies `call`; with a request only where that is its second argument. */
static int deny(unsigned call, unsigned error, unsigned request)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, request ? 2 : 1),
        request ? (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                               offsetof(struct seccomp_data, args[1]))
                : (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, request, request ? 1 : 0, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
    };
    struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(int argc, char **argv)
{
    int failed = 1;

    if (argc < 3)
        return 2;
    if (strcmp(argv[1], "ptrace") == 0)
        failed = deny(SYS_ptrace, EPERM, 0);
    else if (strcmp(argv[1], "tracing") == 0)
        failed = deny(SYS_ptrace, EPERM, 0) || deny(SYS_pidfd_getfd, EPERM, 0) ||
                 deny(SYS_process_vm_readv, EPERM, 0) || deny(SYS_process_vm_writev, EPERM, 0);
    else if (strcmp(argv[1], "userfaultfd") == 0)
        failed = deny(SYS_userfaultfd, EPERM, 0);
    else if (strcmp(argv[1], "unshare") == 0)
        failed = deny(SYS_unshare, EPERM, 0);
    else if (strcmp(argv[1], "pagemap_scan") == 0)
        failed = deny(SYS_ioctl, ENOTTY, PAGEMAP_SCAN_REQUEST);
    else if (strcmp(argv[1], "personality") == 0)
        failed = deny(SYS_personality, EPERM, 0);
    if (failed) {
        fprintf(stderr, "deny_call: cannot deny %s\n", argv[1]);
        return 2;
    }
    execvp(argv[2], argv + 2);
    perror(argv[2]);
    return 127;
}
