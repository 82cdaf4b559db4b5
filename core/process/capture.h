/*
 * capture.h - writes down what a stopped process is made of.
 *
 * process_capture() runs in the agent, inside the freeze: all threads are stopped, their registers
 * read. It appends one item per thing to the record: see record_format.h. A thing that cannot be
 * restored makes it fail with STATUS_UNSUPPORTED and a text such as
 * "fd 7: io_uring cannot be checkpointed; close it or ...".
 *
 * process_capture_look() and process_capture_prepare() do outside the freeze what need not be
 * inside: the one what takes as long as there is memory (what madvise has set), early enough for
 * the program to be looked at once more before the freeze; the other the rest (build-ids of mapped
 * files, cached by inode and mtime).
 */
#ifndef PHEAP_PROCESS_CAPTURE_H
#define PHEAP_PROCESS_CAPTURE_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/image/maps.h"
#include "core/process/memory_attributes.h"
#include "core/process/record.h"
#include "core/process/tracee.h"

#define CAPTURE_STACK_BYTES (1u << 20)

struct kept_connections;
struct saved_files;
struct capture_cache; /* build-ids and the like, in the agent's arena */

/* libc's restartable sequence of each thread, where only libc can tell; bytes 0: it has none. */
struct capture_rseq {
    int64_t offset; /* from the thread's fs base */
    uint32_t bytes, signature;
};

struct capture {
    int pid;                /* of the program, in the agent's pid namespace */
    struct tracee *threads; /* [0] is the leader */
    uint32_t thread_count;
    const struct address_space *space;
    struct capture_cache *cache;
    const struct memory_calls *memory_calls; /* of the program, see memory_attributes.h */
    struct arena *scratch;                   /* rewound by the caller after the checkpoint */
    uintptr_t call_stack_top;                /* CAPTURE_STACK_BYTES of agent memory below it */
    const uint32_t *tracer; /* the caller's thread id, 0 when it is dead: errand.h */
    uintptr_t resume_entry; /* long resume_entry(const struct resume_arguments *): see below */
    uint32_t slot;
    struct capture_rseq rseq;             /* used of threads that halted themselves (halt.h) */
    struct saved_files *saved;            /* --self-contained; NULL: no file's pages are saved */
    struct kept_connections *connections; /* of a program that ends next; NULL: none is kept */
    bool denies_io_uring;                 /* the program has the filter of seccomp_filter.h */
    int halt_signal;            /* what the caller halts the threads by (halt.h); 0: nothing */
    uint32_t inherited_filters; /* seccomp filters that the run began with: its surroundings' */
};

MUST_CHECK int capture_cache_create(struct capture_cache **out, struct arena *arena);
void process_capture_look(struct capture_cache *cache, const struct memory_calls *memory_calls);
MUST_CHECK int process_capture_prepare(struct capture *capture, struct problem *why);
MUST_CHECK int process_capture(struct capture *capture, struct record_writer *out,
                               struct problem *why);

/*
 * What pheap-restore hands to the rebuilt process: it calls resume_entry (an address in the saved
 * image's libpheap, kept in the record) in the leader, by tracee_call, when memory, files and
 * threads are back and before registers are: it starts the new agent.
 */
struct resume_arguments {
    uint64_t generation;
    char pool_path[4096];
};

#endif
