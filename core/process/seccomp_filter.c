/*
 * seccomp_filter.c - see seccomp_filter.h.
 *
 * Always true: with this filter alone a program that knows nothing of seccomp behaves as on a
 * kernel without io_uring. Without privilege it costs no_new_privs: a program that it execs gains
 * no rights by setuid.
 */
#include "core/process/seccomp_filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include "core/base/sys.h"
#include "core/process/rebuild.h"

void filter_without_io_uring(struct sock_filter out[FILTER_INSTRUCTIONS])
{
    const struct sock_filter filter[FILTER_INSTRUCTIONS] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, SYS_io_uring_setup, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, SYS_io_uring_register, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };

    memcpy(out, filter, sizeof filter);
}

int filter_install(void)
{
    struct sock_filter filter[FILTER_INSTRUCTIONS];
    const struct sock_fprog program = {FILTER_INSTRUCTIONS, filter};
    long status;

    filter_without_io_uring(filter);
    status = sys_call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
    if (status != -EACCES)
        return (int)status;
    status = sys_call(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (status == 0)
        status =
            sys_call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
    return (int)status;
}

/* Before the other threads are made, which have it from the leader. */
void rebuild_filter(struct rebuild *rebuild)
{
    struct batch *batch = rebuild->batch;
    struct sock_filter filter[FILTER_INSTRUCTIONS];
    uint64_t program[2] = {FILTER_INSTRUCTIONS};

    if (!(rebuild->image->process->flags & RECORD_DENIES_IO_URING))
        return;
    filter_without_io_uring(filter);
    program[1] = batch_data(batch, filter, sizeof filter);
    batch_add(batch, "seccomp filter (--deny io_uring)", SYS_seccomp,
              BATCH_ARGS(SECCOMP_SET_MODE_FILTER, 0, batch_data(batch, program, sizeof program)));
}
