/*
 * progress.c - see progress.h. True always: what was drawn is gone before anything else is printed.
 */
#include "tools/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "core/base/sys.h"
#include "tools/command.h"

#define FIRST_NS  1000000000ull /* shorter waits need no bar */
#define AGAIN_NS  100000000ull
#define BAR_CELLS 30u

void progress_begin(struct progress *progress, const char *what)
{
    *progress = (struct progress){.what = what,
                                  .begin_ns = sys_clock_ns(CLOCK_MONOTONIC),
                                  .on_terminal = isatty(STDERR_FILENO)};
}

static void draw(const struct progress *progress, uint64_t now_ns, uint64_t done, uint64_t total)
{
    double seconds = (double)(now_ns - progress->begin_ns) / 1e9;
    double share = total ? (double)done / (double)total : 1;
    unsigned cells = (unsigned)(share * BAR_CELLS);
    char bar[BAR_CELLS + 1], rate[32];

    memset(bar, '.', BAR_CELLS);
    memset(bar, '#', cells < BAR_CELLS ? cells : BAR_CELLS);
    bar[BAR_CELLS] = 0;
    fprintf(stderr, "\r%s [%s] %3.0f %%  %s/s\033[K", progress->what, bar, 100 * share,
            show_bytes(rate, (uint64_t)((double)done / seconds)));
}

void progress_show(struct progress *progress, uint64_t bytes_done, uint64_t bytes_total)
{
    uint64_t now_ns = sys_clock_ns(CLOCK_MONOTONIC);

    if (!progress->on_terminal || now_ns - progress->begin_ns < FIRST_NS ||
        now_ns - progress->shown_ns < AGAIN_NS)
        return;
    draw(progress, now_ns, bytes_done, bytes_total);
    progress->shown_ns = now_ns;
    progress->is_shown = true;
}

void progress_end(struct progress *progress)
{
    if (progress->is_shown)
        fprintf(stderr, "\r\033[K");
    progress->is_shown = false;
}
