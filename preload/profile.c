/*
 * profile.c - PHEAP_PROFILE=bytes: a sampled allocation's stack, from libunwind.
 *
 * libunwind is loaded for a program that is profiled only, so that others have no library that they
 * did not ask for. What fails here costs the profile: one line, and the program runs on.
 *
 * Always true: the walker is called by no thread that is in it already (core/heap/profile.c), so
 * what libunwind allocates is not sampled.
 */
#include <dlfcn.h>
#include <errno.h>
#include "core/base/format_text.h"
#include "core/base/sys.h"
#include "core/heap/profile.h"
#include "preload/program.h"

#define LIBUNWIND_NAME "libunwind.so.8"

/* Of this library itself: its frames are left out. Set by the linker. */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char etext[] __attribute__((visibility("hidden")));

#define OWN_FRAMES_MAX 8 /* between the walker and the program's call */

static int (*unw_backtrace)(void **buffer, int size);

static bool is_own(const void *address)
{
    return (uintptr_t)address - (uintptr_t)__ehdr_start <
           (uintptr_t)etext - (uintptr_t)__ehdr_start;
}

static uint32_t walk(uint64_t *frames, uint32_t most)
{
    void *found[PROFILE_FRAMES_MAX + OWN_FRAMES_MAX];
    int saved_errno = errno;
    int count = unw_backtrace(found, PROFILE_FRAMES_MAX + OWN_FRAMES_MAX), first = 0;
    uint32_t kept = 0;

    while (first < count && is_own(found[first]))
        first++;
    for (int i = first; i < count && kept < most; i++)
        frames[kept++] = (uint64_t)found[i];
    errno = saved_errno;
    return kept;
}

static void say_no_profile(const char *reason)
{
    char line[200];

    format_text(line, sizeof line, "PHEAP_PROFILE: %s; no allocation is sampled", reason);
    program_say(line);
}

void program_profile(uint64_t rate_bytes)
{
    uint64_t frames[PROFILE_FRAMES_MAX];
    int saved_errno = errno, status;
    void *library = dlopen(LIBUNWIND_NAME, RTLD_NOW | RTLD_LOCAL);

    if (library)
        *(void **)&unw_backtrace = dlsym(library, "unw_backtrace");
    if (!unw_backtrace) {
        say_no_profile(LIBUNWIND_NAME " cannot be loaded (Debian: libunwind8)");
        return;
    }
    (void)walk(frames, PROFILE_FRAMES_MAX); /* it makes what it needs now, not inside a malloc */
    status = program_start_heap() ? heap_profile_start(rate_bytes, walk) : -ENOMEM;
    if (status == STATUS_REFUSED)
        say_no_profile("a heap under PHEAP_HARDEN or Valgrind has none");
    else if (status < 0)
        say_no_profile("no memory for its tables");
    errno = saved_errno;
}
