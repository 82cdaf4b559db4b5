/*
 * command.h - the commands of pheap, and how they speak.
 *
 * A command gets its own name in argv[0] ("run") and returns an exit status (core/base/status.h).
 * Every message is one line on stderr: "pheap run: what happened, what was expected, what to do".
 */
#ifndef PHEAP_TOOLS_COMMAND_H
#define PHEAP_TOOLS_COMMAND_H

#include <stddef.h>
#include <stdint.h>
#include "core/base/status.h"

int command_run(int argc, char **argv);
int command_checkpoint(int argc, char **argv);
int command_restore(int argc, char **argv);
int command_inspect(int argc, char **argv);
int command_recover(int argc, char **argv);
int command_doctor(int argc, char **argv);

/* "pheap NAME: text" on stderr; returns exit_status, so that a command can end with it. */
int report(const char *command, int exit_status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same for a problem with a pool (NULL: with something else), which is named if the problem's
 * text does not name it; the exit status is that of the problem's status. */
int report_problem(const char *command, const char *pool_path, const struct problem *why);
/* `what`, and "see pheap NAME --help"; EXIT_USAGE. */
int report_usage(const char *command, const char *what);

void print_version(void);

/* text on one line, control characters as \x0a. Returns buffer. */
const char *show_line(char *buffer, size_t size, const char *text);

/* For what this process is about to become: a command itself is not ended by SIGXFSZ. */
void give_back_signals(void);

/* Sizes and times for a person: "3.4 MiB", "1.25 ms". buffer: 32 bytes; returned. */
const char *show_bytes(char buffer[32], uint64_t bytes);
const char *show_ns(char buffer[32], uint64_t ns);

/* A decimal number within [low, high]. 0 or STATUS_USAGE. */
MUST_CHECK int parse_number(const char *text, uint64_t low, uint64_t high, uint64_t *out);

/* The path of a file to be made, absolute. 0 or -ENAMETOOLONG. */
MUST_CHECK int parse_path(const char *path, char *out, size_t size);

#endif
