/*
 * pool_directory_sync.c - a new pool is durable when pool_create() says so: the file and, after its
 * name is there, the directory are synced. The fsync calls of a child are seen, and answered, by
 * its parent (seccomp's user notification).
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/pool/pool.h"
#include "t/lib/tap.h"

static char directory[300], path[320];

/* What was synced, in order: 'f' the file, 'd' the directory. */
struct seen {
    char order[16];
    bool was_named; /* the file's name was there when the directory was synced */
    int child_status;
};

static int listen_to_fsync(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fsync, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return -1;
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
                        &program);
}

static int make_pool(int tell)
{
    struct problem why;
    int listener = listen_to_fsync(), status;

    if (write(tell, &listener, sizeof listener) != sizeof listener || listener < 0)
        return 99;
    close(tell);
    status = pool_create(path, 7, 3, &why);
    return status == 0 ? 0 : status == -EIO ? 5 : 98;
}

static char kind_of(int pid, int fd)
{
    char link[64];
    struct stat info;

    snprintf(link, sizeof link, "/proc/%d/fd/%d", pid, fd);
    if (stat(link, &info))
        return '?';
    return S_ISDIR(info.st_mode) ? 'd' : 'f';
}

/* Answers each fsync: those of the directory fail if that is asked for. */
static void answer_all(int listener, bool directory_fails, struct seen *seen)
{
    struct seccomp_notif call;
    size_t length = 0;

    for (;;) {
        struct seccomp_notif_resp answer;

        memset(&call, 0, sizeof call);
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call))
            return; /* the child has ended */
        memset(&answer, 0, sizeof answer);
        answer.id = call.id;
        if (length < sizeof seen->order - 1)
            seen->order[length++] = kind_of((int)call.pid, (int)call.data.args[0]);
        if (seen->order[length - 1] == 'd') {
            seen->was_named = access(path, F_OK) == 0;
            answer.error = directory_fails ? -EIO : 0;
        }
        if (answer.error == 0)
            answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer))
            return;
    }
}

static bool watch_creation(bool directory_fails, struct seen *seen)
{
    int tell[2], listener = -1, pidfd, status = 0;
    pid_t child;

    memset(seen, 0, sizeof *seen);
    if (pipe(tell))
        return false;
    child = fork();
    if (child == 0)
        _exit(make_pool(tell[1]));
    close(tell[1]);
    pidfd = (int)syscall(SYS_pidfd_open, child, 0);
    if (read(tell[0], &listener, sizeof listener) == sizeof listener && listener >= 0)
        listener = (int)syscall(SYS_pidfd_getfd, pidfd, listener, 0);
    if (listener >= 0)
        answer_all(listener, directory_fails, seen);
    waitpid(child, &status, 0);
    seen->child_status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    close(tell[0]);
    close(pidfd);
    if (listener >= 0)
        close(listener);
    if (listener < 0)
        tap_skip("no seccomp notifications here");
    return listener >= 0;
}

static void the_file_is_synced_and_then_its_directory(void)
{
    struct seen seen;

    if (!watch_creation(false, &seen))
        return;
    CHECK_EQ(seen.child_status, 0);
    CHECK_STR(seen.order, "fd");
    CHECK(seen.was_named);
    unlink(path);
}

static void a_directory_that_cannot_be_synced_makes_no_pool(void)
{
    struct seen seen;

    if (!watch_creation(true, &seen))
        return;
    CHECK_EQ(seen.child_status, 5);
    CHECK(strchr(seen.order, 'd') != NULL);
    CHECK(access(path, F_OK) != 0);
    unlink(path);
}

int main(int argc, char **argv)
{
    const char *tmp = getenv("TMPDIR");

    tap_arguments(argc, argv);
    snprintf(directory, sizeof directory, "%.200s/pheap-sync-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(directory))
        return 1;
    snprintf(path, sizeof path, "%s/pool", directory);
    RUN(the_file_is_synced_and_then_its_directory);
    RUN(a_directory_that_cannot_be_synced_makes_no_pool);
    rmdir(directory);
    return tap_done();
}
