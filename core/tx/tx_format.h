/*
 * tx_format.h - an opened heap as it lies in its slot. Nothing but layout.
 *
 *   slot base + 0        struct tx_header
 *             + 4 KiB    named roots
 *             + 16 KiB   decisions on transactions across heaps
 *             + 48 KiB   layouts of types
 *             + 64 KiB   spans: one struct tx_span a slice of the reserve
 *             + 128 MiB + 64 KiB   data: slices DATA_SLICE .. slices - 1
 *
 * A span is a run of slices (64 KiB) with one description, in its first slice's entry:
 *
 *   SLAB    blocks of one size class: an array of notes, one a block, then the blocks
 *   LARGE   one block, that begins where the span does; its note is in the entry
 *   INSIDE  not the first slice of a slab; `slices` is the distance to the first
 *   NONE    no span, or inside a large one
 *
 * A block is free, used, or used and about to be freed by an open transaction. No image and no
 * replay shows the third: a cut waits until no transaction is open.
 *
 * What is not here (which blocks may be handed out) is derived: blocks.h.
 */
#ifndef PHEAP_TX_TX_FORMAT_H
#define PHEAP_TX_TX_FORMAT_H

#include <stdint.h>
#include "core/heap/heap_format.h"

#define TX_MAGIC   0x0078742070616568ull /* "heap tx\0" */
#define TX_VERSION 1u

#define TX_SLICES_MAX       (4u << 20) /* 256 GiB */
#define TX_ROOTS_OFFSET     4096u
#define TX_ROOTS            128u
#define TX_DECISIONS_OFFSET 16384u
#define TX_DECISIONS        256u
#define TX_PARTICIPANTS     7u  /* heaps of a transaction besides the one that decides */
#define TX_POOL_BYTES       16u /* of a uuid */
#define TX_TYPES_OFFSET     49152u
#define TX_TYPES            128u
#define TX_TYPE_RUNS        12u
#define TX_SPANS_OFFSET     SLICE_BYTES
#define TX_CLASSES          PLAIN_CLASSES /* of slabs; their blocks are bare (size_class.h) */
#define TX_DATA_SLICE       2049u         /* the first behind the spans of TX_SLICES_MAX slices */

struct tx_header {
    uint64_t magic;
    uint32_t version;
    uint32_t slot;
};

#define TX_NAME_BYTES 48u /* with its NUL */

struct tx_root {
    char name[TX_NAME_BYTES]; /* "": not in use */
    uint64_t address;
    uint32_t type;
    uint32_t reserved;
};

/* The transaction has committed; these heaps may not know yet. */
struct tx_decision {
    uint64_t id; /* 0: not in use */
    uint32_t pool_count;
    uint32_t reserved;
    uint8_t pools[TX_PARTICIPANTS][TX_POOL_BYTES];
};

enum tx_pointer_kind { TX_POINTER_RAW = 1, TX_POINTER_SELF = 2, TX_POINTER_REF = 3 };

/* So many pointers, one after the other. */
struct tx_pointers {
    uint32_t offset; /* in the object or the element; a multiple of 8 */
    uint16_t count;
    uint16_t kind;
};

/*
 * An object of this type: `bytes` bytes, then elements of element_bytes up to its end (0: none).
 * The first run_count runs are the first part's pointers, the next element_run_count an element's.
 * Who does not read this table has to take every word for a pointer, which keeps more.
 */
struct tx_type {
    uint32_t is_used; /* 0 or 1 */
    uint32_t type;
    uint32_t bytes, element_bytes;
    uint16_t run_count, element_run_count;
    uint32_t reserved[3];
    struct tx_pointers runs[TX_TYPE_RUNS];
};

enum tx_span_kind { TX_NONE = 0, TX_SLAB = 1, TX_LARGE = 2, TX_INSIDE = 3 };

enum tx_block_state { TX_FREE = 0, TX_USED = 1, TX_FREEING = 2 };

struct tx_span {
    uint32_t kind;
    uint32_t slices;
    uint32_t size_class; /* TX_CLASSES: large */
    uint32_t type;       /* of a large block, as are the two below */
    uint64_t bytes;
    uint32_t state;
    uint32_t reserved;
};

/* Of a slab's block. */
struct tx_note {
    uint32_t type;
    uint32_t bytes_and_state; /* bytes asked for << 2 | state */
};

_Static_assert(sizeof(struct tx_root) == 64, "a root is 64 bytes");
_Static_assert(sizeof(struct tx_span) == 32, "a span's entry is 32 bytes");
_Static_assert(sizeof(struct tx_note) == 8, "a note is 8 bytes");
_Static_assert(sizeof(struct tx_decision) == 128, "a decision is 128 bytes");
_Static_assert(TX_ROOTS_OFFSET + TX_ROOTS * 64 <= TX_DECISIONS_OFFSET,
               "roots end before decisions");
_Static_assert(sizeof(struct tx_type) == 128, "a type's layout is 128 bytes");
_Static_assert(TX_DECISIONS_OFFSET + TX_DECISIONS * 128 <= TX_TYPES_OFFSET,
               "decisions end before types");
_Static_assert(TX_TYPES_OFFSET + TX_TYPES * 128 <= TX_SPANS_OFFSET, "types end before spans");
_Static_assert(TX_SPANS_OFFSET + TX_SLICES_MAX * 32ull == (uint64_t)TX_DATA_SLICE * SLICE_BYTES,
               "data begin where spans end");

#endif
