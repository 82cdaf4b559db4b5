/*
 * heap_format.h - the heap's state as it lies in the slot. Nothing but layout.
 *
 *   slot base + 0        struct heap (the header)
 *             + 4 KiB    struct hardened, of a hardened heap; rest of the first slice unused
 *             + 64 KiB   spans: one struct span a slice of the whole reserve, slice 0 included
 *             + ...      dirty bits: one bit a slice
 *             + ...      thread heaps: an array
 *             + ...      data: slices data_slice .. slice_count - 1
 *             + ...      free bits: FREE_BITS_BYTES a slice of the data, when first needed
 *             + ...      profile, if there is to be one, at the end of the reserve
 *
 * Where all but the spans begin depends on how much could be reserved; the header says. Each of
 * the areas is committed (readable and writable) up to its own mark and grows upwards.
 *
 * A slice belongs to exactly one of
 *   a span in use   kind LARGE or SLAB in its first slice's descriptor; in the others of a
 *                   SLAB kind INSIDE with the distance to the first
 *   a free run      kind FREE in its first, FREE_END in its last slice's descriptor
 *   aside           kind ASIDE: free, but in no bin: it is being given back to the kernel, or kept
 * by the thread that freed it the rest        slices from `top` on, never handed out All
 * descriptors not named here are zero: kind NONE, owner null.
 *
 * For a slab, with [x] the length of a list, or the number of bits set:
 *   used + [free_head] + [free bits] == carved_bytes / block size, the remote list in used, and
 *   what is on its way in batches and inboxes
 * where used is what slab_used() says of a slab that is not CURRENT. In a CURRENT one nobody
 * counts: its owner's malloc takes blocks without a note. Only a NOTED slab has free bits.
 */
#ifndef PHEAP_HEAP_HEAP_FORMAT_H
#define PHEAP_HEAP_HEAP_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/lock.h"
#include "core/base/sys.h"
#include "core/heap/size_class.h"

#define SLICE_SHIFT         16
#define SLICE_BYTES         (1u << SLICE_SHIFT)
#define SPANS_OFFSET        SLICE_BYTES
#define SPAN_SHIFT          7
#define SLAB_SLICES_MAX     32
#define RUN_BINS            25           /* free runs of 2^bin .. 2^(bin + 1) - 1 slices */
#define RUN_ALIGN_MAX_BYTES (1ull << 30) /* of a request */

#define HEAP_MAGIC   0x0000706165687000ull /* "\0pheap" */
#define HEAP_VERSION 7

enum span_kind {
    SPAN_NONE = 0,
    SPAN_SLAB = 1,
    SPAN_INSIDE = 2,
    SPAN_LARGE = 3,
    SPAN_FREE = 4,
    SPAN_FREE_END = 5,
    SPAN_ASIDE = 6,
    SPAN_HARD_SLAB = 7, /* see hardened.h; INSIDE as of a slab */
    SPAN_HARD_LARGE = 8,
};

enum heap_mode {
    HEAP_PLAIN = 0,
    HEAP_HARDENED = 1,
    HEAP_ANNOUNCED = 2, /* hardened in form, but memcheck does the looking */
};

enum span_flags {
    SLAB_CURRENT = 1,    /* its thread heap allocates from it: used blocks are not counted */
    SLAB_FRESH_ZERO = 2, /* what was never carved reads as zero */
    HARD_GUARDED = 4,    /* its guard pages cannot be touched */
    HARD_FREED = 8,      /* a large block in quarantine */
    HARD_LISTED = 16,    /* a slab in the list of its class */
    LARGE_REUSED = 32,   /* all of it may be dirty, whatever the dirty bits say */
    SPAN_SAMPLED = 64,   /* profile.h: its blocks have samples */
    SLAB_NOTED = 128,    /* noted.h: it has free bits */
};

/*
 * A free block's first word is its link: the next one's address xor-ed with the slab's key. The
 * last of a list points to slab start + 1: odd, so "empty" and "next" are told apart by one bit,
 * and still inside the slab.
 *
 * A link is also the mark of a free block. A slab lies in one 4 GiB of the slot, so the upper half
 * of all its links is the same; the key is made so that it equals the key's lower half, which is
 * random. malloc clears that half of the block it takes, and one that is freed with it is looked
 * for in the lists.
 *
 * `owner` is the thread heap's address, plus OWNER_FULL when the slab is full and in no list.
 * `owned_start` says the same to free(): the first block's address plus the owner's tag, or plus
 * TAG_NOBODY when it is full or NOTED, less one block.
 *
 * `remote` is the newest block freed by another thread, plus REMOTE_NOTIFY when whoever frees the
 * next one must put the slab into the owner's `notified` stack, plus the length of the list
 * shifted by REMOTE_COUNT_SHIFT.
 */
#define OWNER_FULL         1ull
#define REMOTE_NOTIFY      1ull
#define LIST_END_BIT       1ull
#define REMOTE_COUNT_SHIFT 48
#define REMOTE_BLOCK       ((1ull << REMOTE_COUNT_SHIFT) - 1 - REMOTE_NOTIFY)

/*
 * free()'s one check. With offset = block + the thread's tag - owned_start, the distance from one
 * block before the first, a block may go to the slab's free list at once if
 * offset * reciprocal >= PRODUCT_LEAST, modulo 2^64. In all other cases, that is
 *   inside a block          the product is below minus the reciprocal, and so below that
 *   another slab            a multiple of 2^40 or, outside the slot, more than 2^44 is in the
 *                           offset; the reciprocal is odd, so it stays in the product
 *   full, NOTED             the tag is nobody's
 *   large, none             the reciprocal is 0, and so is the product
 *   the thread clears out   its tag has TAG_CLEARING, which stays in the product
 * the slow path finds out which it is.
 *
 * Worked example: blocks of 48 bytes. (2^64 + 80) / 48 is the first odd number that will do, and
 * the reciprocal is that many below 2^64. Block 3 has offset 192, product -4 * 80 = -320.
 */
#define PRODUCT_LEAST (-(1ull << 22)) /* of the last block of the largest slab */
#define ROOM_CURRENT  4096            /* counted down and renewed */
#define TAG_SHIFT     40              /* a thread heap's tag: (index + 1) << TAG_SHIFT */
#define TAG_NOBODY    (1ull << 62)
#define TAG_CLEARING  (1ull << 63)

/* One bit a block of 16 bytes. */
#define FREE_BITS_BYTES (SLICE_BYTES / 16 / 8)

/*
 * What a slab's owner writes in every malloc and free is on the first line, and nobody else looks
 * there; what others read when they free a block is on the second, and changes when the slab does.
 */
struct span {
    union {
        uint64_t free_head;   /* slab: first free block, or slab start + 1 */
        uint64_t large_bytes; /* LARGE: asked for, rounded up to pages */
        uint64_t freed_epoch; /* FREE: heap.epoch when it was freed */
    };
    uint64_t start;     /* slab: its address */
    uint64_t start_key; /* slab: start ^ key, turns a link into an offset */
    union {
        int64_t room;        /* slab, not CURRENT: blocks in use - 1; CURRENT: see ROOM_CURRENT */
        uint64_t kept_epoch; /* ASIDE, kept: as freed_epoch. Its bytes stay those of a block */
    };
    uint32_t kept_dirty;          /* purging: pieces that the kernel did not take */
    uint32_t reserved[7];         /* 0 */
    _Alignas(64) uint64_t remote; /* slab */
    uint64_t owner;               /* slab: thread heap and OWNER_FULL; else 0 */
    uint32_t carved_bytes;        /* slab: from its first block; the rest was never handed out */
    uint32_t slices;              /* length; INSIDE: distance to the first; FREE_END: as its FREE */
    uint32_t next;                /* slice: in a list of slabs or free runs; 0 none */
    union {
        uint32_t prev; /* of the same list */
        uint32_t
            block_offset; /* LARGE, HARD_LARGE, in no list: from the span's start to its block */
    };
    uint64_t key;         /* slab: encodes links, see above; HARD_*: canary */
    uint64_t owned_start; /* slab: start + first_offset + tag - block bytes */
    uint64_t reciprocal;  /* slab: minus 2^64 / block bytes, that rounded up to an odd number */
    uint8_t kind;
    uint8_t size_class;
    uint8_t flags;
    uint8_t shared;        /* slab: another thread has freed a block of it */
    uint32_t first_offset; /* slab: from its start to its first block: its colour */
};

/* Blocks of another thread's slabs that a thread has freed, on their way to the owner's inbox. Here
 * and there they are in use by their slabs' account, not marked, and not touched. */
#define REMOTE_BATCH_BLOCKS 13
struct remote_batch {
    uint64_t owner; /* the thread heap */
    uint64_t taken; /* the owner's inbox_taken as it was once */
    uint64_t count;
    uint64_t blocks[REMOTE_BATCH_BLOCKS];
};
#define REMOTE_BATCHES 16

#define INBOX_BLOCKS 4096
#define INBOX_GAP    1ull /* in the place of a block: there will be none */

/* Large spans that a thread keeps at hand, see kept.h. */
#define KEPT_SLICES_MAX    17 /* of one: 1 MiB, and room for its colour (large.h) */
#define KEPT_OF_A_LENGTH   8
#define KEPT_PLACES        (KEPT_SLICES_MAX * KEPT_OF_A_LENGTH)
#define KEPT_SLICES_IN_ALL 64

struct thread_heap {
    struct span *by_bytes[SMALL_MAX_BYTES + 1]; /* current slab for so many bytes */
    struct span *current[SIZE_CLASSES];         /* never null: heap.empty_slab when there is none */
    uint32_t partial[SIZE_CLASSES];             /* slabs with free blocks that are not current */
    struct lock lock; /* held by the owner for list changes, by others when dead */
    uint64_t epoch, batches_epoch;
    uint64_t batching;     /* the thread is changing a batch */
    uint64_t posting;      /* ... and putting into the inbox of this thread heap; 0: none */
    uint64_t taking;       /* ... freeing what is in its own inbox (inbox.c) */
    uint64_t singles_left; /* see remote.h */
    struct remote_batch batches[REMOTE_BATCHES];
    uint32_t kept_next;         /* where the next one makes room */
    uint32_t ticks, ticks_step; /* span operations until the clock is looked at */
    uint64_t ticks_ns;          /* what it said */
    uint64_t full_frees; /* frees into full slabs since the last time that a list was empty */
    uint64_t small_limit, medium_limit; /* the fast paths serve up to here; profiled: 0 */
    uint64_t until_sample;              /* bytes; 0: not profiled */
    uint64_t sample_dice;               /* xorshift state */
    /* What other threads read and write, on a line of its own. */
    _Alignas(64) uint32_t notified; /* stack of full slabs that got a remote free */
    uint32_t state;                 /* enum thread_heap_state */
    uint32_t next_dead, index;
    /* Blocks put into the inbox, or about to be, since it was made: the writers' alone. */
    _Alignas(64) uint64_t inbox_reserved;
    /* Of these the owner has taken so many; others look how much room there is. */
    _Alignas(64) uint64_t inbox_taken;
    uint64_t inbox_next; /* the same, or more while it takes */
    /* First slices, by length - 1; 0: none. Also taken from by who purges, so that the sum may be
     * less than kept_slices. */
    _Alignas(64) uint32_t kept[KEPT_SLICES_MAX][KEPT_OF_A_LENGTH];
    uint32_t kept_slices;
    /* A ring, see inbox.h; 0: nothing there, or not yet. */
    _Alignas(64) uint64_t inbox[INBOX_BLOCKS];
};

enum thread_heap_state {
    THREAD_HEAP_UNUSED = 0,
    THREAD_HEAP_LIVE = 1,
    THREAD_HEAP_DEAD = 2,
    THREAD_HEAP_SHARED = 3, /* no thread's: who holds its lock uses it */
};

#define THREAD_HEAP_STRIDE 53248

/* A part of the slot that is committed from its start to a mark. */
struct area {
    uint64_t start, committed_end, limit; /* addresses */
};

/* A place of the heap that the program has given a name. */
#define HEAP_ROOTS           32
#define HEAP_ROOT_NAME_BYTES 48 /* with its NUL */

struct heap_root {
    char name[HEAP_ROOT_NAME_BYTES]; /* "": not in use */
    uint64_t address;
    uint32_t type;
    uint32_t reserved;
};

struct heap {
    uint64_t magic;
    uint32_t version;
    uint32_t slot;
    uint64_t reserve_bytes;
    uint32_t slice_count; /* of the reserve */
    uint32_t data_slice;  /* the first of the data area */
    struct area spans, dirty_bits, thread_heaps, data, free_bits;
    uint64_t secret;      /* keys are derived from it */
    uint64_t key_count;   /* keys made */
    uint32_t restored;    /* pages are dropped by mapping over them */
    uint32_t mode;        /* enum heap_mode */
    uint64_t fork_holder; /* the thread between fork's prepare and parent or child handlers */

    /* under spans_lock */
    struct lock spans_lock;
    uint32_t top; /* slices from here on were never handed out */
    uint32_t bins[RUN_BINS];
    uint32_t bins_used;  /* bit b: bins[b] is not empty */
    uint32_t purge_list; /* runs being given back, kind ASIDE */
    uint64_t free_slices;
    uint64_t epoch; /* counts EPOCH_NS of coarse time */
    uint64_t epoch_ns;
    uint32_t tick_count;
    uint64_t purge_holder; /* the thread that is purging; 0: none */

    /* under threads_lock */
    struct lock threads_lock;
    uint32_t thread_heap_count; /* structures made */
    uint32_t thread_heaps_live;
    uint32_t first_dead;
    uint32_t dead_count;

    struct span empty_slab;

    /* Who allocated what (profile_format.h); all 0 in a heap without. The area is the last of the
     * reserve, behind that of the data. */
    uint64_t profile_rate_bytes;
    struct area profile;

    struct heap_root roots[HEAP_ROOTS]; /* under threads_lock */
};

/*
 * State of a hardened heap, under its lock. The quarantine is a ring, but what leaves it is any one
 * of the older half, so that nobody can tell when a block will be used again.
 */
#define HARDENED_OFFSET   4096
#define QUARANTINE_BLOCKS 4096

struct hardened {
    struct lock lock;
    uint64_t random;                /* xorshift state, never 0 */
    uint32_t partial[SIZE_CLASSES]; /* first slab with free places; 0 none */
    uint32_t guarded_spans;
    uint32_t quarantine_first, quarantine_count;
    uint64_t quarantine_bytes;
    uint64_t quarantine[QUARANTINE_BLOCKS]; /* addresses of blocks */
};

_Static_assert(HARDENED_OFFSET + sizeof(struct hardened) <= SLICE_BYTES, "in the first slice");

static inline struct hardened *heap_hardened(const struct heap *heap)
{
    return (struct hardened *)((uintptr_t)heap + HARDENED_OFFSET);
}

_Static_assert(offsetof(struct span, kind) % 4 == 0 && offsetof(struct span, size_class) % 4 == 1 &&
                   offsetof(struct span, flags) % 4 == 2,
               "free looks at the three at once");
_Static_assert(sizeof(struct span) == 1 << SPAN_SHIFT, "a descriptor is two cache lines");
_Static_assert(offsetof(struct span, room) + sizeof(int64_t) <= 64 &&
                   offsetof(struct span, owner) >= 64 &&
                   offsetof(struct span, carved_bytes) >= 64 && offsetof(struct span, key) >= 64 &&
                   offsetof(struct span, owned_start) >= 64 &&
                   offsetof(struct span, reciprocal) >= 64 && offsetof(struct span, kind) >= 64,
               "the owner's words on the first, what others read on the second");
_Static_assert(__builtin_offsetof(struct heap, data_slice) == 28 &&
                   __builtin_offsetof(struct heap, data.limit) == 120 &&
                   __builtin_offsetof(struct heap, top) == 200 &&
                   __builtin_offsetof(struct span, kind) == 120 &&
                   __builtin_offsetof(struct span, slices) == 84 &&
                   __builtin_offsetof(struct span, block_offset) == 92 &&
                   __builtin_offsetof(struct span, first_offset) == 124,
               "docs/pool-format.md states these");
_Static_assert(sizeof(struct thread_heap) <= THREAD_HEAP_STRIDE &&
                   THREAD_HEAP_STRIDE % (2 * PAGE_BYTES) == PAGE_BYTES,
               "an odd number of pages: each of 16 in a row has its own of REMOTE_BATCHES");
_Static_assert(sizeof(struct remote_batch) == 128, "two cache lines");
_Static_assert(sizeof(struct heap_root) == 64, "a root is 64 bytes");
_Static_assert(sizeof(struct heap) <= 4096, "the header is one page");

static inline struct span *heap_span(const struct heap *heap, uint32_t slice)
{
    return (struct span *)((uintptr_t)heap + SPANS_OFFSET) + slice;
}

static inline uint32_t heap_slice_of(const struct heap *heap, const struct span *span)
{
    return (uint32_t)(span - heap_span(heap, 0));
}

/* Of a slab's blocks, block 0 in bit 0 of the first word. */
static inline uint64_t *heap_free_bits(const struct heap *heap, uint32_t slice)
{
    return (uint64_t *)(heap->free_bits.start +
                        (uint64_t)(slice - heap->data_slice) * FREE_BITS_BYTES);
}

/* Whether those of the slice are committed. */
static inline bool heap_has_free_bits(const struct heap *heap, uint32_t slice)
{
    return (uintptr_t)heap_free_bits(heap, slice + 1) <= heap->free_bits.committed_end;
}

static inline uintptr_t heap_slice_address(const struct heap *heap, uint32_t slice)
{
    return (uintptr_t)heap + ((uintptr_t)slice << SLICE_SHIFT);
}

static inline uintptr_t heap_span_address(const struct heap *heap, const struct span *span)
{
    return heap_slice_address(heap, heap_slice_of(heap, span));
}

/* Where the first block of a SLAB begins. */
static inline uintptr_t heap_slab_blocks(const struct heap *heap, const struct span *slab)
{
    return heap_span_address(heap, slab) + slab->first_offset;
}

/* Where the block of a LARGE or HARD_LARGE span begins. */
static inline uintptr_t heap_large_block(const struct heap *heap, const struct span *span)
{
    return heap_span_address(heap, span) + span->block_offset;
}

static inline struct thread_heap *heap_thread_heap(const struct heap *heap, uint32_t index)
{
    return (struct thread_heap *)(heap->thread_heaps.start + (uint64_t)index * THREAD_HEAP_STRIDE);
}

#endif
