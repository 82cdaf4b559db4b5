/*
 * saved_files.h - files whose content a generation has (core/image/file_area), so that it does not
 * depend on them: those that are mapped, for --self-contained.
 *
 * The agent keeps a table of them from checkpoint to checkpoint. A file is known by path and inode;
 * what was read of it is not read again while its size and its time of change stay the same, and
 * not written again in any case when its bytes are. Only pages that are mapped are saved.
 *
 * Calling sequence, each checkpoint: saved_files_mapped() while the program runs, the same again
 * inside the freeze, where mostly nothing is left to do; then saved_files_find() and
 * saved_file_covers() say what may be put into the record.
 *
 * A file that was deleted or replaced while it is mapped stays as it was saved: a program goes on
 * being checkpointed across an upgrade of its libraries.
 */
#ifndef PHEAP_PROCESS_SAVED_FILES_H
#define PHEAP_PROCESS_SAVED_FILES_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/image/maps.h"
#include "core/process/record_format.h"

struct image_writer;
struct image_file;
struct saved_files;

struct saved_file {
    uint64_t path_checksum;      /* 0: free */
    uint64_t first_page;         /* its place in the file area */
    uint64_t looked_at;          /* the checkpoint that last compared it with its file */
    uint64_t checkpoint;         /* the last one that needed it */
    struct record_file identity; /* of what was read; inode and size say how far */
};

MUST_CHECK int saved_files_create(struct saved_files **out, struct arena *arena,
                                  struct image_writer *writer);

/*
 * Saves what is mapped of files and not saved yet. Files that cannot be found are left out: the
 * capture looks at each and says so. STATUS_UNSUPPORTED names one that may not be read,
 * STATUS_LIMIT one that is too large.
 */
MUST_CHECK int saved_files_mapped(struct saved_files *files, const struct address_space *space,
                                  bool frozen, struct problem *why);

/* A saved file, or NULL. inode 0: any; the one that was deleted if there is one. */
const struct saved_file *saved_files_find(const struct saved_files *files, const char *path,
                                          uint64_t inode);

/* Is all saved that the mapping shows of its file? */
bool saved_files_cover(const struct saved_files *files, const struct mapping *mapping);

/* In an image: the page of the file area where the content of the mapping's first page is. */
uint64_t saved_file_page(const struct image_file *file, const struct record_mapping *mapping);

#endif
