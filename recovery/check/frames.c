/*
 * frames.c - what each frame of the pool is used for, noted as the generations name it.
 *
 * What must always be true: a frame has one meaning, that of whoever named it first. Generations
 * share frames, but then they say the same of them; a generation never names one twice, as a page
 * has one entry and a node one place in the tree.
 *
 * The notes lie in chunks that are made as they are needed: a file may be long and mean little.
 */
#include <errno.h>
#include <stdlib.h>
#include "recovery/check/checking.h"

static const char *role_name(unsigned role)
{
    if (role >= ROLE_NODE && role < ROLE_NODE + INDEX_LEVELS)
        return "an index node";
    return role == ROLE_PAGE    ? "a page"
           : role == ROLE_DELTA ? "a delta"
           : role == ROLE_LOG   ? "the log"
                                : "a record";
}

struct frame_use *frame_use_of(const struct checking *checking, uint64_t frame)
{
    struct frame_use *chunk;

    if (frame / CHUNK_FRAMES >= checking->chunk_count)
        return NULL;
    chunk = checking->chunks[frame / CHUNK_FRAMES];
    if (chunk == NULL || chunk[frame % CHUNK_FRAMES].role == ROLE_NONE)
        return NULL;
    return &chunk[frame % CHUNK_FRAMES];
}

/* The frame lies in the pool. NULL: no memory. */
static struct frame_use *note_of(struct checking *checking, uint64_t frame)
{
    struct frame_use **chunk;

    if (checking->chunks == NULL) {
        checking->chunk_count = checking->frame_count / CHUNK_FRAMES + 1;
        checking->chunks = calloc(checking->chunk_count, sizeof *checking->chunks);
        if (checking->chunks == NULL)
            return NULL;
    }
    chunk = &checking->chunks[frame / CHUNK_FRAMES];
    if (*chunk == NULL)
        *chunk = calloc(CHUNK_FRAMES, sizeof **chunk);
    return *chunk == NULL ? NULL : &(*chunk)[frame % CHUNK_FRAMES];
}

void frames_forget_all(struct checking *checking)
{
    for (uint64_t i = 0; checking->chunks != NULL && i < checking->chunk_count; i++)
        free(checking->chunks[i]);
    free(checking->chunks);
    checking->chunks = NULL;
    checking->chunk_count = 0;
}

void frame_is_bad(struct checking *checking, uint64_t frame)
{
    struct frame_use *use = frame_use_of(checking, frame);

    if (use == NULL)
        return;
    use->is_bad = true;
    __atomic_fetch_or(&checking->result->damaged, use->generations, __ATOMIC_RELAXED);
}

static int refuse(struct checking *checking, uint32_t index, enum finding_kind kind, uint64_t frame,
                  const char *expected, const char *found, uint64_t number)
{
    struct place place = place_of(check_entry(checking, index)->number,
                                  frame < 1ull << 40 ? frame << FRAME_SHIFT : PLACE_UNKNOWN, 0);

    check_spoilt(checking, index);
    check_tell(checking, kind, SEVERITY_DAMAGE, place, expected, "%s %lu", found, number);
    return CLAIM_REFUSED;
}

/* It has been named before: for the same purpose, by another generation? */
static int claim_again(struct checking *checking, uint32_t index, uint64_t frame, unsigned role,
                       const struct frame_use *wanted, struct frame_use *use)
{
    bool is_same =
        use->role == role && use->position == wanted->position && use->checksum == wanted->checksum;

    if (!is_same || use->generations >> index & 1) {
        frame_is_bad(checking, frame);
        return refuse(checking, index, FR_TWICE, frame, role_name(use->role), role_name(role),
                      wanted->position);
    }
    use->generations |= 1u << index;
    if (use->is_bad)
        check_spoilt(checking, index);
    return CLAIM_KNOWN;
}

int frame_claim(struct checking *checking, uint32_t index, uint64_t frame, unsigned role,
                uint64_t position, uint64_t checksum)
{
    const struct frame_use wanted = {checksum, position, 1u << index, (uint8_t)role, false};
    struct frame_use *use;

    if (frame < FRAME_FIRST)
        return refuse(checking, index, FR_SUPERBLOCK, frame, "a frame from 2 on", "frame", frame);
    if (frame >= checking->frame_count)
        return refuse(checking, index, FR_BEYOND, frame, "a frame of the pool and of the file",
                      "frame", frame);
    use = note_of(checking, frame);
    if (use == NULL)
        return -ENOMEM;
    if (use->role != ROLE_NONE)
        return claim_again(checking, index, frame, role, &wanted, use);
    *use = wanted;
    checking->frames_used++;
    return CLAIM_NEW;
}

static int refuse_log(struct checking *checking, enum finding_kind kind, uint64_t frame,
                      const char *expected)
{
    check_tell(checking, kind, SEVERITY_DAMAGE, place_at(frame << FRAME_SHIFT), expected,
               "the log");
    return CLAIM_REFUSED;
}

int frame_claim_log(struct checking *checking, uint64_t frame)
{
    struct frame_use *use;

    if (frame >= checking->frame_count)
        return refuse_log(checking, FR_BEYOND, frame, "a frame of the pool and of the file");
    use = note_of(checking, frame);
    if (use == NULL)
        return -ENOMEM;
    if (use->role != ROLE_NONE) {
        frame_is_bad(checking, frame);
        return refuse_log(checking, FR_TWICE, frame, role_name(use->role));
    }
    *use = (struct frame_use){.role = ROLE_LOG};
    return CLAIM_NEW;
}

int frame_claim_run(struct checking *checking, uint32_t index, uint64_t first, uint64_t frames,
                    unsigned role, uint64_t checksum)
{
    int claim = CLAIM_REFUSED;

    if (first >= FRAME_FIRST &&
        (first >= checking->frame_count || frames > checking->frame_count - first))
        return refuse(checking, index, FR_BEYOND, first, "a run within the pool and the file",
                      "a run of frames,", frames);
    for (uint64_t i = 0; i < frames; i++) {
        int one = frame_claim(checking, index, first + i, role, first, checksum);

        if (one < 0 || one == CLAIM_REFUSED)
            return one;
        if (i == 0)
            claim = one;
    }
    return claim;
}
