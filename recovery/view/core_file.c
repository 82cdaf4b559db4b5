/*
 * core_file.c - see core_file.h.
 *
 *     ELF header | program headers: notes, then one a mapping | notes | contents, page-aligned
 *
 * Always true: a segment's contents lie at its p_offset, a page at the same distance from its start
 * as in memory; what is not written is a hole and reads as zero.
 */
#include "recovery/view/core_file.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include "recovery/copy/unfinished.h"
#include "recovery/view/core_notes.h"

enum fill { FILL_NONE, FILL_SAVED, FILL_FIRST_PAGE, FILL_ALL };

struct segment {
    uint64_t start, end, offset; /* offset: of its contents in the file */
    uint64_t file_bytes;
    uint32_t prot;
    enum fill fill;
};

struct core {
    struct view *view;
    struct segment *segments;
    uint32_t count;
    struct core_notes notes;
    int fd;
    const struct segment *filling;
    struct core_file *out;
};

/* --- which segments, and what of them --- */

static bool is_elf_header(struct view *view, uint64_t address)
{
    char magic[SELFMAG];

    return view_read(view, address, magic, SELFMAG, NULL) == 0 &&
           memcmp(magic, ELFMAG, SELFMAG) == 0;
}

static int choose_fill(struct view *view, const struct image_mapping *mapping, enum fill *fill,
                       struct problem *why)
{
    const struct record_mapping *record = mapping->record;
    uint64_t saved;
    int status = view_count_pages(view, record->start, record->end, &saved, why);

    if (status < 0)
        return status;
    if (record->flags & RECORD_MAPPING_SHARED)
        *fill = FILL_NONE;
    else if (process_image_file(&view->process, record) == NULL)
        *fill = saved || record->prot != PROT_NONE ? FILL_SAVED : FILL_NONE;
    else if (saved)
        *fill = FILL_ALL;
    else
        *fill = record->file_offset == 0 && is_elf_header(view, record->start) ? FILL_FIRST_PAGE
                                                                               : FILL_NONE;
    return 0;
}

static void add_segment(struct core *core, uint64_t start, uint64_t end, uint32_t prot,
                        enum fill fill)
{
    core->segments[core->count++] = (struct segment){
        .start = start,
        .end = end,
        .prot = prot,
        .fill = fill,
        .file_bytes = fill == FILL_NONE         ? 0
                      : fill == FILL_FIRST_PAGE ? PAGE_BYTES
                                                : end - start,
    };
}

/* The kernel's mappings in their places among the others: segments ascend. */
static void add_kernel_mappings(struct core *core, uint32_t *next, uint64_t before)
{
    const struct process_image *process = &core->view->process;

    for (; *next < process->kernel_mapping_count; ++*next) {
        const struct record_kernel_mapping *record = process->kernel_mappings[*next].record;

        if (record->start >= before)
            return;
        add_segment(core, record->start, record->end, record->prot,
                    record->is_text && is_elf_header(core->view, record->start) ? FILL_ALL
                                                                                : FILL_NONE);
    }
}

static int list_segments(struct core *core, struct problem *why)
{
    const struct process_image *process = &core->view->process;
    uint32_t most = process->mapping_count + process->kernel_mapping_count, kernel = 0;

    if (most + 1 >= PN_XNUM)
        return problem_set(why, STATUS_LIMIT, "%u mappings are more than a core file can list",
                           most);
    core->segments = arena_alloc(&core->view->arena, (most + 1) * sizeof *core->segments, 8);
    if (!core->segments)
        return problem_set(why, -ENOMEM, "no memory for a list of %u mappings", most);
    for (uint32_t i = 0; i < process->mapping_count; i++) {
        const struct record_mapping *record = process->mappings[i].record;
        enum fill fill;
        int status = choose_fill(core->view, &process->mappings[i], &fill, why);

        if (status < 0)
            return status;
        add_kernel_mappings(core, &kernel, record->start);
        add_segment(core, record->start, record->end, record->prot, fill);
    }
    add_kernel_mappings(core, &kernel, UINT64_MAX);
    return 0;
}

/* --- headers --- */

static uint64_t headers_bytes(const struct core *core)
{
    return sizeof(Elf64_Ehdr) + (core->count + 1ull) * sizeof(Elf64_Phdr);
}

static void place_contents(struct core *core)
{
    uint64_t at = headers_bytes(core) + core->notes.used;

    at = (at + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
    for (uint32_t i = 0; i < core->count; i++) {
        core->segments[i].offset = at;
        at += core->segments[i].file_bytes;
    }
    core->out->bytes = at;
}

static Elf64_Phdr segment_header(const struct segment *segment)
{
    return (Elf64_Phdr){
        .p_type = PT_LOAD,
        .p_flags = (segment->prot & PROT_READ ? PF_R : 0u) |
                   (segment->prot & PROT_WRITE ? PF_W : 0u) |
                   (segment->prot & PROT_EXEC ? PF_X : 0u),
        .p_offset = segment->offset,
        .p_vaddr = segment->start,
        .p_filesz = segment->file_bytes,
        .p_memsz = segment->end - segment->start,
        .p_align = PAGE_BYTES,
    };
}

static int write_headers(struct core *core)
{
    uint64_t bytes = headers_bytes(core);
    Elf64_Ehdr *header = arena_alloc(&core->view->arena, bytes, 64);
    Elf64_Phdr *segments = (Elf64_Phdr *)(header + 1);
    int status;

    if (!header)
        return -ENOMEM;
    memcpy(header->e_ident, ELFMAG, SELFMAG);
    header->e_ident[EI_CLASS] = ELFCLASS64;
    header->e_ident[EI_DATA] = ELFDATA2LSB;
    header->e_ident[EI_VERSION] = EV_CURRENT;
    header->e_type = ET_CORE;
    header->e_machine = EM_X86_64;
    header->e_version = EV_CURRENT;
    header->e_phoff = sizeof *header;
    header->e_ehsize = sizeof *header;
    header->e_phentsize = sizeof(Elf64_Phdr);
    header->e_phnum = (uint16_t)(core->count + 1);
    segments[0] = (Elf64_Phdr){
        .p_type = PT_NOTE, .p_offset = bytes, .p_filesz = core->notes.used, .p_align = 4};
    for (uint32_t i = 0; i < core->count; i++)
        segments[i + 1] = segment_header(&core->segments[i]);
    status = sys_pwrite_all(core->fd, header, bytes, 0);
    return status < 0 ? status
                      : sys_pwrite_all(core->fd, core->notes.data, core->notes.used, bytes);
}

/* --- contents --- */

static int write_page(void *context, uint64_t address, const uint8_t *page)
{
    struct core *core = context;

    core->out->pages++;
    return sys_pwrite_all(core->fd, page, PAGE_BYTES,
                          core->filling->offset + (address - core->filling->start));
}

/* Page by page as the program saw it; what cannot be had any more stays a hole. */
static int write_all(struct core *core, const struct segment *segment)
{
    uint8_t page[PAGE_BYTES];

    for (uint64_t at = 0; at < segment->file_bytes; at += PAGE_BYTES) {
        int status = view_read(core->view, segment->start + at, page, PAGE_BYTES, NULL);

        if (status == STATUS_DAMAGED)
            core->view->damaged_pages++;
        status = status < 0 ? 0 : write_page(core, segment->start + at, page);
        if (status < 0)
            return status;
    }
    return 0;
}

static int write_contents(struct core *core, struct problem *why)
{
    for (uint32_t i = 0; i < core->count; i++) {
        const struct segment *segment = core->filling = &core->segments[i];
        int status = 0;

        if (segment->fill == FILL_SAVED)
            status =
                view_each_page(core->view, segment->start, segment->end, write_page, core, why);
        else if (segment->fill != FILL_NONE)
            status = write_all(core, segment);
        if (status < 0)
            return status;
    }
    return (int)sys_call(SYS_ftruncate, core->fd, core->out->bytes);
}

int core_file_write(struct view *view, const char *path, struct core_file *out, struct problem *why)
{
    struct core core = {.view = view, .out = out};
    struct problem damage = {0};
    int status = view_needs_process(view, why);

    memset(out, 0, sizeof *out);
    if (status == 0)
        status = list_segments(&core, why);
    if (status == 0)
        status = core_notes_make(view, &core.notes, why);
    if (status < 0)
        return status;
    out->threads = view->process.thread_count;
    place_contents(&core);
    core.fd = unfinished_create(path);
    if (core.fd < 0)
        return problem_set(why, core.fd, "%s: %s; a core file is written to a new file", path,
                           status_text(core.fd));
    status = write_headers(&core);
    if (status == 0)
        status = write_contents(&core, &damage);
    sys_close(core.fd);
    if (status < 0)
        sys_call(SYS_unlinkat, AT_FDCWD, path, 0);
    unfinished_end();
    if (status == 0)
        return 0;
    return status == STATUS_DAMAGED
               ? problem_set(why, status, "%s", damage.text)
               : problem_set(why, status, "%s: cannot write a core file of %lu bytes: %s", path,
                             (unsigned long)out->bytes, status_text(status));
}
