/*
 * mapping.c - the two calls on mappings through which pheap could be seen.
 *
 * mremap: a range of which one part is registered for dirty tracking and the other is not cannot
 * be moved or grown as one (EFAULT): the agent takes it out of tracking, and the call is made
 * again. madvise: in a restored process slot memory is mapped from the pool's frames, and
 * MADV_DONTNEED would bring an old content back instead of zeroes.
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

int madvise(void *start, size_t bytes, int advice)
{
    bool drops_slot = drops_slot_memory(start, bytes, advice);
    long result = 0;

    if (!drops_slot || !program.restored)
        result = sys_madvise(start, bytes, advice);
    /* Looked at after the call: an image may have been cut just before it. */
    if (drops_slot && program.restored)
        result = (long)sys_mmap(start, bytes, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    if (sys_failed(result)) {
        errno = (int)-result;
        return -1;
    }
    return 0;
}
