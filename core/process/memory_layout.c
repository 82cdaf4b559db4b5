/*
 * memory_layout.c - where the kernel believes code, data, brk, stack, arguments and the
 * auxiliary vector are (struct prctl_mm_map), and where the vdso and its data pages lie.
 *
 * Always true: a restore moves the new kernel's vdso to the old place if it is byte for byte the
 * same. If it is not, a generation that has the old one's text (--self-contained) gets that back,
 * as memory whose functions call the new one (vdso.h), and any other is refused.
 */
#include <errno.h>
#include <linux/prctl.h>
#include <string.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/process/capture_run.h"
#include "core/process/proc_text.h"
#include "core/process/rebuild.h"
#include "core/process/saved_files.h"
#include "core/process/vdso.h"

#define AUXV_BYTES_MAX   4096
#define STAT_FIELDS      52
#define REGISTER_RIP     16 /* in struct user_regs_struct */
#define KERNEL_PARTS_MAX 8
#define MREMAP_TO        (1 /* MREMAP_MAYMOVE */ | 2 /* MREMAP_FIXED */)

/* Field n of /proc/PID/stat as proc(5) counts them, from 4 on; the name in field 2 may hold
 * anything, so counting begins behind the last ')'. */
static int stat_fields(const char *text, uint64_t fields[STAT_FIELDS + 1])
{
    const char *at = text + strlen(text);
    int n;

    while (at > text && *at != ')')
        at--;
    if (*at != ')' || strlen(at) < 4)
        return STATUS_DAMAGED;
    at += 3; /* ") S" */
    for (n = 4; n <= STAT_FIELDS && *++at != 0; n++)
        fields[n] = text_number(&at, 10);
    return n > STAT_FIELDS ? 0 : STATUS_DAMAGED;
}

int capture_memory_layout(struct capture_run *run)
{
    int pid = run->capture->pid;
    uint64_t field[STAT_FIELDS + 1] = {0};
    ssize_t bytes = proc_read(pid, "stat", run->text, CAPTURE_TEXT_BYTES);
    int status = bytes < 0 ? (int)bytes : stat_fields(run->text, field);
    struct record_memory_layout layout;

    if (status != 0)
        return problem_set(run->why, status, "/proc/%d/stat: %s", pid, status_text(status));
    layout = (struct record_memory_layout){
        .start_code = field[26],
        .end_code = field[27],
        .start_data = field[45],
        .end_data = field[46],
        .start_brk = field[47],
        .brk = run->report->brk,
        .start_stack = field[28],
        .arg_start = field[48],
        .arg_end = field[49],
        .env_start = field[50],
        .env_end = field[51],
    };
    if (layout.start_stack == 0)
        return problem_set(run->why, STATUS_NOT_PERMITTED,
                           "/proc/%d/stat hides the memory layout; the program must not change its "
                           "credentials",
                           pid);
    bytes = proc_read(pid, "auxv", run->text, AUXV_BYTES_MAX);
    if (bytes < 0)
        return problem_set(run->why, (int)bytes, "/proc/%d/auxv: %s", pid, status_text((int)bytes));
    record_put(run->out, RECORD_MEMORY_LAYOUT, &layout, sizeof layout, run->text, (size_t)bytes);
    return 0;
}

void rebuild_memory_layout(struct rebuild *rebuild)
{
    const struct record_memory_layout *saved = rebuild->image->layout;
    struct batch *batch = rebuild->batch;
    struct prctl_mm_map map = {
        .start_code = saved->start_code,
        .end_code = saved->end_code,
        .start_data = saved->start_data,
        .end_data = saved->end_data,
        .start_brk = saved->start_brk,
        .brk = saved->brk,
        .start_stack = saved->start_stack,
        .arg_start = saved->arg_start,
        .arg_end = saved->arg_end,
        .env_start = saved->env_start,
        .env_end = saved->env_end,
        .exe_fd = ~0u,
    };
    uint64_t auxv = batch_data(batch, rebuild->image->auxv, rebuild->image->auxv_bytes);

    map.auxv = (void *)(uintptr_t)auxv;
    map.auxv_size = rebuild->image->auxv_bytes;
    batch_add(
        batch, "memory layout (PR_SET_MM_MAP)", SYS_prctl,
        BATCH_ARGS(PR_SET_MM, PR_SET_MM_MAP, batch_data(batch, &map, sizeof map), sizeof map));
}

static bool is_vdso_text(const char *name)
{
    return strcmp(name, "[vdso]") == 0;
}

/* Its text, if generations are to do without what this machine has. */
static int capture_vdso(struct capture_run *run, const struct mapping *text)
{
    struct saved_files *saved = run->capture->saved;
    struct record_saved_vdso record = {0};
    int status;

    if (text == NULL || !saved_files_carry(saved) || text->end - text->start > VDSO_BYTES_MAX)
        return 0;
    record.bytes = text->end - text->start;
    status = saved_files_vdso(saved, text->start, text->end, &record.first_page, run->why);
    if (status == 0)
        record_put(run->out, RECORD_SAVED_VDSO, &record, sizeof record, NULL, 0);
    return status;
}

int capture_kernel_mappings(struct capture_run *run)
{
    const struct address_space *space = run->capture->space;
    const struct mapping *text = NULL;

    for (uint32_t i = 0; i < space->count; i++) {
        const struct mapping *mapping = &space->mappings[i];
        struct record_kernel_mapping record = {
            .start = mapping->start,
            .end = mapping->end,
            .prot = (uint32_t)mapping->prot,
            .is_text = is_vdso_text(mapping->name),
        };

        if (mapping->kind != MAPPING_VDSO)
            continue;
        if (record.is_text) {
            text = mapping;
            record.checksum =
                checksum64((const void *)mapping->start, mapping->end - mapping->start);
        }
        record_put(run->out, RECORD_KERNEL_MAPPING, &record, sizeof record, mapping->name,
                   strlen(mapping->name) + 1);
    }
    return capture_vdso(run, text);
}

static int vdso_differs(struct problem *why)
{
    return problem_set(why, STATUS_CHANGED,
                       "the kernel's vdso is not the one of the checkpoint; boot the kernel that "
                       "the checkpoint was taken on (pheap inspect names it); --self-contained "
                       "generations do without");
}

static int vdso_text_check(const struct mapping *now, const struct record_kernel_mapping *saved,
                           int pid, struct arena *arena)
{
    size_t bytes = now->end - now->start;
    uint8_t *text = bytes <= VDSO_BYTES_MAX ? arena_alloc(arena, bytes, 16) : NULL;
    int status = text != NULL ? process_memory_read(pid, now->start, text, bytes) : -ENOMEM;

    if (status == 0 && checksum64(text, bytes) != saved->checksum)
        status = STATUS_CHANGED;
    return status;
}

static int vdso_part_check(const struct mapping *now, const struct image_kernel_mapping *saved,
                           int pid, struct arena *arena)
{
    if (strcmp(now->name, saved->name) != 0 ||
        now->end - now->start != saved->record->end - saved->record->start)
        return STATUS_CHANGED;
    return saved->record->is_text ? vdso_text_check(now, saved->record, pid, arena) : 0;
}

static void move_part(struct batch *batch, uint64_t from, uint64_t bytes, uint64_t to)
{
    batch_add(batch, "moving the vdso", SYS_mremap, BATCH_ARGS(from, bytes, bytes, MREMAP_TO, to));
    batch_expect(batch, (int64_t)to);
}

struct parts { /* of the kernel, in the new process */
    const struct mapping *mappings[KERNEL_PARTS_MAX];
    uint32_t count;
    uint64_t first;
};

static struct parts parts_of(const struct address_space *now)
{
    struct parts parts = {.count = 0};

    for (uint32_t i = 0; i < now->count; i++)
        if (now->mappings[i].kind == MAPPING_VDSO && parts.count < KERNEL_PARTS_MAX)
            parts.mappings[parts.count++] = &now->mappings[i];
    parts.first = parts.count > 0 ? parts.mappings[0]->start : 0;
    return parts;
}

static bool are_the_same(const struct rebuild *rebuild, const struct parts *parts, int pid)
{
    const struct process_image *image = rebuild->image;

    if (parts->count != image->kernel_mapping_count)
        return false;
    for (uint32_t i = 0; i < parts->count; i++) {
        const struct record_kernel_mapping *saved = image->kernel_mappings[i].record;

        if (parts->mappings[i]->start - parts->first !=
                saved->start - image->kernel_mappings[0].record->start ||
            vdso_part_check(parts->mappings[i], &image->kernel_mappings[i], pid, rebuild->arena) !=
                0)
            return false;
    }
    return true;
}

/* Moves all parts; what is to lie at the first one's place, and the others as far from it. */
static void move_parts(struct rebuild *rebuild, const struct parts *parts, uint64_t to)
{
    for (uint32_t i = 0; i < parts->count; i++)
        move_part(rebuild->batch, parts->mappings[i]->start,
                  parts->mappings[i]->end - parts->mappings[i]->start,
                  to + (parts->mappings[i]->start - parts->first));
}

/* --- another kernel's --- */

/* The old code is not whole any more: nobody may go on within it. */
static int check_threads(const struct rebuild *rebuild, const struct record_kernel_mapping *text)
{
    for (uint32_t i = 0; i < rebuild->image->thread_count; i++) {
        const struct record_thread *thread = rebuild->image->threads[i].record;
        uint64_t at = thread->registers[REGISTER_RIP];

        if (at >= text->start && at < text->end)
            return problem_set(rebuild->why, STATUS_CHANGED,
                               "thread %d was inside the kernel's vdso, which is another one here; "
                               "restore -g takes another generation",
                               thread->tid);
    }
    return 0;
}

static const struct record_kernel_mapping *saved_text(const struct process_image *image)
{
    for (uint32_t i = 0; i < image->kernel_mapping_count; i++)
        if (image->kernel_mappings[i].record->is_text)
            return image->kernel_mappings[i].record;
    return NULL;
}

static const struct mapping *present_text(const struct parts *parts)
{
    for (uint32_t i = 0; i < parts->count; i++)
        if (is_vdso_text(parts->mappings[i]->name))
            return parts->mappings[i];
    return NULL;
}

/* Changes the saved text so that it calls the present one, which is to be moved to vdso_place. */
static int redirect(struct rebuild *rebuild, const struct parts *parts, int pid)
{
    const struct mapping *now = present_text(parts);
    size_t bytes = now != NULL ? now->end - now->start : 0;
    uint8_t *text = bytes <= VDSO_BYTES_MAX ? arena_alloc(rebuild->arena, bytes, 16) : NULL;
    int status = text != NULL && bytes > 0 ? process_memory_read(pid, now->start, text, bytes)
                                           : STATUS_UNSUPPORTED;

    if (status == 0)
        status = vdso_redirect(rebuild->vdso_text, rebuild->image->vdso->bytes, text, bytes,
                               rebuild->vdso_place + (now->start - parts->first));
    return status;
}

static int replace_vdso(struct rebuild *rebuild, const struct parts *parts, int pid)
{
    const struct record_kernel_mapping *text = saved_text(rebuild->image);
    int status;

    if (rebuild->vdso_text == NULL || text == NULL ||
        text->end - text->start != rebuild->image->vdso->bytes)
        return vdso_differs(rebuild->why);
    status = check_threads(rebuild, text);
    if (status != 0)
        return status;
    if (redirect(rebuild, parts, pid) != 0)
        return vdso_differs(rebuild->why);
    move_parts(rebuild, parts, rebuild->vdso_place);
    batch_add(rebuild->batch, "the old vdso", SYS_mmap,
              BATCH_ARGS(text->start, text->end - text->start, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1ul, 0));
    batch_expect(rebuild->batch, (int64_t)text->start);
    rebuild->vdso_written = text->start;
    return 0;
}

int rebuild_vdso(struct rebuild *rebuild, int pid)
{
    size_t bytes = rebuild->vdso_written != 0 ? rebuild->image->vdso->bytes : 0;
    int status;

    if (bytes == 0)
        return 0;
    status = process_memory_write(pid, rebuild->vdso_written, rebuild->vdso_text, bytes);
    if (status != 0)
        return problem_set(rebuild->why, status, "the old vdso: %s", status_text(status));
    batch_add(rebuild->batch, "the old vdso", SYS_mprotect,
              BATCH_ARGS(rebuild->vdso_written, bytes, PROT_READ | PROT_EXEC));
    return 0;
}

int rebuild_kernel_mappings(struct rebuild *rebuild, const struct address_space *now, int pid)
{
    const struct process_image *image = rebuild->image;
    struct parts parts = parts_of(now);

    if (parts.count == 0)
        return image->kernel_mapping_count == 0 ? 0 : vdso_differs(rebuild->why);
    if (parts.mappings[parts.count - 1]->end - parts.first > STAGING_BYTES)
        return vdso_differs(rebuild->why);
    if (!are_the_same(rebuild, &parts, pid))
        return replace_vdso(rebuild, &parts, pid);
    /* By way of a staging place: old and new places may overlap. */
    move_parts(rebuild, &parts, rebuild->staging);
    for (uint32_t i = 0; i < parts.count; i++)
        move_part(rebuild->batch, rebuild->staging + (parts.mappings[i]->start - parts.first),
                  parts.mappings[i]->end - parts.mappings[i]->start,
                  image->kernel_mappings[i].record->start);
    return 0;
}
