/*
 * companion.h - a process that shares the program's address space and nothing else (DESIGN.md 6):
 * the program stays single-threaded, wait() does not see it, its signals and limits are its own.
 */
#ifndef PHEAP_AGENT_COMPANION_H
#define PHEAP_AGENT_COMPANION_H

#include <stdint.h>

/*
 * Its pid, or -errno. All its signals are blocked. It runs entry(argument) on the stack that ends
 * at stack_top and ends with what that returns. tls: its thread pointer; 0: the caller's, whose
 * thread must live as long.
 */
long companion_clone(uintptr_t stack_top, uintptr_t tls, int (*entry)(void *), void *argument);

#endif
