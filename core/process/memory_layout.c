/*
 * memory_layout.c - where the kernel believes code, data, brk, stack, arguments and the
 * auxiliary vector are (struct prctl_mm_map), and where the vdso and its data pages lie.
 *
 * Always true: the vdso is never saved; a restore moves the new kernel's to the old place and
 * refuses when it is not byte for byte the same.
 */
#include <errno.h>
#include <linux/prctl.h>
#include <string.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/process/capture_run.h"
#include "core/process/proc_text.h"
#include "core/process/rebuild.h"

#define AUXV_BYTES_MAX   4096
#define STAT_FIELDS      52
#define VDSO_BYTES_MAX   (64u << 10)
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

int capture_kernel_mappings(struct capture_run *run)
{
    const struct address_space *space = run->capture->space;

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
        if (record.is_text)
            record.checksum =
                checksum64((const void *)mapping->start, mapping->end - mapping->start);
        record_put(run->out, RECORD_KERNEL_MAPPING, &record, sizeof record, mapping->name,
                   strlen(mapping->name) + 1);
    }
    return 0;
}

static int vdso_differs(struct problem *why)
{
    return problem_set(why, STATUS_CHANGED,
                       "the kernel's vdso is not the one of the checkpoint; boot the kernel that "
                       "the checkpoint was taken on (pheap inspect names it)");
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

int rebuild_kernel_mappings(struct rebuild *rebuild, const struct address_space *now, int pid)
{
    const struct process_image *image = rebuild->image;
    const struct mapping *parts[KERNEL_PARTS_MAX];
    uint32_t count = 0;
    uint64_t first;

    for (uint32_t i = 0; i < now->count; i++)
        if (now->mappings[i].kind == MAPPING_VDSO && count < KERNEL_PARTS_MAX)
            parts[count++] = &now->mappings[i];
    if (count != image->kernel_mapping_count)
        return vdso_differs(rebuild->why);
    if (count == 0)
        return 0;
    first = parts[0]->start;
    for (uint32_t i = 0; i < count; i++) {
        const struct record_kernel_mapping *saved = image->kernel_mappings[i].record;

        if (parts[i]->start - first != saved->start - image->kernel_mappings[0].record->start ||
            parts[i]->end - first > STAGING_BYTES ||
            vdso_part_check(parts[i], &image->kernel_mappings[i], pid, rebuild->arena) != 0)
            return vdso_differs(rebuild->why);
    }
    /* By way of a staging place: old and new places may overlap. */
    for (uint32_t i = 0; i < count; i++)
        move_part(rebuild->batch, parts[i]->start, parts[i]->end - parts[i]->start,
                  rebuild->staging + (parts[i]->start - first));
    for (uint32_t i = 0; i < count; i++)
        move_part(rebuild->batch, rebuild->staging + (parts[i]->start - first),
                  parts[i]->end - parts[i]->start, image->kernel_mappings[i].record->start);
    return 0;
}
