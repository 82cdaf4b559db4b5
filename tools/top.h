/*
 * top.h - the parts of pheap inspect top: figures of a pool and its program are gathered
 * (top_figures.c), laid out as lines (top_lines.c), shown on a terminal (top_screen.c) or printed
 * (top.c). Only the first knows where figures come from, only the third that there is a terminal.
 */
#ifndef PHEAP_TOOLS_TOP_H
#define PHEAP_TOOLS_TOP_H

#include <stdbool.h>
#include <stdint.h>
#include "recovery/view/live_heap.h"
#include "recovery/view/view.h"
#include "tools/pool_state.h"

/* --- figures --- */

#define TOP_CHECKPOINTS 64 /* that are remembered, newest first */

struct top_checkpoint {
    struct generation_entry entry;
    bool is_kept; /* still in the pool */
};

enum top_source {
    TOP_NOTHING,    /* no heap to be seen: why says so */
    TOP_PROGRAM,    /* the program's memory, as it is now */
    TOP_GENERATION, /* a generation; why says why not the program */
};

enum top_rates {
    TOP_NO_RATES, /* of one look, or of a generation */
    TOP_SEEN,     /* what one look had and the other had not: at least that much */
    TOP_SAMPLED,  /* from the samples of PHEAP_PROFILE */
};

struct top_class {
    uint32_t block_bytes; /* 0: large blocks */
    struct live_class is;
    int64_t change_bytes; /* since the look before */
    int64_t growth_bytes; /* since the first look */
};

struct top_figures {
    uint64_t time_ns;    /* CLOCK_REALTIME of the look */
    uint64_t elapsed_ns; /* since the one before; 0: this is the first */

    /* The pool, as it was when it could be read last. */
    struct pool_state state;
    struct problem pool_why; /* status < 0: it cannot be read now */
    uint64_t file_bytes, disk_bytes, free_disk_bytes;
    struct top_checkpoint checkpoints[TOP_CHECKPOINTS];
    uint32_t checkpoint_count;

    /* The program. */
    bool runs;
    bool answers; /* its agent: `agent` is of now */
    int pid;      /* as we see it; 0: none ran yet */
    struct control_answer agent;
    char run[160]; /* in words */

    /* Its heap. */
    enum top_source source;
    struct problem heap_why;
    uint64_t generation; /* TOP_GENERATION: which */
    struct live_figures heap;
    struct top_class classes[LIVE_CLASSES];
    int64_t change_bytes;
    enum top_rates rates;
    uint64_t allocated_bytes, freed_bytes; /* within elapsed_ns */
};

struct top_watch; /* what is kept from one look to the next */

/* target: the path of a pool, or the pid of its program. 0, or why not. */
MUST_CHECK int top_open(struct top_watch **out, const char *target, struct problem *why);
/* Never fails: what cannot be had now is said in the figures, which stay valid to the next look. */
const struct top_figures *top_look(struct top_watch *watch);
/* The sizes that growth is counted from are those of the last look. */
void top_begin_anew(struct top_watch *watch);
void top_close(struct top_watch *watch);

/* --- lines --- */

enum top_sort { TOP_BY_BYTES, TOP_BY_CHANGE, TOP_BY_GROWTH, TOP_BY_BLOCKS, TOP_BY_SIZE, TOP_SORTS };
extern const char *const top_sort_names[TOP_SORTS];

enum top_style { TOP_PLAIN, TOP_TITLE, TOP_HEADING, TOP_WARNING, TOP_GROWS, TOP_SHRINKS };

struct top_line {
    enum top_style style;
    char text[512];
};

struct top_layout {
    int columns, rows; /* rows 0: as many as there are */
    enum top_sort sort;
    uint64_t interval_ns;
    uint32_t first_class; /* how many rows of the table of classes are scrolled off */
    bool is_paused;
};

#define TOP_LINES_MAX 256

/* Fills in lines for a screen of that size, at most one a row and none wider; returns how many.
 * *most_first: as far as first_class can usefully go. */
int top_lines(const struct top_figures *figures, const struct top_layout *layout,
              struct top_line lines[TOP_LINES_MAX], uint32_t *most_first);

/* What the keys do, one line each. */
extern const char *const top_keys[];

/* --- a terminal --- */

/* Shows it until q or a signal. 0, or why there is no terminal that could show it. */
MUST_CHECK int top_screen(struct top_watch *watch, struct top_layout *layout, struct problem *why);

/* --- the command --- */

#define TOP_INTERVAL_MIN_NS 100000000ull
#define TOP_INTERVAL_MAX_NS 3600000000000ull

struct top_options {
    const char *target;
    uint64_t interval_ns;
    enum top_sort sort;
    bool once, as_json;
};

/* An exit status. */
int top_run(const struct top_options *options);

#endif
