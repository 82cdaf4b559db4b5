/*
 * next_option.h - getopt_long() that says in one line what is wrong with an option.
 */
#ifndef PHEAP_TOOLS_NEXT_OPTION_H
#define PHEAP_TOOLS_NEXT_OPTION_H

#include <getopt.h>

/*
 * As getopt_long(): the option, or -1. '?': it is unknown, or lacks its argument, and a line about
 * it is on stderr; the command ends with EXIT_USAGE. `letters` has ':' in front, behind a '+' if
 * there is one.
 */
int next_option(const char *command, int argc, char **argv, const char *letters,
                const struct option *options);

#endif
