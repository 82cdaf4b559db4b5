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

struct process_image;
struct image_file;

struct memory_attributes *capture_cache_attributes(const struct capture_cache *cache);
const struct record_processor *capture_cache_processor(const struct capture_cache *cache);

/* A new checkpoint begins: ids are given out anew. */
void mapped_files_begin(struct capture_cache *cache);

/*
 * Puts the file in the record unless it is there already; *id is its id. inode: as maps has it; 0:
 * not known. may_change: it is mapped shared and writable.
 */
MUST_CHECK int capture_mapped_file(struct capture_run *run, const char *path, uint64_t inode,
                                   bool may_change, uint32_t *id);

/* Outside the freeze: looks at the file, so that its build-id is in the cache. Failures show later.
 */
void mapped_file_prepare(struct capture_cache *cache, const char *path, uint64_t inode);

/* Is the file there, and as it was? */
bool mapped_file_is_same(const struct image_file *file);

/* Are all mapped files and the executable as they were? STATUS_CHANGED names the first that is not.
 */
MUST_CHECK int mapped_files_check(const struct process_image *image, struct problem *why);

#endif
