/*
 * core_file.h - an ELF core file of a generation, for gdb: threads with registers, the auxiliary
 * vector, the mapped files' names, memory.
 *
 * What it holds is what the kernel's own would: anonymous memory whole; of a file mapping all, if
 * anything in it was written, else its first page if that is an ELF header; of others nothing but
 * their place. The file is sparse where memory is zero. Of a file that has changed since the
 * checkpoint only the written pages are in it.
 *
 * The file must not exist yet; it is made with mode 0600, and removed again after a failure.
 */
#ifndef PHEAP_RECOVERY_VIEW_CORE_FILE_H
#define PHEAP_RECOVERY_VIEW_CORE_FILE_H

#include <stdint.h>
#include "recovery/view/view.h"

struct core_file {
    uint64_t bytes; /* the file's length, holes included */
    uint64_t pages; /* written */
    uint64_t threads;
};

MUST_CHECK int core_file_write(struct view *view, const char *path, struct core_file *out,
                               struct problem *why);

#endif
