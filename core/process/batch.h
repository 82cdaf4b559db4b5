/*
 * batch.h - builds lists of system calls and has a stopped process run them.
 *
 * Calling sequence: batch_start() with a scratch area that is mapped in the tracee, then
 * batch_add() and its refinements, batch_run(), and so on. batch_run() empties the list and the
 * data for the next round; what it leaves behind is results (batch_result) until the next
 * batch_add().
 *
 * batch_add() never fails by itself: when the list or the data is full the batch is failed and
 * batch_run() says so.
 *
 * Scratch area, from its base: one page of code, BATCH_STACK_BYTES of stack, the list's header,
 * data, calls.
 */
#ifndef PHEAP_PROCESS_BATCH_H
#define PHEAP_PROCESS_BATCH_H

#include <stddef.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/base/sys.h"
#include "core/process/batch_format.h"
#include "core/process/tracee.h"

#define BATCH_STACK_BYTES (256u << 10)

struct batch {
    uintptr_t base; /* of the scratch area, in the tracee */
    size_t area_bytes;
    uint8_t *data; /* our copy; begins with the struct batch_list */
    size_t data_used, data_size;
    struct batch_call *calls;
    const char **what; /* [i]: what call i is about, for messages */
    size_t count, capacity;
    int failed;
};

/* Addresses inside the scratch area. */
static inline uintptr_t batch_stack_top(const struct batch *batch)
{
    return batch->base + PAGE_BYTES + BATCH_STACK_BYTES;
}
uintptr_t batch_trap_address(const struct batch *batch);

/* How large the area must be for so many calls and bytes of data. */
size_t batch_area_bytes(size_t calls, size_t data_bytes);

/* Memory for our side comes from arena. The area at base must be mapped (batch_install). */
MUST_CHECK int batch_create(struct batch *batch, struct arena *arena, uintptr_t base, size_t calls,
                            size_t data_bytes);
/* Writes the executor into the mapped area; its first page must still be made executable. */
MUST_CHECK int batch_install(const struct batch *batch, int pid);

#define BATCH_ARGS(...) ((const uint64_t[6]){__VA_ARGS__})

/* Appends a call that must not fail; returns its index, for BATCH_RESULT. what: shown to a person
 * when it fails ("fd 3: /tmp/x"); must live until batch_run(). */
size_t batch_add(struct batch *batch, const char *what, long number, const uint64_t args[6]);
/* Refinements of the call added last. */
void batch_expect(struct batch *batch, int64_t result);
void batch_may_fail(struct batch *batch);
/* Call `forked`, a clone or fork, makes process pid; what has been added since is that one's. */
void batch_fork(struct batch *batch, size_t forked, int pid);
void batch_refer(struct batch *batch, int argument, enum batch_reference how);

/* Copies bytes into the data area, aligned to 16; returns their address in the tracee. */
uint64_t batch_data(struct batch *batch, const void *bytes, size_t size);
uint64_t batch_string(struct batch *batch, const char *text);
/* Zeroed room for results. */
uint64_t batch_room(struct batch *batch, size_t size);

/* Runs the list in the stopped tracee. On failure `why` tells which call, with its `what`. */
MUST_CHECK int batch_run(struct batch *batch, struct tracee *tracee, struct problem *why);
int64_t batch_result(const struct batch *batch, size_t index);

/* Another process's memory; it must be traced by the caller or share the caller's. */
MUST_CHECK int process_memory_write(int pid, uintptr_t address, const void *bytes, size_t size);
MUST_CHECK int process_memory_read(int pid, uintptr_t address, void *bytes, size_t size);

#endif
