/*
 * preload_env.c - see preload_env.h. True always: libpheap.so is named once in LD_PRELOAD, first,
 * by an absolute path; what the caller had there stays behind it; PHEAP_* variables that were
 * inherited from another run are replaced or removed.
 */
#include "tools/preload_env.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/process/proc_text.h"

#define LIBRARY_NAME "libpheap.so"

static bool names_library(const char *entry, size_t length)
{
    size_t name_length = strlen(LIBRARY_NAME);

    if (length < name_length || memcmp(entry + length - name_length, LIBRARY_NAME, name_length))
        return false;
    return length == name_length || entry[length - name_length - 1] == '/';
}

/* Copies LD_PRELOAD without libpheap to out (as large as the value); true if it was there. */
static bool preload_without_library(const char *value, char *out)
{
    bool found = false;
    size_t used = 0;

    while (*value) {
        size_t length = strcspn(value, " :");

        if (length && names_library(value, length)) {
            found = true;
        } else if (length) {
            if (used)
                out[used++] = ':';
            memcpy(out + used, value, length);
            used += length;
        }
        value += length;
        value += *value != 0;
    }
    out[used] = 0;
    return found;
}

bool preload_env_drop(void)
{
    const char *value = getenv("LD_PRELOAD");
    char *rest;
    bool found;

    if (!value || !(rest = malloc(strlen(value) + 2)))
        return false;
    found = preload_without_library(value, rest);
    if (found && *rest)
        setenv("LD_PRELOAD", rest, 1);
    else if (found)
        unsetenv("LD_PRELOAD");
    free(rest);
    return found;
}

/* build/bin/pheap -> build/lib/libpheap.so; likewise when installed; else the install libdir. */
static int find_library(char path[PATH_MAX], struct problem *why)
{
    char tool[PATH_MAX], beside[PATH_MAX + 32];
    ssize_t length = readlink("/proc/self/exe", tool, sizeof tool - 1);
    char *slash;

    if (length > 0) {
        tool[length] = 0;
        slash = strrchr(tool, '/');
        snprintf(beside, sizeof beside, "%.*s/../lib/" LIBRARY_NAME, (int)(slash - tool), tool);
        if (realpath(beside, path) && access(path, R_OK) == 0)
            return 0;
    }
    if (realpath(PHEAP_LIBDIR "/" LIBRARY_NAME, path) && access(path, R_OK) == 0)
        return 0;
    return problem_set(why, -ENOENT,
                       "no %s beside the tool (../lib) or in %s; run make, or make install",
                       LIBRARY_NAME, PHEAP_LIBDIR);
}

static int set_preload(struct problem *why)
{
    const char *before = getenv("LD_PRELOAD");
    char library[PATH_MAX], *value;
    int status = find_library(library, why);

    if (status < 0)
        return status;
    if (strpbrk(library, " :"))
        return problem_set(why, STATUS_REFUSED,
                           "LD_PRELOAD cannot name %s: it has a space or a colon; move the build",
                           library);
    value = malloc(strlen(library) + (before ? strlen(before) : 0) + 2);
    if (!value)
        return problem_set(why, -ENOMEM, "out of memory");
    strcpy(value, library);
    if (before && *before) {
        strcat(value, ":");
        strcat(value, before);
    }
    setenv("LD_PRELOAD", value, 1);
    free(value);
    return 0;
}

static void set_number(const char *name, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof text, "%" PRIu64, value);
    setenv(name, text, 1);
}

static void set_or_unset(const char *name, bool on)
{
    if (on)
        setenv(name, "1", 1);
    else
        unsetenv(name);
}

/* Pid and start time (field 22 of /proc/PID/stat) name one process for ever; exec keeps both. */
static int set_owner(struct problem *why)
{
    char stat[1024], status[4096], owner[64], *field;
    FILE *file = fopen("/proc/self/stat", "re");
    size_t length = file ? fread(stat, 1, sizeof stat - 1, file) : 0;

    if (file)
        fclose(file);
    stat[length] = 0;
    field = strrchr(stat, ')'); /* field 2, the name, may hold anything */
    for (int i = 2; field && i < 22; i++)
        field = strchr(field + 1, ' ');
    if (!field)
        return problem_set(why, -ENOENT, "cannot read /proc/self/stat; is /proc mounted?");
    if (proc_read(getpid(), "status", status, sizeof status) < 0)
        return problem_set(why, -ENOENT, "cannot read /proc/self/status; is /proc mounted?");
    snprintf(owner, sizeof owner, "%d:%llu:%u", getpid(), strtoull(field + 1, NULL, 10),
             proc_seccomp_filters(status));
    setenv("PHEAP_OWNER", owner, 1);
    return 0;
}

int preload_env_set(const struct preload_options *options, struct problem *why)
{
    int status;

    preload_env_drop();
    if ((status = set_preload(why)) < 0 || (status = set_owner(why)) < 0)
        return status;
    setenv("PHEAP_POOL", options->pool_path, 1);
    set_number("PHEAP_SLOT", options->slot);
    set_number("PHEAP_INTERVAL", options->interval_ns);
    if (options->dirty_bytes)
        set_number("PHEAP_DIRTY", options->dirty_bytes);
    else
        unsetenv("PHEAP_DIRTY");
    if (options->keep)
        set_number("PHEAP_KEEP", options->keep);
    else
        unsetenv("PHEAP_KEEP");
    set_or_unset("PHEAP_FRESH", options->fresh);
    set_or_unset("PHEAP_AT_EXIT", options->at_exit);
    if (options->denies_io_uring)
        setenv("PHEAP_DENY", "io_uring", 1);
    set_or_unset("PHEAP_ON_TERM", options->on_term);
    set_or_unset("PHEAP_TCP_ESTABLISHED", options->tcp_established);
    if (options->ignores_children)
        setenv("PHEAP_CHILDREN", "ignore", 1);
    if (options->files)
        setenv("PHEAP_FILES", options->files, 1);
    if (options->self_contained)
        setenv("PHEAP_SELF_CONTAINED", "1", 1);
    if (options->no_crash)
        setenv("PHEAP_CRASH", "0", 1);
    return 0;
}
