/*
 * program.h - what libpheap keeps of the process it is in, the heap apart. Internal to preload.
 *
 * In libpheap's data, so every image holds it; a resume overwrites what is not true any more
 * (pheap_resume_entry), a forked child forgets the pool (fork.c).
 */
#ifndef PHEAP_PRELOAD_PROGRAM_H
#define PHEAP_PRELOAD_PROGRAM_H

#include <stdbool.h>
#include "core/agent/agent.h"

struct program {
    int owner_pid;     /* of the process that the pool belongs to; 0: none */
    bool restored;     /* slot memory may be mapped from the pool's frames */
    int resume_signal; /* what a resumed program is told by; 0: nothing */
    struct agent_link link;
};

extern struct program program;

/* Is this the process that owns the pool? False in a vfork child, which shares the variable. */
bool program_owns_pool(void);

/* "pheap: text" on stderr. */
void program_say(const char *text);

/* malloc.c: the heap is there from here on; false: there is no place for one. */
bool program_start_heap(void);

/* fork.c, exit.c */
void program_watch_forks(void);
void program_watch_exit(void);

/* on_term.c: SIGTERM is a checkpoint and the end, from here on */
void program_watch_term(void);

/* debug.c */
void program_explain_faults(void);           /* PHEAP_HARDEN=1 */
void program_print_statistics_at_exit(void); /* PHEAP_STATS=1 */
void program_note_stderr(void);              /* descriptor 2 is another file from here on */

/* malloc_info.c: a table to stderr. */
void program_write_statistics(const char *title);

/* pmem.c: what writing a pool on DAX takes; all zero (but for `forced`) elsewhere. */
void program_find_pmem(const char *pool_path, struct persist_pmem *pmem);

/* profile.c: PHEAP_PROFILE=bytes. Says why if it cannot be. */
void program_profile(uint64_t rate_bytes);

/* deepbind.c: PHEAP_DEEPBIND=1 */
void program_keep_deepbind(void);

/* environment.c. The string must live for ever. Not setenv(): a program may define its own (bash
 * does), which is not ready for calls before main(). */
void environment_put(char *assignment);
void environment_remove(const char *name);

#endif
