/*
 * companion.c - see companion.h.
 */
#include "core/agent/companion.h"

#include <sched.h>
#include "core/base/sys.h"

/* clone() without libc: the child calls entry(argument) on the stack that ends at stack_top, and
 * ends with what it returns. */
static long clone_process(unsigned long flags, uintptr_t stack_top, uintptr_t tls,
                          int (*entry)(void *), void *argument)
{
    register long r10 __asm__("r10") = 0;
    register uintptr_t r8 __asm__("r8") = tls;
    register int (*r12)(void *) __asm__("r12") = entry;
    register void *r13 __asm__("r13") = argument;
    long result;

    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "mov %%r13, %%rdi\n\t"
                     "call *%%r12\n\t"
                     "mov %%eax, %%edi\n\t"
                     "mov %[exit_group], %%eax\n\t"
                     "syscall\n\t"
                     "ud2\n"
                     "1:"
                     : "=a"(result)
                     : "a"((long)SYS_clone), "D"(flags), "S"(stack_top), "d"(0l), "r"(r10), "r"(r8),
                       "r"(r12), "r"(r13), [exit_group] "i"(SYS_exit_group)
                     : "rcx", "r11", "memory");
    return result;
}

/* All signals are blocked around the clone: the companion inherits that. */
long companion_clone(uintptr_t stack_top, uintptr_t tls, int (*entry)(void *), void *argument)
{
    const unsigned long flags = CLONE_VM | CLONE_UNTRACED | (tls ? CLONE_SETTLS : 0);
    const uint64_t all = ~0ull;
    uint64_t before = 0;
    long pid;

    (void)sys_call(SYS_rt_sigprocmask, 0 /* SIG_BLOCK */, &all, &before, sizeof all);
    pid = clone_process(flags, stack_top, tls, entry, argument);
    (void)sys_call(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, &before, 0, sizeof before);
    return pid;
}
