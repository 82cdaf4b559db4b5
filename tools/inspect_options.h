/*
 * inspect_options.h - the options of pheap inspect, those of top among them.
 */
#ifndef PHEAP_TOOLS_INSPECT_OPTIONS_H
#define PHEAP_TOOLS_INSPECT_OPTIONS_H

#include "tools/inspect.h"
#include "tools/top.h"

#define INSPECT_GO_ON (-1)
#define INSPECT_HELP  (-2)

/* INSPECT_GO_ON, INSPECT_HELP, or an exit status. What is no option comes last in argv, from optind
 * on. */
MUST_CHECK int inspect_take_options(int argc, char **argv, struct inspection *inspection,
                                    struct top_options *top);

/* 0, or EXIT_USAGE: an option was given that goes with another view alone. */
MUST_CHECK int inspect_check_options(const char *view);

#endif
