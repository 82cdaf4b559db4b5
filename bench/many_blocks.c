/*
 * many_blocks.c - bench/views: a program with N blocks of 112 bytes, which waits to be looked at.
 *
 *     many_blocks list|tree N
 *
 * list: each points to the one before. tree: each is put below a random one that has room, so that
 * pointers lead about at random.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BYTES 104

struct block {
    struct block *below[2];
    uint64_t number;
    char fill[BYTES - 24];
};

static struct block *top; /* the root */

static struct block *make(uint64_t number)
{
    struct block *block = calloc(1, sizeof *block);

    if (!block)
        exit(1);
    block->number = number;
    return block;
}

static void add_to_tree(struct block *block, uint64_t key)
{
    struct block **at = &top;

    for (; *at; key = key >> 1 | key << 63)
        at = &(*at)->below[key & 1];
    *at = block;
}

int main(int argc, char **argv)
{
    uint64_t count = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;
    int is_tree = argc == 3 && strcmp(argv[1], "tree") == 0;

    for (uint64_t i = 0; i < count; i++) {
        struct block *block = make(i);

        if (is_tree) {
            add_to_tree(block, i * 0x9e3779b97f4a7c15ull);
        } else {
            block->below[0] = top;
            top = block;
        }
    }
    puts("ready");
    fflush(stdout);
    pause();
    return 0;
}
