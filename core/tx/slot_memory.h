/*
 * slot_memory.h - the address space of an opened heap: reserved, made accessible in steps, filled
 * from a generation, given back.
 *
 * Invariant: readable (and writable, unless `sealed`) are the first slice, the spans' entries of
 * the first `slices` slices, and the data of those; the rest of the reserve is PROT_NONE. slices is
 * a multiple of SLOT_STEP_SLICES, so that the entries end at a page's end.
 */
#ifndef PHEAP_TX_SLOT_MEMORY_H
#define PHEAP_TX_SLOT_MEMORY_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/image/image_reader.h"
#include "core/tx/tx_format.h"

#define SLOT_STEP_SLICES 128u

struct slot_memory {
    uintptr_t base; /* 0: nothing is reserved */
    uint64_t reserve_bytes;
    uint32_t slices, slices_max;
};

/* For a heap that is made: a random one of those whose place is free in this process. */
uint32_t slot_memory_choose(void);

/* -EEXIST: something else lies there. Reserves less than 256 GiB where that is refused. */
MUST_CHECK int slot_memory_reserve(struct slot_memory *memory, uint32_t slot);
void slot_memory_release(struct slot_memory *memory);

/* At least so many slices are accessible. -ENOMEM: more than there can be, or refused. */
MUST_CHECK int slot_memory_extend(struct slot_memory *memory, uint64_t slices);

/* Reads all of a generation in and checks each page. STATUS_DAMAGED: a page does not match its
 * checksum, or lies where no heap has one. What is told of the image's memory is in its arena. */
MUST_CHECK int slot_memory_fill(struct slot_memory *memory, struct image *image,
                                struct problem *why);

/* Everything is as after slot_memory_reserve(). */
MUST_CHECK int slot_memory_empty(struct slot_memory *memory);

/* Nothing can be stored to any more. */
MUST_CHECK int slot_memory_seal(const struct slot_memory *memory);

/* May be asked while another thread extends. Do `bytes` bytes at address lie within the roots,
 * the layouts of types, or the accessible data? */
bool slot_memory_may_write(const struct slot_memory *memory, uintptr_t address, uint64_t bytes);

#endif
