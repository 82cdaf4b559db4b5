/*
 * arena.c - see arena.h. The range is reserved PROT_NONE and committed in growing steps, so a
 * small arena costs a page or two and a large one few system calls.
 */
#include "core/base/arena.h"

#include <errno.h>

#include "core/base/sys.h"

#define RESERVE_BYTES_MIN (1ull << 20)
#define COMMIT_STEP_BYTES (64ull << 10)
#define REWIND_KEEP_BYTES (4ull << 20) /* scratch pages kept for the next checkpoint */
#define HUGE_PAGE_BYTES   (2ull << 20)

static uintptr_t round_up(uintptr_t value, uintptr_t align)
{
    return (value + align - 1) & ~(align - 1);
}

int arena_create(struct arena *arena, size_t reserve_bytes)
{
    void *base = NULL;

    reserve_bytes = round_up(reserve_bytes, PAGE_BYTES);
    if (reserve_bytes < RESERVE_BYTES_MIN)
        reserve_bytes = RESERVE_BYTES_MIN;
    for (;; reserve_bytes = round_up(reserve_bytes / 2, PAGE_BYTES)) {
        base = sys_mmap(NULL, reserve_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                        -1, 0);
        if (!sys_failed((long)base))
            break;
        if (reserve_bytes / 2 < RESERVE_BYTES_MIN)
            return (int)(long)base;
    }
    arena->base = arena->used_end = arena->committed_end = (uintptr_t)base;
    arena->reserved_end = arena->base + reserve_bytes;
    return 0;
}

void arena_destroy(struct arena *arena)
{
    if (arena->base)
        sys_munmap((void *)arena->base, arena->reserved_end - arena->base);
    *arena = (struct arena){0, 0, 0, 0};
}

static bool commit(struct arena *arena, uintptr_t end)
{
    uintptr_t committed = arena->committed_end - arena->base;
    uintptr_t step = committed / 4 > COMMIT_STEP_BYTES ? committed / 4 : COMMIT_STEP_BYTES;
    uintptr_t target = round_up(end, PAGE_BYTES);

    if (target - arena->committed_end < step && arena->committed_end + step <= arena->reserved_end)
        target = round_up(arena->committed_end + step, PAGE_BYTES);
    if (target > arena->reserved_end)
        target = arena->reserved_end;
    if (sys_mprotect((void *)arena->committed_end, target - arena->committed_end,
                     PROT_READ | PROT_WRITE) < 0)
        return false;
    arena->committed_end = target;
    return true;
}

void arena_expect(struct arena *arena, size_t bytes)
{
    uintptr_t start = round_up(arena->used_end, HUGE_PAGE_BYTES), end;

    if (start >= arena->reserved_end || bytes < HUGE_PAGE_BYTES)
        return;
    if (bytes > arena->reserved_end - start)
        bytes = arena->reserved_end - start;
    end = start + (bytes & ~(HUGE_PAGE_BYTES - 1));
    if (end <= start || (end > arena->committed_end && !commit(arena, end)))
        return;
    /* A kernel that has none, or is told not to use them, refuses: small pages do. */
    (void)sys_madvise((void *)start, end - start, MADV_HUGEPAGE);
    arena->used_end = start;
}

void *arena_alloc(struct arena *arena, size_t bytes, size_t align)
{
    uintptr_t start = round_up(arena->used_end, align);

    if (start < arena->used_end || bytes > arena->reserved_end - start ||
        start > arena->reserved_end)
        return NULL;
    if (start + bytes > arena->committed_end && !commit(arena, start + bytes))
        return NULL;
    arena->used_end = start + bytes;
    return (void *)start;
}

uintptr_t arena_mark(const struct arena *arena)
{
    return arena->used_end;
}

void arena_rewind(struct arena *arena, uintptr_t mark)
{
    uintptr_t keep_end = round_up(mark, PAGE_BYTES);
    uintptr_t clear_end = arena->used_end;

    arena->used_end = mark;
    if (clear_end > keep_end + REWIND_KEEP_BYTES) {
        uintptr_t drop = keep_end + REWIND_KEEP_BYTES;

        /* Refused for memory that is locked, as all is after mlockall() in the program. */
        if (sys_madvise((void *)drop, round_up(clear_end, PAGE_BYTES) - drop, MADV_DONTNEED) == 0)
            clear_end = drop;
    }
    /* arena_alloc() promises zeroed memory: what was used is cleared here, by who knows how much.
     */
    __builtin_memset((void *)mark, 0, clear_end - mark);
}

bool arena_covers(const struct arena *arena, uintptr_t start, uintptr_t end)
{
    return start < arena->reserved_end && end > arena->base;
}

bool arena_is_valid(const struct arena *arena)
{
    return arena->base <= arena->used_end && arena->used_end <= arena->committed_end &&
           arena->committed_end <= arena->reserved_end && arena->base % PAGE_BYTES == 0 &&
           arena->committed_end % PAGE_BYTES == 0 && arena->reserved_end % PAGE_BYTES == 0;
}
