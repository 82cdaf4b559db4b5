/*
 * rewrite.h - keeps the slot's pages where a restore can map them in long runs (docs/internals.md,
 * "Keeping a restore fast").
 *
 * A neighbourhood is the 256 pages of one leaf of the index. Its home is the difference
 * page - frame that most of its pages have: those are mapped in one piece. A page is away when it
 * lies elsewhere, in a run too short to be mapped by itself, so that a restore reads it in, and
 * was not written lately. A page that is written goes away, since its old frame belongs to older
 * generations; once those are dropped, its frame at home is free again. Written lately: in one of
 * the last REWRITE_LATELY generations. With N = 3 the frame at home of a page that was written
 * before those is free as soon as the generation that the next commit drops is dropped, and that is
 * done first (pool_make_room()). A page that is written again and again is left where it is: it
 * would not stay at home.
 *
 * When more than REWRITE_LOW pages are away, pages whose frame at home is free are copied back:
 * one page written for each. Where others have taken the frames at home, that does not help: above
 * REWRITE_HIGH whole neighbourhoods, the most scattered first, are copied to new contiguous
 * frames. Both happen between the cut and the commit, when the index shows exactly what the
 * generation will, from frames that are checked as they are read, and for no more pages in one
 * generation than the budget allows.
 */
#ifndef PHEAP_IMAGE_REWRITE_H
#define PHEAP_IMAGE_REWRITE_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/pool/pool.h"

/* Of slots of more than 64 GiB the rest counts as written lately; nothing else is known of it. */
#define REWRITE_KNOWN_PAGES (1ull << 24)

#define REWRITE_LOW       500u
#define REWRITE_HIGH      8000u
#define REWRITE_AWAY_MIN  32u   /* of 256: to rewrite for fewer costs more than it saves */
#define REWRITE_LATELY    2u    /* generations, the one in progress included */
#define REWRITE_PAGES_MIN 2048u /* budget: this, and as many as the generation wrote itself */

struct rewriter {
    struct pool *pool;
    uint8_t *away;   /* of each neighbourhood of the slot, when it was last counted */
    uint8_t *flags;  /* of each neighbourhood: see rewrite.c */
    uint32_t *noted; /* neighbourhoods to be counted anew */
    uint32_t noted_count;
    uint32_t end;    /* neighbourhoods from here on were never used */
    uint32_t cursor; /* the next one to bring home */
    uint64_t away_pages;
    uint64_t written_pages;           /* noted in this generation */
    uint8_t *written[REWRITE_LATELY]; /* a bit a page: written in one of the last generations */
    unsigned present;                 /* which of them is that of the one in progress */
    uint8_t *buffer;
    bool counted; /* what the pool held at the start is counted */
};

MUST_CHECK int rewriter_create(struct rewriter *rewriter, struct arena *arena, struct pool *pool);

/* These pages are being written. Those outside the slot are ignored. */
void rewriter_note(struct rewriter *rewriter, const uint64_t *pages, uint64_t count);

/* How many pages of a neighbourhood (of the slot, from 0 on) were written for the generation in
 * progress. Before rewriter_run(), which begins another. */
uint32_t rewriter_count_written(const struct rewriter *rewriter, uint32_t leaf);

/*
 * Brings pages home and rewrites neighbourhoods, if too many are away. *bytes grows by what was
 * written, which is not part of pool->building_bytes. Negative only if the index is damaged: a
 * full disk or an unreadable frame leaves things as they are.
 */
MUST_CHECK int rewriter_run(struct rewriter *rewriter, uint64_t *bytes);

#endif
