/*
 * uring_state.c - asks the kernel for an io_uring, past libc as liburing does, in two threads, and
 * at each SIGUSR1 prints what it said: the same each time. SIGUSR2: ends.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static long raw_call(long number, long first, const void *second)
{
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(first), "S"(second)
                     : "rcx", "r11", "memory");
    return result;
}

static long setup(void)
{
    char params[120] = {0};
    long fd = raw_call(SYS_io_uring_setup, 4, params);

    if (fd >= 0 && getenv("KEEP") == NULL)
        close((int)fd);
    return fd < 0 ? fd : 0;
}

static void *in_a_thread(void *result)
{
    *(long *)result = setup();
    return NULL;
}

static void report(void)
{
    char line[256];
    pthread_t thread;
    long other = 1;
    FILE *file = fopen("/proc/self/status", "r");

    pthread_create(&thread, NULL, in_a_thread, &other);
    pthread_join(thread, NULL);
    printf("io_uring_setup %ld %ld, register %ld, the next call %ld\n", setup(), other,
           raw_call(SYS_io_uring_register, -1, NULL), raw_call(SYS_pidfd_open, -1, NULL));
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "Seccomp", 7) == 0 || strncmp(line, "NoNewPrivs", 10) == 0)
            printf("%s", line);
    if (file != NULL)
        fclose(file);
    printf("end\n");
    fflush(stdout);
}

int main(void)
{
    sigset_t both;
    int number = 0;

    sigemptyset(&both);
    sigaddset(&both, SIGUSR1);
    sigaddset(&both, SIGUSR2);
    sigprocmask(SIG_BLOCK, &both, NULL);
    if (getenv("KEEP") != NULL)
        (void)setup();
    printf("ready\n");
    fflush(stdout);
    while (sigwait(&both, &number) == 0 && number == SIGUSR1)
        report();
    return 0;
}
