/*
 * arena.h - memory for pheap's own working state: indexes, dirty lists, records.
 *
 * core/ never calls malloc: in a preloaded program malloc is the program's heap, which is what is
 * being saved. An arena is one reserved range of address space, filled upwards; the agent's arena
 * is left out of every image (arena_covers() tells which mapping that is). Tools use arenas too.
 *
 * An arena gives back memory in two ways only: arena_rewind() to a mark (scratch of one
 * checkpoint), and arena_destroy().
 *
 * Thread safety: one user at a time.
 * Invariant: base <= used_end <= committed_end <= reserved_end, all but used_end page-aligned.
 */
#ifndef PHEAP_BASE_ARENA_H
#define PHEAP_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena {
    uintptr_t base;
    uintptr_t used_end;
    uintptr_t committed_end;
    uintptr_t reserved_end;
};

/* Reserves up to reserve_bytes of address space (halves it until it is granted, not below
 * 1 MiB). 0 or -errno. */
int arena_create(struct arena *arena, size_t reserve_bytes) __attribute__((warn_unused_result));
void arena_destroy(struct arena *arena);

/* Zeroed memory, aligned to align (a power of two, at most 4096). NULL when there is no more. */
void *arena_alloc(struct arena *arena, size_t bytes, size_t align);

/* About so much will be allocated soon: it is committed in one step and lies in huge pages, where
 * there are any, since the first touch of 4 KiB costs 0.5 us and more. A hint: never fails. */
void arena_expect(struct arena *arena, size_t bytes);

/* arena_mark() .. arena_rewind(): drops what was allocated since; pages are given back to the
 * kernel when they are many. */
uintptr_t arena_mark(const struct arena *arena);
void arena_rewind(struct arena *arena, uintptr_t mark);

bool arena_covers(const struct arena *arena, uintptr_t start, uintptr_t end);
bool arena_is_valid(const struct arena *arena);

#endif
