/*
 * own_malloc.c - a program that brings its own malloc, as many do; its symbols come before those of
 * a preloaded library. Counts to N, a line every 50 ms.
 *
 * Usage: own_malloc N
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARENA_BYTES (16ul << 20)

void *memalign(size_t align, size_t bytes);

static _Alignas(4096) char arena[ARENA_BYTES];
static size_t used;

/* Never freed. The word before a block says how long it is. */
void *memalign(size_t align, size_t bytes)
{
    size_t start = (used + 16 + align - 1) & ~(align - 1);

    if (bytes > ARENA_BYTES - start)
        return NULL;
    used = start + ((bytes + 15) & ~15ul);
    memcpy(arena + start - sizeof bytes, &bytes, sizeof bytes);
    return arena + start;
}

void *malloc(size_t bytes)
{
    return memalign(16, bytes);
}

void free(void *block)
{
    (void)block;
}

void *calloc(size_t count, size_t bytes)
{
    return malloc(count * bytes);
}

void *realloc(void *block, size_t bytes)
{
    char *moved = malloc(bytes);
    size_t old = 0;

    if (block)
        memcpy(&old, (char *)block - sizeof old, sizeof old);
    if (moved && old > 0)
        memcpy(moved, block, old < bytes ? old : bytes);
    return moved;
}

int main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 1;
    char *block = malloc(100);

    if ((uintptr_t)block - (uintptr_t)arena >= ARENA_BYTES)
        return 9;
    strcpy(block, "from the program's own malloc");
    for (int i = 1; i <= count; i++) {
        usleep(50000);
        printf("%d %s\n", i, block);
        fflush(stdout);
    }
    return 0;
}
