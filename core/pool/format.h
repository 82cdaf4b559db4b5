/*
 * format.h - every byte of a pool file's skeleton: superblocks, generation entries, index nodes.
 *
 * docs/pool-format.md draws the same bytes. All integers are little-endian, all structures are
 * free of padding, and their sizes are pinned below. The process record inside a generation has
 * its own format header: core/process/record_format.h.
 *
 * A pool is an array of 4 KiB frames.
 *
 *     frame 0    superblock A  \  written in turn: sequence n goes to frame n % 2
 *     frame 1    superblock B  /
 *     frame 2..  page contents, index nodes and records of generations, in any order; which
 *                frames are free is not stored: it follows from the generations that are kept
 *                and the log
 *
 * The index of a generation is a radix tree over page numbers (address / 4096), five levels of
 * 256 entries, and a chain of deltas that are read over it. An entry names a frame and carries the
 * checksum of what is in it, so the root entry vouches for every byte of the tree.
 *
 *     page number bits   39..32   31..24   23..16   15..8    7..0
 *                        level 4  level 3  level 2  level 1  level 0 (leaf: entries are pages)
 *
 * A delta is the packed list of the entries that one generation changed. It names the delta before
 * it; the oldest of a chain changes the tree. So a generation that changed a thousand pages far
 * from each other writes 24 KiB of index, where the leaves above these pages are 4 MiB.
 *
 *     generation 7   tree T
 *     generation 8   tree T  <- delta 8
 *     generation 9   tree T  <- delta 8 <- delta 9
 *     generation 10  tree U                          (all written anew: the chain had become long)
 */
#ifndef PHEAP_POOL_FORMAT_H
#define PHEAP_POOL_FORMAT_H

#include <stdint.h>

#define FRAME_BYTES 4096u
#define FRAME_SHIFT 12

#define POOL_MAGIC          "PHEAPOOL" /* 8 bytes, no NUL on media */
#define POOL_FORMAT_VERSION 4u
#define POOL_FORMAT_LANES                                                                          \
    4u /* its log may have lanes; who does not know them would find it damaged */
#define POOL_FORMAT_LOG    3u /* has a log; who does not know it would reuse its frames */
#define POOL_FORMAT_NO_LOG 2u /* of all others */
#define POOL_FORMAT_OLDEST 1u /* had no deltas: what it wrote reads as if it had none */

/* Frames 0 and 1 hold the superblocks, so their numbers are free to mean something in an index
 * entry. */
#define FRAME_NONE  0u /* the page shows the mapping's own backing (zero, or its file) */
#define FRAME_ZERO  1u /* the page is zero, whatever backs the mapping */
#define FRAME_FIRST 2u

#define INDEX_LEVELS       5
#define INDEX_LEVEL_BITS   8
#define INDEX_NODE_ENTRIES 256
#define INDEX_PAGE_LIMIT   (1ull << (INDEX_LEVELS * INDEX_LEVEL_BITS)) /* page numbers below this */

/* OFFSET SIZE
 *  0      8   frame: FRAME_NONE, FRAME_ZERO or a frame number
 *  8      8   checksum64 of the frame's 4096 bytes; 0 for FRAME_NONE and FRAME_ZERO */
struct index_entry {
    uint64_t frame;
    uint64_t checksum;
};

struct index_node {
    struct index_entry entries[INDEX_NODE_ENTRIES];
};

/* OFFSET SIZE
 *  0      8   first frame of the delta (a contiguous run); FRAME_NONE: there is none
 *  8      8   frames
 * 16      8   checksum64 of them */
struct delta_place {
    uint64_t frame;
    uint64_t frames;
    uint64_t checksum;
};

/* OFFSET SIZE
 *  0      8   bits 0..39 page, bits 40..63 further pages of which the same is true (frame
 *             FRAME_NONE only, else 0)
 *  8     16   what the index has for them now */
struct delta_entry {
    uint64_t page_and_more;
    struct index_entry entry;
};

#define DELTA_PAGE_BITS 40
#define DELTA_MORE_MAX  ((1ull << 24) - 1)

/* OFFSET SIZE
 *  0     24   the delta before this one in the chain
 * 24      8   number of entries
 * 32     24n  entries, pages ascending, none named twice; zeroes to the frame's end */
struct index_delta {
    struct delta_place before;
    uint64_t entry_count;
    struct delta_entry entries[];
};

#define DELTAS_MAX 64 /* of a chain */

/* Where an index begins. */
struct index_root {
    struct index_entry node;
    struct delta_place delta; /* the newest */
};

enum generation_kind {
    GENERATION_PROCESS = 1, /* memory and process record: can be resumed */
    GENERATION_HEAP = 2,    /* a heap opened through the API */
    GENERATION_CRASH = 3,   /* memory after death, for inspection */
};

enum generation_flags {
    GENERATION_PINNED = 1u << 0, /* never dropped by the N-newest rule */
};

/* OFFSET SIZE
 *   0      8  number, counted from 1 over the life of the pool
 *   8      8  time of the cut, CLOCK_REALTIME, ns
 *  16      4  kind
 *  20      4  flags
 *  24      4  slot the heap lay in
 *  28      4  reserved, 0
 *  32     16  root entry of the index's tree
 *  48      8  pages in the index that have a frame of their own
 *  56      8  first frame of the record (a contiguous run)
 *  64      8  bytes of the record
 *  72      8  checksum64 of the record's bytes
 *  80      8  bytes written for this generation: pages, nodes and record
 *  88      8  pause in ns: first thread seized to last let go
 *  96      8  bytes written inside the freeze (a long pause), else 0
 * 104     24  the index's newest delta (format 1: 0) */
struct generation_entry {
    uint64_t number;
    uint64_t time_ns;
    uint32_t kind;
    uint32_t flags;
    uint32_t slot;
    uint32_t reserved0;
    struct index_entry index_root;
    uint64_t page_count;
    uint64_t record_frame;
    uint64_t record_bytes;
    uint64_t record_checksum;
    uint64_t written_bytes;
    uint64_t pause_ns;
    uint64_t freeze_written_bytes;
    struct delta_place index_delta;
};

static inline struct index_root generation_index(const struct generation_entry *entry)
{
    return (struct index_root){entry->index_root, entry->index_delta};
}

struct log_extent {
    uint64_t frame;  /* the first */
    uint64_t frames; /* of them */
};

#define LOG_EXTENTS 16
#define LOG_ALIGN   64u /* where records begin: a cache line */

/* Where the redo log lies (core/tx/log_format.h says what is in it). The extents are live as long
 * as a superblock lists them.
 *
 * OFFSET SIZE
 *   0      8  number of the generation that the log's records follow
 *   8      8  root: what the first record's `previous` must be
 *  16      4  extents; 0: the pool has no log, and all of this is 0
 *  20      4  number of the extent that the log begins in
 *  24    256  the extents; unused ones are 0
 * 280      8  where in that extent it begins, in bytes
 * 288      8  sequence of the record before the first */
struct log_place {
    uint64_t generation;
    uint64_t root;
    uint32_t extent_count;
    uint32_t start_extent;
    struct log_extent extents[LOG_EXTENTS];
    uint64_t start;
    uint64_t sequence;
};

enum run_state {
    RUN_NONE = 0,    /* no program has run on this pool */
    RUN_STARTED = 1, /* a program runs or was killed: its newest process generation resumes it */
    RUN_ENDED = 2,   /* the program ended by itself: nothing to resume */
};

#define SUPERBLOCK_GENERATIONS 24

/* OFFSET SIZE
 *    0     8  magic
 *    8     4  format version
 *   12     4  reserved, 0
 *   16     8  sequence, +1 at each superblock write; written to frame sequence % 2
 *   24    16  uuid, random, of the pool
 *   40     8  time of creation, CLOCK_REALTIME, ns
 *   48     4  slot of the heap
 *   52     4  run state
 *   56     4  exit status of the run that ended (wait status), else 0
 *   60     4  generations to keep (N)
 *   64     8  first generation number of the present run: older ones belong to earlier runs
 *   72     8  generation that was resumed last, 0 for none
 *   80     4  how often it was resumed
 *   84     4  generations listed below
 *   88     8  number the next generation gets
 *   96     8  frames of the file, superblocks included
 *  104   152  reserved, 0
 *  256  3072  generation entries, oldest first
 * 3328   296  the log's place (formats 1 and 2: 0)
 * 3624   464  reserved, 0
 * 4088     8  checksum64 of the 4088 bytes before */
struct superblock {
    uint8_t magic[8];
    uint32_t format_version;
    uint32_t reserved0;
    uint64_t sequence;
    uint8_t uuid[16];
    uint64_t created_ns;
    uint32_t slot;
    uint32_t run_state;
    int32_t end_status;
    uint32_t keep;
    uint64_t run_first_generation;
    uint64_t resumed_generation;
    uint32_t resume_count;
    uint32_t generation_count;
    uint64_t next_generation;
    uint64_t frame_count;
    uint64_t reserved1[19];
    struct generation_entry generations[SUPERBLOCK_GENERATIONS];
    struct log_place log;
    uint64_t reserved2[58];
    uint64_t checksum;
};

_Static_assert(sizeof(struct index_entry) == 16, "index entry is 16 bytes");
_Static_assert(sizeof(struct index_node) == FRAME_BYTES, "an index node fills a frame");
_Static_assert(sizeof(struct delta_entry) == 24, "delta entry is 24 bytes");
_Static_assert(sizeof(struct index_delta) == 32, "a delta's head is 32 bytes");
_Static_assert(__builtin_offsetof(struct generation_entry, index_delta) == 104, "as drawn");
_Static_assert(sizeof(struct generation_entry) == 128, "generation entry is 128 bytes");
_Static_assert(sizeof(struct superblock) == FRAME_BYTES, "a superblock fills a frame");
_Static_assert(__builtin_offsetof(struct superblock, generations) == 256, "as drawn");
_Static_assert(sizeof(struct log_place) == 296, "the log's place is 296 bytes");
_Static_assert(__builtin_offsetof(struct superblock, log) == 3328, "as drawn");
_Static_assert(__builtin_offsetof(struct superblock, checksum) == 4088, "as drawn");

/* OFD lock bytes, far beyond the end of any file. A writer holds LOCK_BYTE_WRITER for writing;
 * who maps generation n holds LOCK_BYTE_GENERATION + n for reading. */
#define LOCK_BYTE_WRITER     0x4000000000000000ll
#define LOCK_BYTE_GENERATION 0x2000000000000000ll

#endif
