/*
 * inspect_threads.c - the view threads: what each was doing, its registers, its backtrace.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "recovery/view/thread_state.h"
#include "recovery/view/unwind.h"
#include "tools/command.h"
#include "tools/inspect.h"
#include "tools/table.h"

static const char *show_hex(char buffer[32], uint64_t value)
{
    snprintf(buffer, 32, "0x%" PRIx64, value);
    return buffer;
}

static json_t *text_or_null(const char *text)
{
    return text ? table_text(text, strlen(text)) : json_null();
}

static void add_frame(void *context, const struct unwind_frame *frame)
{
    char pc[32];

    json_array_append_new(context,
                          json_pack("{s:s, s:o, s:o, s:I, s:o, s:o}", "pc", show_hex(pc, frame->pc),
                                    "function", text_or_null(frame->function), "module",
                                    text_or_null(frame->module), "offset",
                                    (json_int_t)frame->offset, "file", text_or_null(frame->file),
                                    "line", frame->file ? json_integer(frame->line) : json_null()));
}

/* "in nanosleep", "user code". buffer: 64 bytes; returned. */
static const char *show_state(char buffer[64], const struct thread_state *state)
{
    const char *name = state->activity == THREAD_IN_CALL ? syscall_name(state->call) : NULL;

    if (name)
        snprintf(buffer, 64, "in system call %s", name);
    else if (state->activity == THREAD_IN_CALL)
        snprintf(buffer, 64, "in system call %" PRIu64, state->call);
    else if (state->activity == THREAD_AFTER_CALL)
        snprintf(buffer, 64, "a system call has returned");
    else
        snprintf(buffer, 64, "user code");
    return buffer;
}

static json_t *registers_json(const struct thread_state *state)
{
    json_t *registers = json_object();
    char value[32];

    for (int i = 0; i < RECORD_REGISTERS; i++)
        json_object_set_new(registers, thread_register_names[i],
                            json_string(show_hex(value, state->registers[i])));
    return registers;
}

static json_t *thread_json(struct view *view, struct unwinder *unwinder, uint32_t index)
{
    const struct image_thread *thread = &view->process.threads[index];
    const struct record_thread *record = thread->record;
    json_t *frames = json_array(), *call = json_null();
    struct thread_state state;
    char text[64];
    bool is_whole;

    thread_state_read(view, thread, &state);
    if (state.activity == THREAD_IN_CALL)
        call = text_or_null(syscall_name(state.call));
    unwind_thread(unwinder, index, add_frame, frames, &is_whole);
    return json_pack("{s:i, s:o, s:s, s:o, s:i, s:o, s:o, s:b}", "tid", (int)record->tid, "name",
                     table_text(record->name, strlen(record->name)), "state",
                     show_state(text, &state), "system_call", call, "nice", (int)record->nice,
                     "registers", registers_json(&state), "frames", frames, "backtrace_is_whole",
                     is_whole);
}

/* --- for a person --- */

static const char *member(const json_t *json, const char *key)
{
    return json_string_value(json_object_get(json, key));
}

static void print_frame(size_t index, const json_t *frame)
{
    const char *function = member(frame, "function"), *module = member(frame, "module");
    const char *file = member(frame, "file");
    json_int_t offset = json_integer_value(json_object_get(frame, "offset"));

    printf("  %3zu  %-14s  ", index, member(frame, "pc"));
    if (function)
        printf("%.*s+0x%" PRIx64, (int)strcspn(function, "@"), function, (uint64_t)offset);
    else
        printf("?"); /* a symbol's version, behind the @, is in the JSON */
    if (file)
        printf("  %s:%d", file, (int)json_integer_value(json_object_get(frame, "line")));
    else if (module && function)
        printf("  %s", module);
    else if (module)
        printf("  %s+0x%" PRIx64, module, (uint64_t)offset);
    putchar('\n');
}

static void print_registers(const json_t *registers)
{
    static const char *const shown[] = {"rax", "rbx", "rcx", "rdx",    "rsi",     "rdi",    "rbp",
                                        "rsp", "r8",  "r9",  "r10",    "r11",     "r12",    "r13",
                                        "r14", "r15", "rip", "eflags", "fs_base", "gs_base"};

    for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++) {
        bool is_last = i % 4 == 3;

        printf("%7s %-*s%s", shown[i], is_last ? 0 : 18, member(registers, shown[i]),
               is_last ? "\n" : " ");
    }
}

static void print_thread(const struct inspection *inspection, const json_t *thread)
{
    const json_t *frames = json_object_get(thread, "frames"), *frame;
    char heading[160];
    size_t i;

    snprintf(heading, sizeof heading, "thread %d  %s  %s",
             (int)json_integer_value(json_object_get(thread, "tid")), member(thread, "name"),
             member(thread, "state"));
    inspect_heading(inspection, heading);
    json_array_foreach(frames, i, frame)
    {
        print_frame(i, frame);
    }
    if (!json_is_true(json_object_get(thread, "backtrace_is_whole")))
        printf("       (the backtrace ends here: no unwind information, or a file has changed)\n");
    print_registers(json_object_get(thread, "registers"));
}

static int show(struct inspection *inspection, struct view *view, struct problem *why)
{
    struct unwinder *unwinder;
    json_t *threads, *thread;
    size_t i;
    int status = unwind_open(&unwinder, view, why);

    if (status < 0)
        return status;
    if (why->status == STATUS_UNSUPPORTED)
        report("inspect", EXIT_FINE, "%s", why->text);
    threads = json_array();
    for (uint32_t t = 0; t < view->process.thread_count; t++)
        json_array_append_new(threads, thread_json(view, unwinder, t));
    unwind_close(unwinder);
    if (inspection->json) {
        json_object_set_new(inspection->json, "threads", threads);
        return 0;
    }
    json_array_foreach(threads, i, thread)
    {
        print_thread(inspection, thread);
    }
    json_decref(threads);
    return 0;
}

int inspect_threads(struct inspection *inspection, struct problem *why)
{
    return inspect_with(inspection, show, why);
}
