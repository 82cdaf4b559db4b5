/*
 * thread_state.c - see thread_state.h.
 *
 * A saved thread that stood in a system call is at the `syscall` instruction with the number in
 * rax; or, when what is left of the call is issued by a stub of libpheap's, rsp points to a struct
 * continuation that has the program's registers.
 */
#include "recovery/view/thread_state.h"

#include <string.h>
#include "core/process/continuation.h"

const char *const thread_register_names[RECORD_REGISTERS] = {
    "r15",    "r14", "r13", "r12",     "rbp",     "rbx", "r11",      "r10", "r9",
    "r8",     "rax", "rcx", "rdx",     "rsi",     "rdi", "orig_rax", "rip", "cs",
    "eflags", "rsp", "ss",  "fs_base", "gs_base", "ds",  "es",       "fs",  "gs"};

static bool is_syscall_at(struct view *view, uint64_t address)
{
    uint8_t code[2] = {0};

    return view_read(view, address, code, sizeof code, NULL) == 0 && code[0] == 0x0f &&
           code[1] == 0x05;
}

static bool take_continuation(struct view *view, struct thread_state *state)
{
    uint64_t *registers = state->registers;
    struct continuation continuation;

    if (registers[REG_RSP] % _Alignof(struct continuation) != 0 ||
        view_read(view, registers[REG_RSP], &continuation, sizeof continuation, NULL) < 0 ||
        continuation.magic != CONTINUATION_MAGIC || continuation.self != registers[REG_RSP])
        return false;
    state->activity = THREAD_IN_CALL;
    state->call = continuation.nr;
    registers[REG_RIP] = continuation.rip;
    registers[REG_RSP] = continuation.rsp;
    registers[REG_EFLAGS] = continuation.eflags;
    registers[REG_RDI] = continuation.rdi;
    registers[REG_RSI] = continuation.rsi;
    registers[REG_RDX] = continuation.rdx;
    registers[REG_R10] = continuation.r10;
    registers[REG_R8] = continuation.r8;
    registers[REG_R9] = continuation.r9;
    return true;
}

void thread_state_read(struct view *view, const struct image_thread *thread,
                       struct thread_state *out)
{
    uint64_t rip = thread->record->registers[REG_RIP];

    memset(out, 0, sizeof *out);
    memcpy(out->registers, thread->record->registers, sizeof out->registers);
    if (take_continuation(view, out))
        return;
    if (is_syscall_at(view, rip)) {
        out->activity = THREAD_IN_CALL;
        out->call = out->registers[REG_RAX];
    } else if (rip >= 2 && is_syscall_at(view, rip - 2)) {
        out->activity = THREAD_AFTER_CALL;
    }
}
