/*
 * image.c - see salvage.h and README.md: the file read once, superblocks looked into, and the pages
 * that an index leads to.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/pool/pool.h"
#include "recovery/salvage/salvage.h"

#define READ_FRAMES 256u

int salvage_read(const struct salvage *salvage, uint64_t frame, void *buffer)
{
    if (frame >= salvage->frame_count)
        return -EIO;
    return sys_pread_all(salvage->fd, buffer, FRAME_BYTES, frame << FRAME_SHIFT);
}

/* --- the file --- */

static void sum_frames(struct salvage *salvage, uint64_t first, uint64_t count, uint8_t *buffer)
{
    int status = sys_pread_all(salvage->fd, buffer, count << FRAME_SHIFT, first << FRAME_SHIFT);

    for (uint64_t i = 0; i < count; i++) {
        uint8_t *frame = buffer + (i << FRAME_SHIFT);

        if (status < 0 && salvage_read(salvage, first + i, frame) < 0)
            salvage->unreadable++;
        else
            salvage->sums[first + i] = checksum64(frame, FRAME_BYTES);
    }
}

static int sum_all(struct salvage *salvage)
{
    uint8_t *buffer = malloc(READ_FRAMES * FRAME_BYTES);

    salvage->sums = calloc(salvage->frame_count + 1, sizeof *salvage->sums);
    if (buffer == NULL || salvage->sums == NULL) {
        free(buffer);
        return -ENOMEM;
    }
    for (uint64_t first = 0; first < salvage->frame_count; first += READ_FRAMES) {
        uint64_t left = salvage->frame_count - first;

        sum_frames(salvage, first, left < READ_FRAMES ? left : READ_FRAMES, buffer);
    }
    free(buffer);
    return 0;
}

static int judge_file(struct salvage *salvage, struct problem *why)
{
    uint32_t user = (uint32_t)sys_call(SYS_geteuid);
    struct stat info;
    int status = sys_fstat(salvage->fd, &info);

    if (status < 0)
        return problem_set(why, status, "cannot examine '%s': %s", salvage->path,
                           status_text(status));
    if (!S_ISREG(info.st_mode))
        return problem_set(why, STATUS_NOT_A_POOL,
                           "'%s' is not a pool: it is no regular file; name another path",
                           salvage->path);
    if (info.st_uid != user && user != 0)
        return problem_set(why, STATUS_NOT_OWNER,
                           "pool '%s' belongs to user %u, not to you (user %u): only its owner may "
                           "use it",
                           salvage->path, info.st_uid, user);
    salvage->file_bytes = (uint64_t)info.st_size;
    return 0;
}

/* --- superblocks --- */

static bool is_known(const struct salvage *salvage, const struct generation_entry *entry)
{
    for (uint32_t i = 0; i < salvage->image_count; i++) {
        const struct generation_entry *known = &salvage->images[i].entry;

        if (known->number == entry->number &&
            known->index_root.checksum == entry->index_root.checksum &&
            known->index_delta.checksum == entry->index_delta.checksum)
            return true;
    }
    return false;
}

/* Does any frame that it names bear it out? */
static bool is_borne_out(const struct salvage *salvage, const struct generation_entry *entry)
{
    return salvage_proves(salvage, entry->index_root) ||
           (entry->index_delta.frames == 1 &&
            salvage_proves(salvage, (struct index_entry){entry->index_delta.frame,
                                                         entry->index_delta.checksum}));
}

static void take_entries(struct salvage *salvage, const struct superblock *super,
                         enum salvage_source source)
{
    for (uint32_t i = 0; i < SUPERBLOCK_GENERATIONS; i++) {
        const struct generation_entry *entry = &super->generations[i];

        if (source == SALVAGE_LISTED ? i >= super->generation_count : !is_borne_out(salvage, entry))
            continue;
        if (salvage->image_count == SALVAGE_IMAGES_MAX || is_known(salvage, entry))
            continue;
        salvage->images[salvage->image_count].source = source;
        salvage->images[salvage->image_count++].entry = *entry;
    }
}

/* The writer of a pool in use does not give their frames to others meanwhile; if it is just
 * dropping one, its pages turn out to be damaged. */
static void lock_images(const struct salvage *salvage)
{
    for (uint32_t i = 0; i < salvage->image_count; i++) {
        struct flock lock = {.l_type = F_RDLCK,
                             .l_whence = SEEK_SET,
                             .l_start =
                                 LOCK_BYTE_GENERATION + (int64_t)salvage->images[i].entry.number,
                             .l_len = 1};

        if (salvage->images[i].entry.number < (uint64_t)LOCK_BYTE_GENERATION)
            (void)sys_call(SYS_fcntl, salvage->fd, F_OFD_SETLK, &lock);
    }
}

/* The one in force first: of what the other one lists and this one has dropped, frames may have
 * been used again. */
static void take_valid(struct salvage *salvage, struct superblock pair[2], bool valid[2])
{
    for (int i = 0; i < 2; i++)
        valid[i] = salvage_read(salvage, (uint64_t)i, &pair[i]) == 0 &&
                   superblock_is_valid(&pair[i]) && pair[i].sequence % 2 == (uint64_t)i;
    if (valid[1] && (!valid[0] || pair[1].sequence > pair[0].sequence)) {
        struct superblock other = pair[0];

        pair[0] = pair[1];
        pair[1] = other;
        valid[1] = valid[0];
        valid[0] = true;
    }
    salvage->has_superblock = valid[0];
    if (!valid[0])
        return;
    salvage->super = pair[0];
    take_entries(salvage, &pair[0], SALVAGE_LISTED);
    lock_images(salvage);
}

int salvage_open(struct salvage *salvage, const char *path, struct problem *why)
{
    struct superblock pair[2] = {0};
    bool valid[2];
    int status;

    memset(salvage, 0, sizeof *salvage);
    snprintf(salvage->path, sizeof salvage->path, "%s", path);
    salvage->fd = sys_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
    if (salvage->fd < 0)
        return problem_set(why, salvage->fd, "cannot open '%s': %s", path,
                           status_text(salvage->fd));
    status = judge_file(salvage, why);
    if (status < 0)
        return status;
    salvage->frame_count = salvage->file_bytes >> FRAME_SHIFT;
    take_valid(salvage, pair, valid);
    status = sum_all(salvage);
    if (status == 0) {
        if (!valid[0])
            take_entries(salvage, &pair[0], SALVAGE_NAMED);
        take_entries(salvage, &pair[1], valid[1] ? SALVAGE_DROPPED : SALVAGE_NAMED);
        if (!valid[0])
            status = salvage_find(salvage);
    }
    if (status < 0)
        return problem_set(why, status, "no memory to look through '%s': %lu frames", path,
                           salvage->frame_count);
    return 0;
}

void salvage_close(struct salvage *salvage)
{
    free(salvage->sums);
    if (salvage->fd > 0)
        sys_close(salvage->fd);
    memset(salvage, 0, sizeof *salvage);
}

/* --- the pages of an image --- */

struct collecting {
    const struct salvage *salvage;
    struct salvage_pages *out;
    uint64_t room;
    uint8_t *gone_into; /* a bit a frame */
};

static bool go_into(struct collecting *to, uint64_t frame)
{
    uint8_t bit = (uint8_t)(1 << frame % 8);
    bool was = to->gone_into[frame / 8] & bit;

    to->gone_into[frame / 8] |= bit;
    return !was;
}

static int add_page(struct collecting *to, uint64_t page, struct index_entry entry)
{
    struct salvage_pages *out = to->out;
    bool is_present = entry.frame >= FRAME_FIRST && entry.frame < to->salvage->frame_count;

    out->lost_frames += entry.frame >= to->salvage->frame_count;
    if (out->count == to->room) {
        uint64_t room = to->room ? to->room * 2 : 4096;
        struct salvage_page *pages = realloc(out->pages, room * sizeof *pages);

        if (pages == NULL)
            return -ENOMEM;
        out->pages = pages;
        to->room = room;
    }
    out->pages[out->count++] = (struct salvage_page){page, is_present ? entry.frame : FRAME_NONE,
                                                     !salvage_proves(to->salvage, entry)};
    return 0;
}

static uint64_t first_page_below(uint64_t page, int level, unsigned i)
{
    return page | (uint64_t)i << (level * INDEX_LEVEL_BITS);
}

/* Below a node that is damaged an entry counts only if it proves itself. */
static int walk_node(struct collecting *to, uint64_t frame, int level, uint64_t page, bool is_whole)
{
    struct index_node node;
    int status = 0;

    if (!go_into(to, frame))
        return 0;
    if (salvage_read(to->salvage, frame, &node) < 0) {
        to->out->damaged_nodes++;
        return 0;
    }
    to->out->damaged_nodes += !is_whole;
    for (unsigned i = 0; status == 0 && i < INDEX_NODE_ENTRIES; i++) {
        struct index_entry entry = node.entries[i];
        uint64_t below = first_page_below(page, level, i);
        bool proves = salvage_proves(to->salvage, entry);

        if (entry.frame < FRAME_FIRST || (!is_whole && !proves))
            continue;
        if (level == 0)
            status = add_page(to, below, entry);
        else if (entry.frame < to->salvage->frame_count)
            status = walk_node(to, entry.frame, level - 1, below, proves);
        else
            to->out->damaged_nodes++;
    }
    return status;
}

/* Of the deltas, in a list, oldest first, what a page was last said to be counts. */
static int add_delta(struct collecting *to, const uint8_t *bytes, uint64_t size, bool is_whole)
{
    const struct index_delta *delta = (const struct index_delta *)bytes;
    uint64_t most = (size - sizeof *delta) / sizeof delta->entries[0];
    uint64_t count = delta->entry_count < most ? delta->entry_count : most;
    int status = 0;

    for (uint64_t i = 0; status == 0 && i < (is_whole ? count : most); i++) {
        struct index_entry entry = delta->entries[i].entry;
        uint64_t page = delta->entries[i].page_and_more & ((1ull << DELTA_PAGE_BITS) - 1);
        uint64_t more = delta->entries[i].page_and_more >> DELTA_PAGE_BITS;

        if (!is_whole && !salvage_proves(to->salvage, entry))
            continue;
        for (uint64_t k = 0; status == 0 && k <= (entry.frame < FRAME_FIRST ? more : 0); k++)
            status = add_page(to, page + k, entry);
    }
    return status;
}

/* A delta that no newer one names: its checksum is known to nobody. */
static bool all_prove(const struct salvage *salvage, const uint8_t *bytes, uint64_t size)
{
    const struct index_delta *delta = (const struct index_delta *)bytes;

    if (delta->entry_count > (size - sizeof *delta) / sizeof delta->entries[0])
        return false;
    for (uint64_t i = 0; i < delta->entry_count; i++)
        if (delta->entries[i].entry.frame >= FRAME_FIRST &&
            !salvage_proves(salvage, delta->entries[i].entry))
            return false;
    return true;
}

static uint8_t *read_run(const struct salvage *salvage, uint64_t first, uint64_t frames)
{
    uint8_t *bytes;

    if (first < FRAME_FIRST || first >= salvage->frame_count || frames == 0 ||
        frames > salvage->frame_count - first)
        return NULL;
    bytes = malloc(frames << FRAME_SHIFT);
    if (bytes != NULL &&
        sys_pread_all(salvage->fd, bytes, frames << FRAME_SHIFT, first << FRAME_SHIFT) < 0) {
        free(bytes);
        bytes = NULL;
    }
    return bytes;
}

/* Oldest first, so this goes to the end of the chain before it adds. */
static int add_chain(struct collecting *to, struct delta_place place, int depth)
{
    uint8_t *bytes;
    bool is_whole;
    int status;

    if (place.frames == 0 || depth == DELTAS_MAX)
        return 0;
    bytes = read_run(to->salvage, place.frame, place.frames);
    if (bytes == NULL || !go_into(to, place.frame)) {
        to->out->damaged_nodes++;
        free(bytes);
        return 0;
    }
    is_whole = place.checksum ? checksum64(bytes, place.frames << FRAME_SHIFT) == place.checksum
                              : all_prove(to->salvage, bytes, place.frames << FRAME_SHIFT);
    to->out->damaged_nodes += !is_whole;
    status = add_chain(to, ((const struct index_delta *)bytes)->before, depth + 1);
    if (status == 0)
        status = add_delta(to, bytes, place.frames << FRAME_SHIFT, is_whole);
    free(bytes);
    return status;
}

/* By page; of one page, those that were added later last. */
static int by_page(const void *a, const void *b)
{
    const struct salvage_page *left = a, *right = b;

    return left->page < right->page ? -1 : left->page > right->page;
}

/* A merge sort keeps what is equal in its order, which qsort() need not. */
static int sort_pages(struct salvage_pages *out)
{
    uint64_t count = out->count, kept = 0;
    struct salvage_page *other = malloc((count + 1) * sizeof *other), *from = out->pages, *swap;

    if (other == NULL)
        return -ENOMEM;
    for (uint64_t width = 1; width < count; width *= 2) {
        for (uint64_t start = 0; start < count; start += 2 * width) {
            uint64_t middle = start + width < count ? start + width : count;
            uint64_t end = start + 2 * width < count ? start + 2 * width : count;
            uint64_t a = start, b = middle;

            for (uint64_t i = start; i < end; i++)
                other[i] = b == end || (a < middle && by_page(&from[a], &from[b]) <= 0) ? from[a++]
                                                                                        : from[b++];
        }
        swap = from;
        from = other;
        other = swap;
    }
    for (uint64_t i = 0; i < count; i++)
        if (i + 1 == count || from[i].page != from[i + 1].page)
            from[kept++] = from[i];
    free(other);
    out->pages = from;
    out->count = kept;
    return 0;
}

/* Those that show zero, or whose frame lies beyond the file's end, have nothing to be read. */
static void drop_empty(struct salvage_pages *out)
{
    uint64_t kept = 0;

    for (uint64_t i = 0; i < out->count; i++)
        if (out->pages[i].frame >= FRAME_FIRST) {
            out->damaged += out->pages[i].is_damaged;
            out->pages[kept++] = out->pages[i];
        }
    out->count = kept;
}

int salvage_pages(const struct salvage *salvage, const struct salvage_image *image,
                  struct salvage_pages *out)
{
    struct collecting to = {.salvage = salvage, .out = out};
    const struct index_entry root = image->entry.index_root;
    int status = 0;

    memset(out, 0, sizeof *out);
    to.gone_into = calloc(salvage->frame_count / 8 + 1, 1);
    if (to.gone_into == NULL)
        return -ENOMEM;
    if (root.frame >= FRAME_FIRST && root.frame < salvage->frame_count)
        status = walk_node(&to, root.frame, INDEX_LEVELS - 1, 0, salvage_proves(salvage, root));
    else
        out->damaged_nodes += root.frame != FRAME_NONE;
    if (status == 0)
        status = add_chain(&to, image->entry.index_delta, 0);
    if (status == 0)
        status = sort_pages(out);
    drop_empty(out);
    free(to.gone_into);
    if (status < 0) {
        free(out->pages);
        memset(out, 0, sizeof *out);
    }
    return status;
}

uint8_t *salvage_record(const struct salvage *salvage, const struct salvage_image *image,
                        bool *is_whole)
{
    const struct generation_entry *entry = &image->entry;
    uint64_t frames = (entry->record_bytes + FRAME_BYTES - 1) / FRAME_BYTES;
    uint8_t *record = read_run(salvage, entry->record_frame, frames);

    *is_whole = record != NULL && checksum64(record, entry->record_bytes) == entry->record_checksum;
    return record;
}
