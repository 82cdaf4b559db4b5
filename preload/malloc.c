/*
 * malloc.c - the malloc family of libpheap.so: names, arguments and errno as glibc has them; the
 * blocks come from core/heap.
 *
 * errno: ENOMEM when a block was wanted and there is none, EINVAL for an alignment that is none,
 * and untouched otherwise: core/heap makes raw system calls only. posix_memalign says it by its
 * result and leaves errno alone.
 *
 * Any function here may be the first one called in the process, before any constructor; any may
 * be called after the thread's destructors have run.
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/sys.h"
#include "core/heap/fast_path.h"
#include "core/heap/heap.h"
#include "preload/program.h"
#include "preload/slot.h"

/* The key's destructor tells of a thread's end. Its number is among the first 32, because it is
 * made by the first malloc of the process: setting it allocates nothing. */
static pthread_key_t thread_end_key;
static bool thread_end_key_made;

static void thread_ended(void *thread_heap)
{
    (void)thread_heap;
    heap_thread_exit();
}

/* Again for each heap the thread gets: destructors of others that run after ours may allocate,
 * and glibc goes round up to four times. */
static void thread_attached(void *thread_heap)
{
    int saved_errno = errno;

    if (thread_end_key_made)
        (void)pthread_setspecific(thread_end_key, thread_heap);
    errno = saved_errno;
}

bool program_start_heap(void)
{
    if (heap_here())
        return true;
    heap_set_thread_hook(thread_attached);
    if (!slot_start_heap())
        return heap_here() != NULL;
    thread_end_key_made = pthread_key_create(&thread_end_key, thread_ended) == 0;
    return true;
}

/* All that is defined from here on and not static is exported by preload.map. */
#pragma GCC visibility push(default)

/* Not in the headers of glibc 2.36, or in none. */
void cfree(void *block);
void free_sized(void *block, size_t bytes);
void free_aligned_sized(void *block, size_t align, size_t bytes);
void *__libc_malloc(size_t bytes);
void __libc_free(void *block);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *block, size_t bytes);
void *__libc_memalign(size_t align, size_t bytes);

static void *or_enomem(void *block)
{
    if (UNLIKELY(block == NULL))
        errno = ENOMEM;
    return block;
}

__attribute__((noinline)) static void *malloc_slow(size_t bytes)
{
    return or_enomem(program_start_heap() ? heap_malloc(bytes) : NULL);
}

/* Of a profiled heap, what is not small or may be sampled. */
__attribute__((noinline)) static void *malloc_counted(size_t bytes, struct thread_heap *mine)
{
    void *block = counted_malloc(mine, bytes);

    return LIKELY(block != NULL) ? block : malloc_slow(bytes);
}

/* All small mallocs of a profiled heap come here, so it is written out, without a frame or a
 * detour. */
__attribute__((noinline)) static void *malloc_counted_small(size_t bytes, struct thread_heap *mine)
{
    void *block;

    if (UNLIKELY(bytes > SMALL_MAX_BYTES || bytes >= mine->until_sample))
        return malloc_counted(bytes, mine);
    block = small_pop(mine, bytes);
    if (UNLIKELY(block == NULL))
        return malloc_slow(bytes);
    mine->until_sample -= bytes;
    return block;
}

__attribute__((noinline)) static void *malloc_medium(size_t bytes, struct thread_heap *mine)
{
    void *block;

    if (UNLIKELY(bytes > mine->medium_limit))
        return malloc_counted_small(bytes, mine);
    block = class_pop(mine, bytes);
    return LIKELY(block != NULL) ? block : malloc_slow(bytes);
}

void *malloc(size_t bytes)
{
    struct thread_heap *mine = heap_thread;
    void *block = fast_malloc(mine, bytes);

    return LIKELY(block != NULL) ? block : malloc_medium(bytes, mine);
}

void free(void *block)
{
    fast_free(block);
}

__attribute__((noinline)) static void *calloc_slow(size_t count, size_t bytes)
{
    return or_enomem(program_start_heap() ? heap_calloc(count, bytes) : NULL);
}

void *calloc(size_t count, size_t bytes)
{
    size_t total;
    void *block;

    if (UNLIKELY(__builtin_mul_overflow(count, bytes, &total)))
        return calloc_slow(count, bytes);
    block = fast_malloc(heap_thread, total);
    return LIKELY(block != NULL) ? memset(block, 0, total) : calloc_slow(count, bytes);
}

/* A block of ld.so's own malloc, of unknown size: what can be read of it is copied. */
static void *realloc_foreign(const void *block, size_t bytes)
{
    void *moved = malloc(bytes);
    struct iovec to = {moved, bytes}, from = {(void *)(uintptr_t)block, bytes};

    if (moved)
        (void)sys_call(SYS_process_vm_readv, sys_getpid(), &to, 1, &from, 1, 0);
    return moved;
}

__attribute__((noinline)) static void *realloc_slow(void *block, size_t bytes)
{
    if (!heap_owns(block))
        return realloc_foreign(block, bytes);
    return or_enomem(heap_realloc(block, bytes));
}

__attribute__((noinline)) static void *realloc_block(void *block, size_t bytes)
{
    void *result;

    if (bytes == 0) {
        free(block);
        return NULL;
    }
    result = heap_realloc_plain(block, bytes);
    return LIKELY(result != NULL) ? result : realloc_slow(block, bytes);
}

/* Without a frame: some programs have all their blocks from here. */
void *realloc(void *block, size_t bytes)
{
    return block == NULL ? malloc(bytes) : realloc_block(block, bytes);
}

void *reallocarray(void *block, size_t count, size_t bytes)
{
    size_t total;

    if (__builtin_mul_overflow(count, bytes, &total))
        return or_enomem(NULL);
    return realloc(block, total);
}

static bool is_power_of_two(size_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

static void *aligned_block(size_t align, size_t bytes)
{
    return program_start_heap() ? heap_memalign(align, bytes) : NULL;
}

/* Old callers pass 0 and odd values: rounded up to a power of two, as glibc does. */
void *memalign(size_t align, size_t bytes)
{
    size_t rounded = 16;

    if (align > (size_t)1 << 63) {
        errno = EINVAL;
        return NULL;
    }
    while (rounded < align)
        rounded *= 2;
    return or_enomem(aligned_block(rounded, bytes));
}

/* C17: any power of two is supported; the size need not be a multiple of it. */
void *aligned_alloc(size_t align, size_t bytes)
{
    if (!is_power_of_two(align)) {
        errno = EINVAL;
        return NULL;
    }
    return or_enomem(aligned_block(align, bytes));
}

int posix_memalign(void **out, size_t align, size_t bytes)
{
    void *block;

    if (!is_power_of_two(align) || align % sizeof(void *) != 0)
        return EINVAL;
    block = aligned_block(align, bytes);
    if (block == NULL)
        return ENOMEM;
    *out = block;
    return 0;
}

void *valloc(size_t bytes)
{
    return memalign(PAGE_BYTES, bytes);
}

void *pvalloc(size_t bytes)
{
    if (bytes > PTRDIFF_MAX)
        return or_enomem(NULL);
    return memalign(PAGE_BYTES, bytes == 0 ? PAGE_BYTES : (bytes + PAGE_BYTES - 1) & -PAGE_BYTES);
}

size_t malloc_usable_size(void *block)
{
    return heap_usable_bytes(block);
}

void cfree(void *block)
{
    free(block);
}

void free_sized(void *block, size_t bytes)
{
    (void)bytes;
    free(block);
}

void free_aligned_sized(void *block, size_t align, size_t bytes)
{
    (void)align;
    (void)bytes;
    free(block);
}

/* glibc's own names: old programs and tracers call them. */
void *__libc_malloc(size_t bytes)
{
    return malloc(bytes);
}

void __libc_free(void *block)
{
    free(block);
}

void *__libc_calloc(size_t count, size_t bytes)
{
    return calloc(count, bytes);
}

void *__libc_realloc(void *block, size_t bytes)
{
    return realloc(block, bytes);
}

void *__libc_memalign(size_t align, size_t bytes)
{
    return memalign(align, bytes);
}

#pragma GCC visibility pop
