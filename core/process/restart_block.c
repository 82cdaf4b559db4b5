/*
 * restart_block.c - see restart_block.h. A note is keyed by thread and checked by rip; when it is
 * not there (the first stop was another's), the code in front of the call is looked at. What
 * cannot be told stays restart_syscall.
 */
#include "core/process/restart_block.h"

#include <stdbool.h>
#include <string.h>

#include "core/base/sys.h"

#define NOTE_PROBES 8

static bool read_code(uint64_t address, void *out, size_t bytes)
{
    struct iovec here = {out, bytes}, there = {(void *)address, bytes};

    return sys_call(SYS_process_vm_readv, sys_getpid(), &here, 1, &there, 1, 0) == (long)bytes;
}

static struct begun_call *note_of(struct begun_calls *begun, int tid)
{
    struct begun_call *free_note = NULL;
    uint32_t first = (uint32_t)tid * 2654435761u;

    for (uint32_t i = 0; i < NOTE_PROBES; i++) {
        struct begun_call *note = &begun->notes[(first + i) % BEGUN_CALLS];

        if (note->tid == tid)
            return note;
        if (!free_note && note->tid == 0)
            free_note = note;
    }
    return free_note ? free_note : &begun->notes[first % BEGUN_CALLS];
}

/* A thread interrupted twice shows restart_syscall as its number. If the first time was not ours
 * (a stop signal), the code in front of it may tell: mov $nr, %eax. */
static uint32_t read_number(uint64_t rip)
{
    static const uint32_t candidates[] = {SYS_nanosleep, SYS_clock_nanosleep, SYS_poll, SYS_futex};
    uint8_t code[32];
    uint32_t nr;

    if (!read_code(rip - sizeof code, code, sizeof code))
        return SYS_restart_syscall;
    for (int at = (int)sizeof code - 7; at >= 0; at--) {
        memcpy(&nr, code + at + 1, sizeof nr);
        for (size_t i = 0; code[at] == 0xb8 && i < sizeof candidates / sizeof candidates[0]; i++)
            if (candidates[i] == nr)
                return nr;
    }
    return SYS_restart_syscall;
}

void restart_block_name(struct begun_calls *begun, struct tracee *tracee)
{
    struct begun_call *note = note_of(begun, tracee->tid);
    struct user_regs_struct *regs = &tracee->regs;
    uint32_t nr;

    if (regs->orig_rax != SYS_restart_syscall) {
        *note = (struct begun_call){tracee->tid, (uint32_t)regs->orig_rax, regs->rip};
        return;
    }
    nr = note->tid == tracee->tid && note->rip == regs->rip ? note->nr : read_number(regs->rip);
    if (nr != SYS_restart_syscall) {
        regs->orig_rax = nr;
        tracee->regs_changed = true;
    }
}
