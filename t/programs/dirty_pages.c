/*
 * dirty_pages.c - a heap of MB megabytes; at each line on stdin, a number, so many of its pages, at
 * random, are written; then the number is printed. Ends at the end of stdin.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 4096

int main(int argc, char **argv)
{
    size_t pages = (argc > 1 ? strtoull(argv[1], NULL, 10) : 64) * 256;
    unsigned char *heap = malloc(pages * PAGE);
    uint64_t state = 1;
    unsigned long wanted;

    if (!heap)
        return 1;
    for (size_t i = 0; i < pages * PAGE; i += 8) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        memcpy(heap + i, &state, 8);
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ready\n");
    while (scanf("%lu", &wanted) == 1) {
        for (unsigned long i = 0; i < wanted; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            heap[(state >> 20) % pages * PAGE + (state >> 8) % PAGE]++;
        }
        printf("%lu\n", wanted);
    }
    return 0;
}
