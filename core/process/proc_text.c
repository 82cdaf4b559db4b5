/*
 * proc_text.c - parses what /proc says.
 *
 * Always true: every text handled here is NUL-terminated, by proc_read() or the caller.
 */
#include "core/process/proc_text.h"

#include <errno.h>
#include <string.h>
#include "core/base/format_text.h"
#include "core/base/sys.h"

ssize_t proc_read(int pid, const char *name, char *buffer, size_t size)
{
    char path[128];

    format_text(path, sizeof path, "/proc/%d/%s", pid, name);
    return sys_read_file(path, buffer, size);
}

const char *proc_field(const char *text, const char *key)
{
    size_t length = strlen(key);

    for (const char *line = text; *line != 0;) {
        const char *end = line;

        while (*end != 0 && *end != '\n')
            end++;
        if ((size_t)(end - line) > length && memcmp(line, key, length) == 0 &&
            line[length] == ':') {
            line += length + 1;
            while (*line == ' ' || *line == '\t')
                line++;
            return line;
        }
        line = *end != 0 ? end + 1 : end;
    }
    return NULL;
}

uint64_t proc_number(const char *text, const char *key, unsigned base)
{
    const char *at = proc_field(text, key);

    return at != NULL ? text_number(&at, base) : 0;
}

uint32_t proc_seccomp_filters(const char *status)
{
    if (proc_field(status, "Seccomp_filters") != NULL)
        return (uint32_t)proc_number(status, "Seccomp_filters", 10);
    return (uint32_t)proc_number(status, "Seccomp", 10);
}

static int digit_value(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    return -1;
}

uint64_t text_number(const char **at, unsigned base)
{
    const char *from = *at;
    bool negative = base == 10 && *from == '-';
    uint64_t value = 0;
    int digit;

    if (negative)
        from++;
    while ((digit = digit_value(*from)) >= 0 && (unsigned)digit < base) {
        value = value * base + (unsigned)digit;
        from++;
    }
    *at = from;
    return negative ? -value : value;
}

bool text_starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool text_ends_with(const char *text, const char *suffix)
{
    size_t length = strlen(text), tail = strlen(suffix);

    return length >= tail && memcmp(text + length - tail, suffix, tail) == 0;
}

int proc_readlink(int pid, const char *name, char *buffer, size_t size)
{
    char path[128];
    int length;

    format_text(path, sizeof path, "/proc/%d/%s", pid, name);
    length = sys_readlink(path, buffer, size);
    if (length < 0)
        return length;
    if ((size_t)length >= size)
        return -ENAMETOOLONG;
    buffer[length] = 0;
    return length;
}
