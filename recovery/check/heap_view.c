/*
 * heap_view.c - see heap_view.h.
 *
 * What must always be true: pages are ascending, each once; only pages of the slot are in the list,
 * so no address leads anywhere else.
 */
#include "recovery/check/heap_view.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int note_page(void *context, uint64_t page, struct index_entry entry)
{
    struct heap_view *view = context;
    uint64_t first = view->base >> FRAME_SHIFT;

    if (entry.frame < FRAME_FIRST || page < first || page - first >= SLOT_BYTES >> FRAME_SHIFT)
        return 0;
    if (view->page_count == view->page_room) {
        uint64_t room = view->page_room ? view->page_room * 2 : 1024;
        struct view_page *pages = realloc(view->pages, room * sizeof *pages);

        if (pages == NULL)
            return -ENOMEM;
        view->pages = pages;
        view->page_room = room;
    }
    view->pages[view->page_count++] = (struct view_page){page, entry.frame};
    return 0;
}

static int by_page(const void *a, const void *b)
{
    uint64_t left = ((const struct view_page *)a)->page;
    uint64_t right = ((const struct view_page *)b)->page;

    return left < right ? -1 : left > right;
}

int heap_view_open(struct heap_view *view, struct checking *checking, uint32_t index)
{
    memset(view, 0, sizeof *view);
    view->checking = checking;
    view->index = index;
    view->base = SLOT_BASE(check_entry(checking, index)->slot);
    view->cache = malloc((size_t)VIEW_CACHE_PAGES * FRAME_BYTES);
    if (view->cache == NULL || walk_index(checking, index, false, note_page, view) < 0)
        return -ENOMEM;
    if (view->page_count > 0)
        qsort(view->pages, view->page_count, sizeof *view->pages, by_page);
    return 0;
}

void heap_view_close(struct heap_view *view)
{
    free(view->pages);
    free(view->cache);
}

/* FRAME_NONE: not stored. */
static uint64_t frame_of(const struct heap_view *view, uint64_t page)
{
    const struct view_page key = {page, 0}, *found = NULL;

    if (view->page_count > 0)
        found = bsearch(&key, view->pages, view->page_count, sizeof key, by_page);
    return found ? found->frame : FRAME_NONE;
}

static const uint8_t *page_content(struct heap_view *view, uint64_t page)
{
    unsigned place = page % VIEW_CACHE_PAGES;
    uint8_t *content = view->cache[place];
    uint64_t frame;

    if (view->cached[place] == page)
        return content;
    frame = frame_of(view, page);
    if (frame == FRAME_NONE ||
        check_read(view->checking, content, FRAME_BYTES, frame << FRAME_SHIFT) < 0)
        memset(content, 0, FRAME_BYTES);
    view->cached[place] = page;
    return content;
}

void heap_view_read(struct heap_view *view, void *out, size_t bytes, uint64_t address)
{
    uint8_t *to = out;

    while (bytes > 0) {
        size_t at = address % FRAME_BYTES;
        size_t count = bytes < FRAME_BYTES - at ? bytes : FRAME_BYTES - at;

        memcpy(to, page_content(view, address >> FRAME_SHIFT) + at, count);
        to += count;
        address += count;
        bytes -= count;
    }
}

bool view_is_locked(struct heap_view *view, uint64_t lock_address)
{
    struct lock lock;

    heap_view_read(view, &lock, sizeof lock, lock_address);
    return lock.word != 0 || view->heap.fork_holder != 0;
}

void heap_tell(struct heap_view *view, enum finding_kind kind, uint64_t address,
               const char *expected, const char *found, ...)
{
    bool is_harmless = kind == HP_VERSION || kind == OH_DANGLING || kind == OH_TYPE;
    uint64_t frame = frame_of(view, address >> FRAME_SHIFT);
    struct place place = {frame == FRAME_NONE ? PLACE_UNKNOWN
                                              : (frame << FRAME_SHIFT) + address % FRAME_BYTES,
                          check_entry(view->checking, view->index)->number, address};
    char text[160];
    va_list args;

    va_start(args, found);
    vsnprintf(text, sizeof text, found, args);
    va_end(args);
    if (!is_harmless)
        check_spoilt(view->checking, view->index);
    check_tell(view->checking, kind, is_harmless ? SEVERITY_HARMLESS : SEVERITY_DAMAGE, place,
               expected, "%s", text);
}
