/*
 * leaking.c - a heap of which everything is known, for make bench-leaks: kept() makes a list,
 * leaked() blocks that nothing points to, a tenth as many, passed() what is freed soon after. In
 * between the program computes something, so that it is not malloc alone that is slowed down.
 *
 * Says "block A holder H kept BYTES leaked BYTES": the block at A is held by the word at H alone.
 * With a second argument it then waits for the end of its standard input. Arguments: how many
 * blocks of the list.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES   100
#define LEAKED_BYTES 96
#define RECENT       512

struct kept {
    struct kept *next;
    char text[TEXT_BYTES];
};

static struct kept *list, *middle;
static char *recent[RECENT];
static uint64_t sum;

__attribute__((noinline)) static void kept(uint64_t number)
{
    struct kept *block = malloc(sizeof *block);

    snprintf(block->text, TEXT_BYTES, "block %llu", (unsigned long long)number);
    block->next = list;
    list = block;
}

__attribute__((noinline)) static void leaked(uint64_t number)
{
    char *volatile block = malloc(LEAKED_BYTES);

    memset(block, (int)number, LEAKED_BYTES);
    block = NULL;
}

__attribute__((noinline)) static void passed(uint64_t number)
{
    char **place = &recent[number * 7919 % RECENT];

    free(*place);
    *place = malloc(16 + number * 31 % 400);
    memset(*place, (int)number, 16);
}

__attribute__((noinline)) static void compute(void)
{
    for (int i = 0; i < 300; i++)
        sum = sum * 6364136223846793005ull + 1442695040888963407ull;
}

int main(int argc, char **argv)
{
    uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000;

    for (uint64_t i = 0; i < count; i++) {
        kept(i);
        if (i == count / 2)
            middle = list;
        if (i % 10 == 0)
            leaked(i);
        for (int k = 0; k < 3; k++)
            passed(4 * i + (uint64_t)k);
        compute();
    }
    for (struct kept *block = list; middle && block; block = block->next)
        if (block->next == middle) {
            printf("block %p holder %p kept %llu leaked %llu\n", (void *)middle,
                   (void *)&block->next, (unsigned long long)(count * sizeof *block),
                   (unsigned long long)((count + 9) / 10 * LEAKED_BYTES));
            middle = NULL;
        }
    fflush(stdout);
    if (argc > 2)
        while (getchar() != EOF)
            ;
    return sum == 1;
}
