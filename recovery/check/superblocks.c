/*
 * superblocks.c - the pair of superblocks: each field judged, one chosen, its generations locked.
 *
 * What must always be true: a superblock is in force only if every field of it has been found
 * right, so that the steps after this one need not look at them again; and the generations that
 * they look at were still listed after they had been locked.
 */
#include <errno.h>
#include <string.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/pool/pool.h"
#include "core/pool/superblock.h"
#include "recovery/check/checking.h"

#define ATTEMPTS 5 /* a program commits while we look */

#define SUPER_OFFSET(member) __builtin_offsetof(struct superblock, member)

struct judging {
    struct checking *checking;
    const struct superblock *super;
    unsigned which;
    enum severity severity; /* NONE: only find out */
    bool is_valid;
};

/* One fact about one field. */
static bool judge(struct judging *judging, bool is_right, enum finding_kind kind, size_t offset,
                  const char *expected, uint64_t found)
{
    if (is_right)
        return true;
    judging->is_valid = false;
    if (judging->severity != SEVERITY_NONE)
        check_tell(judging->checking, kind, judging->severity,
                   place_at((uint64_t)judging->which * FRAME_BYTES + offset), expected, "%lu",
                   found);
    return false;
}

static bool has_magic(const struct superblock *super)
{
    return memcmp(super->magic, POOL_MAGIC, sizeof super->magic) == 0;
}

static uint64_t checksum_of(const struct superblock *super)
{
    return checksum64(super, SUPER_OFFSET(checksum));
}

static bool run_fits(uint64_t first, uint64_t frames, uint64_t frame_count)
{
    return first >= FRAME_FIRST && first < frame_count && frames <= frame_count - first;
}

static void judge_places(struct judging *judging, const struct generation_entry *entry, size_t at)
{
    uint64_t limit = judging->super->frame_count, bytes = entry->record_bytes;
    uint64_t frames = bytes / FRAME_BYTES + (bytes % FRAME_BYTES != 0);
    const struct delta_place *delta = &entry->index_delta;

    judge(judging,
          entry->index_root.frame == FRAME_NONE || run_fits(entry->index_root.frame, 1, limit),
          GE_ROOT, at + 32, "0, or a frame of the pool", entry->index_root.frame);
    judge(judging,
          delta->frames == 0 ? delta->frame == FRAME_NONE
                             : run_fits(delta->frame, delta->frames, limit),
          GE_DELTA, at + 104, "0, or a run of frames of the pool", delta->frame);
    judge(judging,
          bytes == 0 ? entry->record_frame == FRAME_NONE
                     : run_fits(entry->record_frame, frames, limit),
          GE_RECORD, at + 56, "0, or a run of frames of the pool", entry->record_frame);
    judge(judging, entry->page_count < limit, GE_PAGES, at + 48, "fewer than the pool has frames",
          entry->page_count);
}

static void judge_entry(struct judging *judging, uint32_t i)
{
    const struct superblock *super = judging->super;
    const struct generation_entry *entry = &super->generations[i];
    size_t at = SUPER_OFFSET(generations) + i * sizeof *entry;
    uint64_t before = i > 0 ? entry[-1].number : 0;

    judge(judging, entry->number > before && entry->number < super->next_generation, GE_NUMBER, at,
          "above the one before and below the next one's", entry->number);
    judge(judging, entry->kind >= GENERATION_PROCESS && entry->kind <= GENERATION_CRASH, GE_KIND,
          at + 16, "1 (process), 2 (heap) or 3 (crash)", entry->kind);
    judge(judging, pool_slot_is_valid(entry->slot), GE_SLOT, at + 24, "1 to 50, not 10 or 11",
          entry->slot);
    judge_places(judging, entry, at);
}

static void judge_numbers(struct judging *judging)
{
    const struct superblock *super = judging->super;

    judge(judging, pool_slot_is_valid(super->slot), SB_SLOT, SUPER_OFFSET(slot),
          "1 to 50, not 10 or 11", super->slot);
    judge(judging, super->run_state <= RUN_ENDED, SB_RUN_STATE, SUPER_OFFSET(run_state),
          "0 (none), 1 (started) or 2 (ended)", super->run_state);
    judge(judging, super->keep >= 1 && super->keep <= SUPERBLOCK_KEEP_MAX, SB_KEEP,
          SUPER_OFFSET(keep), "1 to 16", super->keep);
    judge(judging, super->next_generation >= 1, SB_NUMBERS, SUPER_OFFSET(next_generation),
          "at least 1", super->next_generation);
    judge(judging, super->resumed_generation < super->next_generation, SB_NUMBERS,
          SUPER_OFFSET(resumed_generation), "below the next generation's",
          super->resumed_generation);
    judge(judging, super->run_first_generation <= super->next_generation, SB_NUMBERS,
          SUPER_OFFSET(run_first_generation), "not above the next generation's",
          super->run_first_generation);
    judge(judging, super->frame_count >= FRAME_FIRST && super->frame_count < 1ull << 40, SB_FRAMES,
          SUPER_OFFSET(frame_count), "2 to 2^40 - 1", super->frame_count);
}

static void judge_log(struct judging *judging)
{
    const struct superblock *super = judging->super;
    const struct log_place *log = &super->log;

    if (!judge(judging, log->extent_count <= LOG_EXTENTS, LG_PLACE, SUPER_OFFSET(log.extent_count),
               "0 to 16 extents", log->extent_count))
        return;
    judge(judging, log->extent_count == 0 || super->format_version > POOL_FORMAT_NO_LOG, LG_PLACE,
          SUPER_OFFSET(log.extent_count), "none, in format 1 and 2", log->extent_count);
    judge(judging, log->generation < super->next_generation, LG_PLACE, SUPER_OFFSET(log.generation),
          "a generation below the next one", log->generation);
    judge(judging,
          log->extent_count == 0 ||
              (log->start_extent < log->extent_count && log->start % LOG_ALIGN == 0 &&
               log->start <= log->extents[log->start_extent].frames << FRAME_SHIFT),
          LG_PLACE, SUPER_OFFSET(log.start), "a multiple of 64 in one of the extents", log->start);
    for (uint32_t i = 0; i < log->extent_count; i++)
        judge(judging,
              log->extents[i].frames > 0 &&
                  run_fits(log->extents[i].frame, log->extents[i].frames, super->frame_count),
              LG_PLACE, SUPER_OFFSET(log.extents) + i * sizeof log->extents[0],
              "a run of frames of the pool", log->extents[i].frame);
}

/* True: everything about it is right, the numbers of its generations too. */
static bool judge_super(struct checking *checking, unsigned which, enum severity severity)
{
    const struct superblock *super = &checking->pair[which];
    struct judging judging = {checking, super, which, severity, true};

    if (!judge(&judging, has_magic(super), SB_MAGIC, 0, "PHEAPOOL", *(const uint64_t *)super) ||
        !judge(&judging, super->checksum == checksum_of(super), SB_CHECKSUM, SUPER_OFFSET(checksum),
               "the checksum of the bytes before", super->checksum) ||
        !judge(&judging,
               super->format_version >= POOL_FORMAT_OLDEST &&
                   super->format_version <= POOL_FORMAT_VERSION,
               SB_VERSION, SUPER_OFFSET(format_version), "1 to 4", super->format_version))
        return false;
    judge(&judging, super->sequence % 2 == which, SB_PLACE, SUPER_OFFSET(sequence),
          which ? "odd, in frame 1" : "even, in frame 0", super->sequence);
    judge_numbers(&judging);
    judge_log(&judging);
    if (!judge(&judging, super->generation_count <= SUPERBLOCK_GENERATIONS, SB_LIST,
               SUPER_OFFSET(generation_count), "0 to 24", super->generation_count))
        return false;
    for (uint32_t i = 0; i < super->generation_count; i++)
        judge_entry(&judging, i);
    return judging.is_valid;
}

/* --- what is not used, and the two together --- */

static bool all_zero(const void *bytes, size_t count)
{
    const uint8_t *byte = bytes;

    return count == 0 || (byte[0] == 0 && memcmp(byte, byte + 1, count - 1) == 0);
}

static void look_at_reserved(struct checking *checking, unsigned which)
{
    const struct superblock *super = &checking->pair[which];
    uint32_t used = super->generation_count;
    size_t unused_bytes = (SUPERBLOCK_GENERATIONS - used) * sizeof super->generations[0];
    bool is_zero =
        super->reserved0 == 0 && all_zero(super->reserved1, sizeof super->reserved1) &&
        all_zero(super->reserved2, sizeof super->reserved2) &&
        all_zero((const uint8_t *)super->generations + used * sizeof super->generations[0],
                 unused_bytes);

    for (uint32_t i = 0; i < used; i++)
        is_zero = is_zero && super->generations[i].reserved0 == 0;
    if (!is_zero)
        check_tell(checking, SB_RESERVED, SEVERITY_HARMLESS, place_at(which * FRAME_BYTES), "zero",
                   "something else");
}

static void look_at_pair(struct checking *checking)
{
    const struct superblock *a = &checking->pair[0], *b = &checking->pair[1];
    bool same_pool =
        memcmp(a->uuid, b->uuid, sizeof a->uuid) == 0 && a->created_ns == b->created_ns;

    if (!same_pool)
        check_tell(checking, SB_PAIR, SEVERITY_HARMLESS, place_at(0),
                   "one identity and time of creation", "two");
    if (a->sequence + 1 != b->sequence && b->sequence + 1 != a->sequence)
        check_tell(checking, SB_PAIR, SEVERITY_HARMLESS, place_at(SUPER_OFFSET(sequence)),
                   "sequences that follow each other", "%lu and %lu", a->sequence, b->sequence);
}

/* --- chosen, and locked --- */

static int read_pair(struct checking *checking)
{
    uint64_t bytes =
        checking->file_bytes < sizeof checking->pair ? checking->file_bytes : sizeof checking->pair;
    int status;

    memset(checking->pair, 0, sizeof checking->pair);
    status = check_read(checking, checking->pair, bytes, 0);
    if (status < 0)
        return problem_set(checking->why, status, "cannot read the superblocks of '%s': %s",
                           checking->request->path, status_text(status));
    return 0;
}

static void choose(struct checking *checking)
{
    bool valid[2] = {judge_super(checking, 0, SEVERITY_NONE),
                     judge_super(checking, 1, SEVERITY_NONE)};
    int best = valid[0] ? 0 : -1;

    if (valid[1] && (best < 0 || checking->pair[1].sequence > checking->pair[0].sequence))
        best = 1;
    checking->in_force = best;
    checking->result->super_fell_back = best >= 0 && !valid[!best];
}

static int lock_byte(const struct checking *checking, int command, short type, int64_t byte,
                     bool *is_held)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    int status = (int)sys_call(SYS_fcntl, checking->fd, command, &lock);

    *is_held = status == 0 && lock.l_type == F_WRLCK;
    return status;
}

/* Which generations are looked at. False: the writer is just dropping one of them. */
static bool lock_generations(struct checking *checking)
{
    const struct superblock *super = &checking->pair[checking->in_force];
    uint32_t count = super->generation_count, first;
    bool is_held;

    (void)lock_byte(checking, F_OFD_GETLK, F_RDLCK, LOCK_BYTE_WRITER, &is_held);
    checking->result->is_in_use = is_held;
    first = is_held && count > 0 ? count - 1 : 0;
    checking->looks_at = 0;
    for (uint32_t i = first; i < count; i++) {
        int64_t byte = LOCK_BYTE_GENERATION + (int64_t)super->generations[i].number;

        if (super->generations[i].number < (uint64_t)LOCK_BYTE_GENERATION &&
            lock_byte(checking, F_OFD_SETLK, F_RDLCK, byte, &is_held) == -EAGAIN)
            return false;
        checking->looks_at |= 1u << i;
    }
    return true;
}

/* True: nothing has changed since the generations were locked. */
static bool is_settled(struct checking *checking, const struct superblock *chosen)
{
    choose(checking);
    return checking->in_force >= 0 &&
           memcmp(chosen, &checking->pair[checking->in_force], sizeof *chosen) == 0;
}

static int choose_and_lock(struct checking *checking)
{
    struct superblock chosen;

    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        int status = read_pair(checking);

        if (status < 0)
            return status;
        choose(checking);
        if (checking->in_force < 0 && attempt + 1 == ATTEMPTS)
            return 0;
        if (checking->in_force < 0 || !lock_generations(checking))
            continue;
        chosen = checking->pair[checking->in_force];
        status = read_pair(checking);
        if (status < 0 || is_settled(checking, &chosen))
            return status;
    }
    return problem_set(checking->why, STATUS_IN_USE,
                       "pool '%s' changes too fast to be checked: try again, or when its program "
                       "has ended",
                       checking->request->path);
}

static int refuse(const struct checking *checking)
{
    for (unsigned i = 0; i < 2; i++) {
        const struct superblock *super = &checking->pair[i];
        bool is_newest =
            checking->in_force < 0 || super->sequence > checking->pair[checking->in_force].sequence;

        if (has_magic(super) && super->format_version > POOL_FORMAT_VERSION &&
            super->checksum == checksum_of(super) && is_newest)
            return problem_set(checking->why, STATUS_NEWER_FORMAT,
                               "pool '%s' has format version %u, this pheap reads version %u: use "
                               "the pheap that wrote it, or a later one",
                               checking->request->path, super->format_version, POOL_FORMAT_VERSION);
    }
    if (!has_magic(&checking->pair[0]) && !has_magic(&checking->pair[1]))
        return problem_set(checking->why, STATUS_NOT_A_POOL,
                           "'%s' is not a pool: no '%s' at offset 0 or 4096; name another path",
                           checking->request->path, POOL_MAGIC);
    return 0;
}

int check_superblocks(struct checking *checking)
{
    int status = choose_and_lock(checking);

    if (status == 0)
        status = refuse(checking);
    if (status < 0)
        return status;
    for (unsigned i = 0; i < 2; i++)
        if (judge_super(checking, i, checking->in_force < 0 ? SEVERITY_DAMAGE : SEVERITY_HARMLESS))
            look_at_reserved(checking, i);
    if (checking->in_force < 0)
        return 0;
    checking->result->super = checking->pair[checking->in_force];
    if (!checking->result->super_fell_back)
        look_at_pair(checking);
    return 0;
}
