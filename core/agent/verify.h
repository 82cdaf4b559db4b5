/*
 * verify.h - after a restore: is what the program stands on whole?
 *
 * pheap-restore maps the heap's frames unseen, so that a restore takes milliseconds at any size.
 * The agent then reads every page of the resumed generation's heap from the pool and compares
 * checksums, a few megabytes at a time between its other duties, before the first checkpoint: no
 * generation is committed on ground that was not looked at.
 *
 * A page that is damaged cannot be put right in a program that may have used it already. The
 * program is killed, by pid, with a message that names the place; the pool stays resumable, and
 * after three such resumes of the generation pheap takes the one before.
 */
#ifndef PHEAP_AGENT_VERIFY_H
#define PHEAP_AGENT_VERIFY_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/pool/pool.h"

struct verification {
    uint64_t first;     /* of the slot's pages; those below `block` are still to be looked at */
    uint64_t block;     /* of many pages, gone through from `page` on */
    uint64_t page, end; /* what is left of it */
    bool may_begin;     /* the program runs on its own */
    int memory;         /* /proc/self/mem; negative: nothing is mapped in */
    int pagemap;     /* /proc/self/pagemap; negative: only what is mapped in for its neighbours */
    uint8_t *frames; /* VERIFY_FRAMES of them; NULL: nothing to do */
};

/* After pool_load(): the whole slot of the loaded generation is to be looked at. */
MUST_CHECK int verify_begin(struct verification *verification, struct arena *arena, uint32_t slot);

static inline bool verify_is_under_way(const struct verification *verification)
{
    return verification->frames &&
           (verification->page < verification->end || verification->block > verification->first);
}

/* Nothing more is looked at. Also what the last step does. */
void verify_end(struct verification *verification);

/* Looks at the next few megabytes, and maps them in ahead of the program. STATUS_DAMAGED, with the
 * place in why. The pool's index must be that of the resumed generation still. */
MUST_CHECK int verify_step(struct verification *verification, const struct pool *pool,
                           struct problem *why);

#endif
