/*
 * signals_state.c - has signals pending for itself and for one thread, with values, timers of all
 * kinds with ids that are not the first ones, limits, groups, and, at each SIGUSR1, prints them:
 * the same each time. SIGUSR2: takes the pending signals, and ends.
 */
#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static timer_t timers[4];
static sem_t go, done;
static int taken_good;

static void on_signal(int number)
{
    (void)number;
}

static void print_pending(const char *name)
{
    sigset_t pending, blocked;

    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    printf("%s: pending", name);
    for (int i = 1; i <= SIGRTMAX; i++)
        if (sigismember(&pending, i) == 1)
            printf(" %d", i);
    printf(", blocked");
    for (int i = 1; i <= SIGRTMAX; i++)
        if (sigismember(&blocked, i) == 1)
            printf(" %d", i);
    printf("\n");
}

/* One value after the other, as they were sent. */
static int take(int number, int code, int first, int count)
{
    const struct timespec now = {0, 0};
    sigset_t set;
    siginfo_t info;

    sigemptyset(&set);
    sigaddset(&set, number);
    for (int i = 0; i < count; i++)
        if (sigtimedwait(&set, &info, &now) != number || info.si_code != code ||
            info.si_value.sival_int != first + i || info.si_pid != getpid() ||
            info.si_uid != getuid())
            return 0;
    return sigtimedwait(&set, &info, &now) == -1;
}

static void *second(void *unused)
{
    sigset_t blocked;

    sigfillset(&blocked);
    pthread_sigmask(SIG_SETMASK, &blocked, NULL);
    pthread_sigqueue(pthread_self(), SIGRTMIN + 2, (union sigval){.sival_int = 90});
    pthread_sigqueue(pthread_self(), SIGRTMIN + 2, (union sigval){.sival_int = 91});
    sem_post(&done);
    while (sem_wait(&go) == 0 && !taken_good) {
        print_pending("thread");
        sem_post(&done);
    }
    taken_good = take(SIGRTMIN + 2, SI_QUEUE, 90, 2);
    return unused;
}

static void make_timers(void)
{
    const struct itimerspec far = {.it_value = {5000, 0}, .it_interval = {7, 9}};
    const struct itimerval far_too = {.it_value = {6000, 0}, .it_interval = {0, 500000}};
    const struct itimerval processor = {.it_value = {3000, 0}};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 4};

    for (int i = 0; i < 4; i++) {
        event.sigev_value.sival_int = i;
        timer_create(i == 2 ? CLOCK_REALTIME : CLOCK_MONOTONIC, &event, &timers[i]);
    }
    timer_delete(timers[0]);
    timer_delete(timers[1]);
    timer_settime(timers[2], 0, &far, NULL);
    setitimer(ITIMER_REAL, &far_too, NULL);
    setitimer(ITIMER_VIRTUAL, &processor, NULL);
}

static void make_process(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART | SA_NODEFER};
    const struct rlimit files = {200, 300}, core = {0, 4096};

    sigaddset(&action.sa_mask, SIGHUP);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < 3; i++)
        sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 70 + i});
    kill(getpid(), SIGALRM);
    setrlimit(RLIMIT_NOFILE, &files);
    setrlimit(RLIMIT_CORE, &core);
    umask(037);
    (void)personality(personality(0xffffffff) | ADDR_COMPAT_LAYOUT);
    (void)syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
    (void)syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_NAME, "signals (state)");
}

static void print_timers(void)
{
    struct itimerspec one;
    struct itimerval other;

    for (int i = 2; i < 4; i++) {
        int got = timer_gettime(timers[i], &one);

        printf("timer %d (%ld): %d, left %d, interval %ld.%09ld\n", i, (long)(intptr_t)timers[i],
               got, one.it_value.tv_sec > 4900, (long)one.it_interval.tv_sec,
               one.it_interval.tv_nsec);
    }
    for (int i = ITIMER_REAL; i <= ITIMER_PROF; i++) {
        getitimer((__itimer_which_t)i, &other);
        printf("interval timer %d: left %ld, interval %ld\n", i, other.it_value.tv_sec / 100,
               (long)other.it_interval.tv_usec);
    }
}

static void report(void)
{
    struct rlimit files, core;
    struct sigaction action;
    char name[16], folder[300];

    print_pending("process");
    sem_post(&go);
    sem_wait(&done);
    print_timers();
    getrlimit(RLIMIT_NOFILE, &files);
    getrlimit(RLIMIT_CORE, &core);
    sigaction(SIGTERM, NULL, &action);
    prctl(PR_GET_NAME, name);
    printf("limits %ld %ld %ld %ld, umask %o, personality %x\n", (long)files.rlim_cur,
           (long)files.rlim_max, (long)core.rlim_cur, (long)core.rlim_max, umask(037),
           (unsigned)personality(0xffffffff));
    printf("handler %d flags %x mask %d, SIGPIPE ignored %d\n", action.sa_handler == on_signal,
           (unsigned)action.sa_flags, sigismember(&action.sa_mask, SIGHUP),
           signal(SIGPIPE, SIG_IGN) == SIG_IGN);
    printf("membarrier %ld %ld, no new privileges %d, name %s\n",
           syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0),
           syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0),
           prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), name);
    printf("in %s as %d (%d), %d\nend\n", getcwd(folder, sizeof folder), getpid(),
           (int)syscall(SYS_gettid), (int)getuid());
    fflush(stdout);
}

int main(void)
{
    sigset_t blocked;
    pthread_t thread;
    int number = 0;

    sigemptyset(&blocked);
    for (int i = 0; i < 5; i++)
        sigaddset(&blocked, SIGRTMIN + i);
    sigaddset(&blocked, SIGUSR1);
    sigaddset(&blocked, SIGUSR2);
    sigaddset(&blocked, SIGALRM);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    sem_init(&go, 0, 0);
    sem_init(&done, 0, 0);
    make_timers();
    make_process();
    pthread_create(&thread, NULL, second, NULL);
    sem_wait(&done);
    printf("ready\n");
    fflush(stdout);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigaddset(&blocked, SIGUSR2);
    while (sigwait(&blocked, &number) == 0 && number == SIGUSR1)
        report();
    if (!take(SIGRTMIN + 1, SI_QUEUE, 70, 3) || !take(SIGALRM, SI_USER, 0, 1))
        return 98;
    taken_good = 1;
    sem_post(&go);
    pthread_join(thread, NULL);
    return taken_good ? 0 : 97;
}
