/*
 * valgrind.h - is this an ordinary processor? Valgrind's client requests: the same instruction
 * sequence and numbers as in its own headers (valgrind.h, memcheck.h), which say that any program
 * may carry them. Outside Valgrind the sequence does nothing and gives 0.
 */
#ifndef PHEAP_BASE_VALGRIND_H
#define PHEAP_BASE_VALGRIND_H

#include <stdbool.h>
#include <stdint.h>

#define VALGRIND_RUNNING 0x1001u

static inline uint64_t valgrind_ask(uint32_t request, uint64_t first, uint64_t second,
                                    uint64_t third, uint64_t fourth)
{
    const volatile uint64_t arguments[6] = {request, first, second, third, fourth, 0};
    uint64_t answer = 0;

    __asm__ volatile("rolq $3, %%rdi; rolq $13, %%rdi; rolq $61, %%rdi; rolq $51, %%rdi\n\t"
                     "xchgq %%rbx, %%rbx"
                     : "+d"(answer)
                     : "a"(arguments)
                     : "cc", "memory");
    return answer;
}

/* Any of its tools. What it does not know of the kernel (userfaultfd, a clone that shares memory
 * and is no thread) it refuses, reports, or ends the program for. */
static inline bool valgrind_is_running(void)
{
    return valgrind_ask(VALGRIND_RUNNING, 0, 0, 0, 0) != 0;
}

#endif
