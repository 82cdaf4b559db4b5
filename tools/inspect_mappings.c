/*
 * inspect_mappings.c - the view mappings: what was mapped where, and how much of it the generation
 * holds.
 */
#include <string.h>
#include <sys/mman.h>
#include "core/process/saved_files.h"
#include "tools/inspect.h"
#include "tools/table.h"

static const struct column columns[] = {
    {"start", "start", COLUMN_ADDRESS},
    {"end", "end", COLUMN_ADDRESS},
    {"permissions", "perm", COLUMN_TEXT},
    {"kind", "kind", COLUMN_TEXT},
    {"size_bytes", "size", COLUMN_BYTES},
    {"saved_pages", "saved pages", COLUMN_NUMBER},
    {"file_pages", "of the file", COLUMN_NUMBER},
    {"offset", "offset", COLUMN_ADDRESS},
    {"name", "name", COLUMN_TEXT},
};

struct saved {
    uint64_t pages;      /* that are not the mapping's own backing */
    uint64_t file_pages; /* of the file that backs it */
};

static json_t *row(uint64_t start, uint64_t end, uint32_t prot, bool is_shared, const char *kind,
                   struct saved saved, uint64_t offset, const char *name)
{
    const char permissions[] = {prot & PROT_READ ? 'r' : '-', prot & PROT_WRITE ? 'w' : '-',
                                prot & PROT_EXEC ? 'x' : '-', is_shared ? 's' : 'p', 0};

    return json_pack("{s:I, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:o}", "start", (json_int_t)start,
                     "end", (json_int_t)end, "permissions", permissions, "kind", kind, "size_bytes",
                     (json_int_t)(end - start), "saved_pages", (json_int_t)saved.pages,
                     "file_pages", (json_int_t)saved.file_pages, "offset", (json_int_t)offset,
                     "name", table_text(name, strlen(name)));
}

static const char *kind_of(const struct view *view, const struct image_mapping *mapping)
{
    const struct record_mapping *record = mapping->record;
    uint64_t slot = view_slot_base(view);

    /* A resumed program's slot is mapped from the pool: that is no file of its own. */
    if (record->start >= slot && record->end <= slot + SLOT_BYTES)
        return "heap";
    if (process_image_object(&view->process, record) != NULL)
        return "object";
    if (record->file != RECORD_ID_NONE || mapping->name[0] == '/')
        return "file";
    if (record->flags & RECORD_MAPPING_HEAP)
        return "brk";
    if (record->flags & RECORD_MAPPING_GROWS_DOWN)
        return "stack";
    return mapping->name[0] == '[' ? "kernel" : "anonymous";
}

/* Pages of the file that the generation has, of those that the mapping shows. */
static int count_file_pages(struct view *view, const struct record_mapping *record, uint64_t *pages,
                            struct problem *why)
{
    const struct image_file *file;
    uint64_t first;

    *pages = 0;
    file = process_image_file(&view->process, record);
    if (file == NULL || file->saved == NULL)
        return 0;
    first = saved_file_page(file, record) << PAGE_SHIFT;
    return view_count_pages(view, first, first + (record->end - record->start), pages, why);
}

static int add_mapping(struct view *view, const struct image_mapping *mapping, json_t *rows,
                       struct problem *why)
{
    const struct record_mapping *record = mapping->record;
    struct saved saved;
    int status = view_count_pages(view, record->start, record->end, &saved.pages, why);

    if (status == 0)
        status = count_file_pages(view, record, &saved.file_pages, why);
    if (status == 0)
        json_array_append_new(rows, row(record->start, record->end, record->prot,
                                        (record->flags & RECORD_MAPPING_SHARED) != 0,
                                        kind_of(view, mapping), saved, record->file_offset,
                                        view_mapping_name(view, mapping)));
    return status;
}

/* The kernel's own are in a list of their own; both ascend. */
static int add_all(struct view *view, json_t *rows, struct problem *why)
{
    const struct process_image *process = &view->process;
    uint32_t kernel = 0;

    for (uint32_t i = 0; i <= process->mapping_count; i++) {
        uint64_t next =
            i < process->mapping_count ? process->mappings[i].record->start : UINT64_MAX;
        int status;

        for (; kernel < process->kernel_mapping_count &&
               process->kernel_mappings[kernel].record->start < next;
             kernel++) {
            const struct record_kernel_mapping *record = process->kernel_mappings[kernel].record;

            json_array_append_new(rows,
                                  row(record->start, record->end, record->prot, false, "kernel",
                                      (struct saved){0}, 0, process->kernel_mappings[kernel].name));
        }
        if (i == process->mapping_count)
            break;
        status = add_mapping(view, &process->mappings[i], rows, why);
        if (status < 0)
            return status;
    }
    return 0;
}

static int show(struct inspection *inspection, struct view *view, struct problem *why)
{
    json_t *rows = json_array();
    int status = add_all(view, rows, why);

    if (status < 0) {
        json_decref(rows);
        return status;
    }
    table_show(inspection, "mappings", rows, columns, sizeof columns / sizeof columns[0]);
    return 0;
}

int inspect_mappings(struct inspection *inspection, struct problem *why)
{
    return inspect_with(inspection, show, why);
}
