/*
 * run_environment.c - see run_environment.h.
 *
 * True always: PHEAP_FRESH gives nothing up here: --fresh is said anew each time. And the variables
 * of a program that runs under pheap (it has PHEAP_OWNER) are its own, not those of what it starts.
 */
#include "tools/run_environment.h"

#include <string.h>
#include <unistd.h>
#include "core/base/options.h"
#include "tools/command.h"
#include "tools/nearest.h"

#define PREFIX       "PHEAP_"
#define PREFIX_BYTES (sizeof PREFIX - 1)

/* Without PREFIX. */
static const char *const names[] = {
    "AT_EXIT", "CHECK",   "CHILDREN",        "CRASH", "DEEPBIND",  "DENY",
    "DIRTY",   "FILES",   "FREEZE",          "FRESH", "HARDEN",    "INTERVAL",
    "KEEP",    "ON_TERM", "OWNER",           "POOL",  "PROFILE",   "SELF_CONTAINED",
    "SLOT",    "STATS",   "TCP_ESTABLISHED", "TRACK", "GENERATION"};
#define NAME_COUNT (sizeof names / sizeof names[0])

static bool is_known(const char *name)
{
    for (size_t i = 0; i < NAME_COUNT; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static void tell_mistyped(void)
{
    for (char **variable = environ; *variable; variable++) {
        char name[32], hint[NEAREST_HINT_BYTES];
        size_t length = strcspn(*variable, "=");

        if (strncmp(*variable, PREFIX, PREFIX_BYTES) != 0 || length - PREFIX_BYTES >= sizeof name)
            continue;
        length -= PREFIX_BYTES;
        memcpy(name, *variable + PREFIX_BYTES, length);
        name[length] = 0;
        if (!is_known(name) &&
            *nearest_hint(hint, PREFIX, name, names, sizeof names[0], NAME_COUNT))
            (void)report("run", 0, "the variable " PREFIX "%s means nothing%s", name, hint);
    }
}

int run_environment_take(struct preload_options *options, struct problem *why)
{
    struct environment_options set;
    int status = options_from_environment(&set, environ, why);

    options->interval_ns = OPTIONS_INTERVAL_DEFAULT_NS;
    if (status < 0)
        return status;
    tell_mistyped();
    if (set.owner)
        return 0;
    options->interval_ns = set.interval_ns;
    options->dirty_bytes = set.dirty_bytes;
    options->keep = set.keep;
    options->at_exit = set.at_exit;
    options->on_term = set.on_term;
    options->tcp_established = set.tcp_established;
    return 0;
}
