/*
 * view.c - see view.h: opening a generation and its record.
 *
 * Always true: `process` is filled by process_image_read(), or, of a crash image, by the checks
 * here, which are the same for mappings and files.
 */
#include "recovery/view/view.h"

#include <errno.h>
#include <string.h>
#include "core/base/checksum.h"
#include "core/process/crash_record.h"
#include "core/process/record.h"
#include "recovery/view/opened_heap.h"

#define ARENA_BYTES (16ull << 30) /* reserved, not used: plans of very large heaps */

static const struct generation_entry *choose(const struct pool *pool, uint64_t number)
{
    const struct superblock *super = &pool->super;

    if (number)
        return pool_generation(pool, number);
    for (uint32_t i = super->generation_count; i-- > 0;)
        if (super->generations[i].kind != GENERATION_CRASH)
            return &super->generations[i];
    return pool_generation(pool, 0);
}

static int lock_generation(struct view *view, uint64_t number, struct problem *why)
{
    const struct generation_entry *entry = choose(&view->pool, number);

    if (!entry && number == 0)
        return problem_set(why, STATUS_NO_GENERATION,
                           "%s: the pool holds no generation: no checkpoint was completed",
                           view->pool.path);
    if (!entry)
        return problem_set(why, STATUS_NO_GENERATION,
                           "%s: no generation %lu; pheap inspect POOL generations lists what the "
                           "pool holds",
                           view->pool.path, (unsigned long)number);
    view->generation = *entry;
    view->lock_fd = pool_lock_generation(&view->pool, entry->number, why);
    return view->lock_fd < 0 ? view->lock_fd : 0;
}

/* --- the record of a crash image --- */

static int crash_damaged(const struct record_item *item, struct problem *why)
{
    return problem_set(
        why, STATUS_DAMAGED,
        "crash record: impossible item (kind %u, %u bytes); take an older generation", item->kind,
        item->bytes);
}

static int take_file(struct process_image *process, const struct record_item *item,
                     struct problem *why)
{
    struct image_file *file = &process->files[process->file_count];

    file->record = record_fixed(item, sizeof *file->record);
    file->path = record_string(item, sizeof *file->record);
    if (!file->record || !file->path || file->path[0] != '/' ||
        file->record->id != process->file_count ||
        file->record->build_id_bytes > RECORD_BUILD_ID_BYTES)
        return crash_damaged(item, why);
    process->file_count++;
    return 0;
}

static int take_mapping(struct process_image *process, const struct record_item *item,
                        struct problem *why)
{
    struct image_mapping *mapping = &process->mappings[process->mapping_count];
    const struct record_mapping *record = record_fixed(item, sizeof *record);
    uint64_t last_end = process->mapping_count ? mapping[-1].record->end : 0;

    mapping->record = record;
    mapping->name = record_string(item, sizeof *record);
    if (!record || !mapping->name || record->start >= record->end || record->start < last_end ||
        record->end > PROCESS_ADDRESS_LIMIT || (record->start | record->end) % PAGE_BYTES ||
        record->file_offset % PAGE_BYTES || record->prot & ~7u ||
        (record->flags & RECORD_MAPPING_OBJECT) ||
        (record->file != RECORD_ID_NONE && record->file >= process->file_count))
        return crash_damaged(item, why);
    process->mapping_count++;
    return 0;
}

static int read_crash_record(struct view *view, const void *record, struct problem *why)
{
    struct record_reader reader = {.buffer = record, .size = view->generation.record_bytes};
    struct process_image *process = &view->process;
    size_t most = reader.size / sizeof(struct record_mapping) + 1;
    struct record_crash crash;
    struct record_item item;
    int status = crash_record_read(&crash, record, reader.size, why), got = 0;

    process->files = arena_alloc(&view->arena, most * sizeof *process->files, 8);
    process->mappings = arena_alloc(&view->arena, most * sizeof *process->mappings, 8);
    if (status == 0 && (!process->files || !process->mappings))
        status = problem_set(why, -ENOMEM, "no memory for the crash record");
    while (status == 0 && (got = record_next(&reader, &item)) > 0) {
        if (item.kind == RECORD_FILE)
            status = take_file(process, &item, why);
        else if (item.kind == RECORD_MAPPING)
            status = take_mapping(process, &item, why);
    }
    return status == 0 && got < 0
               ? problem_set(why, got, "crash record: an item is longer than the record")
               : status;
}

static int read_record(struct view *view, struct problem *why)
{
    uint64_t bytes = view->generation.record_bytes;
    void *record = bytes < RECORD_BYTES_MAX ? arena_alloc(&view->arena, bytes + 8, 64) : NULL;
    int status;

    if (!record)
        return problem_set(why, -ENOMEM, "%s: no memory for the record of %lu bytes",
                           view->pool.path, (unsigned long)bytes);
    status = pool_read_record(&view->pool, &view->generation, record, why);
    if (status < 0 || view->generation.kind == GENERATION_HEAP)
        return status;
    if (view->generation.kind == GENERATION_CRASH)
        status = read_crash_record(view, record, why);
    else
        status = process_image_read(&view->process, record, bytes, &view->arena, why);
    if (status < 0)
        return status;
    view->backings =
        arena_alloc(&view->arena, (view->process.file_count + 1) * sizeof *view->backings, 8);
    return view->backings ? 0 : problem_set(why, -ENOMEM, "out of memory");
}

/* --- opening and closing --- */

int view_open(struct view *view, const char *path, uint64_t generation, struct problem *why)
{
    int status;

    memset(view, 0, sizeof *view);
    view->lock_fd = -1;
    view->cached_address = 1;
    view->pool.fd = -1;
    status = pool_open(&view->pool, path, POOL_READ, why);
    if (status < 0) {
        view->pool.fd = -1;
        return status;
    }
    status = arena_create(&view->arena, ARENA_BYTES);
    if (status < 0)
        return problem_set(why, status, "cannot reserve memory: %s", status_text(status));
    status = lock_generation(view, generation, why);
    if (status == 0)
        status = read_record(view, why);
    if (status == 0)
        status = image_open(&view->image, &view->pool, &view->generation, &view->arena, why);
    return status;
}

void view_close(struct view *view)
{
    view_unmap_heap(view);
    if (view->frames)
        sys_munmap((void *)(uintptr_t)view->frames, view->frame_count << FRAME_SHIFT);
    for (uint32_t i = 0; view->backings && i < view->process.file_count; i++)
        if (view->backings[i].state == 1)
            sys_close(view->backings[i].fd);
    if (view->arena.base)
        arena_destroy(&view->arena);
    if (view->lock_fd > 0)
        sys_close(view->lock_fd);
    if (view->pool.fd > 0)
        pool_close(&view->pool);
    memset(view, 0, sizeof *view);
}

static uint64_t newest_process(const struct superblock *super)
{
    uint64_t newest = 0;

    for (uint32_t i = 0; i < super->generation_count; i++)
        if (super->generations[i].kind == GENERATION_PROCESS)
            newest = super->generations[i].number;
    return newest;
}

int view_needs_process(const struct view *view, struct problem *why)
{
    const char *kind = view->generation.kind == GENERATION_CRASH ? "crash image" : "heap";
    uint64_t other = newest_process(&view->pool.super);

    if (view->generation.kind == GENERATION_PROCESS)
        return 0;
    if (other)
        return problem_set(why, STATUS_NO_GENERATION,
                           "%s: generation %lu is a %s: it has no threads and descriptors; -g %lu "
                           "takes the newest that has",
                           view->pool.path, (unsigned long)view->generation.number, kind,
                           (unsigned long)other);
    return problem_set(why, STATUS_NO_GENERATION,
                       "%s: generation %lu is a %s: it has no threads and descriptors, nor has any "
                       "other generation of the pool",
                       view->pool.path, (unsigned long)view->generation.number, kind);
}

const struct image_mapping *view_mapping(const struct view *view, uint64_t address)
{
    return process_image_mapping(&view->process, address);
}

const char *view_mapping_name(const struct view *view, const struct image_mapping *mapping)
{
    const struct record_mapping *record = mapping->record;
    uint64_t slot = view_slot_base(view);

    if (process_image_file(&view->process, record) != NULL)
        return process_image_file(&view->process, record)->path;
    if (process_image_object(&view->process, record) != NULL)
        return process_image_object(&view->process, record)->name;
    if (record->start >= slot && record->end <= slot + SLOT_BYTES)
        return "[slot]";
    return mapping->name;
}

/* --- the heap --- */

/* A damaged page is counted; whether what is in it makes sense is for those who look at it. */
static int check_leaf(void *context, uint64_t first_page,
                      const struct index_entry entries[INDEX_NODE_ENTRIES])
{
    struct view *view = context;

    for (uint64_t i = 0; i < INDEX_NODE_ENTRIES; i++)
        if (entries[i].frame >= FRAME_FIRST &&
            checksum64((const void *)((first_page + i) << PAGE_SHIFT), PAGE_BYTES) !=
                entries[i].checksum)
            view->damaged_heap_pages++;
    return 0;
}

/* Without its header nothing of a heap can be told: its page is the one that must be whole. */
static int read_header(const struct view *view, struct image *image, struct problem *why)
{
    uint8_t page[PAGE_BYTES];

    return image_read(image, view_slot_base(view), page, sizeof page, why);
}

/* The index of the slot's pages is 16 bytes a page: it goes when they are mapped. */
static int map_pages(struct view *view, struct arena *scratch, struct problem *why)
{
    uint64_t first = view_slot_base(view) >> PAGE_SHIFT;
    uint64_t end = first + (SLOT_BYTES >> PAGE_SHIFT);
    struct image image;
    int status = image_open(&image, &view->pool, &view->generation, scratch, why);

    if (status == 0)
        status = read_header(view, &image, why);
    if (status == 0)
        status = image_map_as_is(&image, first, end, why);
    if (status < 0)
        return status;
    view->heap_is_mapped = true;
    status = index_each_leaf(image.index, first, end, check_leaf, view);
    if (status < 0)
        return problem_set(why, status, "%s: the index of generation %lu cannot be read: %s",
                           view->pool.path, (unsigned long)view->generation.number,
                           status_text(status));
    return 0;
}

static int map_slot(struct view *view, struct problem *why)
{
    struct arena scratch;
    int status = arena_create(&scratch, ARENA_BYTES);

    if (status < 0)
        return problem_set(why, status, "cannot reserve memory: %s", status_text(status));
    status = map_pages(view, &scratch, why);
    arena_destroy(&scratch);
    return status;
}

int view_map_heap(struct view *view, struct problem *why)
{
    const struct tx_header *header = (const struct tx_header *)view_slot_base(view);
    int status = 0;

    if (view->heap_is_mapped)
        return 0;
    status = map_slot(view, why);
    if (status < 0)
        return status;
    view->is_opened = header->magic == TX_MAGIC && header->version == TX_VERSION;
    return view->is_opened ? opened_apply_log(view, why) : 0;
}

void view_unmap_heap(struct view *view)
{
    if (view->heap_is_mapped)
        sys_munmap((void *)view_slot_base(view), SLOT_BYTES);
    view->heap_is_mapped = view->is_opened = false; /* reads are from the pool again */
}
