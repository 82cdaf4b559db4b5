/*
 * copy.c - see copy.h and README.md.
 *
 * What must always be true: no byte of the pool is changed; a page is in the new file once, and was
 * compared with its checksum on the way; the new file has the name that was asked for only once it
 * is durable and has passed the checker.
 */
#include "recovery/copy/copy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/pool/superblock.h"
#include "recovery/check/check.h"
#include "recovery/copy/copying.h"
#include "recovery/copy/unfinished.h"

#define ARENA_BYTES     (16ull << 30) /* reserved, not used: indexes of very large pools */
#define PROGRESS_FRAMES 4096u

/* --- the new file --- */

int output_flush(struct output *output)
{
    uint64_t count = output->next_frame - output->flushed_frames;
    int status = sys_pwrite_all(output->fd, output->frames, count << FRAME_SHIFT,
                                output->flushed_frames << FRAME_SHIFT);

    if (status == 0)
        output->flushed_frames = output->next_frame;
    return status;
}

int output_append(struct output *output, const void *frame, uint64_t *where)
{
    uint64_t buffered = output->next_frame - output->flushed_frames;

    memcpy(output->frames[buffered], frame, FRAME_BYTES);
    *where = output->next_frame++;
    return buffered + 1 == OUTPUT_FRAMES ? output_flush(output) : 0;
}

/* --- one generation --- */

static int copy_page(struct copying *copying, struct index_entry entry)
{
    const struct copy_request *request = copying->request;
    uint8_t page[FRAME_BYTES];
    int status;

    if (entry.frame >= copying->moved_room)
        return problem_set(copying->why, STATUS_DAMAGED,
                           "an index of pool '%s' names frame %lu, which it does not have",
                           request->pool->path, entry.frame);
    if (copying->moved[entry.frame] != 0)
        return 0;
    if (request->progress != NULL && copying->output.next_frame % PROGRESS_FRAMES == 0)
        request->progress(request->context, copying->output.next_frame << FRAME_SHIFT,
                          request->needed_bytes);
    status = pool_read_page(request->pool, entry, page, copying->why);
    if (status < 0)
        return status;
    return output_append(&copying->output, page, &copying->moved[entry.frame]);
}

static int copy_pages(void *context, uint64_t first_page,
                      const struct index_entry entries[INDEX_NODE_ENTRIES])
{
    struct copying *copying = context;
    int status = 0;

    (void)first_page;
    for (unsigned i = 0; status == 0 && i < INDEX_NODE_ENTRIES; i++)
        if (entries[i].frame >= FRAME_FIRST)
            status = copy_page(copying, entries[i]);
    return status;
}

static int copy_record(struct copying *copying, struct generation_entry *entry)
{
    uint64_t frames = (entry->record_bytes + FRAME_BYTES - 1) / FRAME_BYTES, where;
    uint8_t *record = entry->record_bytes ? calloc(frames, FRAME_BYTES) : NULL;
    int status;

    if (entry->record_bytes == 0)
        return 0;
    if (record == NULL)
        return -ENOMEM;
    status = pool_read_record(copying->request->pool, entry, record, copying->why);
    entry->record_frame = copying->output.next_frame;
    for (uint64_t i = 0; status == 0 && i < frames; i++)
        status = output_append(&copying->output, record + i * FRAME_BYTES, &where);
    free(record);
    return status;
}

static int copy_generation(struct copying *copying, struct generation_entry *entry)
{
    uintptr_t mark = arena_mark(&copying->arena);
    struct index_tree *tree;
    int status =
        index_open(&tree, &copying->arena, copying->request->pool->fd, generation_index(entry));

    if (status == 0)
        status = index_each_leaf(tree, 0, INDEX_PAGE_LIMIT, copy_pages, copying);
    if (status == 0)
        status = copy_index(copying, tree, &entry->index_root);
    entry->index_delta = (struct delta_place){0, 0, 0};
    if (status == 0)
        status = copy_record(copying, entry);
    arena_rewind(&copying->arena, mark);
    return status;
}

/* --- all of them --- */

static int new_identity(struct superblock *super)
{
    long got = sys_call(SYS_getrandom, super->uuid, sizeof super->uuid, 0);

    super->created_ns = sys_clock_ns(CLOCK_REALTIME);
    return got == (long)sizeof super->uuid ? 0 : got < 0 ? (int)got : -EIO;
}

/* One after the other, so that a sequence lies in its frame. */
static int write_superblocks(struct copying *copying)
{
    struct superblock *super = &copying->super;
    int status = 0;

    super->frame_count = copying->output.next_frame;
    for (int i = 0; status == 0 && i < 2; i++) {
        super->sequence++;
        superblock_seal(super);
        status = sys_pwrite_all(copying->output.fd, super, sizeof *super,
                                super->sequence % 2 * FRAME_BYTES);
    }
    return status;
}

static int copy_all(struct copying *copying)
{
    int status = copying->request->new_identity ? new_identity(&copying->super) : 0;

    for (uint32_t i = 0; status == 0 && i < copying->super.generation_count; i++)
        status = copy_generation(copying, &copying->super.generations[i]);
    if (status == 0)
        status = copy_log(copying);
    if (status == 0)
        status = output_flush(&copying->output);
    if (status == 0)
        status = write_superblocks(copying);
    if (status == 0)
        status = (int)sys_call(SYS_fsync, copying->output.fd);
    if (status < 0 && copying->why->status != status)
        problem_set(copying->why, status, "cannot copy pool '%s' to '%s': %s; it is unchanged",
                    copying->request->pool->path, copying->request->to, status_text(status));
    return status;
}

static void ignore_finding(void *context, const struct finding *finding)
{
    (void)context, (void)finding;
}

/* What was written is what a checker that knows nothing of it calls whole. */
static int check_copy(struct copying *copying, const char *temporary)
{
    const struct check_request check = {
        .path = temporary, .heaps = HEAPS_OF_NONE, .found = ignore_finding};
    struct check_result *result = malloc(sizeof *result);
    int status = result ? check_pool(&check, result, copying->why) : -ENOMEM;
    bool is_whole = status == 0 && result->worst == SEVERITY_NONE &&
                    result->generation_count == copying->super.generation_count;

    free(result);
    if (status == 0 && !is_whole)
        status = problem_set(copying->why, STATUS_DAMAGED,
                             "the copy of pool '%s' is not whole, it is given up and the pool "
                             "unchanged; `pheap recover --check` says more",
                             copying->request->pool->path);
    return status;
}

/* --- its name --- */

static int give_name(struct copying *copying, const char *temporary)
{
    const struct copy_request *request = copying->request;
    int status = (int)sys_call(SYS_renameat2, AT_FDCWD, temporary, AT_FDCWD, request->to,
                               request->replaces ? 0 : RENAME_NOREPLACE);

    if (status < 0)
        return problem_set(copying->why, status, "cannot rename '%s' to '%s': %s", temporary,
                           request->to, status_text(status));
    status = pool_sync_directory(request->to);
    if (status < 0)
        return problem_set(copying->why, status, "cannot make '%s' durable: %s", request->to,
                           status_text(status));
    return 0;
}

/* --- in order --- */

static int check_space(struct copying *copying)
{
    const struct copy_request *request = copying->request;
    struct statvfs info;
    uint64_t free_bytes;

    if (fstatvfs(copying->output.fd, &info) < 0)
        return 0; /* the writing will tell */
    free_bytes = (uint64_t)info.f_bavail * info.f_frsize;
    if (free_bytes >= request->needed_bytes)
        return 0;
    return problem_set(copying->why, -ENOSPC,
                       "'%s' needs about %lu bytes and there are %lu free; nothing is changed",
                       request->to, request->needed_bytes, free_bytes);
}

/* What the new pool's superblock lists. */
static int choose_generations(struct copying *copying)
{
    const struct superblock *from = &copying->request->pool->super;
    struct superblock *super = &copying->super;

    *super = *from;
    if (copying->request->only == 0)
        return 0;
    memset(super->generations, 0, sizeof super->generations);
    super->generation_count = 0;
    for (uint32_t i = 0; i < from->generation_count; i++)
        if (from->generations[i].number == copying->request->only)
            super->generations[super->generation_count++] = from->generations[i];
    if (super->generation_count == 1)
        return 0;
    return problem_set(copying->why, STATUS_NO_GENERATION,
                       "generation %lu is not in the pool; pheap inspect lists what is",
                       copying->request->only);
}

static int prepare(struct copying *copying)
{
    const struct pool *pool = copying->request->pool;
    int status = check_space(copying);

    if (status == 0)
        status = choose_generations(copying);
    if (status < 0)
        return status;
    copying->moved_room = pool_frames_present(pool);
    copying->moved = calloc(copying->moved_room + 1, sizeof *copying->moved);
    copying->output.frames = malloc((size_t)OUTPUT_FRAMES * FRAME_BYTES);
    copying->output.next_frame = copying->output.flushed_frames = FRAME_FIRST;
    if (copying->moved == NULL || copying->output.frames == NULL ||
        arena_create(&copying->arena, ARENA_BYTES) < 0)
        return problem_set(copying->why, -ENOMEM, "no memory to copy pool '%s'", pool->path);
    return 0;
}

static void clean_up(struct copying *copying)
{
    if (copying->arena.base != 0)
        arena_destroy(&copying->arena);
    free(copying->placed.nodes);
    free(copying->output.frames);
    free(copying->moved);
    sys_close(copying->output.fd);
}

static int open_output(struct copying *copying, char *temporary, size_t size)
{
    const char *to = copying->request->to;
    struct stat info;
    int used = snprintf(temporary, size, "%s.copy-%d", to, sys_getpid());

    if (used < 0 || (size_t)used >= size || to[0] != '/')
        return problem_set(copying->why, -ENAMETOOLONG, "cannot make '%s': %s", to,
                           status_text(-ENAMETOOLONG));
    if (!copying->request->replaces && sys_stat(to, &info) == 0)
        return problem_set(copying->why, STATUS_REFUSED, "'%s' exists: name another file", to);
    copying->output.fd = unfinished_create(temporary);
    if (copying->output.fd < 0)
        return problem_set(copying->why, copying->output.fd, "cannot make '%s': %s", to,
                           status_text(copying->output.fd));
    return 0;
}

int pool_copy(const struct copy_request *request, uint64_t *bytes, struct problem *why)
{
    struct copying copying = {.request = request, .why = why};
    char temporary[4096];
    int status = open_output(&copying, temporary, sizeof temporary);

    if (status < 0)
        return status;
    status = prepare(&copying);
    if (status == 0)
        status = copy_all(&copying);
    if (status == 0)
        status = check_copy(&copying, temporary);
    if (status == 0)
        status = give_name(&copying, temporary);
    if (status < 0)
        (void)sys_call(SYS_unlinkat, AT_FDCWD, temporary, 0);
    unfinished_end();
    *bytes = copying.output.next_frame << FRAME_SHIFT;
    clean_up(&copying);
    return status;
}
