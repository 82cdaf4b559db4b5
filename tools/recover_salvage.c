/*
 * recover_salvage.c - pheap recover --salvage DIR: all that can be read of a pool, in files.
 *
 *     DIR/index.json              what there is, and what is missing
 *     DIR/NAME/memory.raw         the pages of one image, ascending; NAME: generation-7, ...
 *     DIR/NAME/damaged.raw        those that do not agree with their checksums
 *     DIR/NAME/pages.jsonl        which memory is where in these two: one object a line
 *     DIR/NAME/blocks.jsonl       the heap's blocks, one object a line
 *     DIR/NAME/blocks.raw         their content, of an opened heap with the log applied
 *     DIR/NAME/record.raw         the process record
 *     DIR/log.raw, log.jsonl      whole records of the log
 *
 * True always: the pool is only read; nothing is written but new files in a directory that this
 * process has made.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/base/sys.h"
#include "recovery/salvage/heap.h"
#include "recovery/view/opened_heap.h"
#include "tools/command.h"
#include "tools/recover.h"
#include "tools/table.h"

#define PATH_BYTES 4400

struct salvaging {
    struct salvage salvage;
    const char *directory;
    json_t *images;
    struct problem why;
    uint64_t pages, damaged, blocks; /* of all images */
};

static const char *const sources[] = {[SALVAGE_LISTED] = "listed",
                                      [SALVAGE_DROPPED] = "dropped",
                                      [SALVAGE_NAMED] = "damaged superblock",
                                      [SALVAGE_FOUND] = "found"};

/* --- files --- */

static int failed(struct salvaging *to, const char *path, int status)
{
    return problem_set(&to->why, status, "cannot write '%s': %s; %s", path, status_text(status),
                       status == -EEXIST ? "name a directory that is not there yet"
                                         : "what has been written is not all of it");
}

/* NULL: to->why says why. */
static FILE *open_file(struct salvaging *to, const char *directory, const char *name)
{
    char path[PATH_BYTES];
    int fd;
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", directory, name);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    file = fd < 0 ? NULL : fdopen(fd, "w+");
    if (!file)
        failed(to, path, -errno);
    return file;
}

/* What failed first is the reason. */
static int close_file(struct salvaging *to, FILE *file, const char *what)
{
    bool is_written = !ferror(file);

    errno = 0;
    if (fclose(file) == 0 && is_written)
        return 0;
    return to->why.status < 0 ? to->why.status : failed(to, what, errno ? -errno : -EIO);
}

static int make_directory(struct salvaging *to, const char *path)
{
    return mkdir(path, 0700) == 0 ? 0 : failed(to, path, -errno);
}

/* --- memory --- */

struct memory {
    FILE *whole, *damaged, *list;
    uint64_t whole_bytes, damaged_bytes;
    struct salvage_range *ranges; /* of the whole pages; free() */
    uint64_t range_count;
    struct salvage_range run; /* of pages in one of the two files */
    bool run_is_damaged;
};

static void end_run(struct memory *memory)
{
    struct salvage_range *run = &memory->run;

    if (run->end == run->start)
        return;
    fprintf(memory->list,
            "{\"address\": %" PRIu64 ", \"bytes\": %" PRIu64
            ", \"file\": \"%s\", \"offset\": %" PRIu64 "}\n",
            run->start, run->end - run->start,
            memory->run_is_damaged ? "damaged.raw" : "memory.raw", run->offset);
    if (!memory->run_is_damaged)
        memory->ranges[memory->range_count++] = *run;
    run->start = run->end = 0;
}

static bool put_page(struct memory *memory, const struct salvage_page *page, const void *content)
{
    uint64_t address = page->page << FRAME_SHIFT;
    uint64_t *bytes = page->is_damaged ? &memory->damaged_bytes : &memory->whole_bytes;

    if (address != memory->run.end || page->is_damaged != memory->run_is_damaged)
        end_run(memory);
    if (memory->run.end == memory->run.start)
        memory->run = (struct salvage_range){address, address, *bytes};
    memory->run_is_damaged = page->is_damaged;
    memory->run.end += FRAME_BYTES;
    *bytes += FRAME_BYTES;
    return fwrite(content, FRAME_BYTES, 1, page->is_damaged ? memory->damaged : memory->whole) == 1;
}

static int open_memory(struct salvaging *to, struct memory *memory, const char *directory,
                       const struct salvage_pages *pages)
{
    memory->ranges = calloc(pages->count + 1, sizeof *memory->ranges);
    if (!memory->ranges)
        return problem_set(&to->why, -ENOMEM, "out of memory");
    memory->whole = open_file(to, directory, "memory.raw");
    memory->list = memory->whole ? open_file(to, directory, "pages.jsonl") : NULL;
    if (memory->list && pages->damaged)
        memory->damaged = open_file(to, directory, "damaged.raw");
    return memory->list && (memory->damaged || !pages->damaged) ? 0 : to->why.status;
}

static int close_memory(struct salvaging *to, struct memory *memory, const char *directory)
{
    FILE *files[] = {memory->list, memory->damaged, memory->whole};
    int status = 0;

    for (size_t i = 0; i < 3; i++)
        if (files[i] && close_file(to, files[i], directory) < 0)
            status = to->why.status;
    free(memory->ranges);
    return status;
}

/* A page that cannot be read any more is left out. What is written is mapped later: all of it must
 * be there. */
static int write_memory(struct salvaging *to, struct memory *memory, const char *directory,
                        const struct salvage_pages *pages)
{
    uint8_t page[FRAME_BYTES];
    int status = open_memory(to, memory, directory, pages);

    for (uint64_t i = 0; status == 0 && i < pages->count; i++)
        if (salvage_read(&to->salvage, pages->pages[i].frame, page) == 0 &&
            !put_page(memory, &pages->pages[i], page))
            status = failed(to, directory, -errno);
    if (status == 0) {
        end_run(memory);
        if (fflush(memory->whole) != 0)
            status = failed(to, directory, -errno);
    }
    return status;
}

/* --- blocks --- */

struct block_list {
    const struct salvage_heap *heap;
    const struct memory *memory;
    FILE *list, *content;              /* content: NULL, it is in memory.raw */
    uint64_t count, content_bytes, at; /* at: the range that was used last */
};

/* Where in memory.raw the block's bytes are; false: not all of them were pages with something in
 * them. Blocks ascend, as ranges do. */
static bool find_in_memory(struct block_list *list, const struct block *block, uint64_t *offset)
{
    const struct memory *memory = list->memory;

    while (list->at < memory->range_count && memory->ranges[list->at].end <= block->address)
        list->at++;
    if (list->at == memory->range_count || memory->ranges[list->at].start > block->address ||
        memory->ranges[list->at].end < block->address + block->bytes)
        return false;
    *offset = memory->ranges[list->at].offset + block->address - memory->ranges[list->at].start;
    return true;
}

static bool list_block(void *context, const struct block *block)
{
    struct block_list *list = context;
    uint64_t bytes = block->has_type && block->asked && block->asked < block->bytes ? block->asked
                                                                                    : block->bytes;
    uint64_t offset;

    list->count++;
    fprintf(list->list, "{\"address\": %" PRIu64 ", \"bytes\": %" PRIu64, block->address, bytes);
    if (block->has_type)
        fprintf(list->list, ", \"type\": %" PRIu32, block->type);
    if (list->heap->is_rough && !block->has_type)
        fputs(", \"in_use\": null", list->list);
    if (list->content) {
        fprintf(list->list, ", \"file\": \"blocks.raw\", \"offset\": %" PRIu64,
                list->content_bytes);
        fwrite((const void *)block->address, bytes, 1, list->content);
        list->content_bytes += bytes;
    } else if (find_in_memory(list, block, &offset)) {
        fprintf(list->list, ", \"file\": \"memory.raw\", \"offset\": %" PRIu64, offset);
    }
    fputs("}\n", list->list);
    return !ferror(list->list);
}

static void add_root(void *context, const char *name, uint64_t address, uint32_t type)
{
    json_array_append_new(context,
                          json_pack("{s:o, s:I, s:I}", "name", table_text(name, strlen(name)),
                                    "address", (json_int_t)address, "type", (json_int_t)type));
}

static int list_blocks(struct salvaging *to, const struct salvage_heap *heap,
                       const struct memory *memory, const char *directory, json_t *json)
{
    struct block_list list = {.heap = heap, .memory = memory};
    json_t *roots = json_array();
    int status = 0;

    list.list = open_file(to, directory, "blocks.jsonl");
    if (list.list && heap->view.is_opened)
        list.content = open_file(to, directory, "blocks.raw");
    if (list.list && (list.content || !heap->view.is_opened))
        salvage_heap_each(heap, list_block, &list);
    else
        status = to->why.status;
    if (list.content && close_file(to, list.content, directory) < 0)
        status = to->why.status;
    if (list.list && close_file(to, list.list, directory) < 0)
        status = to->why.status;
    opened_each_root(&heap->view, add_root, roots);
    json_object_set_new(
        json, "heap",
        json_pack("{s:s, s:I, s:b, s:I, s:o}", "kind", heap->view.is_opened ? "opened" : "program",
                  "blocks", (json_int_t)list.count, "descriptors_whole", !heap->is_rough,
                  "log_records_applied", (json_int_t)heap->view.log_records, "roots", roots));
    to->blocks += list.count;
    return status;
}

static int write_heap(struct salvaging *to, const struct salvage_image *image,
                      const struct memory *memory, const char *directory, json_t *json)
{
    static struct salvage_heap heap;
    struct problem why = {0};
    int status = salvage_heap_open(&heap, &to->salvage, image, fileno(memory->whole),
                                   memory->ranges, memory->range_count, &why);

    if (status == 0)
        status = list_blocks(to, &heap, memory, directory, json);
    else if (status == STATUS_NO_GENERATION)
        status = 0;
    else
        status = problem_set(&to->why, status, "%s: %s", directory, why.text);
    salvage_heap_close(&heap);
    return status;
}

/* --- an image --- */

static int write_record(struct salvaging *to, const struct salvage_image *image,
                        const char *directory, json_t *json)
{
    bool is_whole;
    uint8_t *record = salvage_record(&to->salvage, image, &is_whole);
    FILE *file = record ? open_file(to, directory, "record.raw") : NULL;
    int status = record && !file ? to->why.status : 0;

    if (file) {
        fwrite(record, image->entry.record_bytes, 1, file);
        status = close_file(to, file, directory);
        json_object_set_new(json, "record",
                            json_pack("{s:I, s:b}", "bytes", (json_int_t)image->entry.record_bytes,
                                      "whole", is_whole));
    }
    free(record);
    return status;
}

static json_t *image_json(const struct salvage_image *image, const struct salvage_pages *pages,
                          const char *name)
{
    static const char *const kinds[] = {"unknown", "process", "heap", "crash"};
    const struct generation_entry *entry = &image->entry;

    return json_pack("{s:s, s:s, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:b}", "directory", name,
                     "source", sources[image->source], "number", (json_int_t)entry->number, "kind",
                     kinds[entry->kind <= GENERATION_CRASH ? entry->kind : 0], "time_ns",
                     (json_int_t)entry->time_ns, "pages", (json_int_t)pages->count, "damaged_pages",
                     (json_int_t)pages->damaged, "damaged_index_parts",
                     (json_int_t)pages->damaged_nodes, "frames_beyond_end",
                     (json_int_t)pages->lost_frames, "whole",
                     image->source == SALVAGE_LISTED && !pages->damaged && !pages->damaged_nodes &&
                         !pages->lost_frames);
}

static int write_files(struct salvaging *to, const struct salvage_image *image,
                       const struct salvage_pages *pages, const char *directory, json_t *json)
{
    struct memory memory = {0};
    int status = make_directory(to, directory), closed;

    if (status < 0)
        return status;
    status = write_memory(to, &memory, directory, pages);
    if (status == 0)
        status = write_heap(to, image, &memory, directory, json);
    closed = close_memory(to, &memory, directory);
    if (status == 0)
        status = closed;
    return status == 0 ? write_record(to, image, directory, json) : status;
}

/* "generation-7", "generation-3-dropped", "found-120-over-88". */
static void name_image(char *name, size_t size, const struct salvage_image *image)
{
    static const char *const suffixes[] = {"", "-dropped", "-named"};
    const struct generation_entry *entry = &image->entry;

    if (image->source != SALVAGE_FOUND)
        snprintf(name, size, "generation-%" PRIu64 "%s", entry->number, suffixes[image->source]);
    else if (entry->index_delta.frame && entry->index_root.frame)
        snprintf(name, size, "found-%" PRIu64 "-over-%" PRIu64, entry->index_delta.frame,
                 entry->index_root.frame);
    else
        snprintf(name, size, "found-%" PRIu64,
                 entry->index_delta.frame ? entry->index_delta.frame : entry->index_root.frame);
}

static int write_image(struct salvaging *to, const struct salvage_image *image)
{
    char name[64], directory[PATH_BYTES];
    struct salvage_pages pages;
    int status = salvage_pages(&to->salvage, image, &pages);
    json_t *json;

    if (status < 0)
        return problem_set(&to->why, status, "no memory for the pages of a generation");
    name_image(name, sizeof name, image);
    snprintf(directory, sizeof directory, "%s/%s", to->directory, name);
    json = image_json(image, &pages, name);
    json_array_append_new(to->images, json);
    status = write_files(to, image, &pages, directory, json);
    to->pages += pages.count;
    to->damaged += pages.damaged;
    free(pages.pages);
    return status;
}

/* --- the log --- */

struct log_files {
    FILE *raw, *list;
    uint64_t bytes, records;
};

static bool write_log_record(void *context, const struct log_record *record, uint64_t offset)
{
    struct log_files *files = context;

    fprintf(files->list,
            "{\"sequence\": %" PRIu64 ", \"pool_offset\": %" PRIu64 ", \"offset\": %" PRIu64
            ", \"bytes\": %" PRIu64 ", \"entries\": %" PRIu32 "}\n",
            record->sequence, offset, files->bytes, record->bytes, record->entry_count);
    fwrite(record, record->bytes, 1, files->raw);
    files->bytes += record->bytes;
    files->records++;
    return true;
}

static int write_log(struct salvaging *to, json_t *json)
{
    static struct view view;
    struct log_files files = {0};
    bool is_damaged;
    int status = 0;

    if (!to->salvage.has_superblock || to->salvage.super.log.extent_count == 0 ||
        pool_open(&view.pool, to->salvage.path, POOL_READ, NULL) < 0)
        return 0;
    view.lock_fd = -1;
    view.generation.number = to->salvage.super.log.generation;
    files.raw = open_file(to, to->directory, "log.raw");
    files.list = files.raw ? open_file(to, to->directory, "log.jsonl") : NULL;
    if (files.list && arena_create(&view.arena, 16ull << 30) == 0)
        status = opened_each_record(&view, write_log_record, &files, &is_damaged, &to->why);
    if (files.raw && close_file(to, files.raw, "log.raw") < 0)
        status = to->why.status;
    if (files.list && close_file(to, files.list, "log.jsonl") < 0)
        status = to->why.status;
    view_close(&view);
    json_object_set_new(json, "log",
                        json_pack("{s:I, s:I}", "generation",
                                  (json_int_t)to->salvage.super.log.generation, "records",
                                  (json_int_t)files.records));
    return files.list ? status : to->why.status;
}

/* --- in order --- */

static int write_index(struct salvaging *to, json_t *json)
{
    FILE *file = open_file(to, to->directory, "index.json");

    if (!file)
        return to->why.status;
    json_dumpf(json, file, JSON_INDENT(2));
    return close_file(to, file, "index.json");
}

static int write_all(struct salvaging *to, const struct recover_request *request)
{
    json_t *json =
        json_pack("{s:s, s:b, s:I, s:I, s:I, s:o}", "pool", request->path, "superblock_valid",
                  to->salvage.has_superblock, "file_bytes", (json_int_t)to->salvage.file_bytes,
                  "frames", (json_int_t)to->salvage.frame_count, "unreadable_frames",
                  (json_int_t)to->salvage.unreadable, "images", to->images);
    int status = make_directory(to, to->directory);

    for (uint32_t i = 0; status == 0 && i < to->salvage.image_count; i++)
        if (!request->generation || to->salvage.images[i].entry.number == request->generation)
            status = write_image(to, &to->salvage.images[i]);
    if (status == 0)
        status = write_log(to, json);
    if (status == 0)
        status = write_index(to, json);
    json_decref(json);
    return status;
}

static bool is_all_whole(const struct salvaging *to)
{
    size_t i;
    json_t *image;

    json_array_foreach(to->images, i, image)
    {
        const char *source = json_string_value(json_object_get(image, "source"));

        if (strcmp(source, sources[SALVAGE_LISTED]) == 0 &&
            !json_is_true(json_object_get(image, "whole")))
            return false;
    }
    return to->salvage.has_superblock;
}

int recover_salvage(const struct recover_request *request)
{
    static struct salvaging to;
    int status = salvage_open(&to.salvage, request->path, &to.why);
    bool is_whole = false;

    to.directory = request->directory;
    to.images = json_array();
    json_incref(to.images);
    if (status == 0)
        status = write_all(&to, request);
    if (status == 0) {
        is_whole = is_all_whole(&to);
        printf("%s: %zu generation%s, %" PRIu64 " pages, %" PRIu64 " of them damaged, %" PRIu64
               " blocks in %s%s\n",
               request->path, json_array_size(to.images),
               json_array_size(to.images) == 1 ? "" : "s", to.pages, to.damaged, to.blocks,
               request->directory, is_whole ? "" : "; index.json says what is missing");
    }
    json_decref(to.images);
    salvage_close(&to.salvage);
    if (status < 0)
        return report_problem("recover", request->path, &to.why);
    return is_whole ? EXIT_FINE : EXIT_DAMAGED;
}
