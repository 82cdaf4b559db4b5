/*
 * saved_files.h - files whose content a generation has (core/image/file_area): those that are
 * mapped, so that it does not depend on them (--self-contained), and those that the program writes
 * to, so that they are put back when it is resumed (--files=save).
 *
 * The agent keeps a table of them from checkpoint to checkpoint (saved_table.h). A file is known by
 * path and inode; what was read of it is not read again while its size and its time of change stay
 * the same, and not written again in any case when its bytes are. Of mapped files the pages that
 * are mapped are saved, of the others all.
 *
 * Calling sequence, each checkpoint: saved_files_begin() while the program runs; inside the freeze
 * saved_files_mapped(), where mostly nothing is left to do, the parts of the capture, which ask for
 * what may be put into the record, and saved_files_settle().
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

enum saved_kind {
    SAVED_NOTHING = 0, /* the entry is free */
    SAVED_MAPPED,      /* what is mapped of it: record_saved_file */
    SAVED_CONTENT,     /* all of it: record_saved_content */
    SAVED_VDSO,        /* no file: the text of the kernel's vdso */
};

struct saved_options {
    bool mapped;            /* --self-contained */
    uint64_t content_bytes; /* --files=save: of files up to this size; 0: of none */
};

struct saved_file {
    enum saved_kind kind;
    uint64_t path_checksum;
    uint64_t first_page;         /* its place in the file area */
    uint64_t looked_at;          /* the checkpoint that last compared it with its file */
    uint64_t checkpoint;         /* the last one that needed it */
    int64_t read_ns;             /* SAVED_CONTENT: when, program stopped, it was read; 0: not yet */
    struct record_file identity; /* of what was read; inode and size say how far */
    char path[256];              /* empty: longer */
};

MUST_CHECK int saved_files_create(struct saved_files **out, struct arena *arena,
                                  struct image_writer *writer, const struct saved_options *options);

void saved_files_set(struct saved_files *files, const struct saved_options *options);

/* Whether generations have the mapped files; files NULL: no. */
bool saved_files_carry(const struct saved_files *files);

/* A checkpoint begins: most of what it will need is read while the program runs. */
MUST_CHECK int saved_files_begin(struct saved_files *files, const struct address_space *space,
                                 struct problem *why);

/*
 * Inside the freeze: saves what is mapped of files and not saved yet. Files that cannot be found
 * are left out: the capture looks at each and says so. STATUS_UNSUPPORTED names one that may not be
 * read, STATUS_LIMIT one that is too large.
 */
MUST_CHECK int saved_files_mapped(struct saved_files *files, const struct address_space *space,
                                  struct problem *why);

/* A mapped file that is saved, or NULL. inode 0: any. */
const struct saved_file *saved_files_find(const struct saved_files *files, const char *path,
                                          uint64_t inode);

/* Is all saved that the mapping shows of its file? */
bool saved_files_cover(const struct saved_files *files, const struct mapping *mapping);

/* Saves memory that is the kernel's, [start, end), once; *first_page: where it is. */
MUST_CHECK int saved_files_vdso(struct saved_files *files, uintptr_t start, uintptr_t end,
                                uint64_t *first_page, struct problem *why);

/* The capture is complete: what it did not need is forgotten. */
MUST_CHECK int saved_files_settle(struct saved_files *files, struct problem *why);

/* In an image: the page of the file area where the content of the mapping's first page is. */
uint64_t saved_file_page(const struct image_file *file, const struct record_mapping *mapping);

#endif
