/*
 * report.c - what the commands print and parse alike: messages, sizes, times, numbers.
 * True always: one message is one line, and begins with the name of the command.
 */
#include "tools/command.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "core/base/limits.h"
#include "core/base/options.h"

const char *show_line(char *buffer, size_t size, const char *text)
{
    size_t used = 0;

    for (; *text && used + 5 < size; text++) {
        uint8_t byte = (uint8_t)*text;

        if (byte < 0x20 || byte == 0x7f)
            used += (size_t)sprintf(buffer + used, "\\x%02x", byte);
        else
            buffer[used++] = *text;
    }
    buffer[used] = 0;
    return buffer;
}

int report(const char *command, int exit_status, const char *format, ...)
{
    char line[2048], shown[4 * sizeof line];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    fflush(stdout);
    fprintf(stderr, "pheap%s%s: %s\n", *command ? " " : "", command,
            show_line(shown, sizeof shown, line));
    return exit_status;
}

int report_problem(const char *command, const char *pool_path, const struct problem *why)
{
    struct problem explained = *why;
    const char *text = explained.text;

    if (!text[0])
        (void)problem_set(&explained, why->status, "%s", status_text(why->status));
    limit_explain(&explained);
    if (pool_path && !strstr(text, pool_path))
        return report(command, status_exit(why->status), "%s: %s", pool_path, text);
    return report(command, status_exit(why->status), "%s", text);
}

int report_usage(const char *command, const char *what)
{
    return report(command, EXIT_USAGE, "%s; see pheap %s --help", what, command);
}

const char *show_bytes(char buffer[32], uint64_t bytes)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
    double value = (double)bytes / 1024;
    size_t unit = 0;

    if (bytes < 1024) {
        snprintf(buffer, 32, "%" PRIu64 " B", bytes);
        return buffer;
    }
    while (value >= 1023.95 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1024;
        unit++;
    }
    snprintf(buffer, 32, "%.1f %s", value, units[unit]);
    return buffer;
}

const char *show_ns(char buffer[32], uint64_t ns)
{
    if (ns < 1000000)
        snprintf(buffer, 32, "%.1f us", (double)ns / 1e3);
    else if (ns < 1000000000)
        snprintf(buffer, 32, "%.2f ms", (double)ns / 1e6);
    else
        snprintf(buffer, 32, "%.2f s", (double)ns / 1e9);
    return buffer;
}

int parse_number(const char *text, uint64_t low, uint64_t high, uint64_t *out)
{
    uint64_t value;

    if (options_number(text, high, &value) < 0 || value < low)
        return STATUS_USAGE;
    *out = value;
    return 0;
}

int parse_path(const char *path, char *out, size_t size)
{
    char directory[3072] = "";
    int used;

    if (path[0] != '/' && getcwd(directory, sizeof directory - 1) == NULL)
        return -errno;
    used = snprintf(out, size, "%s%s%s", directory, directory[0] ? "/" : "", path);
    return used < 0 || (size_t)used >= size ? -ENAMETOOLONG : 0;
}
