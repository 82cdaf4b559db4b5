/*
 * restart_block.h - system calls that the kernel restarts from its own memory.
 *
 * nanosleep, poll and futex with a timeout leave -ERESTART_RESTARTBLOCK and go on by themselves,
 * with the time that is left. But from then on the thread's call number is restart_syscall, and
 * an image, which a kernel without that memory will run, needs the first one.
 */
#ifndef PHEAP_PROCESS_RESTART_BLOCK_H
#define PHEAP_PROCESS_RESTART_BLOCK_H

#include <stdint.h>
#include "core/process/tracee.h"

#define BEGUN_CALLS 4096 /* threads, power of two */

struct begun_calls { /* zeroed memory is a valid one */
    struct begun_call {
        int tid;
        uint32_t nr;
        uint64_t rip;
    } notes[BEGUN_CALLS];
};

/* For a thread that is stopped with -ERESTART_RESTARTBLOCK: notes its call, or puts the noted one
 * back into orig_rax (which does not matter to the kernel then). */
void restart_block_name(struct begun_calls *begun, struct tracee *tracee);

#endif
