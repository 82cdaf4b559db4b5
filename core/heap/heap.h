/*
 * heap.h - the heap in a slot, as the interposed functions and the tools see it.
 *
 * All allocator state lives inside the slot (thread heaps too), so that a generation of the slot
 * is a generation of the heap. Only a few words live outside: where the heap and its descriptors
 * are, and each thread's pointer to its thread heap, with its tag (initial-exec TLS).
 *
 * No call here does file I/O, changes errno on success, or allocates outside the slot. On failure
 * the block-returning calls return NULL; setting errno is preload/'s part.
 */
#ifndef PHEAP_HEAP_HEAP_H
#define PHEAP_HEAP_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/status.h"

/* ThreadSanitizer has its shadow here; the unit tests are built with another place for it. */
#ifndef SLOTS_START
#define SLOTS_START 0x200000000000ull
#endif
#define SLOT_BASE(slot) (SLOTS_START + (uint64_t)(slot)*SLOT_BYTES)
#define SLOT_BYTES      (1ull << 40)
#define SLOT_COUNT      51
#define SLOT_VOLATILE   0 /* for heaps without a pool */

struct heap; /* the header at the slot's base; see heap_format.h */

/* The process's heap; created in slot `slot` by the first allocation or by this call. */
MUST_CHECK int heap_start(uint32_t slot);
uint32_t heap_slot(void);

/* The heap that is going to be started is a hardened one (hardened.h). */
void heap_harden(void);
/* After a fault at this address: reports what lies there and aborts, if it is a guard of a hardened
 * heap or memory that it has not handed out. Returns for any other heap or address. */
void heap_explain_fault(const void *address);
bool heap_owns(const void *pointer); /* lies in the process's slot */

void *heap_malloc(size_t bytes);
void *heap_calloc(size_t count, size_t bytes);
void *heap_realloc(void *block, size_t bytes);
/* The same in the usual cases, of any pointer. NULL: nothing done, take heap_realloc(). */
void *heap_realloc_plain(void *block, size_t bytes);
void *heap_memalign(size_t align, size_t bytes); /* align: a power of two up to 1 GiB */
void heap_free(void *block);
size_t heap_usable_bytes(const void *block);

/*
 * core/heap/root.c: named places of this heap, HEAP_ROOTS of them, which `pheap inspect` shows. A
 * name has 1 to 47 bytes; address NULL: the name goes. -EINVAL: name, or the address is not in the
 * heap. STATUS_LIMIT. Any thread.
 */
MUST_CHECK int heap_root_set(const char *name, const void *address, uint32_t type);
void *heap_root(const char *name, uint32_t *type); /* NULL: none; type may be NULL */

/* Called in each thread that gets a thread heap, once per heap_thread_exit(): arranges for
 * heap_thread_exit() at the thread's end. May be called again in a thread that had ended its heap.
 */
void heap_set_thread_hook(void (*attached)(void *thread_heap));
void heap_thread_exit(void); /* leaves the calling thread's slabs to be adopted */

bool heap_trim(void); /* gives every free page back to the kernel; true if any was */

/* Fork in a threaded program: all locks in order; in the child they are made anew. */
void heap_fork_prepare(void);
void heap_fork_parent(void);
void heap_fork_child(void);

/* After a restore: freed pages must be dropped by mapping anonymous memory over them, never by
 * MADV_DONTNEED, which would bring back the pool's frames. Stays set for the life of the process.
 */
void heap_note_restored(void);

/*
 * core/heap/garbage.c: memory of this process's heap that nobody will read before writing to it:
 * free spans, what was never carved of slabs that are being used. Whether it keeps its content or
 * becomes zero makes no difference to anybody. Of a hardened heap there is none: what was freed is
 * evidence.
 *
 * For a caller that is no thread of the program. While threads run the answer may be wrong. True
 * when all stand still: false means that a thread was stopped in the middle of changing the spans,
 * or that visit returned false; nothing that was told counts.
 */
typedef bool heap_garbage_visit(void *context, uintptr_t start, uintptr_t end);
MUST_CHECK bool heap_each_garbage(heap_garbage_visit *visit, void *context);

struct heap_totals {
    uint64_t live_bytes; /* in blocks handed out, usable size */
    uint64_t live_blocks;
    uint64_t committed_bytes; /* readable and writable */
    uint64_t span_bytes;      /* in spans */
    uint64_t free_bytes;      /* in free slices */
};

/*
 * core/heap/walk.c: the same walk for a live heap and for an image mapped at its own address by a
 * tool. Treats what it reads as possibly damaged: STATUS_DAMAGED, never a crash, as long as the
 * whole slot range up to the header's committed end is readable.
 */
struct heap_class_totals {
    uint32_t block_bytes; /* 0: large blocks */
    uint64_t slabs, slab_bytes;
    uint64_t blocks_used, blocks_total; /* used: handed out to the program */
};
#define HEAP_CLASSES_MAX 128
/* Free runs by order: of 2^order .. 2^(order + 1) - 1 slices. */
#define HEAP_RUN_ORDERS 25
struct heap_run_totals {
    uint64_t runs, bytes;
};
struct heap_free_runs {
    struct heap_run_totals orders[HEAP_RUN_ORDERS];
    struct heap_run_totals all;              /* their sum */
    uint64_t largest_bytes, largest_address; /* of equals the lowest; 0: there is none */
    struct heap_run_totals aside;            /* kept by a thread, or on the way to the kernel */
    uint64_t untouched_bytes;                /* behind all runs: never handed out so far */
};
/* Counts a free run of so many slices, not 0. */
void heap_count_run(struct heap_free_runs *counts, uint64_t address, uint32_t slices);

struct heap_census {
    struct heap_totals totals;
    struct heap_free_runs free_runs; /* totals.free_bytes == all.bytes + aside.bytes */
    uint32_t class_count;
    struct heap_class_totals classes[HEAP_CLASSES_MAX]; /* last one: large blocks */
    uint64_t large_blocks, large_bytes;
    uint64_t thread_heaps;
};
MUST_CHECK int heap_census(uint32_t slot, struct heap_census *out, struct problem *why);

/* Of this process's own heap while other threads use it: the spans stand still meanwhile. */
MUST_CHECK int heap_census_live(struct heap_census *out);

/* Expensive: walks everything, for tests. */
bool heap_is_valid(struct problem *why);

#endif
