/*
 * deepbind.c - libraries opened with RTLD_DEEPBIND (PHP opens its extensions so) look names up in
 * themselves and what they need before anything that is preloaded: they would call glibc's malloc
 * and free, and a block that goes from one side to the other would end the program. The flag is
 * taken away, so that there is one heap; PHEAP_DEEPBIND=1 leaves it, for a library that cannot do
 * without.
 *
 * Always true: dlopen (dlopen.S) can be called before any constructor has run.
 */
#include <dlfcn.h>
#include <stdint.h>
#include "preload/program.h"

#define VISIBLE_TO_ASM __attribute__((visibility("hidden"), used))

VISIBLE_TO_ASM void *(*deepbind_next_dlopen)(const char *, int);
VISIBLE_TO_ASM uint32_t deepbind_flags_kept = ~(uint32_t)RTLD_DEEPBIND;

void *deepbind_find_dlopen(void);

/* Returned too, for the one who asked. */
VISIBLE_TO_ASM void *deepbind_find_dlopen(void)
{
    void *found = dlsym(RTLD_NEXT, "dlopen");

    *(void **)&deepbind_next_dlopen = found;
    return found;
}

void program_keep_deepbind(void)
{
    deepbind_flags_kept = ~0u;
}
