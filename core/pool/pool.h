/*
 * pool.h - the pool file: created, opened, locked, and moved from one generation to the next.
 *
 * States of a pool that is open for writing:
 *
 *     committed   memory equals the durable superblock      [pool_open, pool_commit]
 *     building    frames and index run ahead of it           [frames_take, index_set, ...]
 *
 * A generation becomes real in pool_commit(), in this order:
 *   1. page contents and index nodes and the record are written      (crash: old generation)
 *   2. persist_sync                                                   (crash: old generation)
 *   3. the superblock with the new entry is written to the slot that
 *      does not hold the present one                                  (crash: old or new one)
 *   4. persist_sync                                                   (crash: new generation)
 *   5. in memory: frames of dropped generations become free
 * No frame that the durable superblock leads to is ever overwritten. Of the superblock before it
 * the newest generation that is no crash image, and all that both list, stay whole too: if the
 * newest superblock is damaged later, the one before it leads to something that can be resumed.
 *
 * Ownership: the pool's memory (index, frames) lives in the arena given to pool_open(); fds are
 * the pool's own and CLOEXEC. Errors: negative statuses, with `why` filled in for a person.
 * Thread safety: one user at a time; across processes: one writer (OFD lock), any readers.
 */
#ifndef PHEAP_POOL_POOL_H
#define PHEAP_POOL_POOL_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/pool/format.h"
#include "core/pool/frame.h"
#include "core/pool/index.h"
#include "core/pool/persist.h"

enum pool_mode {
    POOL_READ,  /* any number, also beside a writer; never writes */
    POOL_WRITE, /* takes the writer's lock or fails with STATUS_IN_USE */
};

struct pool {
    int fd;
    enum pool_mode mode;
    char path[4096];         /* absolute, as opened */
    struct superblock super; /* the newest valid one */
    bool super_fell_back;    /* the other superblock is damaged or torn: an older state is shown */
    struct generation_entry
        previous;         /* newest one but crash images of the other superblock; number 0: none */
    uint64_t file_frames; /* at open, or at the last commit; fewer than super.frame_count: the file
                             was cut short */
    struct persist persist;
    struct arena *arena;
    struct frames *frames;                  /* POOL_WRITE only, after pool_load() */
    struct index_tree *index;               /* of the newest generation; after pool_load() */
    uint64_t building_bytes;                /* written for the generation in progress */
    uint64_t reserve_first, reserve_frames; /* for the next record: pool_record.h */
    struct log_place next_log; /* what the next generation's superblock says of the log, if it has
                                  extents: frames that were taken and never released */
    bool next_log_has_lanes;   /* its superblock says that the log may have lanes */
};

/*
 * Makes a new pool file, mode 0600, of a few frames, without generations; durable with its
 * directory entry when it returns 0. -EEXIST if path exists. slot: 1..50 (not 10, 11), 0 for a
 * random one of a process's. keep: generations to keep, 1..16.
 */
MUST_CHECK int pool_create(const char *path, uint32_t slot, uint32_t keep, struct problem *why);

/* Makes the directory entry of this path durable. */
MUST_CHECK int pool_sync_directory(const char *path);

/*
 * Opens an existing pool: regular file, owned by the caller's effective user (STATUS_NOT_OWNER
 * otherwise, in POOL_WRITE and POOL_READ alike; root may read any), superblock with the highest
 * valid sequence. Statuses: -ENOENT, STATUS_NOT_A_POOL (empty and foreign files too),
 * STATUS_DAMAGED (no superblock is valid), STATUS_NEWER_FORMAT, STATUS_IN_USE. Never follows a
 * symbolic link for the last component in POOL_WRITE. Reads two frames, allocates nothing.
 * POOL_WRITE makes durable what it has read (one sync) before anything is built on it: a writer
 * that was killed may have left a superblock that is in the page cache only.
 *
 * A file that is shorter than its superblock says opens (file_frames tells); what lay beyond the
 * end is STATUS_DAMAGED when it is read, and pool_load() drops the generations it belonged to.
 */
MUST_CHECK int pool_open(struct pool *pool, const char *path, enum pool_mode mode,
                         struct problem *why);

/* Why a file could not be opened (status, from open) as a pool; returns the status to give. */
MUST_CHECK int pool_explain_open(int status, const char *path, enum pool_mode mode,
                                 struct problem *why);

void pool_close(struct pool *pool);

/*
 * POOL_WRITE: reads the indexes of all kept generations and derives the frames. pool->index then
 * holds the index of generation base (the one that was resumed), or an empty one when base is 0
 * (a new program). Frames that only other generations refer to are dead: with the number of the
 * next newer kept generation, or, if they are newer than base, with the number that the next
 * commit gets. A generation whose index is damaged is dropped from the list in memory: `why` then
 * has STATUS_DAMAGED and names it, the returned status is still 0 unless it is base. arena must
 * live as long as the pool.
 */
MUST_CHECK int pool_load(struct pool *pool, struct arena *arena, uint64_t base,
                         struct problem *why);

/* The entry with this number; number 0: the newest. NULL if there is none. */
const struct generation_entry *pool_generation(const struct pool *pool, uint64_t number);

/* Frames at or beyond this are not in the file, whatever an index says: not to be mapped, a touch
 * would be SIGBUS. */
static inline uint64_t pool_frames_present(const struct pool *pool)
{
    uint64_t listed = pool->super.frame_count;

    return pool->file_frames < listed ? pool->file_frames : listed;
}

/* Slot rule of DESIGN.md 4: 1..50 but 10 and 11. */
bool pool_slot_is_valid(uint32_t slot);

/*
 * Writes page contents: `pages` whole pages of `data` go to frames taken here and the index is
 * told; page_numbers[i] is the page of data + i * 4096, checksums[i] its checksum64. Contiguous
 * where the frames allow it; a page that was written since the last commit stays in its frame.
 * *bytes_written grows. After a failure the index has for each page the new content, or what it had
 * before, or nothing: the caller looks at all of memory again before it commits.
 */
MUST_CHECK int pool_write_pages(struct pool *pool, const uint64_t *page_numbers,
                                const uint64_t *checksums, const void *data, uint64_t pages,
                                uint64_t *bytes_written);

/*
 * Drops what the next commit of a process would drop, now: frames that only those generations refer
 * to are free for the generation in progress. Until it is committed N - 1 are listed; nothing is
 * done for N below 3, and what is pinned or read stays. One superblock and a sync. After a failure
 * all are listed; the pool goes on unless the sync failed.
 */
MUST_CHECK int pool_make_room(struct pool *pool, struct problem *why);

/*
 * Steps 1 (nodes and record) to 5 above. entry: kind, time_ns, slot, pause_ns and flags are the
 * caller's, freeze_written_bytes too; number, index root, counts and record fields are filled in
 * here (written_bytes counts pages since the last commit, nodes and record).
 *
 * Afterwards the N newest generations that are no crash images, the newest crash image, pinned
 * ones, and those that a reader has locked are kept. At most SUPERBLOCK_GENERATIONS: beyond that
 * the N-newest rule yields, and STATUS_LIMIT when pinned and locked ones alone fill the list.
 *
 * After an error the durable state is the old one, and the generation in progress stays as it is
 * for another attempt (a failed sync apart: then the pool stays failed). When the write of the
 * superblock itself failed the number may have become durable with it: it is not used again.
 */
MUST_CHECK int pool_commit(struct pool *pool, struct generation_entry *entry, const void *record,
                           size_t record_bytes, struct problem *why);

/*
 * The log of a pool: frames of its own, content unspecified. pool_add_log_extent() takes `frames`
 * of them in one run, makes the file's new length durable, and appends them to pool->next_log;
 * -ENOSPC, STATUS_LIMIT (LOG_EXTENTS). They are listed, and lasting, with the next pool_commit(),
 * which also sets where the log begins, and the generation that it follows; or with
 * pool_list_log(), at once, in a pool that has a log already. A pool that is loaded has next_log as
 * it was listed.
 *
 * Crash: before they are listed the frames are free.
 */
MUST_CHECK int pool_add_log_extent(struct pool *pool, uint64_t frames, struct problem *why);
MUST_CHECK int pool_list_log(struct pool *pool, struct problem *why);

/*
 * Rewrites the superblock alone, with the fields that edit changes (run state, end status, slot,
 * keep, resume counts); durable when it returns 0.
 */
typedef void pool_edit(struct superblock *super, void *context);
MUST_CHECK int pool_update(struct pool *pool, pool_edit *edit, void *context, struct problem *why);

/*
 * A pinned generation is kept until it is unpinned. At most POOL_PINNED_MAX: STATUS_LIMIT. It is
 * not an error if it is as wanted already. STATUS_NO_GENERATION. Durable when it returns 0.
 */
#define POOL_PINNED_MAX 4u
MUST_CHECK int pool_pin(struct pool *pool, uint64_t number, bool pinned, struct problem *why);

/*
 * After pool_load(): drops a generation; its frames are free, and space of long free runs goes back
 * to the file system. Refused when it is pinned, or is what the program would be resumed from
 * (STATUS_REFUSED); STATUS_IN_USE when somebody reads it; STATUS_NO_GENERATION.
 */
MUST_CHECK int pool_drop(struct pool *pool, uint64_t number, struct problem *why);

/*
 * After pool_load(): drops all generations that are newer than this one, as pool_drop() does but in
 * one step, and lets the run go on from it: one that has ended can be resumed again. A pool with a
 * log gets an empty one in the same step: the transactions in the old one are dropped too. Refused
 * when a newer one is pinned, or this one is a crash image (STATUS_REFUSED); STATUS_IN_USE when
 * somebody reads a newer one; STATUS_NO_GENERATION.
 */
MUST_CHECK int pool_rollback(struct pool *pool, uint64_t number, struct problem *why);

/*
 * Takes generations that are not whole out of the list, pinned ones and what would be resumed too,
 * and lets the superblock count the frames that the file has: written to both places. No space is
 * given back and no frame becomes free before the pool is loaded (again), so that until then the
 * superblocks from before can be put back. STATUS_IN_USE when somebody reads one of them.
 * log: NULL, or a new log takes the place of the present one, with these of its records, from its
 * first on; or without any, and then it follows the newest generation that is left.
 */
struct pool_new_log {
    const void *records; /* one behind the other */
    uint64_t bytes;
    uint64_t sequence; /* of the record before them */
};
MUST_CHECK int pool_give_up(struct pool *pool, const uint64_t *numbers, uint32_t count,
                            const struct pool_new_log *log, struct problem *why);

/*
 * Takes (on a descriptor of its own, returned) the read lock on generation number, so that no
 * writer reuses its frames. The descriptor is opened O_RDONLY|O_CLOEXEC. fd or negative status:
 * STATUS_NO_GENERATION when a writer has dropped it meanwhile (looked up again once locked).
 */
MUST_CHECK int pool_lock_generation(const struct pool *pool, uint64_t number, struct problem *why);

/* Of a pool open for reading: has a writer got it? True too if that cannot be told. */
bool pool_is_written(const struct pool *pool);

/* Reads a generation's record into buffer (entry->record_bytes long) and checks its checksum. */
MUST_CHECK int pool_read_record(const struct pool *pool, const struct generation_entry *entry,
                                void *buffer, struct problem *why);

/* Reads one frame and checks it against the entry's checksum. FRAME_ZERO and FRAME_NONE give
 * zeroes. */
MUST_CHECK int pool_read_page(const struct pool *pool, struct index_entry entry, void *page,
                              struct problem *why);

/* Magic, version, checksum, and every number within its limits (no frame at or beyond
 * frame_count, generations ascending, ...): safe to use whoever wrote it. */
bool superblock_is_valid(const struct superblock *super);
bool pool_is_valid(const struct pool *pool);

#endif
