/*
 * knows_pheap.c - a program that knows of pheap and runs without it too. Prints "absent", or takes
 * N checkpoints and prints their numbers, then a line every 10 ms, LINES of them. With `child` the
 * first is asked for by a forked child; with `socket` there is something that cannot be saved; with
 * `threads` four threads ask at once. Arguments: N LINES [child|socket|threads].
 */
#include <errno.h>
#include <linux/netlink.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "../../core/pheap.h"

#define THREADS 4

static void take(void)
{
    int64_t number;

    errno = 99;
    number = pheap_checkpoint();
    if (number > 0)
        printf("generation %lld\n", (long long)number);
    else
        printf("error %lld: %s\n", (long long)number, pheap_error_text(number));
    if (errno != 99)
        printf("errno changed to %d\n", errno);
    fflush(stdout);
}

static void *take_in_thread(void *unused)
{
    take();
    return unused;
}

static void take_in_threads(void)
{
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, take_in_thread, NULL) != 0)
            exit(1);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void take_in_child(void)
{
    int pid = fork();

    if (pid == 0) {
        take();
        exit(0);
    }
    waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
    const struct timespec step = {0, 10000000};
    const char *what = argc > 3 ? argv[3] : "";

    if (argc < 3)
        return 2;
    if (!pheap_is_present()) {
        puts("absent");
        return 0;
    }
    if (strcmp(what, "child") == 0)
        take_in_child();
    if (strcmp(what, "threads") == 0)
        take_in_threads();
    if (strcmp(what, "socket") == 0 && socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE) < 0)
        return 1;
    for (int i = 0; i < atoi(argv[1]); i++)
        take();
    for (int i = 0; i < atoi(argv[2]); i++) {
        printf("line %d\n", i);
        fflush(stdout);
        nanosleep(&step, NULL);
    }
    return 0;
}
