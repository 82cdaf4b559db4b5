/*
 * superblock.c - the pair of superblocks.
 *
 * What must always be true:
 *   1. sequence n lies in frame n % 2, so a write never touches the superblock in force;
 *   2. a superblock is judged completely before its sequence is compared with the other's;
 *   3. nothing outside this file uses a number from a superblock that superblock_is_valid() has
 *      not passed.
 */
#include "core/pool/superblock.h"

#include <errno.h>
#include <string.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/pool/mutant.h"
#include "core/pool/pool.h"

static uint64_t checksum_of(const struct superblock *super)
{
    return checksum64(super, __builtin_offsetof(struct superblock, checksum));
}

static bool has_magic(const struct superblock *super)
{
    return memcmp(super->magic, POOL_MAGIC, sizeof super->magic) == 0;
}

static bool frames_fit(uint64_t first, uint64_t frames, uint64_t frame_count)
{
    return first >= FRAME_FIRST && first < frame_count && frames <= frame_count - first;
}

static bool record_is_valid(const struct generation_entry *entry, uint64_t frame_count)
{
    uint64_t frames = entry->record_bytes / FRAME_BYTES + (entry->record_bytes % FRAME_BYTES != 0);

    if (entry->record_bytes == 0)
        return entry->record_frame == FRAME_NONE;
    return frames_fit(entry->record_frame, frames, frame_count);
}

static bool delta_is_valid(const struct delta_place *delta, uint64_t frame_count)
{
    if (delta->frames == 0)
        return delta->frame == FRAME_NONE;
    return frames_fit(delta->frame, delta->frames, frame_count);
}

static bool entry_is_valid(const struct generation_entry *entry, const struct superblock *super)
{
    bool root = entry->index_root.frame == FRAME_NONE ||
                frames_fit(entry->index_root.frame, 1, super->frame_count);

    return entry->number > 0 && entry->number < super->next_generation &&
           entry->kind >= GENERATION_PROCESS && entry->kind <= GENERATION_CRASH &&
           pool_slot_is_valid(entry->slot) && root && entry->page_count < super->frame_count &&
           record_is_valid(entry, super->frame_count) &&
           delta_is_valid(&entry->index_delta, super->frame_count);
}

static bool log_is_valid(const struct superblock *super)
{
    const struct log_place *log = &super->log;

    if (log->extent_count > LOG_EXTENTS || log->generation >= super->next_generation)
        return false;
    for (uint32_t i = 0; i < log->extent_count; i++)
        if (log->extents[i].frames == 0 ||
            !frames_fit(log->extents[i].frame, log->extents[i].frames, super->frame_count))
            return false;
    if (log->extent_count == 0)
        return true;
    return super->format_version > POOL_FORMAT_NO_LOG && log->start_extent < log->extent_count &&
           log->start <= log->extents[log->start_extent].frames << FRAME_SHIFT &&
           log->start % LOG_ALIGN == 0;
}

static bool entries_are_valid(const struct superblock *super)
{
    if (super->generation_count > SUPERBLOCK_GENERATIONS)
        return false;
    for (uint32_t i = 0; i < super->generation_count; i++) {
        if (!entry_is_valid(&super->generations[i], super))
            return false;
        if (i > 0 && super->generations[i - 1].number >= super->generations[i].number)
            return false;
    }
    return true;
}

bool superblock_is_valid(const struct superblock *super)
{
    return has_magic(super) && super->format_version >= POOL_FORMAT_OLDEST &&
           super->format_version <= POOL_FORMAT_VERSION && super->checksum == checksum_of(super) &&
           pool_slot_is_valid(super->slot) && super->run_state <= RUN_ENDED && super->keep >= 1 &&
           super->keep <= SUPERBLOCK_KEEP_MAX && super->next_generation >= 1 &&
           super->resumed_generation < super->next_generation &&
           super->run_first_generation <= super->next_generation &&
           super->frame_count >= FRAME_FIRST && super->frame_count < 1ull << 40 &&
           entries_are_valid(super) && log_is_valid(super);
}

/* A later format keeps magic, version, sequence and checksum where they are. */
static bool is_newer_format(const struct superblock *super)
{
    return has_magic(super) && super->format_version > POOL_FORMAT_VERSION &&
           super->checksum == checksum_of(super);
}

void superblock_seal(struct superblock *super)
{
    memcpy(super->magic, POOL_MAGIC, sizeof super->magic);
    if (super->log.extent_count == 0)
        super->format_version = POOL_FORMAT_NO_LOG;
    else if (super->format_version < POOL_FORMAT_LOG)
        super->format_version = POOL_FORMAT_LOG;
    super->checksum = checksum_of(super);
}

static int refuse(const struct superblock pair[2], size_t bytes, const char *path,
                  struct problem *why)
{
    if (bytes == 0)
        return problem_set(why, STATUS_NOT_A_POOL,
                           "'%s' is not a pool: the file is empty; name another path, or remove "
                           "the file and a pool is made there",
                           path);
    if (!has_magic(&pair[0]) && !has_magic(&pair[1]))
        return problem_set(why, STATUS_NOT_A_POOL,
                           "'%s' is not a pool: no '%s' at offset 0 or 4096; name another path",
                           path, POOL_MAGIC);
    return problem_set(why, STATUS_DAMAGED,
                       "pool '%s' is damaged: neither superblock (offsets 0 and 4096) is valid; "
                       "`pheap recover --check` says what is wrong with each",
                       path);
}

static ssize_t read_frames(int fd, struct superblock pair[2])
{
    size_t done = 0;

    while (done < 2 * FRAME_BYTES) {
        ssize_t got = sys_pread(fd, (uint8_t *)pair + done, 2 * FRAME_BYTES - done, done);

        if (got == -EINTR)
            continue;
        if (got < 0)
            return got;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

static bool is_in_force(const struct superblock pair[2], int i)
{
    return superblock_is_valid(&pair[i]) && pair[i].sequence % 2 == (uint64_t)i;
}

const struct generation_entry *superblock_newest_kept(const struct superblock *super)
{
    for (uint32_t i = super->generation_count; i-- > 0;)
        if (super->generations[i].kind != GENERATION_CRASH)
            return &super->generations[i];
    return NULL;
}

void superblock_unlist(struct superblock *super, uint64_t number)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < super->generation_count; i++)
        if (super->generations[i].number != number)
            super->generations[kept++] = super->generations[i];
    memset(&super->generations[kept], 0,
           (super->generation_count - kept) * sizeof super->generations[0]);
    super->generation_count = kept;
}

/* 0 or 1, or -1 when neither will do. */
static int choose(const struct superblock pair[2], struct superblock_choice *choice)
{
    const struct superblock *other;
    int best = is_in_force(pair, 0) ? 0 : -1;

    if (is_in_force(pair, 1) && (best < 0 || pair[1].sequence > pair[0].sequence))
        best = 1;
    if (best < 0)
        return -1;
    other = &pair[!best];
    choice->newest = pair[best];
    choice->fell_back = !is_in_force(pair, !best);
    choice->previous = (struct generation_entry){0};
    if (!choice->fell_back && superblock_newest_kept(other) != NULL)
        choice->previous = *superblock_newest_kept(other);
    return best;
}

int superblock_read_pair(int fd, const char *path, struct superblock_choice *choice,
                         struct problem *why)
{
    struct superblock pair[2];
    ssize_t bytes;
    int best;

    memset(pair, 0, sizeof pair);
    bytes = read_frames(fd, pair);
    if (bytes < 0)
        return problem_set(why, (int)bytes, "cannot read the superblocks of pool '%s': %s", path,
                           status_text((int)bytes));
    best = choose(pair, choice);
    for (int i = 0; i < 2; i++)
        if (is_newer_format(&pair[i]) && (best < 0 || pair[i].sequence > pair[best].sequence))
            return problem_set(why, STATUS_NEWER_FORMAT,
                               "pool '%s' has format version %u, this pheap reads version %u: "
                               "use the pheap that wrote it, or a later one",
                               path, pair[i].format_version, POOL_FORMAT_VERSION);
    return best < 0 ? refuse(pair, (size_t)bytes, path, why) : 0;
}

int superblock_write(struct persist *persist, const struct superblock *super)
{
    int status = persist_grow(persist, 2 * FRAME_BYTES); /* a file that was cut short */

    if (status < 0)
        return status;
    return persist_write(persist, (super->sequence % 2) * FRAME_BYTES, super, sizeof *super);
}

int superblock_format(struct persist *persist, const uint8_t uuid[16], uint32_t slot, uint32_t keep,
                      uint64_t now_ns)
{
    struct superblock super;
    int status = 0;

    memset(&super, 0, sizeof super);
    memcpy(super.uuid, uuid, sizeof super.uuid);
    super.created_ns = now_ns;
    super.slot = slot;
    super.keep = keep;
    super.run_first_generation = 1;
    super.next_generation = 1;
    super.frame_count = persist->file_bytes >> FRAME_SHIFT;
    for (; status == 0 && super.sequence < 2; super.sequence++) {
        superblock_seal(&super);
        status = superblock_write(persist, &super);
    }
    return status;
}
