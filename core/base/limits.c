/*
 * limits.c - see limits.h.
 */
#include "core/base/limits.h"

#include <errno.h>
#include <string.h>
#include "core/base/format_text.h"
#include "core/base/sys.h"

static const struct culprit {
    int status, resource;
    const char *name, *unit;
} culprits[] = {
    {-EMFILE, RLIMIT_NOFILE, "RLIMIT_NOFILE", ""}, {-EFBIG, RLIMIT_FSIZE, "RLIMIT_FSIZE", " bytes"},
    {-ENOMEM, RLIMIT_AS, "RLIMIT_AS", " bytes"},   {-ENOMEM, RLIMIT_DATA, "RLIMIT_DATA", " bytes"},
    {-EAGAIN, RLIMIT_NPROC, "RLIMIT_NPROC", ""},
};

static int get(int resource, struct rlimit64 *out)
{
    *out = (struct rlimit64){RLIM64_INFINITY, RLIM64_INFINITY};
    return (int)sys_call(SYS_prlimit64, 0, resource, 0, out);
}

uint64_t limit_of(int resource)
{
    struct rlimit64 limit;

    (void)get(resource, &limit);
    return limit.rlim_cur;
}

uint64_t limit_raise(int resource)
{
    struct rlimit64 limit;
    uint64_t soft;

    if (get(resource, &limit) != 0)
        return UINT64_MAX;
    soft = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    return sys_call(SYS_prlimit64, 0, resource, &limit, 0) == 0 ? limit.rlim_cur : soft;
}

void limit_explain(struct problem *why)
{
    for (size_t i = 0; i < sizeof culprits / sizeof culprits[0]; i++) {
        const struct culprit *one = &culprits[i];
        size_t used = strlen(why->text);
        uint64_t limit = why->status == one->status ? limit_of(one->resource) : UINT64_MAX;

        if (limit != UINT64_MAX && !strstr(why->text, one->name))
            format_text(why->text + used, sizeof why->text - used, " (%s is %lu%s)", one->name,
                        (unsigned long)limit, one->unit);
    }
}
