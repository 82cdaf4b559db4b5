/*
 * next_option.c - see next_option.h.
 */
#include "tools/next_option.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include "tools/command.h"
#include "tools/nearest.h"

static void tell_unknown_word(const char *command, const char *word, const struct option *options)
{
    char name[32], hint[NEAREST_HINT_BYTES];
    size_t letters = strcspn(word + 2, "=");

    snprintf(name, sizeof name, "%.*s", (int)letters, word + 2);
    report(command, EXIT_USAGE, "no option '--%s'%s; see pheap %s --help", name,
           nearest_hint(hint, "--", name, options, sizeof *options, INT_MAX), command);
}

int next_option(const char *command, int argc, char **argv, const char *letters,
                const struct option *options)
{
    const char *word;
    int option;

    opterr = 0;
    option = getopt_long(argc, argv, letters, options, NULL);
    if (option != '?' && option != ':')
        return option;
    word = argv[optind - 1];
    if (option == ':')
        report(command, EXIT_USAGE, "option '%s' needs an argument; see pheap %s --help", word,
               command);
    else if (optopt == 0)
        tell_unknown_word(command, word, options);
    else if (strncmp(word, "--", 2) == 0)
        report(command, EXIT_USAGE, "option '%.*s' takes no argument; see pheap %s --help",
               (int)strcspn(word, "="), word, command);
    else
        report(command, EXIT_USAGE, "no option '-%c'; see pheap %s --help", optopt, command);
    return '?';
}
