/*
 * view_memory.c - see view.h: a generation's memory, page by page.
 *
 * Always true: a page of the pool is used only after it has agreed with its checksum; no frame
 * beyond the file's end is touched.
 */
#include "recovery/view/view.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "core/base/checksum.h"
#include "core/process/mapped_files.h"
#include "core/process/saved_files.h"
#include "recovery/view/opened_heap.h"

/* --- what lies under the image: files, zero, the vdso --- */

bool view_may_read_file(const struct image_file *file)
{
    return S_ISREG(file->record->mode) && mapped_file_is_same(file);
}

static int backing_fd(struct view *view, uint32_t id)
{
    struct view_backing *backing = &view->backings[id];
    const struct image_file *file = &view->process.files[id];

    if (backing->state == 0 && !view_may_read_file(file))
        backing->state = STATUS_CHANGED;
    if (backing->state == 0) {
        backing->fd = sys_open(file->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
        backing->state = backing->fd < 0 ? backing->fd : 1;
    }
    return backing->state < 0 ? backing->state : backing->fd;
}

/* The file's content in the generation, which does not depend on what became of the file. */
static int read_saved(struct view *view, const struct image_file *file,
                      const struct record_mapping *mapping, uint64_t address, uint8_t *page,
                      struct problem *why)
{
    uint64_t from = saved_file_page(file, mapping) + (address - mapping->start) / PAGE_BYTES;
    struct index_entry entry = {FRAME_NONE, 0};
    int status = index_lookup(view->image.index, from, &entry);

    return status < 0 ? problem_set(why, status, "%s: the index cannot be read: %s",
                                    view->pool.path, status_text(status))
                      : pool_read_page(&view->pool, entry, page, why);
}

/* What the record has of an object that is mapped; the rest of it are holes. */
static void read_object(const struct image_object *object, uint64_t offset, uint8_t *page)
{
    for (uint32_t i = 0; i < object->part_count; i++) {
        const struct image_object_part *part = &object->parts[i];
        uint64_t start = part->offset > offset ? part->offset : offset;
        uint64_t end = part->offset + part->bytes;

        end = end < offset + PAGE_BYTES ? end : offset + PAGE_BYTES;
        if (start < end)
            memcpy(page + (start - offset), part->content + (start - part->offset), end - start);
    }
}

static int read_file(struct view *view, const struct image_file *file, uint64_t offset,
                     uint8_t *page, struct problem *why)
{
    int fd = backing_fd(view, file->record->id);
    ssize_t got;

    if (fd < 0)
        return problem_set(why, fd, "%s: not the file that the program had mapped: %s", file->path,
                           status_text(fd));
    got = sys_pread(fd, page, PAGE_BYTES, offset);
    return got < 0 ? problem_set(why, (int)got, "%s: %s", file->path, status_text((int)got)) : 0;
}

static int read_backing(struct view *view, const struct image_mapping *mapping, uint64_t address,
                        uint8_t *page, struct problem *why)
{
    const struct record_mapping *record = mapping->record;
    const struct image_file *file = process_image_file(&view->process, record);
    const struct image_object *object = process_image_object(&view->process, record);
    uint64_t offset = record->file_offset + (address - record->start);

    memset(page, 0, PAGE_BYTES);
    if (object != NULL)
        read_object(object, offset, page);
    if (file == NULL)
        return 0;
    return file->saved != NULL ? read_saved(view, file, record, address, page, why)
                               : read_file(view, file, offset, page, why);
}

/* The vdso is not saved; it is ours when the kernel has not changed. */
static bool read_vdso(const struct view *view, uint64_t address, uint8_t *page)
{
    uint64_t ours = getauxval(AT_SYSINFO_EHDR);

    for (uint32_t i = 0; i < view->process.kernel_mapping_count; i++) {
        const struct record_kernel_mapping *vdso = view->process.kernel_mappings[i].record;

        if (!vdso->is_text || address < vdso->start || address >= vdso->end)
            continue;
        if (!ours || vdso->end - vdso->start > 64 * PAGE_BYTES ||
            checksum64((const void *)ours, vdso->end - vdso->start) != vdso->checksum)
            return false;
        memcpy(page, (const void *)(ours + (address - vdso->start)), PAGE_BYTES);
        return true;
    }
    return false;
}

/* An opened heap that is mapped: in memory it is what log and generation say together. */
static bool is_in_memory(const struct view *view, uint64_t address)
{
    return view->is_opened && address - view_slot_base(view) < SLOT_BYTES;
}

static int read_page(struct view *view, uint64_t address, uint8_t *page, struct problem *why)
{
    const struct image_mapping *mapping;
    struct index_entry entry = {FRAME_NONE, 0};
    int status;

    if (is_in_memory(view, address)) {
        memcpy(page, (const void *)address, PAGE_BYTES);
        return 0;
    }
    status = index_lookup(view->image.index, address >> PAGE_SHIFT, &entry);

    if (status < 0)
        return problem_set(why, status, "%s: the index cannot be read at address 0x%lx: %s",
                           view->pool.path, (unsigned long)address, status_text(status));
    if (entry.frame != FRAME_NONE)
        return pool_read_page(&view->pool, entry, page, why);
    mapping = view_mapping(view, address);
    if (mapping)
        return read_backing(view, mapping, address, page, why);
    if (read_vdso(view, address, page))
        return 0;
    return problem_set(why, STATUS_REFUSED, "0x%lx: nothing was mapped there",
                       (unsigned long)address);
}

int view_read(struct view *view, uint64_t address, void *buffer, size_t bytes, struct problem *why)
{
    uint8_t *out = buffer;

    while (bytes) {
        uint64_t page = address & ~(uint64_t)(PAGE_BYTES - 1);
        size_t offset = address - page;
        size_t part = PAGE_BYTES - offset < bytes ? PAGE_BYTES - offset : bytes;

        if (page >= PROCESS_ADDRESS_LIMIT)
            return problem_set(why, STATUS_REFUSED, "0x%lx: no address of a process",
                               (unsigned long)address);
        if (view->cached_address != page) {
            int status = read_page(view, page, view->cached, why);

            view->cached_address = status < 0 ? 1 : page;
            if (status < 0)
                return status;
        }
        memcpy(out, view->cached + offset, part);
        address += part;
        out += part;
        bytes -= part;
    }
    return 0;
}

/* --- all pages --- */

struct scan {
    struct view *view;
    uint64_t first, end; /* pages */
    view_page_visit *visit;
    void *context;
    uint64_t count;
};

static int map_frames(struct view *view, struct problem *why)
{
    void *mapped;

    if (view->frames)
        return 0;
    view->frame_count = pool_frames_present(&view->pool);
    mapped =
        sys_mmap(NULL, view->frame_count << FRAME_SHIFT, PROT_READ, MAP_SHARED, view->pool.fd, 0);
    if (sys_failed((long)mapped))
        return problem_set(why, (int)(long)mapped, "%s: cannot map the pool: %s", view->pool.path,
                           status_text((int)(long)mapped));
    view->frames = mapped;
    return 0;
}

static int scan_problem(const struct view *view, int status, struct problem *why)
{
    if (status < 0 && why && why->status != status)
        return problem_set(why, status, "%s: generation %lu: the index cannot be read: %s",
                           view->pool.path, (unsigned long)view->generation.number,
                           status_text(status));
    return status;
}

static int scan_leaf(void *context, uint64_t first_page,
                     const struct index_entry entries[INDEX_NODE_ENTRIES])
{
    struct scan *scan = context;
    struct view *view = scan->view;

    for (uint64_t i = 0; i < INDEX_NODE_ENTRIES; i++) {
        const struct index_entry entry = entries[i];
        const uint8_t *page;
        int status;

        if (entry.frame < FRAME_FIRST || first_page + i < scan->first ||
            first_page + i >= scan->end)
            continue;
        page = entry.frame < view->frame_count ? view->frames + (entry.frame << FRAME_SHIFT) : NULL;
        if (page == NULL || checksum64(page, PAGE_BYTES) != entry.checksum) {
            view->damaged_pages++;
            continue;
        }
        status = scan->visit(scan->context, (first_page + i) << PAGE_SHIFT, page);
        if (status < 0)
            return status;
    }
    return 0;
}

static int each_stored_page(struct view *view, uint64_t start, uint64_t end, view_page_visit *visit,
                            void *context, struct problem *why)
{
    struct scan scan = {view, start >> PAGE_SHIFT, end >> PAGE_SHIFT, visit, context, 0};
    int status = map_frames(view, why);

    if (status == 0)
        status = index_each_leaf(view->image.index, scan.first, scan.end, scan_leaf, &scan);
    return scan_problem(view, status, why);
}

static bool is_zero(const uint8_t *page)
{
    return page[0] == 0 && memcmp(page, page + 1, PAGE_BYTES - 1) == 0;
}

static int each_page_in_memory(uint64_t start, uint64_t end, view_page_visit *visit, void *context)
{
    int status = 0;

    for (; status == 0 && start < end; start += PAGE_BYTES)
        if (!is_zero((const uint8_t *)start))
            status = visit(context, start, (const uint8_t *)start);
    return status;
}

/* Of an opened heap with a log: its roots and its data. */
static int each_page_of_opened(struct view *view, uint64_t start, uint64_t end,
                               view_page_visit *visit, void *context)
{
    uint64_t base = view_slot_base(view);
    uint64_t parts[2][2] = {
        {base, base + TX_SPANS_OFFSET},
        {base + (uint64_t)TX_DATA_SLICE * SLICE_BYTES,
         base + ((uint64_t)opened_top(view) << SLICE_SHIFT)},
    };
    int status = 0;

    for (int i = 0; status == 0 && i < 2; i++)
        status = each_page_in_memory(start > parts[i][0] ? start : parts[i][0],
                                     end < parts[i][1] ? end : parts[i][1], visit, context);
    return status;
}

int view_each_page(struct view *view, uint64_t start, uint64_t end, view_page_visit *visit,
                   void *context, struct problem *why)
{
    uint64_t slot = view_slot_base(view), slot_end = slot + SLOT_BYTES;
    int status = 0;

    if (!view->is_opened || view->log_records == 0 || start >= slot_end || end <= slot)
        return each_stored_page(view, start, end, visit, context, why);
    if (start < slot)
        status = each_stored_page(view, start, slot, visit, context, why);
    if (status == 0)
        status = each_page_of_opened(view, start, end, visit, context);
    if (status == 0 && end > slot_end)
        status = each_stored_page(view, slot_end, end, visit, context, why);
    return status;
}

static int count_leaf(void *context, uint64_t first_page,
                      const struct index_entry entries[INDEX_NODE_ENTRIES])
{
    struct scan *scan = context;

    for (uint64_t i = 0; i < INDEX_NODE_ENTRIES; i++)
        if (entries[i].frame != FRAME_NONE && first_page + i >= scan->first &&
            first_page + i < scan->end)
            scan->count++;
    return 0;
}

int view_count_pages(struct view *view, uint64_t start, uint64_t end, uint64_t *count,
                     struct problem *why)
{
    struct scan scan = {view, start >> PAGE_SHIFT, end >> PAGE_SHIFT, NULL, NULL, 0};
    int status = index_each_leaf(view->image.index, scan.first, scan.end, count_leaf, &scan);

    *count = scan.count;
    return scan_problem(view, status, why);
}
