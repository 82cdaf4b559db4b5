/*
 * syscall_restart.h - no system call of the program sees a checkpoint.
 *
 * Most interrupted calls come out of a ptrace stop with rax = -ERESTART* and restart by
 * themselves. Some do not: epoll_wait, epoll_pwait, epoll_pwait2, rt_sigtimedwait, semop,
 * semtimedop, io_getevents, and reads and accepts on sockets with a timeout return -EINTR; blocking
 * transfers return a short count. The remedy is the kernel's own mechanism: rax = -ERESTARTNOHAND
 * with orig_rax kept makes it restart the call when no handler runs, and return -EINTR when one
 * does, decided after the stop, so no signal is lost in between.
 *
 * Where arguments must change (the time that is left, the bytes already moved), the thread is
 * moved onto a continuation: rip is set just behind the `syscall` instruction of
 * syscall_continuation (continuation.S), rsp below the red zone, where a struct continuation
 * remembers the original registers; the kernel steps back two bytes, issues the call with the new
 * arguments from there, and the code behind it adds the counts, puts every register back and
 * jumps to where the program was. A later stop finds the thread in the continuation (rip tells)
 * and updates it in place.
 *
 * Full argument: docs/internals.md, "System calls and the stop".
 */
#ifndef PHEAP_PROCESS_SYSCALL_RESTART_H
#define PHEAP_PROCESS_SYSCALL_RESTART_H

#include <stdint.h>
#include "core/base/status.h"
#include "core/process/tracee.h"

/* What an agent must remember from stop to stop: which call a thread had begun that the kernel now
 * knows as restart_syscall only, and its own epoch (deadlines in continuations are of one boot). */
struct restart_table;
struct arena;

MUST_CHECK int restart_table_create(struct restart_table **out, struct arena *arena);

/*
 * For a stopped thread (registers read) of the caller's own address space: changes tracee->regs
 * so that the interrupted call, if any, goes on as if nothing had happened. pid is for
 * /proc/PID/fd look-ups (is the descriptor blocking?).
 */
MUST_CHECK int syscall_restart_fix(struct restart_table *table, struct tracee *tracee, int pid,
                                   uint64_t now_ns);

/* For the saved image: what the registers must be in a new kernel, which knows nothing of the
 * interrupted call: -ERESTART* becomes "at the syscall instruction, with the number in rax", and
 * orig_rax = -1.
 */
void syscall_restart_for_image(struct user_regs_struct *regs);

/* For a thread that goes on in this kernel, and not by way of it: it issues the call again. */
void syscall_restart_by_itself(struct user_regs_struct *regs);

#endif
