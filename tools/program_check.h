/*
 * program_check.h - finds a program as the shell would, and says early why pheap cannot serve it.
 */
#ifndef PHEAP_TOOLS_PROGRAM_CHECK_H
#define PHEAP_TOOLS_PROGRAM_CHECK_H

#include <limits.h>
#include <stdbool.h>
#include "core/base/status.h"

struct program {
    char path[PATH_MAX];  /* what to exec */
    bool is_plain_script; /* a text without "#!": the shell's, as execvp has it */
};

/*
 * Refused (STATUS_REFUSED, with one line that says why): missing, not executable, a directory,
 * static, setuid or setgid or with file capabilities, 32-bit, for another machine, without
 * glibc's loader; for a script the same of its interpreter.
 */
MUST_CHECK int program_check(const char *command, struct program *out, struct problem *why);

#endif
