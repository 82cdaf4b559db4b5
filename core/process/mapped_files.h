/*
 * mapped_files.h - the files that a process maps: recorded by path and identity, compared when the
 * process is restored.
 *
 * A clean page of a file is not saved, so the file must be the same one at the restore: same inode,
 * size and time of change, or an ELF file with the same size and build-id (a package installed
 * again).
 */
#ifndef PHEAP_PROCESS_MAPPED_FILES_H
#define PHEAP_PROCESS_MAPPED_FILES_H

#include <stdbool.h>
#include <stdint.h>
#include "core/process/capture_run.h"

struct credentials;
struct process_image;
struct stat;
struct image_file;

struct memory_attributes *capture_cache_attributes(const struct capture_cache *cache);
const struct credentials *capture_cache_credentials(const struct capture_cache *cache);
const struct record_processor *capture_cache_processor(const struct capture_cache *cache);

/* A new checkpoint begins: ids are given out anew. */
void mapped_files_begin(struct capture_cache *cache);

/*
 * Puts the file in the record unless it is there already; *id is its id. inode: as maps has it; 0:
 * not known. may_change: it is mapped shared and writable.
 */
MUST_CHECK int capture_mapped_file(struct capture_run *run, const char *path, uint64_t inode,
                                   bool may_change, uint32_t *id);

/*
 * The same for one that has been deleted or replaced: if it is among the saved files it is recorded
 * as it was; else STATUS_UNSUPPORTED. inode 0: the executable, whose inode is not known and of
 * which nothing need be mapped.
 */
MUST_CHECK int capture_deleted_file(struct capture_run *run, const char *path, uint64_t inode,
                                    uint32_t *id);

/* What a record says of the file, its id and build-id apart. */
struct record_file mapped_file_identity(const struct stat *stat);
/* The same with the build-id, which is read. */
void mapped_file_identify(struct record_file *record, const char *path, const struct stat *stat);

/* Outside the freeze: looks at the file, so that its build-id is in the cache. Failures show later.
 */
void mapped_file_prepare(struct capture_cache *cache, const char *path, uint64_t inode);

/* Is the file there, and as it was? */
bool mapped_file_is_same(const struct image_file *file);

/* Are all mapped files and the executable as they were? One that is not and that is saved in the
 * image is marked as replaced; STATUS_CHANGED names the first that is neither. */
MUST_CHECK int mapped_files_check(struct process_image *image, struct problem *why);

#endif
