/*
 * write.c - a heap that lies in memory, in a new pool.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "core/base/sys.h"
#include "core/tx/opened.h"
#include "recovery/copy/unfinished.h"
#include "recovery/move/moving.h"

#define CHECKPOINT_NS 5000000000u

static bool is_empty(const uint64_t *page)
{
    for (size_t i = 0; i < PAGE_BYTES / 8; i++)
        if (page[i])
            return false;
    return true;
}

/* Pages of zeroes are left to be so. */
static void copy_range(const struct pheap *heap, const struct moving *moving, uint64_t start,
                       uint64_t end)
{
    for (uint64_t at = start; at < end; at += PAGE_BYTES)
        if (!is_empty((const uint64_t *)(moving->from + at)))
            memcpy((void *)(heap->memory.base + at), (const void *)(moving->from + at), PAGE_BYTES);
}

/* All but the header, which names the slot. */
static void copy_heap(const struct pheap *heap, const struct moving *moving)
{
    uint64_t spans_bytes = (uint64_t)moving->slices * sizeof(struct tx_span);

    copy_range(heap, moving, TX_ROOTS_OFFSET, TX_SPANS_OFFSET);
    copy_range(heap, moving, TX_SPANS_OFFSET,
               TX_SPANS_OFFSET + ((spans_bytes + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1)));
    copy_range(heap, moving, (uint64_t)TX_DATA_SLICE * SLICE_BYTES,
               (uint64_t)moving->slices * SLICE_BYTES);
}

static int fill(struct pheap *heap, const struct moving *moving, struct problem *why)
{
    int status = opened_load(heap, why);
    int64_t number;

    if (status < 0)
        return status;
    status = slot_memory_extend(&heap->memory, moving->slices);
    if (status < 0)
        return problem_set(why, status, "no memory for the heap of '%s': %s", moving->to,
                           status_text(status));
    copy_heap(heap, moving);
    number = opened_checkpoint(heap, CHECKPOINT_NS, why);
    return number < 0 ? (int)number : 0;
}

/* What was written opens, every page of it agrees with its checksum, and its spans make sense. */
static int look_again(const char *path, struct problem *why)
{
    struct pheap *heap;
    int status = opened_attach(&heap, path, true, why);

    if (status < 0)
        return status;
    status = opened_load(heap, why);
    (void)opened_close(heap);
    return status;
}

static int write_to(const char *path, const struct moving *moving, struct problem *why)
{
    struct pheap *heap;
    int status = opened_attach(&heap, path, false, why), closed;

    if (status < 0)
        return status;
    status = fill(heap, moving, why);
    closed = opened_close(heap);
    if (status == 0 && closed < 0)
        status = problem_set(why, closed, "cannot write '%s': %s", path, status_text(closed));
    return status < 0 ? status : look_again(path, why);
}

static int give_name(const char *temporary, const char *to, struct problem *why)
{
    int status = (int)sys_call(SYS_renameat2, AT_FDCWD, temporary, AT_FDCWD, to, RENAME_NOREPLACE);

    if (status == -EEXIST)
        return problem_set(why, STATUS_REFUSED, "'%s' exists: choose another name", to);
    if (status == 0)
        status = pool_sync_directory(to);
    return status < 0
               ? problem_set(why, status, "cannot name the copy '%s': %s", to, status_text(status))
               : 0;
}

int moving_write(const struct moving *moving, struct problem *why)
{
    char temporary[4096 + 32];
    int status;

    snprintf(temporary, sizeof temporary, "%s.copy-%d", moving->to, sys_getpid());
    unfinished_begin(temporary);
    status = pool_create(temporary, moving->slot, moving->keep, why);
    if (status < 0) {
        unfinished_end();
        return status;
    }
    status = write_to(temporary, moving, why);
    if (status == 0)
        status = give_name(temporary, moving->to, why);
    if (status < 0)
        (void)sys_call(SYS_unlink, temporary);
    unfinished_end();
    return status;
}
