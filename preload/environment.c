/*
 * environment.c - changes to the environment before main(), see program.h. A new array is made for
 * each addition: the old one may be the kernel's, on the stack.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "preload/program.h"

static size_t count(char *const *entries)
{
    size_t n = 0;

    while (entries[n])
        n++;
    return n;
}

static char **find(const char *name, size_t length)
{
    for (char **entry = environ; *entry; entry++)
        if (strncmp(*entry, name, length) == 0 && (*entry)[length] == '=')
            return entry;
    return NULL;
}

void environment_put(char *assignment)
{
    char **entry = find(assignment, strcspn(assignment, "=")), **larger;
    size_t n = count(environ);

    if (entry) {
        *entry = assignment;
        return;
    }
    larger = malloc((n + 2) * sizeof *larger);
    if (!larger)
        return;
    memcpy(larger, environ, n * sizeof *larger);
    larger[n] = assignment;
    larger[n + 1] = NULL;
    environ = larger;
}

void environment_remove(const char *name)
{
    char **entry = find(name, strlen(name));

    for (; entry && *entry; entry++)
        entry[0] = entry[1];
}
