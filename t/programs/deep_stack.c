/*
 * deep_stack.c - uses MB megabytes of its stack once, comes back, says so, and then counts, a line
 * each 20 ms, until it is killed: what lies below its stack pointer is of no use any more. What
 * lies above must stay: it looks at it each time.
 *
 * Argument: MB
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

__attribute__((noinline)) static unsigned descend(int megabytes)
{
    volatile unsigned char block[1 << 20];
    unsigned sum = 0;

    for (size_t i = 0; i < sizeof block; i += 64)
        block[i] = (unsigned char)(i * 31 + (unsigned)megabytes);
    if (megabytes > 1)
        sum = descend(megabytes - 1);
    for (size_t i = 0; i < sizeof block; i += 64)
        sum += block[i];
    return sum;
}

int main(int argc, char **argv)
{
    volatile unsigned char kept[1 << 17];
    unsigned sum = descend(argc > 1 ? atoi(argv[1]) : 4);

    for (size_t i = 0; i < sizeof kept; i++)
        kept[i] = (unsigned char)(i * 7);
    printf("used %u\n", sum);
    fflush(stdout);
    for (int n = 0;; n++) {
        unsigned wrong = 0;

        for (size_t i = 0; i < sizeof kept; i++)
            wrong += kept[i] != (unsigned char)(i * 7);
        printf("%d wrong %u again %u\n", n, wrong, descend(2));
        fflush(stdout);
        nanosleep(&(struct timespec){0, 20000000}, NULL);
    }
}
