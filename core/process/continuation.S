/*
 * continuation.S - the one system call instruction that interrupted calls go on from, see
 * continuation.h. A thread comes here by way of the kernel only: rsp is its struct continuation, rip
 * was set to continuation_return, and the kernel stepped back by the two bytes of `syscall`.
 *
 * rcx and r11 are free, as after any system call; every other register leaves as it came.
 * The unwinder sees the program's own frame through this one (a thread may be cancelled here):
 * the return address and rsp are found in the struct.
 */
    .text
    .globl continuation_return
    .hidden continuation_return
    .globl continuation_next
    .hidden continuation_next
    .type continuation_issue, @function
    .p2align 4
continuation_issue:
    .cfi_startproc
    .cfi_signal_frame
    .cfi_def_cfa %rsp, 0
    .cfi_offset %rip, 0
    .cfi_offset %rsp, 8
    nop
.Lissue:
    syscall
continuation_return:
    cld
    movq %rsp, %rdi
    movq %rax, %rsi
    call continuation_next
    testl %eax, %eax
    jz .Ldone
    movq 72(%rsp), %rax
    movq 80(%rsp), %rdi
    movq 88(%rsp), %rsi
    movq 96(%rsp), %rdx
    movq 104(%rsp), %r10
    movq 112(%rsp), %r8
    movq 120(%rsp), %r9
    jmp .Lissue
.Ldone:
    movq 128(%rsp), %rax
    movq 24(%rsp), %rdi
    movq 32(%rsp), %rsi
    movq 40(%rsp), %rdx
    movq 48(%rsp), %r10
    movq 56(%rsp), %r8
    movq 64(%rsp), %r9
    pushq 16(%rsp)
    .cfi_adjust_cfa_offset 8
    popfq
    .cfi_adjust_cfa_offset -8
    movq 0(%rsp), %rcx
    movq 8(%rsp), %rsp
    .cfi_register %rip, %rcx
    .cfi_same_value %rsp
    jmp *%rcx
    .cfi_endproc
    .size continuation_issue, . - continuation_issue
    .section .note.GNU-stack, "", @progbits
