/*
 * batch_blob.c - the executor of batches: code that is copied into an emptied process.
 *
 * Always true: everything here lies in the one section batch_blob, calls nothing, refers to no
 * data and needs no relocation, so the bytes between its start and its stop run at any
 * address. Compiled with -mgeneral-regs-only -fno-builtin.
 */
#include "core/process/batch_format.h"

#define IN_BLOB __attribute__((section("batch_blob"), noinline))

/* The trap that ends a tracee_call, and a bare system call instruction. */
__asm__(".pushsection batch_blob,\"ax\",@progbits\n"
        ".globl batch_blob_trap\n.hidden batch_blob_trap\n"
        "batch_blob_trap: int3\n"
        ".globl batch_blob_syscall\n.hidden batch_blob_syscall\n"
        "batch_blob_syscall: syscall\n"
        "int3\n"
        ".popsection");

static inline __attribute__((always_inline)) long blob_call(long number, const uint64_t args[6])
{
    register uint64_t r10 __asm__("r10") = args[3];
    register uint64_t r8 __asm__("r8") = args[4];
    register uint64_t r9 __asm__("r9") = args[5];
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(args[0]), "S"(args[1]), "d"(args[2]), "r"(r10), "r"(r8),
                       "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

IN_BLOB long batch_blob_run(struct batch_list *list)
{
    struct batch_call *calls = (struct batch_call *)(uintptr_t)list->calls;
    uint64_t done;

    for (done = 0; done < list->count; done++) {
        struct batch_call *call = &calls[done];
        uint64_t args[6];

        for (int i = 0; i < 6; i++) {
            uint32_t how = call->references >> (2 * i) & 3;

            args[i] = call->args[i];
            if (how == BATCH_RESULT)
                args[i] = (uint64_t)calls[args[i]].result;
            else if (how == BATCH_INT_AT)
                args[i] = (uint64_t)(int64_t) * (volatile int32_t *)(uintptr_t)args[i];
        }
        call->result = blob_call(call->number, args);
        if (call->expectation == BATCH_NOT_NEGATIVE && call->result < 0)
            break;
        if (call->expectation == BATCH_FORKS && call->result == 0)
            continue; /* we are the new process */
        if (call->expectation >= BATCH_EQUALS && call->result != call->expected)
            break;
        done += call->skipped;
    }
    return (long)done;
}
