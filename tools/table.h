/*
 * table.h - rows of a view: a JSON array of objects, and the same as aligned columns.
 *
 * A view builds its rows once, as JSON; the text shows some of their members, a column each. So
 * what a person reads and what a program reads cannot differ.
 */
#ifndef PHEAP_TOOLS_TABLE_H
#define PHEAP_TOOLS_TABLE_H

#include <jansson.h>
#include <stddef.h>
#include "tools/inspect.h"

enum column_kind {
    COLUMN_TEXT,    /* strings; flush left */
    COLUMN_NUMBER,  /* integers, or a dash for null */
    COLUMN_BYTES,   /* integers as "3.4 MiB" */
    COLUMN_GROWTH,  /* the same with a sign */
    COLUMN_CHANGE,  /* integers with a sign */
    COLUMN_ADDRESS, /* integers in hexadecimal */
    COLUMN_PERCENT, /* reals */
};

struct column {
    const char *key, *title;
    enum column_kind kind;
};

/* Prints the rows below a heading. Members that are missing are left blank. */
void table_print(const struct inspection *inspection, const json_t *rows,
                 const struct column *columns, size_t count);

/* Adds the rows to the inspection's JSON under this key, or prints them; takes them over. */
void table_show(const struct inspection *inspection, const char *key, json_t *rows,
                const struct column *columns, size_t count);

/* A JSON string of any bytes: control characters, and all beyond ASCII if they are not UTF-8,
 * become
 * "\x1b". So nothing that a program had in memory can steer a terminal. */
json_t *table_text(const char *text, size_t bytes);

#endif
