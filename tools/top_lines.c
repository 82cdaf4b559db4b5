/*
 * top_lines.c - see top.h: the figures as lines for a screen of any size. The most important lines
 * and columns come first, so that a small screen lacks the others.
 *
 * True always: no line is wider than the screen, and none holds a control character.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "tools/command.h"
#include "tools/top.h"

#define COLUMNS_MIN 20
#define COLUMNS_MAX 500

const char *const top_sort_names[TOP_SORTS] = {"bytes", "change", "growth", "blocks", "size"};

const char *const top_keys[] = {
    "q          quit",
    "p, space   pause, go on",
    "s          sort by bytes, change, growth, blocks, size",
    "r          count growth from now on",
    "+ -        look twice as often, half as often",
    "up down    scroll the size classes",
    "h          this help",
    "",
    "change: since the look before, a second. growth: since the first.",
    "allocated about: from the samples of PHEAP_PROFILE. Without it",
    "seen: what is there and was not at the look before; what came and",
    "went in between is not in it.",
    NULL,
};

struct page {
    const struct top_figures *figures;
    const struct top_layout *layout;
    struct top_line *lines;
    int count, columns, most;
    bool is_small; /* a line each for what could have two */
};

/* Bytes of the first `columns` characters: of UTF-8 a character's first byte counts. */
static size_t cut_at(const char *text, int columns)
{
    size_t at = 0;

    while (text[at] && (columns > 0 || ((unsigned char)text[at] & 0xc0) == 0x80)) {
        columns -= ((unsigned char)text[at] & 0xc0) != 0x80;
        at++;
    }
    return at;
}

static void add(struct page *page, enum top_style style, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void add(struct page *page, enum top_style style, const char *format, ...)
{
    struct top_line *line = &page->lines[page->count];
    va_list args;

    if (page->count == page->most)
        return;
    va_start(args, format);
    vsnprintf(line->text, sizeof line->text, format, args);
    va_end(args);
    for (char *at = line->text; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?';
    line->text[cut_at(line->text, page->columns)] = 0;
    for (size_t end = strlen(line->text); end > 0 && line->text[end - 1] == ' '; end--)
        line->text[end - 1] = 0;
    line->style = style;
    page->count++;
}

/* Words, one behind the other, each whole, on as many lines as are needed; on a small screen those
 * that fit on one. */
static void add_words(struct page *page, enum top_style style, char words[][96], int count)
{
    char text[512] = "";

    for (int i = 0; i < count; i++) {
        size_t used = strlen(text);

        if (used && used + 2 + strlen(words[i]) > (size_t)page->columns) {
            if (page->is_small)
                break;
            add(page, style, "%s", text);
            used = 0;
        }
        snprintf(text + used, sizeof text - used, "%s%s", used ? "  " : "", words[i]);
    }
    if (text[0])
        add(page, style, "%s", text);
}

static const char *show_signed_bytes(char buffer[33], int64_t bytes)
{
    buffer[0] = bytes < 0 ? '-' : '+';
    show_bytes(buffer + 1, bytes < 0 ? -(uint64_t)bytes : (uint64_t)bytes);
    return bytes ? buffer : "0 B";
}

static int64_t per_second(int64_t bytes, uint64_t elapsed_ns)
{
    return elapsed_ns ? (int64_t)((double)bytes * 1e9 / (double)elapsed_ns) : 0;
}

/* --- what stands above the tables --- */

static void add_title(struct page *page)
{
    const struct top_figures *figures = page->figures;
    time_t seconds = (time_t)(figures->time_ns / 1000000000);
    const char *path = figures->state.path;
    char left[64], time_text[16], interval[32];
    int room;
    struct tm local;

    localtime_r(&seconds, &local);
    strftime(time_text, sizeof time_text, "%H:%M:%S", &local);
    if (page->layout->is_paused)
        snprintf(left, sizeof left, "%s paused", time_text);
    else
        snprintf(left, sizeof left, "%s every %s", time_text,
                 show_ns(interval, page->layout->interval_ns));
    room = page->columns - (int)strlen(left) - 2;
    if ((int)strlen(path) > room) /* its end says more */
        add(page, TOP_TITLE, "%s  ...%s", left,
            path + strlen(path) - (size_t)(room > 3 ? room - 3 : 0));
    else
        add(page, TOP_TITLE, "%s  %s", left, path);
}

static void add_warnings(struct page *page)
{
    const struct top_figures *figures = page->figures;

    if (figures->pool_why.status < 0)
        add(page, TOP_WARNING, "pool: %s", figures->pool_why.text);
    if (!figures->runs)
        add(page, TOP_WARNING, "%s", figures->run);
    else if (figures->source != TOP_PROGRAM)
        add(page, TOP_WARNING, "%s", figures->heap_why.text);
    if (figures->source == TOP_GENERATION)
        add(page, TOP_WARNING, "the heap as in generation %" PRIu64 "%s", figures->generation,
            figures->state.super.log.extent_count > 0 ? " and its log" : "");
    if (figures->source == TOP_NOTHING && !figures->runs && figures->heap_why.text[0])
        add(page, TOP_WARNING, "no figures: %s", figures->heap_why.text);
}

static void add_heap(struct page *page)
{
    const struct top_figures *figures = page->figures;
    const struct live_figures *heap = &figures->heap;
    char words[8][96], a[33], b[33];
    int count = 0;

    if (figures->source == TOP_NOTHING)
        return;
    snprintf(words[count++], 96, "live %s", show_bytes(a, heap->used_bytes));
    snprintf(words[count++], 96, "%" PRIu64 " blocks", heap->used);
    if (figures->elapsed_ns)
        snprintf(words[count++], 96, "%s/s",
                 show_signed_bytes(a, per_second(figures->change_bytes, figures->elapsed_ns)));
    if (figures->source == TOP_PROGRAM) {
        snprintf(words[count++], 96, "committed %s", show_bytes(a, heap->committed_bytes));
        snprintf(words[count++], 96, "free %s", show_bytes(a, heap->free_bytes));
        snprintf(words[count++], 96, "%" PRIu64 " thread heap%s", heap->thread_heaps,
                 heap->thread_heaps == 1 ? "" : "s");
    }
    add_words(page, TOP_PLAIN, words, count);
    if (figures->rates == TOP_NO_RATES)
        return;
    snprintf(words[0], 96, "allocated %s %s/s", figures->rates == TOP_SAMPLED ? "about" : "(seen)",
             show_bytes(
                 a, (uint64_t)per_second((int64_t)figures->allocated_bytes, figures->elapsed_ns)));
    snprintf(
        words[1], 96, "freed %s/s",
        show_bytes(b, (uint64_t)per_second((int64_t)figures->freed_bytes, figures->elapsed_ns)));
    add_words(page, TOP_PLAIN, words, 2);
}

static void add_pool(struct page *page)
{
    const struct top_figures *figures = page->figures;
    const struct superblock *super = &figures->state.super;
    char words[8][96], a[32];
    int count = 0;

    snprintf(words[count++], 96, "pool %s", show_bytes(a, figures->file_bytes));
    snprintf(words[count++], 96, "%u generation%s, keeps %u", super->generation_count,
             super->generation_count == 1 ? "" : "s", super->keep);
    snprintf(words[count++], 96, "on disk %s", show_bytes(a, figures->disk_bytes));
    snprintf(words[count++], 96, "disk has %s free", show_bytes(a, figures->free_disk_bytes));
    if (figures->runs && figures->answers) {
        snprintf(words[count++], 96, "%" PRIu64 " checkpoints", figures->agent.checkpoints);
        if (figures->agent.deferred)
            snprintf(words[count++], 96, "%" PRIu64 " deferred", figures->agent.deferred);
    }
    if (figures->runs)
        snprintf(words[count++], 96, "pid %d", figures->pid);
    add_words(page, TOP_PLAIN, words, count);
}

/* --- checkpoints --- */

static const char *kind_name(uint32_t kind)
{
    return kind == GENERATION_PROCESS ? "process" : kind == GENERATION_HEAP ? "heap" : "crash";
}

static void add_checkpoints(struct page *page, int most)
{
    const struct top_figures *figures = page->figures;

    if (most < 2 || figures->checkpoint_count == 0)
        return;
    add(page, TOP_HEADING, "%10s %9s %10s %10s  %-8s %s", "generation", "ago", "pause", "written",
        "kind", "");
    for (uint32_t i = 0; i < figures->checkpoint_count && (int)i < most - 1; i++) {
        const struct top_checkpoint *checkpoint = &figures->checkpoints[i];
        const struct generation_entry *entry = &checkpoint->entry;
        uint64_t ago_ns = figures->time_ns > entry->time_ns ? figures->time_ns - entry->time_ns : 0;
        char pause[32], written[32];

        add(page, TOP_PLAIN, "%10" PRIu64 " %7.1f s %10s %10s  %-8s %s", entry->number,
            (double)ago_ns / 1e9, show_ns(pause, entry->pause_ns),
            show_bytes(written, entry->written_bytes), kind_name(entry->kind),
            entry->flags & GENERATION_PINNED ? "pinned"
            : checkpoint->is_kept            ? "kept"
                                             : "");
    }
}

/* --- size classes --- */

static enum top_sort sort_by; /* of qsort's comparison */

static int64_t sort_value(const struct top_class *class)
{
    switch (sort_by) {
    case TOP_BY_CHANGE:
        return class->change_bytes;
    case TOP_BY_GROWTH:
        return class->growth_bytes;
    case TOP_BY_BLOCKS:
        return (int64_t) class->is.used;
    case TOP_BY_SIZE: /* large blocks last */
        return class->block_bytes ? -(int64_t) class->block_bytes : INT64_MIN;
    default:
        return (int64_t) class->is.used_bytes;
    }
}

static int most_first(const void *a, const void *b)
{
    const struct top_class *x = *(const struct top_class *const *)a;
    const struct top_class *y = *(const struct top_class *const *)b;
    int64_t p = sort_value(x), q = sort_value(y);

    if (p != q)
        return p > q ? -1 : 1;
    return x < y ? -1 : x > y;
}

static void add_class(struct page *page, const struct top_class *class)
{
    const struct top_figures *figures = page->figures;
    char size[32], bytes[32], change[33], growth[33], waste[32];

    snprintf(size, sizeof size, "%u", class->block_bytes);
    add(page,
        class->change_bytes > 0   ? TOP_GROWS
        : class->change_bytes < 0 ? TOP_SHRINKS
                                  : TOP_PLAIN,
        "%6s %9" PRIu64 " %10s %11s %11s %10s", class->block_bytes ? size : "large", class->is.used,
        show_bytes(bytes, class->is.used_bytes),
        show_signed_bytes(change, per_second(class->change_bytes, figures->elapsed_ns)),
        show_signed_bytes(growth, class->growth_bytes),
        show_bytes(waste, class->is.span_bytes - class->is.used_bytes));
}

static uint32_t add_classes(struct page *page)
{
    const struct top_class *rows[LIVE_CLASSES];
    uint32_t count = 0, first = page->layout->first_class;
    int room = page->most - page->count - 1;

    for (uint32_t i = 0; i < LIVE_CLASSES; i++)
        if (page->figures->classes[i].is.spans || page->figures->classes[i].growth_bytes)
            rows[count++] = &page->figures->classes[i];
    sort_by = page->layout->sort;
    qsort(rows, count, sizeof rows[0], most_first);
    if (room < 1 || count == 0)
        return 0;
    add(page, TOP_HEADING, "%6s %9s %10s %11s %11s %10s", "block", "blocks", "bytes", "change/s",
        "growth", "not in use");
    for (uint32_t i = first; i < count; i++)
        add_class(page, rows[i]);
    return count > (uint32_t)room ? count - (uint32_t)room : 0;
}

int top_lines(const struct top_figures *figures, const struct top_layout *layout,
              struct top_line lines[TOP_LINES_MAX], uint32_t *most_first_class)
{
    struct page page = {.figures = figures, .layout = layout, .lines = lines};

    page.columns = layout->columns < COLUMNS_MIN ? COLUMNS_MIN : layout->columns;
    page.columns = page.columns > COLUMNS_MAX ? COLUMNS_MAX : page.columns;
    page.most = layout->rows && layout->rows < TOP_LINES_MAX ? layout->rows : TOP_LINES_MAX;
    page.is_small = layout->rows != 0 && layout->rows < 16;
    add_title(&page);
    add_warnings(&page);
    add_heap(&page);
    add_pool(&page);
    if (!page.is_small)
        add(&page, TOP_PLAIN, "%s", "");
    add_checkpoints(&page, layout->rows == 0 ? 11 : page.is_small ? 2 : layout->rows / 4);
    if (!page.is_small)
        add(&page, TOP_PLAIN, "%s", "");
    *most_first_class = add_classes(&page);
    return page.count;
}
