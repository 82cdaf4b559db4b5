/*
 * mapping.c - the calls on mappings through which pheap could be seen, or which it must see.
 *
 * mremap: a range of which one part is registered for dirty tracking and the other is not cannot
 * be moved or grown as one (EFAULT): the agent takes it out of tracking, and the call is made
 * again. madvise: in a restored process slot memory is mapped from the pool's frames, and
 * MADV_DONTNEED would bring an old content back instead of zeroes.
 *
 * What madvise and mlock set, only a slow look at the mappings tells: calls that set something are
 * counted, so that the agent knows when to look (core/process/memory_attributes.h).
 */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include "core/agent/control.h"
#include "core/base/sys.h"
#include "core/heap/heap.h"
#include "preload/program.h"

#define UNTRACK_TIMEOUT_MS 2000

#pragma GCC visibility push(default)

void *mremap(void *old, size_t old_bytes, size_t new_bytes, int flags, ...)
{
    uintptr_t start = (uintptr_t)old;
    void *wanted = NULL;
    long result;

    if (flags & MREMAP_FIXED) {
        va_list args;

        va_start(args, flags);
        wanted = va_arg(args, void *);
        va_end(args);
    }
    result = sys_call(SYS_mremap, old, old_bytes, new_bytes, flags, wanted);
    if (result == -EFAULT && program_owns_pool() &&
        agent_request(&program.link, CONTROL_UNTRACK, start, start + old_bytes,
                      UNTRACK_TIMEOUT_MS) == 0)
        result = sys_call(SYS_mremap, old, old_bytes, new_bytes, flags, wanted);
    if (sys_failed(result)) {
        errno = (int)-result;
        return MAP_FAILED;
    }
    return (void *)result;
}

static bool drops_slot_memory(const void *start, size_t bytes, int advice)
{
    const char *first = start;

    return (advice == MADV_DONTNEED || advice == MADV_FREE) && bytes > 0 &&
           (uintptr_t)start % PAGE_BYTES == 0 && heap_owns(first) && heap_owns(first + bytes - 1);
}

static void setting_begins(void)
{
    __atomic_fetch_add(&program.link.memory_calls.begun, 1, __ATOMIC_SEQ_CST);
}

static void setting_ends(void)
{
    __atomic_fetch_add(&program.link.memory_calls.ended, 1, __ATOMIC_SEQ_CST);
}

/* Is it a setting that stays? */
static bool sets_something(int advice)
{
    switch (advice) {
    case MADV_WILLNEED:
    case MADV_DONTNEED:
    case MADV_FREE:
    case MADV_REMOVE:
    case MADV_COLD:
    case MADV_PAGEOUT:
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE:
        return false;
    default:
        return true;
    }
}

static int returned(long result)
{
    if (!sys_failed(result))
        return (int)result;
    errno = (int)-result;
    return -1;
}

static int set_lock(long number, uintptr_t first, uintptr_t second, uintptr_t third)
{
    long result;

    setting_begins();
    result = sys_call(number, first, second, third);
    setting_ends();
    return returned(result);
}

static int lock_all(long number, int flags)
{
    int result = set_lock(number, (uintptr_t)flags, 0, 0);

    if (result == 0)
        program.link.memory_calls.lock_future =
            flags & MCL_FUTURE ? (uint32_t)flags & (MCL_FUTURE | MCL_ONFAULT) : 0;
    return result;
}

int mlock(const void *start, size_t bytes)
{
    return set_lock(SYS_mlock, (uintptr_t)start, bytes, 0);
}

int mlock2(const void *start, size_t bytes, unsigned flags)
{
    return set_lock(SYS_mlock2, (uintptr_t)start, bytes, flags);
}

int munlock(const void *start, size_t bytes)
{
    return set_lock(SYS_munlock, (uintptr_t)start, bytes, 0);
}

int mlockall(int flags)
{
    return lock_all(SYS_mlockall, flags);
}

int munlockall(void)
{
    return lock_all(SYS_munlockall, 0);
}

int madvise(void *start, size_t bytes, int advice)
{
    bool drops_slot = drops_slot_memory(start, bytes, advice), sets = sets_something(advice);
    long result = 0;

    if (sets)
        setting_begins();
    if (!drops_slot || !program.restored)
        result = sys_madvise(start, bytes, advice);
    if (sets)
        setting_ends();
    /* Looked at after the call: an image may have been cut just before it. */
    if (drops_slot && program.restored)
        result = (long)sys_mmap(start, bytes, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    return returned(result);
}
