/*
 * attributes_state.c - sets what the kernel keeps for a process and its threads and, at each
 * SIGUSR1, prints it: the same each time. SIGUSR2: ends.
 */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA           0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

#define IO_IDLE (3 << 13)

struct scheduling { /* struct sched_attr, which glibc 2.36 has not and the kernel's header clashes
                     */
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

static sem_t go, done;

static void print_thread(const char *name)
{
    struct scheduling scheduling = {.size = sizeof scheduling};
    cpu_set_t cpus;
    int death = 0;

    sched_getaffinity(0, sizeof cpus, &cpus);
    syscall(SYS_sched_getattr, 0, &scheduling, sizeof scheduling, 0);
    prctl(PR_GET_PDEATHSIG, &death);
    printf(
        "%s: cpus %d first %d policy %u flags %llx priority %u nice %d slack %d death %d io %ld\n",
        name, CPU_COUNT(&cpus), CPU_ISSET(0, &cpus) != 0, scheduling.policy,
        (unsigned long long)scheduling.flags, scheduling.priority, scheduling.nice,
        prctl(PR_GET_TIMERSLACK), death, syscall(SYS_ioprio_get, 1, 0));
}

static void *second(void *unused)
{
    struct sched_param urgent = {.sched_priority = 5};
    cpu_set_t cpus;

    CPU_ZERO(&cpus);
    CPU_SET(0, &cpus);
    sched_setaffinity(0, sizeof cpus, &cpus);
    sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &urgent); /* root may */
    prctl(PR_SET_TIMERSLACK, 7777);
    syscall(SYS_ioprio_set, 1, 0, IO_IDLE);
    sem_post(&done);
    while (sem_wait(&go) == 0) {
        print_thread("second");
        sem_post(&done);
    }
    return unused;
}

static void set_process(void)
{
    struct sched_param none = {0};
    FILE *score = fopen("/proc/self/oom_score_adj", "w");
    void *named = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    setpriority(PRIO_PROCESS, 0, 3);
    sched_setscheduler(0, SCHED_BATCH, &none);
    prctl(PR_SET_TIMERSLACK, 123456);
    prctl(PR_SET_PDEATHSIG, SIGURG);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, named, 3 * 4096, "a name");
    if (geteuid() == 0)
        prctl(PR_SET_DUMPABLE, 0);
    if (score != NULL) {
        fprintf(score, "321");
        fclose(score);
    }
}

static void print_lines(const char *path, const char *part)
{
    char line[512];
    FILE *file = fopen(path, "r");

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strstr(line, part) != NULL)
            printf("%s: %s", path, line);
    if (file != NULL)
        fclose(file);
}

static void report(void)
{
    int subreaper = 0;

    prctl(PR_GET_CHILD_SUBREAPER, &subreaper);
    print_thread("first");
    sem_post(&go);
    sem_wait(&done);
    printf("subreaper %d dumpable %d huge pages off %d\n", subreaper, prctl(PR_GET_DUMPABLE),
           prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    print_lines("/proc/self/oom_score_adj", "");
    print_lines("/proc/self/maps", "a name");
    printf("end\n");
    fflush(stdout);
}

int main(void)
{
    pthread_t thread;
    sigset_t both;
    int number = 0;

    sigemptyset(&both);
    sigaddset(&both, SIGUSR1);
    sigaddset(&both, SIGUSR2);
    sigprocmask(SIG_BLOCK, &both, NULL);
    sem_init(&go, 0, 0);
    sem_init(&done, 0, 0);
    pthread_create(&thread, NULL, second, NULL);
    sem_wait(&done);
    set_process();
    printf("ready\n");
    fflush(stdout);
    while (sigwait(&both, &number) == 0 && number == SIGUSR1)
        report();
    return 0;
}
