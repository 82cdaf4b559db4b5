/*
 * undisturbed.c - threads that run, wait and call, each of which would notice if anything were done
 * to it: a register, a mask, a system call, a sleep that ends early. As signals come, it goes on
 * with a write that was cut short and an epoll_wait() that was interrupted. Ends after so many
 * milliseconds (first argument) with "undisturbed", or with what was not as it should be. With a
 * second argument, sleeps may be interrupted too.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define LARGE_BYTES (1 << 20) /* more than a pipe holds */

static int may_interrupt;
static atomic_int ends, all_is_read, disturbed, handled;

static void check(int right, const char *what)
{
    if (!right) {
        disturbed++;
        printf("%s (%s)\n", what, strerror(errno));
    }
}

static void compute(void)
{
    static _Atomic uint64_t sum;
    uint64_t a = 1, b = 2, expected = 0;
    double x = 1;

    for (int i = 0; i < 100000; i++) {
        a = a * 6364136223846793005ull + b;
        b ^= a >> 7;
        x = x * 1.0000001 + 0.25;
    }
    a += (uint64_t)x;
    if (!atomic_compare_exchange_strong(&sum, &expected, a ^ b))
        check((a ^ b) == expected, "a sum is another one");
}

static void sleep_a_little(void)
{
    struct timespec time = {0, 7000000};

    while (nanosleep(&time, &time) != 0)
        check(may_interrupt && errno == EINTR, "a sleep ended early");
}

static void wait_for_events(void)
{
    struct epoll_event event;
    int epoll = epoll_create1(0);

    check(epoll_wait(epoll, &event, 1, 5) == 0 || errno == EINTR, "epoll_wait() saw something");
    close(epoll);
}

static int feed[2];

/* The writer, and the reader, are in their calls most of the time. */
static void read_all(void)
{
    static char bytes[LARGE_BYTES];
    size_t got = 0;

    while (got < sizeof bytes) {
        ssize_t n = read(feed[0], bytes + got, sizeof bytes - got);

        all_is_read = n == 0 && got == 0;
        if (all_is_read)
            return;
        if (n <= 0) {
            check(0, "read() failed");
            exit(1);
        }
        got += (size_t)n;
    }
    for (size_t i = 0; i < sizeof bytes; i += 4099)
        check(bytes[i] == (char)(i * 7), "another byte was read");
}

static void write_all(void)
{
    static char bytes[LARGE_BYTES];
    size_t put = 0;

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 7);
    while (put < sizeof bytes) {
        ssize_t n = write(feed[1], bytes + put, sizeof bytes - put);

        check(n > 0 || errno == EINTR, "write() failed");
        put += n > 0 ? (size_t)n : 0;
    }
}

static void churn(void)
{
    unsigned char *blocks[64];

    for (size_t i = 0; i < 64; i++) {
        blocks[i] = malloc(i * 50 + 1);
        memset(blocks[i], (int)i, i * 50 + 1);
    }
    for (size_t i = 0; i < 64; i++) {
        check(blocks[i][i * 50] == i, "a block holds something else");
        free(blocks[i]);
    }
}

static void (*const bodies[])(void) = {compute,   sleep_a_little, wait_for_events, read_all,
                                       write_all, churn,          compute,         sleep_a_little};
#define THREADS (sizeof bodies / sizeof *bodies)

static void *run(void *number)
{
    void (*body)(void) = bodies[(size_t)number];
    sigset_t mask, now;

    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    if (body != compute && body != churn)
        sigaddset(&mask, SIGALRM);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    while (body == read_all ? !all_is_read : !ends) {
        body();
        pthread_sigmask(SIG_SETMASK, NULL, &now);
        check(memcmp(&now, &mask, 8) == 0, "a signal mask is another one");
    }
    if (body == write_all)
        close(feed[1]);
    return NULL;
}

static void count_signal(int signal)
{
    handled += signal == SIGALRM;
}

int main(int argc, char **argv)
{
    const struct itimerval often = {{0, 2000}, {0, 2000}};
    long milliseconds = argc > 1 ? atol(argv[1]) : 100;
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    pthread_t threads[THREADS];

    may_interrupt = argc > 2;
    if (pipe(feed) != 0)
        return 2;
    signal(SIGALRM, count_signal); /* SA_RESTART */
    for (size_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, run, (void *)i);
    setitimer(ITIMER_REAL, &often, NULL);
    while (nanosleep(&time, &time) != 0)
        ;
    ends = 1;
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    check(handled > 0, "no signal came");
    if (disturbed == 0)
        puts("undisturbed");
    return disturbed != 0;
}
