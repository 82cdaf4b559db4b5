/*
 * thread_state.h - what a saved thread was doing at the cut.
 */
#ifndef PHEAP_RECOVERY_VIEW_THREAD_STATE_H
#define PHEAP_RECOVERY_VIEW_THREAD_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include "recovery/view/view.h"

/* Registers in the order of struct user_regs_struct. */
enum thread_register {
    REG_R15,
    REG_R14,
    REG_R13,
    REG_R12,
    REG_RBP,
    REG_RBX,
    REG_R11,
    REG_R10,
    REG_R9,
    REG_R8,
    REG_RAX,
    REG_RCX,
    REG_RDX,
    REG_RSI,
    REG_RDI,
    REG_ORIG_RAX,
    REG_RIP,
    REG_CS,
    REG_EFLAGS,
    REG_RSP,
    REG_SS,
    REG_FS_BASE,
    REG_GS_BASE,
    REG_DS,
    REG_ES,
    REG_FS,
    REG_GS,
};

extern const char *const thread_register_names[RECORD_REGISTERS];

enum thread_activity {
    THREAD_RUNS,       /* its own code */
    THREAD_IN_CALL,    /* stood in a system call, which a restore issues again */
    THREAD_AFTER_CALL, /* a system call has just returned: it may have waited in it */
};

struct thread_state {
    enum thread_activity activity;
    uint64_t call; /* IN_CALL: number of the system call */
    /* The program's own: those that it has when a call that the agent goes on with on its behalf
     * has returned (core/process/continuation.h). */
    uint64_t registers[RECORD_REGISTERS];
};

void thread_state_read(struct view *view, const struct image_thread *thread,
                       struct thread_state *out);

/* NULL: this pheap does not know it. */
const char *syscall_name(uint64_t number);

#endif
