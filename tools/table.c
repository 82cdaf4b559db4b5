/*
 * table.c - see table.h. True always: a column is as wide as its widest cell; nothing is cut off.
 */
#include "tools/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/command.h"

static const char *show_signed(char buffer[64], int64_t value, bool in_bytes)
{
    uint64_t size = value < 0 ? -(uint64_t)value : (uint64_t)value;
    char text[32];

    if (in_bytes)
        show_bytes(text, size);
    else
        snprintf(text, sizeof text, "%" PRIu64, size);
    snprintf(buffer, 64, "%s%s", value > 0 ? "+" : value < 0 ? "-" : "", text);
    return buffer;
}

/* buffer: 64 bytes; not used for text. */
static const char *cell(char buffer[64], const json_t *row, const struct column *column)
{
    const json_t *value = json_object_get(row, column->key);
    int64_t number = json_integer_value(value);

    if (!value)
        return "";
    if (json_is_null(value))
        return "-";
    switch (column->kind) {
    case COLUMN_TEXT:
        return json_string_value(value) ? json_string_value(value) : "";
    case COLUMN_NUMBER:
        snprintf(buffer, 64, "%" PRId64, number);
        return buffer;
    case COLUMN_BYTES:
        return show_bytes(buffer, (uint64_t)number);
    case COLUMN_GROWTH:
    case COLUMN_CHANGE:
        return show_signed(buffer, number, column->kind == COLUMN_GROWTH);
    case COLUMN_ADDRESS:
        snprintf(buffer, 64, "0x%" PRIx64, (uint64_t)number);
        return buffer;
    case COLUMN_PERCENT:
        snprintf(buffer, 64, "%.1f %%", json_number_value(value));
        return buffer;
    }
    return "";
}

static int column_width(const json_t *rows, const struct column *column)
{
    size_t width = strlen(column->title), i;
    const json_t *row;
    char buffer[64];

    json_array_foreach(rows, i, row)
    {
        size_t length = strlen(cell(buffer, row, column));

        if (length > width)
            width = length;
    }
    return (int)width;
}

/* Blanks are printed before the next text, so that no line ends with them. */
struct line {
    char *text;
    size_t size;
    FILE *out;
    int blanks;
};

static void put_cell(struct line *line, const struct column *column, const char *text, int width)
{
    int padding = width - (int)strlen(text);

    line->blanks += column->kind == COLUMN_TEXT ? 2 : 2 + padding;
    if (*text) {
        fprintf(line->out, "%*s%s", line->blanks, "", text);
        line->blanks = 0;
    }
    if (column->kind == COLUMN_TEXT)
        line->blanks += padding;
}

#define COLUMNS_MAX 16

static void print_titles(const struct inspection *inspection, const struct column *columns,
                         size_t count, const int *widths)
{
    struct line line = {0};

    line.out = open_memstream(&line.text, &line.size);
    if (!line.out)
        return;
    for (size_t c = 0; c < count; c++)
        put_cell(&line, &columns[c], columns[c].title, widths[c]);
    fclose(line.out);
    inspect_heading(inspection, line.text);
    free(line.text);
}

void table_print(const struct inspection *inspection, const json_t *rows,
                 const struct column *columns, size_t count)
{
    int widths[COLUMNS_MAX];
    char buffer[64];
    const json_t *row;
    size_t i;

    if (count > COLUMNS_MAX)
        count = COLUMNS_MAX;
    for (size_t c = 0; c < count; c++)
        widths[c] = column_width(rows, &columns[c]);
    print_titles(inspection, columns, count, widths);
    json_array_foreach(rows, i, row)
    {
        struct line line = {.out = stdout};

        for (size_t c = 0; c < count; c++)
            put_cell(&line, &columns[c], cell(buffer, row, &columns[c]), widths[c]);
        putchar('\n');
    }
}

void table_show(const struct inspection *inspection, const char *key, json_t *rows,
                const struct column *columns, size_t count)
{
    if (inspection->json) {
        json_object_set_new(inspection->json, key, rows);
        return;
    }
    table_print(inspection, rows, columns, count);
    json_decref(rows);
}

json_t *table_text(const char *text, size_t bytes)
{
    char *escaped = malloc(4 * bytes + 1);
    json_t *plain = json_stringn(text, bytes), *json;
    bool is_utf8 = plain != NULL;
    size_t used = 0;

    json_decref(plain);
    if (!escaped)
        return json_string("");
    for (size_t i = 0; i < bytes; i++) {
        uint8_t byte = (uint8_t)text[i];

        if (byte < 0x20 || byte == 0x7f || (byte >= 0x80 && !is_utf8))
            used += (size_t)sprintf(escaped + used, "\\x%02x", byte);
        else
            escaped[used++] = (char)byte;
    }
    json = json_stringn(escaped, used);
    free(escaped);
    return json;
}
