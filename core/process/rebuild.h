/*
 * rebuild.h - makes a process out of a process_image: each part adds its system calls to a batch.
 *
 * The driver (recovery/restore/drive.c) owns the order, because memory contents come in between:
 *
 *     rebuild_children()           those that have ended
 *     rebuild_empty()              everything is unmapped but the kernel's own and scratch
 *     rebuild_kernel_mappings()    vdso and its data to their old places
 *     rebuild_objects()            what mappings and descriptors without a file refer to
 *     rebuild_mappings()           mappings, with PROT_WRITE where contents must be read in
 *       (the driver: extents and contents)
 *     rebuild_protections()        final protections
 *     rebuild_memory_attributes()  what madvise and mlock set
 *     rebuild_memory_layout(), rebuild_descriptors(), rebuild_signal_actions(),
 *     rebuild_identity(), rebuild_timers()
 *     rebuild_thread_create()      the other threads, stopped before their first instruction
 *     rebuild_thread()             in each thread by itself
 *
 * Each may be followed by batch_run() at once or together with others; all return 0 or a
 * negative status with *why filled in.
 */
#ifndef PHEAP_PROCESS_REBUILD_H
#define PHEAP_PROCESS_REBUILD_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/image/maps.h"
#include "core/process/batch.h"
#include "core/process/process_image.h"

struct rebuild {
    const struct process_image *image;
    struct batch *batch;
    struct arena *arena; /* for texts that messages need */
    struct problem *why;
    uintptr_t staging;          /* free room for the vdso on its way, STAGING_BYTES */
    uintptr_t vdso_place;       /* STAGING_BYTES where the program has nothing: for another vdso */
    uint8_t *vdso_text;         /* the saved one, in the arena; NULL: it is not saved */
    uintptr_t vdso_written;     /* where it is to be written, 0: nowhere */
    bool keeps_connections;     /* TCP connections that the generation has, see connections.h */
    bool *widened;              /* [mapping]: contents are read in, so it is writable at first */
    uint32_t personality_now;   /* the new process's; containers let nobody change it */
    uint64_t stack_limit_bytes; /* RLIMIT_STACK: room that [stack] gets below it */

    /* Descriptors of the new process that are not the program's; all numbers from first_private_fd
     * on are ours until the end. */
    struct sysv_segment *segments; /* [object], sysv_memory.c's; NULL: none */
    int first_private_fd;
    int stdio_fd[3];    /* the restorer's 0, 1, 2, or -1 where it has none */
    int stdio_flags[3]; /* their O_* */
    bool stdio_terminal[3];
    int terminal; /* which of them is a terminal whose settings are ours to change, or -1 */
};

#define STAGING_BYTES (64u << 10)

void rebuild_children(struct rebuild *rebuild);
/* now: the present mappings of the process; scratch is [keep_start, keep_end). */
void rebuild_empty(struct rebuild *rebuild, const struct address_space *now, uintptr_t keep_start,
                   uintptr_t keep_end);
MUST_CHECK int rebuild_kernel_mappings(struct rebuild *rebuild, const struct address_space *now,
                                       int pid);
/* Behind them, if the vdso is another one: what calls it in the old one's place. */
MUST_CHECK int rebuild_vdso(struct rebuild *rebuild, int pid);
void rebuild_objects(struct rebuild *rebuild);
MUST_CHECK int rebuild_mappings(struct rebuild *rebuild);
void rebuild_protections(struct rebuild *rebuild);
void rebuild_memory_attributes(struct rebuild *rebuild); /* of mappings, contents in them */
void rebuild_memory_layout(struct rebuild *rebuild);
MUST_CHECK int rebuild_descriptors(struct rebuild *rebuild);
void rebuild_signal_actions(struct rebuild *rebuild);
void rebuild_identity(struct rebuild *rebuild);
void rebuild_filter(struct rebuild *rebuild); /* of seccomp, behind no_new_privs */
uint32_t identity_personality(int pid);       /* 0 if it cannot be read */
/* Before the rebuild: which of the restorer's streams is a terminal that it is in the foreground
 * of, or -1. */
int terminal_of_restorer(void);
void rebuild_terminal(struct rebuild *rebuild);
void rebuild_timers(struct rebuild *rebuild);
void rebuild_pending_signals(struct rebuild *rebuild); /* the threads exist */
void rebuild_thread_create(struct rebuild *rebuild, uint32_t index);
void rebuild_thread(struct rebuild *rebuild, uint32_t index);
void rebuild_thread_attributes(struct rebuild *rebuild, uint32_t index);
void rebuild_process_attributes(struct rebuild *rebuild);

/* From outside, when nothing more is done that the limits could forbid: what may be set. */
void rebuild_limits(const struct process_image *image, int pid);

/* Regular files that lie under another name in the same folder now get that as their path. */
void descriptors_find_renamed(struct process_image *image, struct arena *arena);

/* Are the files that descriptors refer to fit to go on with? STATUS_CHANGED names the first
 * that is not. Changes nothing. */
MUST_CHECK int descriptors_check(const struct process_image *image, struct problem *why);

/* How many numbers from first_private_fd on a rebuild takes, at least. */
uint64_t descriptors_room(const struct process_image *image);

void children_size(const struct process_image *image, size_t *calls, size_t *data);
/* Adds what the watches of inotify take in a batch to come by their numbers. */
void inotify_size(const struct process_image *image, size_t *calls, size_t *data);

/* text in the arena, for batch_add(): lives until the arena goes. */
const char *rebuild_text(struct rebuild *rebuild, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
