/*
 * plugin.c - a library to be opened and closed: allocates in its constructor, frees in its
 * destructor, has much thread-local storage, which glibc gets from malloc.
 */
#include <stdlib.h>
#include <string.h>

void *plugin_make(size_t bytes);
void plugin_free(void *block);
int plugin_touch(void);

static __thread char storage[100000];
static char *made_at_start;

__attribute__((constructor)) static void start(void)
{
    made_at_start = calloc(1, 3000);
}

__attribute__((destructor)) static void end(void)
{
    free(made_at_start);
}

void *plugin_make(size_t bytes)
{
    return memset(malloc(bytes), 7, bytes);
}

void plugin_free(void *block)
{
    free(block);
}

/* Whether the thread's storage was as it should be. */
int plugin_touch(void)
{
    int fine = storage[0] == 0 && storage[99999] == 0;

    memset(storage, 1, sizeof storage);
    return fine && made_at_start && made_at_start[2999] == 0;
}
