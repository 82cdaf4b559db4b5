/*
 * nearest.h - what was meant by a word that was mistyped.
 */
#ifndef PHEAP_TOOLS_NEAREST_H
#define PHEAP_TOOLS_NEAREST_H

#include <stddef.h>

#define NEAREST_HINT_BYTES 64

/*
 * " (did you mean 'PREFIXNAME'?)" in hint, or "" when no name is near; returns hint. The table has
 * `count` elements of `stride` bytes, each of which begins with the pointer to its name; a NULL
 * ends it sooner. hint: NEAREST_HINT_BYTES.
 */
const char *nearest_hint(char *hint, const char *prefix, const char *word, const void *table,
                         size_t stride, size_t count);

#endif
