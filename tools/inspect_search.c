/*
 * inspect_search.c - the views strings and grep: texts, bytes and pointers in memory, each with
 * what it lies in.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "recovery/view/search.h"
#include "tools/command.h"
#include "tools/inspect.h"
#include "tools/place.h"
#include "tools/table.h"

#define HIT_LIMIT    1000
#define TEXT_LEAST   8
#define AROUND_BYTES 48u /* shown from a hit on */

struct hits {
    struct view *view;
    struct block_map map;
    json_t *rows;
    uint64_t limit;
    bool is_cut; /* there may be more */
};

static bool add_row(struct hits *hits, json_t *row, uint64_t address)
{
    if (json_array_size(hits->rows) >= hits->limit) {
        json_decref(row);
        hits->is_cut = true;
        return false;
    }
    place_add(&hits->map, address, row);
    json_array_append_new(hits->rows, row);
    return true;
}

static bool add_text(void *context, uint64_t address, const char *text, size_t bytes)
{
    return add_row(context,
                   json_pack("{s:I, s:I, s:o}", "address", (json_int_t)address, "bytes",
                             (json_int_t)bytes, "text", table_text(text, bytes)),
                   address);
}

/* With the bytes from there on, dots for those that cannot be printed. */
static bool add_hit(void *context, uint64_t address)
{
    struct hits *hits = context;
    size_t bytes = PAGE_BYTES - address % PAGE_BYTES;
    char text[AROUND_BYTES];

    bytes = bytes < sizeof text ? bytes : sizeof text;
    if (view_read(hits->view, address, text, bytes, NULL) < 0)
        bytes = 0;
    for (size_t i = 0; i < bytes; i++)
        if (!isascii(text[i]) || !isprint(text[i]))
            text[i] = '.';
    return add_row(
        hits,
        json_pack("{s:I, s:o}", "address", (json_int_t)address, "text", table_text(text, bytes)),
        address);
}

static bool add_word(void *context, uint64_t address, uint64_t value)
{
    (void)value;
    return add_hit(context, address);
}

static const struct column columns[] = {
    {"address", "address", COLUMN_ADDRESS},
    {"in", "in", COLUMN_TEXT},
    {"text", "text", COLUMN_TEXT},
};

/* Blocks are named if the heap can be walked; if it is damaged there are mappings alone. */
static int begin(struct hits *hits, struct inspection *inspection, struct view *view,
                 struct problem *why)
{
    int status;

    memset(hits, 0, sizeof *hits);
    hits->view = view;
    hits->rows = json_array();
    hits->limit = inspection->limit ? inspection->limit : HIT_LIMIT;
    status = block_map_build(&hits->map, view, why);
    if (status != STATUS_DAMAGED)
        return status;
    report("inspect", EXIT_FOUND, "%s; blocks are not named", why->text);
    inspection->left_out++;
    block_map_none(&hits->map, view);
    return 0;
}

static int end(struct hits *hits, struct inspection *inspection, const char *key, int status)
{
    if (status < 0) {
        json_decref(hits->rows);
        return status;
    }
    if (inspection->json)
        json_object_set_new(inspection->json, "is_cut", json_boolean(hits->is_cut));
    table_show(inspection, key, hits->rows, columns, sizeof columns / sizeof columns[0]);
    if (!inspection->json && hits->is_cut)
        printf("  there are more than these %" PRIu64 "; --limit N shows more\n", hits->limit);
    return 0;
}

/* --- strings --- */

static int show_strings(struct inspection *inspection, struct view *view, struct problem *why)
{
    struct hits hits;
    int status = begin(&hits, inspection, view, why);

    if (status == 0)
        status = search_texts(view, inspection->least ? inspection->least : TEXT_LEAST, add_text,
                              &hits, why);
    return end(&hits, inspection, "strings", status);
}

int inspect_strings(struct inspection *inspection, struct problem *why)
{
    return inspect_with(inspection, show_strings, why);
}

/* --- grep --- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "de ad be ef" or "deadbeef", in the order of memory. The number of bytes, or STATUS_USAGE. */
static int parse_hex(const char *text, uint8_t bytes[SEARCH_PATTERN_MAX])
{
    unsigned count = 0;

    while (*text) {
        if (*text == ' ') {
            text++;
            continue;
        }
        if (count == SEARCH_PATTERN_MAX || hex_digit(text[0]) < 0 || hex_digit(text[1]) < 0)
            return STATUS_USAGE;
        bytes[count++] = (uint8_t)(hex_digit(text[0]) << 4 | hex_digit(text[1]));
        text += 2;
    }
    return count ? (int)count : STATUS_USAGE;
}

static int search_pattern(struct inspection *inspection, struct hits *hits, struct problem *why)
{
    const char *text = inspection->arguments[0];
    static uint8_t bytes[SEARCH_PATTERN_MAX];
    int count;

    if (inspection->pattern == PATTERN_TEXT)
        return search_bytes(hits->view, text, strlen(text), add_hit, hits, why);
    if (inspection->pattern == PATTERN_POINTER) {
        char *behind;
        uint64_t value = strtoull(text, &behind, 0);

        if (*behind || behind == text)
            return problem_set(why, STATUS_USAGE, "\"%s\" is no address", text);
        return search_words(hits->view, value, value + 1, add_word, hits, why);
    }
    count = parse_hex(text, bytes);
    if (count < 0)
        return problem_set(why, count, "\"%s\" is not bytes in hexadecimal, two digits each", text);
    return search_bytes(hits->view, bytes, (size_t)count, add_hit, hits, why);
}

static int show_grep(struct inspection *inspection, struct view *view, struct problem *why)
{
    struct hits hits;
    int status = begin(&hits, inspection, view, why);

    if (status == 0)
        status = search_pattern(inspection, &hits, why);
    return end(&hits, inspection, "hits", status);
}

int inspect_grep(struct inspection *inspection, struct problem *why)
{
    return inspect_with(inspection, show_grep, why);
}
