/*
 * inspect.h - the views of pheap inspect. A view prints itself, or adds its part to an object.
 */
#ifndef PHEAP_TOOLS_INSPECT_H
#define PHEAP_TOOLS_INSPECT_H

#include <jansson.h>
#include <stdbool.h>
#include "core/process/record_format.h"
#include "recovery/view/view.h"
#include "tools/pool_state.h"

struct inspection {
    struct pool_state state;
    uint64_t generation; /* 0: the newest */
    bool in_colour;
    json_t *json;                         /* NULL: print for a person */
    const char *html_path;                /* --html; NULL: not given */
    const char *folded_path, *pprof_path; /* of profile; NULL: not given */
    const char *focus, *ignore;           /* of profile, regular expressions; NULL: not given */
    const char *core_path;                /* --core; NULL: not given */
    uint64_t least;                       /* --min; 0: not given */
    enum inspect_pattern { PATTERN_TEXT, PATTERN_HEX, PATTERN_POINTER } pattern;
    char **arguments; /* behind the view's name */
    int argument_count;
    uint64_t address;             /* --address A; 0: not given */
    uint64_t low, high;           /* --address LOW-HIGH; 0 and UINT64_MAX: not given */
    bool shows_ages;              /* --age */
    uint64_t since, older;        /* --since, --older; 0: not given */
    uint64_t size_low, size_high; /* --size; 0 and UINT64_MAX: not given */
    uint64_t type;                /* --type; UINT64_MAX: not given */
    uint64_t limit;               /* --limit; 0: not given */
    uint64_t left_out;            /* pages that are damaged */
    uint64_t damage_said;         /* generation that a line on stderr was about */
};

/* 0, or a negative status with why filled in. */
typedef int inspect_view(struct inspection *inspection, struct problem *why);

inspect_view inspect_summary;
inspect_view inspect_generations;
inspect_view inspect_heap;
inspect_view inspect_mappings;
inspect_view inspect_files;
inspect_view inspect_threads;
inspect_view inspect_slabs;
inspect_view inspect_blocks;
inspect_view inspect_leaks;
inspect_view inspect_profile;
inspect_view inspect_roots;
inspect_view inspect_retained;
inspect_view inspect_log;
inspect_view inspect_strings;
inspect_view inspect_grep;
inspect_view inspect_diff;
inspect_view inspect_core;
inspect_view inspect_html;

/* Opens the generation that was asked for, calls show, closes it; says when pages were left out. */
typedef int inspect_body(struct inspection *inspection, struct view *view, struct problem *why);
MUST_CHECK int inspect_with(struct inspection *inspection, inspect_body *show, struct problem *why);

/* Says, on stderr and once for each generation, what of it was damaged. */
void inspect_note_damage(struct inspection *inspection, const struct view *view);

/* Adds "generations": all, or the one that was asked for. */
void inspect_list_generations(struct inspection *inspection);
/* "process". */
const char *inspect_kind_name(uint32_t kind);

/* inspect_crash.c: what the record of a crash generation says; false if it cannot be read. */
bool inspect_read_crash(const struct pool_state *state, const struct generation_entry *entry,
                        struct record_crash *crash);
/* The signal that ended the program; 0: not known. */
int inspect_crash_signal(const struct record_crash *crash);
/* "by SIGSEGV". buffer: 32 bytes; returned. */
const char *inspect_crash_cause(char buffer[32], const struct record_crash *crash);

/* A heading, in bold on a terminal. */
void inspect_heading(const struct inspection *inspection, const char *text);
/* Local time to the second. buffer: 32 bytes; returned. */
const char *inspect_time(char buffer[32], uint64_t realtime_ns);

#endif
