/*
 * wrapper.c - a preloaded malloc that looks up the next one in its first call, as tracers do: dlsym
 * inside of malloc, and malloc inside of dlsym. Says at the end how many calls there were.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static unsigned long calls;

static void *next(const char *name)
{
    void *symbol = dlsym(RTLD_NEXT, name);

    if (symbol == NULL)
        _exit(99);
    return symbol;
}

void *malloc(size_t bytes)
{
    static void *(*next_malloc)(size_t);

    if (next_malloc == NULL)
        *(void **)&next_malloc = next("malloc");
    calls++;
    return next_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    static void *(*next_calloc)(size_t, size_t);

    if (next_calloc == NULL)
        *(void **)&next_calloc = next("calloc");
    calls++;
    return next_calloc(count, bytes);
}

void free(void *block)
{
    static void (*next_free)(void *);

    if (next_free == NULL)
        *(void **)&next_free = next("free");
    next_free(block);
}

__attribute__((destructor)) static void end(void)
{
    fprintf(stderr, "wrapped %d\n", calls > 0);
}
