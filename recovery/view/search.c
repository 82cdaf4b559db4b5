/*
 * search.c - see search.h. Always true: what is found lies in pages that follow each other; a gap
 * between two pages ends every text and every match.
 */
#include "recovery/view/search.h"

#include <string.h>

#define STOP STATUS_ENDED /* a visitor has seen enough */

static int whole_memory(struct view *view, view_page_visit *visit, void *context,
                        struct problem *why)
{
    int status = view_each_page(view, 0, PROCESS_ADDRESS_LIMIT, visit, context, why);

    return status == STOP ? 0 : status;
}

/* --- bytes --- */

struct byte_search {
    const uint8_t *pattern;
    size_t bytes;
    search_hit *hit;
    void *context;
    uint64_t next; /* address behind the page before */
    size_t kept;   /* bytes of its end, at the front of `joined` */
    uint8_t joined[2 * SEARCH_PATTERN_MAX];
};

static int hits_in(struct byte_search *search, const uint8_t *data, size_t bytes, uint64_t address)
{
    const uint8_t *at = data, *found;

    while ((found = memmem(at, bytes - (size_t)(at - data), search->pattern, search->bytes))) {
        if (!search->hit(search->context, address + (uint64_t)(found - data)))
            return STOP;
        at = found + 1;
    }
    return 0;
}

/* First what begins in the page before: the last bytes of that one and the first of this one, each
 * one fewer than the pattern has, hold no match that lies in one of them alone. */
static int bytes_in_page(void *context, uint64_t address, const uint8_t *page)
{
    struct byte_search *search = context;
    size_t overlap = search->bytes - 1;
    int status = 0;

    if (address == search->next && search->kept) {
        memcpy(search->joined + search->kept, page, overlap);
        status = hits_in(search, search->joined, search->kept + overlap, address - search->kept);
    }
    if (status == 0)
        status = hits_in(search, page, PAGE_BYTES, address);
    memcpy(search->joined, page + PAGE_BYTES - overlap, overlap);
    search->kept = overlap;
    search->next = address + PAGE_BYTES;
    return status;
}

int search_bytes(struct view *view, const void *pattern, size_t bytes, search_hit *hit,
                 void *context, struct problem *why)
{
    struct byte_search search = {
        .pattern = pattern, .bytes = bytes, .hit = hit, .context = context};

    if (bytes == 0 || bytes > SEARCH_PATTERN_MAX)
        return problem_set(why, STATUS_USAGE, "a pattern has 1 to %u bytes, not %zu",
                           SEARCH_PATTERN_MAX, bytes);
    return whole_memory(view, bytes_in_page, &search, why);
}

/* --- words --- */

struct word_search {
    uint64_t low, span;
    search_word *hit;
    void *context;
};

static int words_in_page(void *context, uint64_t address, const uint8_t *page)
{
    const struct word_search *search = context;
    const uint64_t *words = (const uint64_t *)page;

    for (size_t i = 0; i < PAGE_BYTES / 8; i++)
        if (words[i] - search->low < search->span &&
            !search->hit(search->context, address + 8 * i, words[i]))
            return STOP;
    return 0;
}

int search_words(struct view *view, uint64_t low, uint64_t high, search_word *hit, void *context,
                 struct problem *why)
{
    struct word_search search = {low, high - low, hit, context};

    return whole_memory(view, words_in_page, &search, why);
}

/* --- texts --- */

struct text_search {
    size_t least;
    search_text *hit;
    void *context;
    uint64_t next; /* address behind the page before */
    size_t bytes;  /* of the text so far */
    char text[SEARCH_TEXT_MAX];
};

static bool is_printable(uint8_t byte)
{
    return (byte >= 0x20 && byte < 0x7f) || byte == '\t';
}

/* The text that ends before address. */
static int end_text(struct text_search *search, uint64_t address)
{
    size_t bytes = search->bytes;

    search->bytes = 0;
    if (bytes < search->least || search->hit(search->context, address - bytes, search->text, bytes))
        return 0;
    return STOP;
}

static int texts_in_page(void *context, uint64_t address, const uint8_t *page)
{
    struct text_search *search = context;
    int status = address == search->next ? 0 : end_text(search, search->next);

    search->next = address + PAGE_BYTES;
    for (size_t i = 0; i < PAGE_BYTES && status == 0; i++) {
        if (!is_printable(page[i])) {
            if (search->bytes)
                status = end_text(search, address + i);
            continue;
        }
        if (search->bytes == SEARCH_TEXT_MAX)
            status = end_text(search, address + i);
        search->text[search->bytes++] = (char)page[i];
    }
    return status;
}

int search_texts(struct view *view, size_t least, search_text *hit, void *context,
                 struct problem *why)
{
    struct text_search search = {.least = least, .hit = hit, .context = context};
    int status = whole_memory(view, texts_in_page, &search, why);

    if (status == 0)
        (void)end_text(&search, search.next);
    return status;
}
