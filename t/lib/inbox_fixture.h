/*
 * inbox_fixture.h - for the tests of blocks that another thread frees: blocks of several sizes,
 * threads that free them or that own them, and what must be true afterwards.
 */
#ifndef PHEAP_T_LIB_INBOX_FIXTURE_H
#define PHEAP_T_LIB_INBOX_FIXTURE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include "core/heap/fast_path.h"
#include "core/heap/heap.h"
#include "core/heap/inbox.h"
#include "core/heap/remote.h"
#include "core/heap/thread_heap.h"

#define BLOCKS 10000u

extern void *blocks[BLOCKS];

bool is_valid(void);
uint64_t live_blocks(void);

/* In the calling thread's inbox. */
uint64_t waiting(void);

/* The first `count` of `blocks`, of 16 to 112 bytes. */
void allocate(uint32_t count);

/* Not to its slab at once, whatever epoch has begun. */
void free_by_batch(void *block);

/* In order, but that every seventh comes later: several slabs at once. */
void free_blocks(uint32_t first, uint32_t end);

/* Runs it there and waits for its end. */
void in_another_thread(void *(*run)(void *), void *argument);

/* By another thread with a heap of its own, which has ended when it returns. */
void freed_by_another(uint32_t first, uint32_t end);

/* A thread that has allocated 1,000 of `blocks` and goes on until it is to end. */
pthread_t start_an_owner(struct thread_heap **owner);
void end_the_owner(pthread_t thread);

#endif
