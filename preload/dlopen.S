/*
 * dlopen.S - dlopen without RTLD_DEEPBIND, see deepbind.c.
 *
 * A jump and not a call: glibc looks at the return address to know the caller, whose search path
 * counts. Registers that hold arguments, rdi and rsi, reach the C library's function as they came
 * but for the flag.
 */
    .text
    .globl dlopen
    .type dlopen, @function
    .p2align 4
dlopen:
    .cfi_startproc
    movq deepbind_next_dlopen(%rip), %rax
    testq %rax, %rax
    jz .Lfind
.Lgo:
    andl deepbind_flags_kept(%rip), %esi
    jmp *%rax
.Lfind:
    pushq %rdi
    .cfi_adjust_cfa_offset 8
    pushq %rsi
    .cfi_adjust_cfa_offset 8
    subq $8, %rsp
    .cfi_adjust_cfa_offset 8
    call deepbind_find_dlopen
    addq $8, %rsp
    .cfi_adjust_cfa_offset -8
    popq %rsi
    .cfi_adjust_cfa_offset -8
    popq %rdi
    .cfi_adjust_cfa_offset -8
    jmp .Lgo
    .cfi_endproc
    .size dlopen, . - dlopen

    .section .note.GNU-stack, "", @progbits
