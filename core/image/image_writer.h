/*
 * image_writer.h - writes the dirty pages of an address space as the next generation.
 *
 * Calling sequence (the agent's):
 *
 *     image_writer_create()            once, after pool_load()
 *     loop:
 *       image_writer_precopy()         program runs; up to a few rounds, while it pays
 *       -- freeze --
 *       image_writer_cut()             program stopped: what is left is copied, drops are noted
 *       -- let go --
 *       image_writer_commit()          scratch is written, then pool_commit()
 *
 * What is saved: every page of a private mapping that is anonymous (never, or no longer, the
 * file's own), whatever the mapping's permissions. A page whose content equals what the index has
 * (by checksum) is not written again. A page of zeroes in anonymous memory becomes FRAME_NONE, in
 * a file mapping FRAME_ZERO. Pages that were dropped or unmapped lose their entries. An absent or
 * clean page of a MAPPING_POOL mapping keeps its entry.
 *
 * How dirty pages are found: see tracker.h. With tracking, a page is a candidate when the kernel
 * says it was written since it was last protected; re-protection precedes the copy, so a page that
 * is torn by a concurrent store is a candidate again. By soft-dirty bits a page is a candidate, of
 * each round and of the cut, when it was written since the last cut. By checksums every present
 * anonymous page is a candidate each time.
 *
 * After a failure at any point (a full disk) nothing is lost: what was found dirty and not
 * committed is looked at again, by checksum, in the next attempt.
 *
 * Runs in the agent: raw system calls only, memory from the arena, and reads of the program's
 * memory outside the freeze never fault (the program may unmap under our hands).
 */
#ifndef PHEAP_IMAGE_IMAGE_WRITER_H
#define PHEAP_IMAGE_IMAGE_WRITER_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/kernel_features.h"
#include "core/base/status.h"
#include "core/image/maps.h"
#include "core/image/page_set.h"
#include "core/pool/pool.h"

struct image_writer;

struct image_writer_stats {        /* of the generation in progress, since the last commit */
    uint64_t candidate_pages;      /* looked at */
    uint64_t precopied_pages;      /* written while the program ran */
    uint64_t frozen_pages;         /* copied inside the freeze */
    uint64_t cleared_pages;        /* entries that became FRAME_NONE */
    uint64_t written_bytes;        /* to the pool, pages only */
    uint64_t rewritten_bytes;      /* to keep a restore fast (rewrite.h); in no other count */
    uint64_t freeze_written_bytes; /* written inside the freeze because scratch was full */
    uint64_t scan_ns, copy_ns;     /* inside the freeze */
};

struct image_writer_options {
    const struct kernel_features *features;
    enum tracking track;    /* TRACKING_BEST, or a fallback by force */
    uint64_t scratch_bytes; /* preallocated for the freeze; 0: 64 MiB */
    bool survives_faults;   /* the caller's process has the handler that memory_in_place() wants */
};

MUST_CHECK int image_writer_create(struct image_writer **out, struct arena *arena,
                                   struct pool *pool, const struct image_writer_options *options,
                                   struct problem *why);

/* Closes its descriptors: the kernel's tracking of everything ends. Memory goes with the arena. */
void image_writer_destroy(struct image_writer *writer);

/* One round of copying while the program runs. Returns the number of pages that were copied (to
 * see whether another round pays), or a negative status. space is read anew by the callee; its
 * mappings are good until the next round. */
MUST_CHECK int64_t image_writer_precopy(struct image_writer *writer, struct address_space *space,
                                        struct problem *why);

/* The rounds have not sufficed and the checkpoint is put off for some time: what the program writes
 * to all over is left unprotected until then, as it is between two generations. */
void image_writer_put_off(struct image_writer *writer);

/*
 * Before the freeze: the program may have had a transfer of direct I/O under way while pages were
 * copied. A device writes to pages that the kernel has pinned; they were marked as written when
 * they were pinned, and not again when the data come. So what was pre-copied is compared once more
 * in the next cut, when no such transfer can be under way.
 */
void image_writer_distrust_precopy(struct image_writer *writer);

/*
 * What need not be written: pages that nobody will read before writing to them, as of free memory.
 * In a generation they have no entry, so they read as zero after a restore, or as they were if they
 * are not garbage any more at its cut. The callback appends at most limit spans, in any order, and
 * returns how many; asked while the program runs (not stopped) it may be wrong. NULL: there is no
 * garbage.
 */
typedef uint32_t image_writer_garbage(void *context, bool stopped, struct page_span *out,
                                      uint32_t limit);
void image_writer_set_garbage(struct image_writer *writer, image_writer_garbage *find,
                              void *context);

/*
 * Called between pieces of a round or a cut, after at most a few megabytes: a negative status ends
 * it with that status (and what was found dirty is looked at again, as after any failure). For a
 * writer that must yield quickly. NULL: not called.
 */
typedef int image_writer_step(void *context);
void image_writer_set_step(struct image_writer *writer, image_writer_step *step, void *context);

/*
 * Inside the freeze. space: fresh maps, read by the caller after the stop. Gives up with
 * STATUS_DEFERRED when more than max_pages (0: no limit) have to be copied of memory that the
 * kernel tracks: nothing is lost, the next round or cut finds them again.
 */
MUST_CHECK int image_writer_cut(struct image_writer *writer, const struct address_space *space,
                                uint64_t max_pages, struct problem *why);

/*
 * Still inside the freeze: reads all saved memory and compares it with what the generation will
 * hold. For tests and PHEAP_CHECK=cut. STATUS_DAMAGED if the cut has missed something; the next
 * attempt then looks at every page. threads_run: they wait in a handler of their own, on their
 * stacks, and the kernel writes into their rseq areas when one is moved to another processor; a
 * page that is marked as written since it was last protected is then not counted: that a cut copies
 * what is marked is checked where threads are traced.
 */
MUST_CHECK int image_writer_check_cut(struct image_writer *writer,
                                      const struct address_space *space, bool threads_run,
                                      struct problem *why);

/* After the freeze. As pool_commit(). A crash image is not tidied for a fast restore. */
MUST_CHECK int image_writer_commit(struct image_writer *writer, struct generation_entry *entry,
                                   const void *record, size_t record_bytes, struct problem *why);

/* The freeze was given up between cut and commit: keep what was copied for the next attempt. */
void image_writer_abandon(struct image_writer *writer);

/* Takes [start, end) out of the kernel's tracking (for an mremap that fails with EFAULT); it is
 * dirty as a whole from now on. */
void image_writer_untrack(struct image_writer *writer, uintptr_t start, uintptr_t end);

/*
 * About how many pages were written since they were last looked at, not to be told apart beyond
 * limit. Protects nothing; costs a look at the mappings and the page tables. Where the kernel does
 * not track: by how many pages memory has grown since the last cut. space is read anew by the
 * callee.
 */
MUST_CHECK int64_t image_writer_count_dirty(struct image_writer *writer,
                                            struct address_space *space, uint64_t limit);

const struct image_writer_stats *image_writer_stats(const struct image_writer *writer);

/* Whether a round makes the next one shorter: by write protection. */
bool image_writer_tracks(const struct image_writer *writer);

/* "userfaultfd write protection and PAGEMAP_SCAN", "soft-dirty bits" or "page checksums", for
 * messages. */
const char *image_writer_tracking(const struct image_writer *writer);

#endif
