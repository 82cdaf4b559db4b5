/*
 * unwind.h - backtraces of saved threads: unwound with libdw from the image's memory and the
 * .eh_frame of the mapped ELF files, named from their symbol tables and debug information.
 *
 * Calling sequence: unwind_open() on a view of a process, unwind_thread() for each thread,
 * unwind_close() before view_close(): its memory lies in the view's arena. A file that is not the
 * one that the program had mapped is left out: a frame in it has an address and no name, and the
 * backtrace ends there. The vdso is known if the kernel has not changed.
 */
#ifndef PHEAP_RECOVERY_VIEW_UNWIND_H
#define PHEAP_RECOVERY_VIEW_UNWIND_H

#include <stdbool.h>
#include <stdint.h>
#include "recovery/view/view.h"

struct unwinder; /* defined in unwind.c */

struct unwind_frame {
    uint64_t pc;
    const char *module;   /* path of the ELF file, "[vdso]"; NULL: unknown */
    const char *function; /* NULL: unknown */
    uint64_t offset;      /* of pc in the function, or in the module if that is all that is known */
    const char *file;     /* source; NULL: no debug information */
    int line;
};

typedef void unwind_visit(void *context, const struct unwind_frame *frame);

/* Where libdw cannot be loaded it is 0 all the same, with *why set to STATUS_UNSUPPORTED: each
 * backtrace is one address then. */
MUST_CHECK int unwind_open(struct unwinder **out, struct view *view, struct problem *why);

/* The same for unwind_name() alone: of any generation that knows its mappings, a crash image too.
 */
MUST_CHECK int unwind_open_names(struct unwinder **out, struct view *view, struct problem *why);

/* What is at an address; is_return: it is behind the call that is meant. */
void unwind_name(const struct unwinder *unwinder, uint64_t pc, bool is_return,
                 struct unwind_frame *frame);
void unwind_close(struct unwinder *unwinder);

/* Frames from the innermost outwards, at most UNWIND_FRAMES_MAX. The first one comes from the
 * registers alone, so there is always one. *is_whole: the outermost frame was reached. */
#define UNWIND_FRAMES_MAX 512
void unwind_thread(struct unwinder *unwinder, uint32_t thread, unwind_visit *visit, void *context,
                   bool *is_whole);

#endif
