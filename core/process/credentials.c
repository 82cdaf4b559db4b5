/*
 * credentials.c - a program that has given up groups or capabilities, or has gone to other
 * namespaces, is refused: resumed, it would have the restorer's again.
 *
 * What it began with is known without a record: the agent was cloned from the program before its
 * main() and is still what the program was then. What the surroundings have given or taken is not
 * the program's doing: a restore is in its own.
 */
#include "core/process/credentials.h"

#include <errno.h>
#include <string.h>
#include "core/base/checksum.h"
#include "core/base/format_text.h"
#include "core/process/mapped_files.h"
#include "core/process/proc_text.h"

static const char *const sets[] = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"};
static const char *const namespaces[CREDENTIALS_NAMESPACES] = {"user", "mnt", "net",
                                                               "ipc",  "uts", "cgroup"};

/* "mnt:[4026531841]"; 0 of a kernel that has none of the kind. */
static int namespace_number(int pid, const char *name, uint64_t *number)
{
    char path[16], link[40];
    const char *at;
    ssize_t got;

    format_text(path, sizeof path, "ns/%s", name);
    got = proc_readlink(pid, path, link, sizeof link);
    if (got < 0)
        return got == -ENOENT ? 0 : (int)got;
    at = strchr(link, '[');
    if (at == NULL)
        return -EINVAL;
    at++;
    *number = text_number(&at, 10);
    return 0;
}

int credentials_read(struct credentials *out, int pid, const char *status)
{
    const char *groups = proc_field(status, "Groups");
    const char *end = groups != NULL ? strchr(groups, '\n') : NULL;
    int result = 0;

    *out = (struct credentials){0};
    if (end != NULL)
        out->groups = checksum64(groups, (size_t)(end - groups));
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        out->capabilities[i] = proc_number(status, sets[i], 16);
    for (size_t i = 0; i < CREDENTIALS_NAMESPACES && result == 0; i++)
        result = namespace_number(pid, namespaces[i], &out->namespaces[i]);
    return result;
}

static int refuse(struct capture_run *run, const char *what)
{
    return problem_set(run->why, STATUS_UNSUPPORTED,
                       "the program has changed its %s, which cannot be checkpointed: change it "
                       "before pheap run (setpriv, capsh, unshare)",
                       what);
}

int credentials_check(struct capture_run *run)
{
    const struct credentials *began = capture_cache_credentials(run->capture->cache);
    struct credentials now;
    char text[40];
    int status = credentials_read(&now, run->capture->pid, run->text);

    if (status != 0)
        return problem_set(run->why, status, "cannot read its namespaces: %s", status_text(status));
    if (now.groups != began->groups)
        return refuse(run, "supplementary groups");
    for (size_t i = 0; i < CREDENTIALS_NAMESPACES; i++) {
        format_text(text, sizeof text, "%s namespace", namespaces[i]);
        if (now.namespaces[i] != began->namespaces[i])
            return refuse(run, text);
    }
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        format_text(text, sizeof text, "capabilities (%s)", sets[i]);
        if (now.capabilities[i] != began->capabilities[i])
            return refuse(run, text);
    }
    return 0;
}
