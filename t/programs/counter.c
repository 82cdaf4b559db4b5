/*
 * counter.c - counts to N, a line every MS milliseconds with a sum over a list on the heap, and
 * ends with STATUS, or of signal -STATUS. A SIGUSR1 adds a line "signal". Half-way it waits while
 * there is a file .hold in its directory, so that a test has the time to kill it. Arguments: N
 * [STATUS [MS]].
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct item {
    struct item *next;
    long value;
};

static volatile sig_atomic_t signals;

static void on_signal(int number)
{
    (void)number;
    signals++;
}

static void sleep_ms(long ms)
{
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};

    while (nanosleep(&left, &left) != 0)
        ;
}

static long sum_of(const struct item *list)
{
    long sum = 0;

    for (; list; list = list->next)
        sum += list->value;
    return sum;
}

int main(int argc, char **argv)
{
    long count = argc > 1 ? atol(argv[1]) : 100;
    int status = argc > 2 ? atoi(argv[2]) : 0;
    long ms = argc > 3 ? atol(argv[3]) : 10;
    struct item *list = NULL;
    int seen = 0;

    signal(SIGUSR1, on_signal);
    for (long i = 1; i <= count; i++) {
        struct item *item = malloc(sizeof *item);

        if (!item)
            return 99;
        *item = (struct item){list, i};
        list = item;
        if (seen != signals) {
            seen = signals;
            printf("signal\n");
        }
        printf("%ld %ld\n", i, sum_of(list));
        fflush(stdout);
        do
            sleep_ms(ms);
        while (i == count / 2 && access(".hold", F_OK) == 0);
    }
    if (status < 0) {
        raise(-status);
        pause();
    }
    return status;
}
