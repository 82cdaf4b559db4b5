/*
 * memory.h - reads pages of the address space that the caller runs in, without ever faulting.
 *
 * Four ways, by what is known of a page. memcpy, when everything is stopped and the page is known
 * to be in memory and readable. memcpy where nobody but pheap maps anything, in a process whose
 * handler of SIGSEGV and SIGBUS ends a copy that meets nothing: the program may have purged the
 * page meanwhile, but it will not have mapped a device there, which must not be read by accident.
 * process_vm_readv on ourselves, which takes scattered pages in one call and reports a bad address
 * instead of dying of it, for half a microsecond more a page. /proc/self/mem for what that refuses:
 * memory without read permission.
 */
#ifndef PHEAP_IMAGE_MEMORY_H
#define PHEAP_IMAGE_MEMORY_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/base/sys.h"

/* Page numbers are below 2^40; what is known of a page travels in its upper bits. */
#define MEMORY_PAGE_MASK ((1ull << 48) - 1)
#define MEMORY_FILE      (1ull << 63) /* in a file mapping: zeroes must be kept (FRAME_ZERO) */
#define MEMORY_SWAPPED   (1ull << 62) /* not in memory when it was looked at */
#define MEMORY_DIRECT    (1ull << 61) /* stopped, present, readable: memcpy will do */
#define MEMORY_UNREAD    (1ull << 60) /* set by memory_read(): nothing could be read */
#define MEMORY_IN_PLACE  (1ull << 59) /* memcpy, and a fault is survived: see memory_in_place() */

#define MEMORY_PIECES 512

struct memory {
    int fd; /* /proc/self/mem */
    int pid;
    bool by_vm_readv;
    volatile bool may_fault; /* a page is being copied that may not be there */
    void *fault_return[5];   /* where the copy ends then */
    struct iovec pieces[MEMORY_PIECES];
};

MUST_CHECK int memory_open(struct memory *memory);
void memory_close(struct memory *memory);

/*
 * From now on pages may be MEMORY_IN_PLACE for this memory, and for no other of this process. Its
 * handler of SIGSEGV and SIGBUS (SA_NODEFER, the signals not blocked) calls memory_fault() first,
 * which does not return if the signal is of such a page. NULL: for none.
 */
void memory_in_place(struct memory *memory);
void memory_fault(void);

/*
 * Reads pages[0 .. count) into out, 4096 bytes each. A page that cannot be read gets
 * MEMORY_UNREAD and its part of out is undefined. Returns the number of those.
 */
uint64_t memory_read(struct memory *memory, uint64_t *pages, uint64_t count, void *out);

/* For this thread: memory protection keys of the program do not stop reads. Before a page is read
 * as MEMORY_DIRECT. */
void memory_open_protection_keys(void);

/* This thread's rights by protection keys, to be set back afterwards; 0 where there are none. */
unsigned memory_protection_keys(void);
void memory_set_protection_keys(unsigned rights);

#endif
