/*
 * unwind.c - see unwind.h.
 *
 * Always true: libdw sees memory through view_read() alone, so it cannot be led out of the image;
 * and it opens only files that are as the checkpoint saw them.
 *
 * libdw is loaded and not linked: with the libraries that it needs it would add half a millisecond
 * to the start of every pheap run and pheap restore, and they would need it installed.
 */
#include "recovery/view/unwind.h"

#include <dlfcn.h>
#include <elfutils/libdwfl.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include "recovery/view/thread_state.h"

struct unwound_thread {
    struct view *view;
    const struct image_thread *saved;
};

struct unwinder {
    struct view *view;
    Dwfl *dwfl;
    bool is_attached;
    struct unwound_thread *threads;
};

struct walk {
    struct unwinder *unwinder;
    unwind_visit *visit;
    void *context;
    uint32_t frames;
};

/* --- libdw, loaded by the first unwind_open() --- */

#define LIBDW_NAME "libdw.so.1"
#define LIBDW_FUNCTIONS(X)                                                                         \
    X(addrmodule)                                                                                  \
    X(attach_state)                                                                                \
    X(begin)                                                                                       \
    X(end)                                                                                         \
    X(frame_pc)                                                                                    \
    X(getthread_frames)                                                                            \
    X(lineinfo)                                                                                    \
    X(module_addrinfo)                                                                             \
    X(module_getsrc)                                                                               \
    X(module_info)                                                                                 \
    X(report_begin)                                                                                \
    X(report_elf)                                                                                  \
    X(report_end)                                                                                  \
    X(thread_state_registers)                                                                      \
    X(build_id_find_elf)                                                                           \
    X(standard_find_debuginfo)

#define POINTER_TO(name) __typeof__(dwfl_##name) *name;
static struct {
    LIBDW_FUNCTIONS(POINTER_TO)
} libdw;

#define PLACE_OF(name) {"dwfl_" #name, (void **)&libdw.name},
static const struct {
    const char *name;
    void **place;
} libdw_places[] = {LIBDW_FUNCTIONS(PLACE_OF)};

static char *debug_path = NULL; /* libdw's own default */
static Dwfl_Callbacks file_callbacks = {.debuginfo_path = &debug_path};

static bool load_libdw(struct problem *why)
{
    void *library = dlopen(LIBDW_NAME, RTLD_NOW | RTLD_LOCAL);
    bool is_whole = library != NULL;

    for (size_t i = 0; is_whole && i < sizeof libdw_places / sizeof libdw_places[0]; i++) {
        *libdw_places[i].place = dlsym(library, libdw_places[i].name);
        is_whole = *libdw_places[i].place != NULL;
    }
    if (!is_whole)
        problem_set(why, STATUS_UNSUPPORTED,
                    "no backtraces without " LIBDW_NAME
                    " (Debian: libdw1), which cannot be loaded");
    file_callbacks.find_elf = libdw.build_id_find_elf;
    file_callbacks.find_debuginfo = libdw.standard_find_debuginfo;
    return is_whole;
}

/* --- modules --- */

static bool is_elf(const struct image_file *file)
{
    char magic[4] = {0};
    int fd = sys_open(file->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
    bool found = fd >= 0 && sys_pread(fd, magic, 4, 0) == 4 && memcmp(magic, "\177ELF", 4) == 0;

    if (fd >= 0)
        sys_close(fd);
    return found;
}

/* A file is where its first bytes are mapped. Files that cannot be used are left out. */
static void report_files(struct unwinder *unwinder)
{
    const struct process_image *process = &unwinder->view->process;
    uint32_t last = RECORD_ID_NONE;

    for (uint32_t i = 0; i < process->mapping_count; i++) {
        const struct record_mapping *mapping = process->mappings[i].record;
        const struct image_file *file = process_image_file(process, mapping);

        if (file == NULL || mapping->file_offset != 0 || mapping->file == last)
            continue;
        last = mapping->file;
        if (view_may_read_file(file) && is_elf(file))
            libdw.report_elf(unwinder->dwfl, file->path, file->path, -1, mapping->start, false);
    }
}

/* libdw wants a file: the vdso, read from our own memory, goes into one that has no name. */
static void report_vdso(struct unwinder *unwinder)
{
    const struct process_image *process = &unwinder->view->process;
    uint8_t page[PAGE_BYTES];

    for (uint32_t i = 0; i < process->kernel_mapping_count; i++) {
        const struct record_kernel_mapping *vdso = process->kernel_mappings[i].record;
        int fd = vdso->is_text ? (int)sys_call(SYS_memfd_create, "vdso", MFD_CLOEXEC) : -1;
        uint64_t at = vdso->start;

        while (fd >= 0 && at < vdso->end &&
               view_read(unwinder->view, at, page, PAGE_BYTES, NULL) == 0 &&
               sys_write(fd, page, PAGE_BYTES) == PAGE_BYTES)
            at += PAGE_BYTES;
        if (fd >= 0 && (at < vdso->end || !libdw.report_elf(unwinder->dwfl, "[vdso]", "[vdso]", fd,
                                                            vdso->start, false)))
            sys_close(fd);
    }
}

/* --- what libdw asks for --- */

static pid_t next_thread(Dwfl *dwfl, void *argument, void **thread_argument)
{
    struct unwinder *unwinder = argument;
    struct unwound_thread *last = *thread_argument;
    struct unwound_thread *next = last ? last + 1 : unwinder->threads;

    (void)dwfl;
    if (next == unwinder->threads + unwinder->view->process.thread_count)
        return 0;
    *thread_argument = next;
    return next->saved->record->tid;
}

static bool get_thread(Dwfl *dwfl, pid_t tid, void *argument, void **thread_argument)
{
    struct unwinder *unwinder = argument;

    (void)dwfl;
    for (uint32_t i = 0; i < unwinder->view->process.thread_count; i++)
        if (unwinder->threads[i].saved->record->tid == tid) {
            *thread_argument = &unwinder->threads[i];
            return true;
        }
    return false;
}

static bool memory_read(Dwfl *dwfl, Dwarf_Addr address, Dwarf_Word *result, void *argument)
{
    (void)dwfl;
    return view_read(((struct unwinder *)argument)->view, address, result, sizeof *result, NULL) ==
           0;
}

static bool set_registers(Dwfl_Thread *thread, void *thread_argument)
{
    /* DWARF's order. */
    static const uint8_t order[] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI,
                                    REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                    REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};
    const struct unwound_thread *wanted = thread_argument;
    struct thread_state state;
    Dwarf_Word words[sizeof order];

    thread_state_read(wanted->view, wanted->saved, &state);
    for (size_t i = 0; i < sizeof order; i++)
        words[i] = state.registers[order[i]];
    return libdw.thread_state_registers(thread, 0, sizeof order, words);
}

static const Dwfl_Thread_Callbacks thread_callbacks = {
    .next_thread = next_thread,
    .get_thread = get_thread,
    .memory_read = memory_read,
    .set_initial_registers = set_registers,
};

/* --- opening and walking --- */

static int make_threads(struct unwinder *unwinder)
{
    const struct process_image *process = &unwinder->view->process;

    unwinder->threads = arena_alloc(&unwinder->view->arena,
                                    (process->thread_count + 1) * sizeof *unwinder->threads, 8);
    for (uint32_t i = 0; unwinder->threads && i < process->thread_count; i++)
        unwinder->threads[i] = (struct unwound_thread){unwinder->view, &process->threads[i]};
    return unwinder->threads ? 0 : -ENOMEM;
}

/* Without a single file that is as it was there is nothing to unwind with. */
static void begin(struct unwinder *unwinder)
{
    unwinder->dwfl = libdw.begin(&file_callbacks);
    if (!unwinder->dwfl)
        return;
    libdw.report_begin(unwinder->dwfl);
    report_files(unwinder);
    report_vdso(unwinder);
    libdw.report_end(unwinder->dwfl, NULL, NULL);
}

static int make_unwinder(struct unwinder **out, struct view *view, struct problem *why)
{
    *out = arena_alloc(&view->arena, sizeof **out, 8);
    if (!*out)
        return problem_set(why, -ENOMEM, "out of memory");
    (*out)->view = view;
    if (make_threads(*out) < 0)
        return problem_set(why, -ENOMEM, "out of memory");
    return 0;
}

int unwind_open_names(struct unwinder **out, struct view *view, struct problem *why)
{
    int status = make_unwinder(out, view, why);

    if (status == 0 && load_libdw(why))
        begin(*out);
    return status;
}

int unwind_open(struct unwinder **out, struct view *view, struct problem *why)
{
    int status = view_needs_process(view, why);

    if (status == 0)
        status = unwind_open_names(out, view, why);
    if (status == 0 && (*out)->dwfl)
        (*out)->is_attached = libdw.attach_state((*out)->dwfl, NULL, view->process.process->pid,
                                                 &thread_callbacks, *out);
    return status;
}

void unwind_close(struct unwinder *unwinder)
{
    if (unwinder->dwfl)
        libdw.end(unwinder->dwfl);
}

/* A return address belongs to the call before it. */
void unwind_name(const struct unwinder *unwinder, uint64_t pc, bool is_return,
                 struct unwind_frame *frame)
{
    uint64_t address = pc - is_return;
    Dwfl_Module *module = unwinder->dwfl ? libdw.addrmodule(unwinder->dwfl, address) : NULL;
    Dwarf_Addr start = 0;
    GElf_Off offset = 0;
    GElf_Sym symbol;
    Dwfl_Line *line;

    *frame = (struct unwind_frame){.pc = pc};
    if (!module)
        return;
    frame->module = libdw.module_info(module, NULL, &start, NULL, NULL, NULL, NULL, NULL);
    frame->function = libdw.module_addrinfo(module, address, &offset, &symbol, NULL, NULL, NULL);
    frame->offset = frame->function ? offset + is_return : pc - start;
    line = libdw.module_getsrc(module, address);
    if (line)
        frame->file = libdw.lineinfo(line, NULL, &frame->line, NULL, NULL, NULL);
}

static int on_frame(Dwfl_Frame *state, void *context)
{
    struct walk *walk = context;
    struct unwind_frame frame;
    bool is_activation = true;
    Dwarf_Addr pc;

    if (walk->frames == UNWIND_FRAMES_MAX || !libdw.frame_pc(state, &pc, &is_activation))
        return DWARF_CB_ABORT;
    unwind_name(walk->unwinder, pc, !is_activation, &frame);
    walk->visit(walk->context, &frame);
    walk->frames++;
    return DWARF_CB_OK;
}

void unwind_thread(struct unwinder *unwinder, uint32_t thread, unwind_visit *visit, void *context,
                   bool *is_whole)
{
    const struct image_thread *saved = unwinder->threads[thread].saved;
    struct walk walk = {unwinder, visit, context, 0};

    *is_whole = unwinder->is_attached &&
                libdw.getthread_frames(unwinder->dwfl, saved->record->tid, on_frame, &walk) == 0;
    if (walk.frames == 0) {
        struct thread_state state;
        struct unwind_frame frame;

        thread_state_read(unwinder->view, saved, &state);
        unwind_name(unwinder, state.registers[REG_RIP], false, &frame);
        visit(context, &frame);
    }
}
