/*
 * writer_state.h - what image_writer.c (pre-copy, commit), image_cut.c (the freeze) and rewrite.c
 * share.
 */
#ifndef PHEAP_IMAGE_WRITER_STATE_H
#define PHEAP_IMAGE_WRITER_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include "core/image/busy.h"
#include "core/image/image_writer.h"
#include "core/image/memory.h"
#include "core/image/page_set.h"
#include "core/image/rewrite.h"
#include "core/image/stage.h"
#include "core/image/tracker.h"

#define WRITER_UNREAD_MAX 1024u
#define WRITER_SPANS_MAX  16384u
#define GARBAGE_SPANS_MAX 8192u

struct image_writer {
    struct pool *pool;
    struct tracker tracker;
    struct memory memory;
    bool reads_in_place;     /* what lies in the slot */
    struct arena maps_arena; /* mappings of the round at hand */
    struct rewriter rewriter;
    struct busy busy;        /* in the last generation */
    struct stage stage;      /* of the pre-copy: always empty between rounds */
    struct stage scratch;    /* of the cut: may hold pages from cut to commit or next round */
    uint64_t losses;         /* times that the stages were dropped */
    bool suspect_all;        /* after a failure: every saved page is a candidate */
    uint64_t resident_pages; /* of anonymous memory, at the last cut: without tracking */
    bool is_counted;         /* image_writer_count_dirty() is in use */
    bool committed;          /* statistics are of a committed generation: begin anew */
    image_writer_step *step; /* NULL: nobody wants to be asked */
    void *step_context;
    uint32_t unread_count;
    uint64_t unread[WRITER_UNREAD_MAX]; /* pages found written that could not be read */
    /* See image_writer_set_garbage(). What the tracking says of pages that were left out does not
     * count: their content may be another than the index has and unwritten since. */
    image_writer_garbage *find_garbage; /* NULL: there is none */
    void *garbage_context;
    struct page_set garbage;  /* of the round or cut at hand */
    struct page_set left_out; /* by the last ones */
    struct page_set missed;   /* left_out without garbage: to be looked at as a whole */
    /* What pre-copy rounds have protected since the last cut, and whether to believe in it. */
    bool distrusts_precopy;
    bool spans_overflowed;
    uint32_t span_count;
    struct page_span spans[WRITER_SPANS_MAX];
    struct image_writer_stats stats;
};

/* dirty_count.c */
uint64_t writer_resident_pages(void);

/* The statistics of the next generation begin when its first round or cut does. */
void writer_begin(struct image_writer *writer);

/* Before a round (the program runs, what is said may be wrong) or a cut. */
void writer_find_garbage(struct image_writer *writer, bool stopped);
/* What the round or cut that has succeeded left out. */
void writer_note_garbage(struct image_writer *writer);

/* The caller's leave to go on, see image_writer_set_step(). */
static inline int writer_step(const struct image_writer *writer)
{
    return writer->step ? writer->step(writer->step_context) : 0;
}

/* Drops both stages, suspects every page, and says what failed in `why`. Returns status. */
int writer_failed(struct image_writer *writer, int status, const char *doing, struct problem *why);

/* Compares and writes what scratch holds. */
MUST_CHECK int writer_flush_scratch(struct image_writer *writer, uint64_t *bytes_written);

#endif
