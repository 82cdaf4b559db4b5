/*
 * search.h - bytes, words and texts in the memory of a generation, in the order of addresses. Pages
 * that the image does not hold (clean pages of files) are not looked at.
 */
#ifndef PHEAP_RECOVERY_VIEW_SEARCH_H
#define PHEAP_RECOVERY_VIEW_SEARCH_H

#include <stdbool.h>
#include <stdint.h>
#include "recovery/view/view.h"

/* Each returns false to stop; the search then returns 0. */
typedef bool search_hit(void *context, uint64_t address);
typedef bool search_word(void *context, uint64_t address, uint64_t value);
typedef bool search_text(void *context, uint64_t address, const char *text, size_t bytes);

/* Where pattern occurs, across pages too; at least 1 byte, at most SEARCH_PATTERN_MAX. */
#define SEARCH_PATTERN_MAX 4096u
MUST_CHECK int search_bytes(struct view *view, const void *pattern, size_t bytes, search_hit *hit,
                            void *context, struct problem *why);

/* Aligned words with a value in [low, high). */
MUST_CHECK int search_words(struct view *view, uint64_t low, uint64_t high, search_word *hit,
                            void *context, struct problem *why);

/* Runs of at least `least` printable ASCII characters and tabs. A longer one than SEARCH_TEXT_MAX
 * is handed over in parts. */
#define SEARCH_TEXT_MAX 4096u
MUST_CHECK int search_texts(struct view *view, size_t least, search_text *hit, void *context,
                            struct problem *why);

#endif
