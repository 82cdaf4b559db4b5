/*
 * options.c - see options.h. Parsing without libc's locale-dependent functions: the same code
 * runs in the preloaded constructor and in the tools. A text is taken whole or not at all.
 */
#include "core/base/options.h"

#include <string.h>

struct unit {
    const char *name;
    uint64_t ns;
};

static const struct unit units[] = {
    {"ns", 1},
    {"us", 1000},
    {"ms", 1000000},
    {"s", 1000000000ull},
    {"m", 60000000000ull},
    {"h", 3600000000000ull},
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Digits at *text; moves behind them. False when there are none or the number overflows. */
static bool take_digits(const char **text, uint64_t *out)
{
    const char *c = *text;
    uint64_t value = 0;

    if (!is_digit(*c))
        return false;
    for (; is_digit(*c); c++) {
        if (value > (UINT64_MAX - 9) / 10)
            return false;
        value = value * 10 + (uint64_t)(*c - '0');
    }
    *text = c;
    *out = value;
    return true;
}

static uint64_t unit_ns(const char *name, uint64_t bare_unit_ns)
{
    if (*name == 0)
        return bare_unit_ns;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(name, units[i].name) == 0)
            return units[i].ns;
    return 0;
}

int options_duration(const char *text, uint64_t bare_unit_ns, uint64_t *out_ns)
{
    uint64_t whole = 0, fraction = 0, divisor = 1, unit;

    if (!take_digits(&text, &whole))
        return STATUS_USAGE;
    if (*text == '.') {
        const char *start = ++text;

        if (!take_digits(&text, &fraction) || text - start > 9)
            return STATUS_USAGE;
        for (; start < text; start++)
            divisor *= 10;
    }
    unit = unit_ns(text, bare_unit_ns);
    if (unit == 0 || whole > UINT64_MAX / 2 / unit)
        return STATUS_USAGE;
    /* fraction < 1e9 and unit <= 3.6e12: the product may pass 64 bits, so the unit is divided
     * first where it is large. */
    *out_ns = whole * unit;
    *out_ns +=
        unit >= 1000000000ull ? unit / 1000 * fraction / divisor * 1000 : unit * fraction / divisor;
    return 0;
}

int options_size(const char *text, uint64_t *out_bytes)
{
    static const char suffixes[] = "KMGT";
    uint64_t value = 0;
    unsigned shift = 0;

    if (!take_digits(&text, &value))
        return STATUS_USAGE;
    if (*text) {
        const char *suffix = strchr(suffixes, *text++);

        if (!suffix)
            return STATUS_USAGE;
        shift = 10 * (unsigned)(suffix - suffixes + 1);
    }
    if (*text || value > UINT64_MAX >> shift)
        return STATUS_USAGE;
    *out_bytes = value << shift;
    return 0;
}

int options_dirty(const char *text, uint64_t *out_bytes)
{
    uint64_t bytes = 0;

    if (options_size(text, &bytes) || (bytes && bytes < OPTIONS_DIRTY_MIN))
        return STATUS_USAGE;
    *out_bytes = bytes;
    return 0;
}

int options_profile(const char *text, uint64_t *out_bytes)
{
    uint64_t bytes = 0;

    if (options_size(text, &bytes) || bytes > OPTIONS_PROFILE_MAX)
        return STATUS_USAGE;
    *out_bytes = bytes == 1 ? OPTIONS_PROFILE_DEFAULT : bytes;
    return 0;
}

int options_files(const char *text, uint64_t *out_bytes)
{
    uint64_t bytes = OPTIONS_FILES_DEFAULT;

    if (strncmp(text, "save", 4) != 0 || (text[4] != 0 && text[4] != ':') ||
        (text[4] == ':' && options_size(text + 5, &bytes)) || bytes == 0)
        return STATUS_USAGE;
    *out_bytes = bytes;
    return 0;
}

int options_number(const char *text, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;

    if (!take_digits(&text, &value) || *text != 0 || value > max)
        return STATUS_USAGE;
    *out = value;
    return 0;
}

const char *options_variable(char *const *environment, const char *name)
{
    size_t length = strlen(name);

    for (; *environment; environment++)
        if (strncmp(*environment, name, length) == 0 && (*environment)[length] == '=')
            return *environment + length + 1;
    return NULL;
}

bool options_switch(char *const *environment, const char *name)
{
    const char *value = options_variable(environment, name);

    return value && *value && strcmp(value, "0") != 0;
}

/* A variable that has one value or none. */
static int take_switch(char *const *environment, const char *name, const char *value, bool *out,
                       struct problem *why)
{
    const char *found = options_variable(environment, name);

    *out = found && strcmp(found, value) == 0;
    if (!found || !*found || *out)
        return 0;
    return problem_set(why, STATUS_USAGE, "%s=%s is not understood; it can be %s or unset", name,
                       found, value);
}

static int take_tracking(char *const *environment, enum tracking *out, struct problem *why)
{
    const char *found = options_variable(environment, "PHEAP_TRACK");

    *out = TRACKING_BEST;
    if (!found || !*found)
        return 0;
    if (strcmp(found, "checksum") == 0)
        *out = TRACKING_CHECKSUM;
    else if (strcmp(found, "soft-dirty") == 0)
        *out = TRACKING_SOFT_DIRTY;
    else
        return problem_set(why, STATUS_USAGE,
                           "PHEAP_TRACK=%s is not understood; it can be checksum, soft-dirty or "
                           "unset",
                           found);
    return 0;
}

int options_from_environment(struct environment_options *out, char *const *environment,
                             struct problem *why)
{
    const char *pool = options_variable(environment, "PHEAP_POOL");
    const char *interval = options_variable(environment, "PHEAP_INTERVAL");
    const char *keep = options_variable(environment, "PHEAP_KEEP");
    const char *dirty = options_variable(environment, "PHEAP_DIRTY");
    const char *profile = options_variable(environment, "PHEAP_PROFILE");
    const char *files = options_variable(environment, "PHEAP_FILES");
    uint64_t number = 0;
    int status, switch_status;

    memset(out, 0, sizeof *out);
    out->pool = pool && *pool ? pool : NULL;
    out->owner = options_variable(environment, "PHEAP_OWNER");
    out->interval_ns = OPTIONS_INTERVAL_DEFAULT_NS;
    out->at_exit = options_switch(environment, "PHEAP_AT_EXIT");
    out->deepbind = options_switch(environment, "PHEAP_DEEPBIND");
    out->on_term = options_switch(environment, "PHEAP_ON_TERM");
    out->tcp_established = options_switch(environment, "PHEAP_TCP_ESTABLISHED");
    out->fresh = options_switch(environment, "PHEAP_FRESH");
    out->self_contained = options_switch(environment, "PHEAP_SELF_CONTAINED");
    out->harden = options_switch(environment, "PHEAP_HARDEN");
    out->stats = options_switch(environment, "PHEAP_STATS");
    status = take_tracking(environment, &out->track, why);
    switch_status = take_switch(environment, "PHEAP_CRASH", "0", &out->omits_crash, why);
    status = status ? status : switch_status;
    switch_status = take_switch(environment, "PHEAP_CHECK", "cut", &out->checks_cuts, why);
    status = status ? status : switch_status;
    switch_status = take_switch(environment, "PHEAP_FREEZE", "signal", &out->by_signal, why);
    status = status ? status : switch_status;
    switch_status =
        take_switch(environment, "PHEAP_CHILDREN", "ignore", &out->ignores_children, why);
    status = status ? status : switch_status;
    switch_status = take_switch(environment, "PHEAP_DENY", "io_uring", &out->denies_io_uring, why);
    status = status ? status : switch_status;
    if (keep && *keep) {
        if (options_number(keep, OPTIONS_KEEP_MAX, &number) || number == 0)
            status = problem_set(why, STATUS_USAGE, "PHEAP_KEEP=%s: expected 1 to %d", keep,
                                 OPTIONS_KEEP_MAX);
        else
            out->keep = (uint32_t)number;
    }
    if (dirty && *dirty && options_dirty(dirty, &out->dirty_bytes))
        status =
            problem_set(why, STATUS_USAGE, "PHEAP_DIRTY=%s: expected a size from 1M, or 0", dirty);
    if (profile && *profile && options_profile(profile, &out->profile_bytes))
        status = problem_set(why, STATUS_USAGE,
                             "PHEAP_PROFILE=%s: expected 1, or the bytes from one sampled "
                             "allocation to the next, such as 64K",
                             profile);
    if (files && *files && options_files(files, &out->files_bytes))
        status = problem_set(why, STATUS_USAGE,
                             "PHEAP_FILES=%s: expected save, or save:SIZE such as save:1G", files);
    if (interval && *interval && options_duration(interval, 1, &out->interval_ns))
        status = problem_set(why, STATUS_USAGE,
                             "PHEAP_INTERVAL=%s: expected nanoseconds or a time such as 100ms, 1s",
                             interval);
    return status;
}

int options_owner(const char *text, struct options_owner *out)
{
    uint64_t number = 0;

    if (!take_digits(&text, &number) || number > INT32_MAX || *text != ':')
        return STATUS_USAGE;
    out->pid = (int)number;
    text++;
    if (!take_digits(&text, &out->start_time) || *text++ != ':')
        return STATUS_USAGE;
    return take_digits(&text, &out->filters) && *text == 0 ? 0 : STATUS_USAGE;
}
