/*
 * maps.c - see maps.h. The text is read whole, and the names stay where they are in it, so that
 * inside the freeze a mapping costs its parsing and nothing else.
 *
 * What is read is treated as hostile: a file's name may hold spaces, " (deleted)" or brackets; a
 * line that is not as the kernel writes it is STATUS_DAMAGED, never guessed at. While the program
 * runs the lines are of different moments: see clip().
 */
#include "core/image/maps.h"

#include <errno.h>
#include <string.h>

#include "core/base/sys.h"

#define TEXT_BYTES_FIRST (64u << 10)
#define TEXT_BYTES_MAX   (64u << 20)

/* The whole text, NUL-terminated; *out is NULL when there is no memory for it. */
static int read_whole(const char *path, struct arena *arena, char **out, size_t *out_bytes)
{
    int fd = sys_open(path, O_RDONLY | O_CLOEXEC, 0);
    size_t size = TEXT_BYTES_FIRST, used = 0;
    char *text = NULL;
    ssize_t got = 0;

    if (fd < 0)
        return fd;
    text = arena_alloc(arena, size, 8);
    while (text) {
        if (used == size - 1) {
            char *larger = size < TEXT_BYTES_MAX ? arena_alloc(arena, size * 2, 8) : NULL;

            if (larger)
                memcpy(larger, text, used);
            text = larger;
            size *= 2;
            continue;
        }
        got = sys_read(fd, text + used, size - 1 - used);
        if (got == -EINTR)
            continue;
        if (got <= 0)
            break;
        used += (size_t)got;
    }
    sys_close(fd);
    *out = text;
    *out_bytes = used;
    return text ? (got < 0 ? (int)got : 0) : -ENOMEM;
}

/* One number and the character that ends it; *at is moved behind both. */
static bool parse_number(char **at, unsigned base, char ends_with, uint64_t *out)
{
    uint64_t value = 0;
    char *c = *at;

    for (;; c++) {
        unsigned digit = *c >= '0' && *c <= '9'   ? (unsigned)(*c - '0')
                         : *c >= 'a' && *c <= 'f' ? (unsigned)(*c - 'a') + 10
                                                  : 99;
        if (digit >= base)
            break;
        if (value > (UINT64_MAX - digit) / base)
            return false;
        value = value * base + digit;
    }
    if (c == *at || *c != ends_with)
        return false;
    *at = c + 1;
    *out = value;
    return true;
}

static bool parse_permissions(char **at, struct mapping *mapping)
{
    const char *c = *at;

    if ((c[0] != 'r' && c[0] != '-') || (c[1] != 'w' && c[1] != '-') ||
        (c[2] != 'x' && c[2] != '-') || (c[3] != 'p' && c[3] != 's') || c[4] != ' ')
        return false;
    mapping->prot = (c[0] == 'r' ? PROT_READ : 0) | (c[1] == 'w' ? PROT_WRITE : 0) |
                    (c[2] == 'x' ? PROT_EXEC : 0);
    mapping->shared = c[3] == 's';
    *at += 5;
    return true;
}

/* The kernel writes a newline in a name as \012 and nothing else specially. */
static void unescape(char *name)
{
    char *to = name;

    for (const char *from = name; *from; to++) {
        bool newline = strncmp(from, "\\012", 4) == 0;

        *to = newline ? '\n' : *from;
        from += newline ? 4 : 1;
    }
    *to = 0;
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static enum mapping_kind kind_of_label(const char *name)
{
    if (!name[0] || strcmp(name, "[heap]") == 0 || starts_with(name, "[stack") ||
        starts_with(name, "[anon:"))
        return MAPPING_ANON;
    if (strcmp(name, "[vdso]") == 0 || starts_with(name, "[vvar"))
        return MAPPING_VDSO;
    return strcmp(name, "[vsyscall]") == 0 ? MAPPING_VSYSCALL : MAPPING_OTHER;
}

static void classify(struct mapping *mapping, char *name, const struct address_space *space)
{
    static const char deleted[] = " (deleted)";
    size_t length = strlen(name);

    if (name[0] == '/') {
        if (length > sizeof deleted - 1 &&
            strcmp(name + length - (sizeof deleted - 1), deleted) == 0) {
            mapping->deleted = true;
            name[length - (sizeof deleted - 1)] = 0;
        }
        unescape(name);
        mapping->kind = MAPPING_FILE;
        if (space->pool_inode && mapping->inode == space->pool_inode && !mapping->shared &&
            mapping->dev_major == space->pool_dev_major &&
            mapping->dev_minor == space->pool_dev_minor)
            mapping->kind = MAPPING_POOL;
    } else {
        mapping->kind = mapping->inode ? MAPPING_OTHER : kind_of_label(name);
        mapping->is_heap = strcmp(name, "[heap]") == 0;
        mapping->grows_down = strcmp(name, "[stack]") == 0;
    }
    mapping->name = name;
}

/* Parses the line at *at (ended by a newline, which becomes a NUL); *at is moved behind it. */
static int parse_line(char **at, const struct address_space *space, struct mapping *mapping)
{
    uint64_t start = 0, end = 0, major = 0, minor = 0;
    char *newline = strchr(*at, '\n');

    *mapping = (struct mapping){0};
    if (!newline)
        return STATUS_DAMAGED;
    *newline = 0;
    if (!parse_number(at, 16, '-', &start) || !parse_number(at, 16, ' ', &end) ||
        !parse_permissions(at, mapping) || !parse_number(at, 16, ' ', &mapping->file_offset) ||
        !parse_number(at, 16, ':', &major) || !parse_number(at, 16, ' ', &minor))
        return STATUS_DAMAGED;
    if (!parse_number(at, 10, ' ', &mapping->inode) && !parse_number(at, 10, '\0', &mapping->inode))
        return STATUS_DAMAGED;
    if (start >= end || start % PAGE_BYTES || end % PAGE_BYTES || major > UINT32_MAX ||
        minor > UINT32_MAX)
        return STATUS_DAMAGED;
    mapping->start = start;
    mapping->end = end;
    mapping->dev_major = (uint32_t)major;
    mapping->dev_minor = (uint32_t)minor;
    if (*at > newline)
        *at = newline;
    while (**at == ' ')
        ++*at;
    classify(mapping, *at, space);
    *at = newline + 1;
    return 0;
}

/* The first excluded range that [start, end) meets, lowest address first. */
static const struct address_range *first_exclusion(const struct address_space *space,
                                                   uintptr_t start, uintptr_t end)
{
    const struct address_range *first = NULL;

    for (uint32_t i = 0; i < space->excluded_count; i++) {
        const struct address_range *range = &space->excluded[i];

        if (range->start < end && range->end > start && (!first || range->start < first->start))
            first = range;
    }
    return first;
}

/* Appends the parts of mapping that are not excluded. */
static void append(struct address_space *space, const struct mapping *mapping)
{
    uintptr_t at = mapping->start;

    while (at < mapping->end) {
        const struct address_range *hole = first_exclusion(space, at, mapping->end);
        uintptr_t end = hole ? hole->start : mapping->end;

        if (end > at) {
            struct mapping *piece = &space->mappings[space->count++];

            *piece = *mapping;
            piece->start = at;
            piece->end = end;
            if (mapping->inode)
                piece->file_offset += at - mapping->start;
        }
        at = hole ? hole->end : mapping->end;
    }
}

/* The kernel hands out a page of text at a time. A mapping that merged with its neighbour in
 * between is told again from its new start: what is known of it already is cut off. */
static bool clip(struct mapping *mapping, uintptr_t previous_end)
{
    if (mapping->end <= previous_end)
        return false;
    if (mapping->start < previous_end) {
        if (mapping->inode)
            mapping->file_offset += previous_end - mapping->start;
        mapping->start = previous_end;
    }
    return true;
}

int maps_read(struct address_space *space, const char *path, struct arena *arena)
{
    struct mapping mapping;
    char *text = NULL, *at = NULL;
    size_t bytes = 0, lines = 0;
    uintptr_t previous_end = 0;
    int status = 0;

    space->mappings = NULL;
    space->count = 0;
    if (space->excluded_count > ADDRESS_SPACE_EXCLUSIONS)
        return -EINVAL;
    status = read_whole(path, arena, &text, &bytes);
    if (status < 0)
        return status;
    for (const char *c = text; (c = memchr(c, '\n', bytes - (size_t)(c - text))) != NULL; c++)
        lines++;
    space->mappings =
        arena_alloc(arena, (lines + ADDRESS_SPACE_EXCLUSIONS) * sizeof(struct mapping), 16);
    if (!space->mappings)
        return -ENOMEM;
    for (at = text; at < text + bytes;) {
        status = parse_line(&at, space, &mapping);
        if (status < 0)
            return status;
        if (!clip(&mapping, previous_end))
            continue;
        previous_end = mapping.end;
        append(space, &mapping);
    }
    return 0;
}

int maps_identify_pool(struct address_space *space, int pool_fd, struct arena *arena)
{
    struct address_space all = {0};
    const struct mapping *mapping = NULL;
    uintptr_t mark = arena_mark(arena);
    void *page = sys_mmap(NULL, PAGE_BYTES, PROT_READ, MAP_PRIVATE, pool_fd, 0);
    int status = 0;

    if (sys_failed((long)page))
        return (int)(long)page;
    status = maps_read(&all, "/proc/self/maps", arena);
    sys_munmap(page, PAGE_BYTES);
    if (status >= 0)
        mapping = maps_find(&all, (uintptr_t)page);
    if (mapping) {
        space->pool_dev_major = mapping->dev_major;
        space->pool_dev_minor = mapping->dev_minor;
        space->pool_inode = mapping->inode;
    } else if (status >= 0) {
        status = -ENOENT;
    }
    arena_rewind(arena, mark);
    return status;
}

const struct mapping *maps_find(const struct address_space *space, uintptr_t address)
{
    uint32_t low = 0, high = space->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (space->mappings[middle].end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low < space->count && space->mappings[low].start <= address ? &space->mappings[low]
                                                                       : NULL;
}

bool maps_are_valid(const struct address_space *space)
{
    uintptr_t end = 0;

    for (uint32_t i = 0; i < space->count; i++) {
        const struct mapping *mapping = &space->mappings[i];

        if (mapping->start < end || mapping->start >= mapping->end || mapping->start % PAGE_BYTES ||
            mapping->end % PAGE_BYTES || !mapping->name)
            return false;
        end = mapping->end;
    }
    return true;
}
