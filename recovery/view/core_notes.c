/*
 * core_notes.c - see core_notes.h. Layouts are those of <sys/procfs.h> and of the kernel's
 * fs/binfmt_elf.c.
 *
 *     note     {name bytes, data bytes, type}, name and data each padded to a multiple of 4
 *     NT_FILE  {count, 4096}, count times {start, end, offset in pages}, then the names
 */
#include "recovery/view/core_notes.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/procfs.h>
#include "recovery/view/thread_state.h"

#define LEGACY_XSTATE_BYTES 512u /* the FXSAVE area: NT_FPREGSET */

/* Room for a note, zeroed; NULL: too small, which the estimate excludes. */
static void *add_note(struct core_notes *notes, const char *name, uint32_t type, size_t bytes)
{
    size_t name_bytes = strlen(name) + 1, name_room = (name_bytes + 3) & ~(size_t)3;
    const Elf64_Nhdr header = {(uint32_t)name_bytes, (uint32_t)bytes, type};
    size_t room = sizeof header + name_room + ((bytes + 3) & ~(size_t)3);
    uint8_t *at = notes->data + notes->used;

    if (room > notes->size - notes->used)
        return NULL;
    memcpy(at, &header, sizeof header);
    memcpy(at + sizeof header, name, name_bytes);
    notes->used += room;
    return at + sizeof header + name_room;
}

static bool copy_note(struct core_notes *notes, const char *name, uint32_t type, const void *data,
                      size_t bytes)
{
    void *at = add_note(notes, name, type, bytes);

    if (at)
        memcpy(at, data, bytes);
    return at != NULL;
}

_Static_assert(sizeof(elf_gregset_t) == sizeof(uint64_t[RECORD_REGISTERS]),
               "both are struct user_regs_struct");

static bool add_status(struct view *view, struct core_notes *notes,
                       const struct image_thread *thread)
{
    struct elf_prstatus status = {.pr_pid = thread->record->tid, .pr_fpvalid = 1};
    struct thread_state state;

    thread_state_read(view, thread, &state);
    status.pr_sighold = thread->record->signal_mask;
    memcpy(&status.pr_reg, state.registers, sizeof status.pr_reg);
    return copy_note(notes, "CORE", NT_PRSTATUS, &status, sizeof status);
}

static bool add_floating_point(struct core_notes *notes, const struct image_thread *thread)
{
    uint32_t bytes = thread->record->xstate_bytes;

    if (bytes < LEGACY_XSTATE_BYTES)
        return true;
    return copy_note(notes, "CORE", NT_FPREGSET, thread->xstate, LEGACY_XSTATE_BYTES) &&
           copy_note(notes, "LINUX", NT_X86_XSTATE, thread->xstate, bytes);
}

static bool add_process(struct view *view, struct core_notes *notes)
{
    const struct process_image *process = &view->process;
    struct elf_prpsinfo info = {.pr_sname = 'S', .pr_pid = process->process->pid};
    uint64_t start = process->layout->arg_start, bytes = process->layout->arg_end - start;

    info.pr_uid = process->process->uid;
    info.pr_gid = process->process->gid;
    memcpy(info.pr_fname, process->threads[0].record->name, sizeof info.pr_fname - 1);
    if (bytes > sizeof info.pr_psargs - 1)
        bytes = sizeof info.pr_psargs - 1;
    if (view_read(view, start, info.pr_psargs, bytes, NULL) < 0)
        memset(info.pr_psargs, 0, sizeof info.pr_psargs);
    for (size_t i = 0; i + 1 < bytes; i++)
        if (info.pr_psargs[i] == 0)
            info.pr_psargs[i] = ' ';
    return copy_note(notes, "CORE", NT_PRPSINFO, &info, sizeof info) &&
           copy_note(notes, "CORE", NT_AUXV, process->auxv, process->auxv_bytes);
}

static size_t names_bytes(const struct process_image *process, uint64_t *count)
{
    size_t bytes = 0;

    *count = 0;
    for (uint32_t i = 0; i < process->mapping_count; i++) {
        const struct image_file *file = process_image_file(process, process->mappings[i].record);

        if (file != NULL) {
            bytes += strlen(file->path) + 1;
            (*count)++;
        }
    }
    return bytes;
}

/* A note's data is aligned to 4 bytes alone. */
static uint8_t *put_words(uint8_t *at, const uint64_t *words, size_t count)
{
    memcpy(at, words, count * sizeof *words);
    return at + count * sizeof *words;
}

static bool add_files(struct core_notes *notes, const struct process_image *process)
{
    uint64_t count;
    size_t names = names_bytes(process, &count);
    uint8_t *at = add_note(notes, "CORE", NT_FILE, (2 + 3 * count) * sizeof count + names);
    char *name = (char *)at + (2 + 3 * count) * sizeof count;

    if (!at)
        return false;
    at = put_words(at, (const uint64_t[]){count, PAGE_BYTES}, 2);
    for (uint32_t i = 0; i < process->mapping_count; i++) {
        const struct record_mapping *record = process->mappings[i].record;
        const struct image_file *file = process_image_file(process, record);
        size_t bytes;

        if (file == NULL)
            continue;
        at = put_words(
            at, (const uint64_t[]){record->start, record->end, record->file_offset / PAGE_BYTES},
            3);
        bytes = strlen(file->path) + 1;
        memcpy(name, file->path, bytes);
        name += bytes;
    }
    return true;
}

/* An upper bound. */
static size_t estimate(const struct process_image *process)
{
    uint64_t count;
    size_t bytes = 8192 + process->auxv_bytes + names_bytes(process, &count);

    for (uint32_t i = 0; i < process->thread_count; i++)
        bytes += sizeof(struct elf_prstatus) + process->threads[i].record->xstate_bytes +
                 LEGACY_XSTATE_BYTES + 256;
    return bytes + count * 3 * sizeof(uint64_t);
}

int core_notes_make(struct view *view, struct core_notes *notes, struct problem *why)
{
    const struct process_image *process = &view->process;
    bool fits;

    notes->used = 0;
    notes->size = estimate(process);
    notes->data = arena_alloc(&view->arena, notes->size, 64);
    if (!notes->data)
        return problem_set(why, -ENOMEM, "no memory for the notes of a core file");
    fits = add_status(view, notes, &process->threads[0]) && add_process(view, notes) &&
           add_files(notes, process) && add_floating_point(notes, &process->threads[0]);
    for (uint32_t i = 1; fits && i < process->thread_count; i++)
        fits = add_status(view, notes, &process->threads[i]) &&
               add_floating_point(notes, &process->threads[i]);
    return fits ? 0 : problem_set(why, STATUS_LIMIT, "the notes of a core file do not fit");
}
