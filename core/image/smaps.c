/*
 * smaps.c - see smaps.h. Lines are parsed as they come: a mapping's header, then its fields, of
 * which Rss and Swap count. What does not parse is not taken for empty.
 */
#include "core/image/smaps.h"

#include <string.h>

#include "core/base/sys.h"
#include "core/image/pagemap.h"

#define LINE_BYTES 256 /* a longer line is a long path: its start says enough */

struct smaps_state {
    struct pagemap *pagemap;
    uint64_t start, end;
    bool has_rss, has_swap, holds_pages;
};

static const char *parse_hex(const char *at, uint64_t *out)
{
    *out = 0;
    for (;; at++) {
        if (*at >= '0' && *at <= '9')
            *out = *out << 4 | (uint64_t)(*at - '0');
        else if (*at >= 'a' && *at <= 'f')
            *out = *out << 4 | (uint64_t)(*at - 'a' + 10);
        else
            return at;
    }
}

static void finish_mapping(const struct smaps_state *state)
{
    struct pagemap *pagemap = state->pagemap;

    if (state->end - state->start >= GIANT_BYTES && state->has_rss && state->has_swap &&
        !state->holds_pages && pagemap->empty_count < EMPTY_GIANTS_MAX) {
        pagemap->empty[pagemap->empty_count].start = state->start;
        pagemap->empty[pagemap->empty_count++].end = state->end;
    }
}

/* "Rss:      123 kB" */
static bool is_zero_field(const char *line, size_t label_bytes)
{
    const char *at = line + label_bytes;

    while (*at == ' ')
        at++;
    return at[0] == '0' && at[1] == ' ';
}

bool smaps_begins_mapping(const char *line, uint64_t *start, uint64_t *end)
{
    const char *dash = parse_hex(line, start);

    return *dash == '-' && *parse_hex(dash + 1, end) == ' ';
}

static void take_line(void *context, const char *line)
{
    struct smaps_state *state = context;
    uint64_t start = 0, end = 0;

    if (smaps_begins_mapping(line, &start, &end)) {
        finish_mapping(state);
        *state = (struct smaps_state){.pagemap = state->pagemap, .start = start, .end = end};
    } else if (strncmp(line, "Rss:", 4) == 0) {
        state->has_rss = true;
        state->holds_pages |= !is_zero_field(line, 4);
    } else if (strncmp(line, "Swap:", 5) == 0) {
        state->has_swap = true;
        state->holds_pages |= !is_zero_field(line, 5);
    }
}

int smaps_each_line(smaps_line *take, void *context)
{
    char chunk[4096], line[LINE_BYTES];
    size_t length = 0;
    ssize_t got = 0;
    int fd = sys_open("/proc/self/smaps", O_RDONLY | O_CLOEXEC, 0);

    if (fd < 0)
        return fd;
    while ((got = sys_read(fd, chunk, sizeof chunk)) > 0) {
        for (ssize_t i = 0; i < got; i++) {
            if (chunk[i] != '\n') {
                if (length < sizeof line - 1)
                    line[length++] = chunk[i];
                continue;
            }
            line[length] = 0;
            take(context, line);
            length = 0;
        }
    }
    sys_close(fd);
    return (int)got;
}

int smaps_find_empty(struct pagemap *pagemap)
{
    struct smaps_state state = {.pagemap = pagemap};
    int status;

    pagemap->empty_count = 0;
    status = smaps_each_line(take_line, &state);
    finish_mapping(&state);
    return status;
}
