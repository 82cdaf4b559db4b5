/*
 * slot.h - which slot this process's heap lives in, found without libc's help: the first malloc
 * comes before any constructor has run.
 */
#ifndef PHEAP_PRELOAD_SLOT_H
#define PHEAP_PRELOAD_SLOT_H

#include <stdbool.h>
#include <stdint.h>

/* PHEAP_SLOT, else a number derived from PHEAP_POOL, else 0. Reads the environment as exec left
 * it; a process with raised privileges (AT_SECURE) gets 0. */
uint32_t slot_wanted(void);

/* The slot that a pool of this path gets if nothing else is said: 1..50, not 10 or 11. */
uint32_t slot_of_pool_path(const char *path);

/* Makes the heap in the slot wanted, or, if something lies there, in another one; hardened if
 * PHEAP_HARDEN says so. */
bool slot_start_heap(void);

#endif
