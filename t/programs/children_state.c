/*
 * children_state.c - leaves children that have ended unwaited for and, at each SIGUSR1, prints what
 * waitid() says of them: the same each time. SIGUSR2: waits for them and ends.
 *
 * With the argument "living" a child lives on, and SIGUSR1 prints what waiting for that says. With
 * "vfork" it is most of the time between vfork() and the end of the child, which shares its memory
 * and waits; it ends by itself and says by its exit status whether all went well.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHILDREN 5

static pid_t children[CHILDREN], living;

static void child(int which)
{
    if (which == 1)
        raise(SIGKILL);
    if (which == 2)
        setpgid(0, 0);
    if (which == 3)
        abort();
    if (which == 4)
        raise(SIGRTMIN + 3);
    _exit(which == 0 ? 7 : 0);
}

static void make(void)
{
    const struct rlimit no_core = {0, 0};
    siginfo_t info;

    setrlimit(RLIMIT_CORE, &no_core);
    for (int i = 0; i < CHILDREN; i++) {
        children[i] = fork();
        if (children[i] == 0)
            child(i);
        waitid(P_PID, (id_t)children[i], &info, WEXITED | WNOWAIT);
    }
}

static void report(void)
{
    sigset_t pending;

    for (int i = 0; i < CHILDREN; i++) {
        siginfo_t info = {0};
        int got = waitid(P_PID, (id_t)children[i], &info, WEXITED | WNOWAIT | WNOHANG);

        printf("%d: %d code %d status %d pid %d, group of its own %d\n", i, got, info.si_code,
               info.si_status, info.si_pid == children[i], getpgid(children[i]) == children[i]);
    }
    sigpending(&pending);
    printf("SIGCHLD pending %d\n", sigismember(&pending, SIGCHLD));
}

static int reap(void)
{
    int status, sum = 0;

    for (int i = 0; i < CHILDREN; i++)
        if (waitpid(children[i], &status, 0) == children[i])
            sum += status;
    if (waitpid(-1, &status, 0) != -1 || errno != ECHILD)
        return 98;
    return sum == (7 << 8) + SIGKILL + SIGABRT + SIGRTMIN + 3 ? 0 : 99;
}

static void report_living(void)
{
    int status;
    pid_t got = waitpid(living, &status, WNOHANG);

    printf("living: %s\n", got == 0 ? "lives" : got == -1 ? strerror(errno) : "ended");
}

static int wait_in_vfork(void)
{
    static volatile int shared;

    for (int i = 0; i < 30; i++) {
        pid_t pid = vfork();
        int status = 0;

        if (pid == 0) {
            const struct timespec time = {0, 40000000};

            nanosleep(&time, NULL);
            shared++;
            _exit(i);
        }
        if (waitpid(pid, &status, 0) != pid || status != i << 8 || shared != i + 1)
            return 97;
        usleep(60000);
    }
    return 0;
}

int main(int argc, char **argv)
{
    sigset_t blocked;
    int number = 0;

    if (argc > 1 && strcmp(argv[1], "vfork") == 0)
        return wait_in_vfork();

    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigaddset(&blocked, SIGUSR2);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    if (argc > 1) {
        living = fork();
        if (living == 0) {
            sleep(60);
            _exit(0);
        }
        printf("child %d\n", living);
    } else {
        make();
    }
    printf("ready\n");
    fflush(stdout);
    while (sigwait(&blocked, &number) == 0 && number == SIGUSR1) {
        if (living != 0)
            report_living();
        else
            report();
        printf("end\n");
        fflush(stdout);
    }
    return living != 0 ? 0 : reap();
}
