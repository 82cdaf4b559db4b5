/*
 * progress.h - a bar on the terminal for what takes longer than a second; nothing elsewhere.
 */
#ifndef PHEAP_TOOLS_PROGRESS_H
#define PHEAP_TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *what; /* "checking" */
    uint64_t begin_ns, shown_ns;
    bool on_terminal, is_shown;
};

void progress_begin(struct progress *progress, const char *what);
void progress_show(struct progress *progress, uint64_t bytes_done, uint64_t bytes_total);
void progress_end(struct progress *progress); /* the line is empty again */

#endif
