/*
 * saved_table.h - the agent's table of files whose content is in the file area of the index, and of
 * what of each is there. Internal to core/process: saved_files.c (mapped files) and
 * saved_contents.c (files that are written to) use it.
 *
 * Always true: `present` names pages of the area that hold what their file held when its identity
 * was noted; what may have been lost since (a failed write) is not in it, and then is read, and
 * compared with the index, again. Places of two files do not overlap.
 */
#ifndef PHEAP_PROCESS_SAVED_TABLE_H
#define PHEAP_PROCESS_SAVED_TABLE_H

#include "core/image/page_set.h"
#include "core/process/saved_files.h"

#define SAVED_FILES_MAX 2048u

struct saved_files {
    struct image_writer *writer;
    struct saved_options options;
    struct page_set present, kept, one; /* kept, one: for a moment */
    uint64_t checkpoint;
    uint64_t losses;  /* of the writer, when `present` was believed last */
    bool needs_sweep; /* the area may have pages of files that are not needed any more */
    uint32_t count;
    struct saved_file files[SAVED_FILES_MAX];
};

/* inode 0: any. NULL: it is not there. */
struct saved_file *saved_table_find(const struct saved_files *files, enum saved_kind kind,
                                    const char *path, uint64_t inode);
/* A new entry with a place of its own, or NULL: the table is full. */
struct saved_file *saved_table_add(struct saved_files *files, enum saved_kind kind,
                                   const char *path, uint64_t inode);

/* A round or a cut begins: nothing that may have been lost is believed to be there. */
void saved_table_begin(struct saved_files *files);

/* Pages that the file had, when its identity was noted. */
uint64_t saved_file_pages(const struct saved_file *file);

bool saved_is_present(const struct saved_files *files, struct page_span span);
/* All of the file is to be read again. */
void saved_note_absent(struct saved_files *files, const struct saved_file *file);
/* Reads what of the span is not present from fd's file. */
MUST_CHECK int saved_span(struct saved_files *files, const struct saved_file *file, int fd,
                          struct page_span span, bool frozen, struct problem *why);

/* The same for pages [span.page, span.end) that fd has from its page file_page on. */
MUST_CHECK int saved_span_from(struct saved_files *files, int fd, uint64_t file_page,
                               struct page_span span, bool frozen, struct problem *why);

bool saved_is_as_noted(const struct saved_file *file, const struct record_file *now);

#endif
