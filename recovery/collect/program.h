/*
 * program.h - the heap of a program's checkpoints. Internal to recovery/collect.
 */
#ifndef PHEAP_RECOVERY_PROGRAM_H
#define PHEAP_RECOVERY_PROGRAM_H

#include "core/heap/heap_format.h"
#include "core/pool/pool.h"
#include "recovery/collect/collect.h"

/* program.c: as collect_heap(), of a pool whose newest generation is a program's. */
MUST_CHECK int collect_program(const struct collect_request *request, struct collect_result *result,
                               struct problem *why);

/*
 * write.c: the pool, open for writing and not loaded, gets a generation that differs from `from` in
 * what the heap, mapped at its own address, has changed. *number: of it.
 */
MUST_CHECK int collect_write(struct pool *pool, const struct generation_entry *from,
                             const struct heap *heap, uint64_t *number, struct problem *why);

#endif
