/*
 * run_environment.h - what `pheap run` takes from PHEAP_ variables that a person has set.
 */
#ifndef PHEAP_TOOLS_RUN_ENVIRONMENT_H
#define PHEAP_TOOLS_RUN_ENVIRONMENT_H

#include "tools/preload_env.h"

/*
 * The defaults of options, which the command line overrides. STATUS_USAGE: a variable has a value
 * that is not understood. A name that is nearly one of ours is reported, and nothing else.
 */
MUST_CHECK int run_environment_take(struct preload_options *options, struct problem *why);

#endif
