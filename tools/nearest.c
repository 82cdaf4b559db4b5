/*
 * nearest.c - see nearest.h.
 */
#include "tools/nearest.h"

#include <stdio.h>
#include <string.h>

/* Levenshtein distance of two short words; that of a long one is its length. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[32], columns = strlen(b);

    if (columns + 1 > sizeof row / sizeof row[0])
        return columns;
    for (size_t j = 0; j <= columns; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= columns; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);

            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[columns];
}

const char *nearest_hint(char *hint, const char *prefix, const char *word, const void *table,
                         size_t stride, size_t count)
{
    size_t limit = strlen(word) / 3 + 1; /* farther away it is another word */
    const char *nearest = NULL;

    for (size_t i = 0; i < count; i++) {
        const char *name = *(const char *const *)((const char *)table + i * stride);
        size_t distance = name ? edit_distance(word, name) : 0;

        if (!name)
            break;
        if (distance <= limit) {
            limit = distance - (distance > 0);
            nearest = name;
        }
    }
    *hint = 0;
    if (nearest)
        snprintf(hint, NEAREST_HINT_BYTES, " (did you mean '%s%s'?)", prefix, nearest);
    return hint;
}
