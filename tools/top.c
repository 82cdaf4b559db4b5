/*
 * top.c - pheap inspect top: on a terminal until it is told to end; else one look, as text or as
 * an object.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "tools/command.h"
#include "tools/table.h"
#include "tools/top.h"

static json_t *class_json(const struct top_class *class)
{
    return json_pack(
        "{s:o, s:I, s:I, s:I, s:I, s:I, s:I}", "block_bytes",
        class->block_bytes ? json_integer(class->block_bytes) : json_null(), "spans",
        (json_int_t) class->is.spans, "span_bytes", (json_int_t) class->is.span_bytes, "blocks",
        (json_int_t) class->is.used, "bytes", (json_int_t) class->is.used_bytes, "change_bytes",
        (json_int_t) class->change_bytes, "growth_bytes", (json_int_t) class->growth_bytes);
}

static json_t *heap_json(const struct top_figures *figures)
{
    static const char *const rates[] = {[TOP_SEEN] = "seen", [TOP_SAMPLED] = "sampled"};
    const struct live_figures *heap = &figures->heap;
    json_t *classes = json_array(), *json;

    if (figures->source == TOP_NOTHING) {
        json_decref(classes);
        return json_null();
    }
    for (uint32_t i = 0; i < LIVE_CLASSES; i++)
        if (figures->classes[i].is.spans || figures->classes[i].growth_bytes)
            json_array_append_new(classes, class_json(&figures->classes[i]));
    json = json_pack("{s:s, s:I, s:I, s:I, s:I, s:o}", "of",
                     figures->source == TOP_PROGRAM ? "program" : "generation", "bytes",
                     (json_int_t)heap->used_bytes, "blocks", (json_int_t)heap->used, "span_bytes",
                     (json_int_t)heap->span_bytes, "change_bytes",
                     (json_int_t)figures->change_bytes, "classes", classes);
    if (figures->source == TOP_GENERATION)
        json_object_set_new(json, "generation", json_integer((json_int_t)figures->generation));
    else
        json_object_update_new(json, json_pack("{s:I, s:I, s:I}", "committed_bytes",
                                               (json_int_t)heap->committed_bytes, "free_bytes",
                                               (json_int_t)heap->free_bytes, "thread_heaps",
                                               (json_int_t)heap->thread_heaps));
    if (figures->rates != TOP_NO_RATES)
        json_object_update_new(json,
                               json_pack("{s:s, s:I, s:I}", "rates", rates[figures->rates],
                                         "allocated_bytes", (json_int_t)figures->allocated_bytes,
                                         "freed_bytes", (json_int_t)figures->freed_bytes));
    return json;
}

static json_t *checkpoints_json(const struct top_figures *figures)
{
    json_t *list = json_array();

    for (uint32_t i = 0; i < figures->checkpoint_count; i++) {
        const struct generation_entry *entry = &figures->checkpoints[i].entry;

        json_array_append_new(list, json_pack("{s:I, s:I, s:I, s:I, s:b, s:b}", "number",
                                              (json_int_t)entry->number, "time_ns",
                                              (json_int_t)entry->time_ns, "pause_ns",
                                              (json_int_t)entry->pause_ns, "written_bytes",
                                              (json_int_t)entry->written_bytes, "kept",
                                              figures->checkpoints[i].is_kept, "pinned",
                                              (entry->flags & GENERATION_PINNED) != 0));
    }
    return list;
}

static void print_json(const struct top_figures *figures)
{
    json_t *json = json_pack(
        "{s:o, s:I, s:I, s:s, s:o, s:I, s:I, s:I, s:I, s:o, s:o}", "pool",
        table_text(figures->state.path, strlen(figures->state.path)), "time_ns",
        (json_int_t)figures->time_ns, "elapsed_ns", (json_int_t)figures->elapsed_ns, "run",
        figures->run, "pid", figures->runs ? json_integer(figures->pid) : json_null(), "file_bytes",
        (json_int_t)figures->file_bytes, "disk_bytes", (json_int_t)figures->disk_bytes,
        "free_disk_bytes", (json_int_t)figures->free_disk_bytes, "keep",
        (json_int_t)figures->state.super.keep, "heap", heap_json(figures), "checkpoints",
        checkpoints_json(figures));

    if (figures->source != TOP_PROGRAM)
        json_object_set_new(json, "why",
                            table_text(figures->heap_why.text, strlen(figures->heap_why.text)));
    if (figures->runs && figures->answers)
        json_object_update_new(json, json_pack("{s:I, s:I}", "checkpoints_taken",
                                               (json_int_t)figures->agent.checkpoints, "deferred",
                                               (json_int_t)figures->agent.deferred));
    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(json);
}

static void print_text(const struct top_figures *figures, struct top_layout *layout)
{
    static struct top_line lines[TOP_LINES_MAX];
    uint32_t unused;
    int count;

    layout->columns = 100;
    layout->rows = 0;
    count = top_lines(figures, layout, lines, &unused);
    for (int i = 0; i < count; i++)
        printf("%s\n", lines[i].text);
    fflush(stdout);
}

static void sleep_ns(uint64_t ns)
{
    const struct timespec time = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};

    nanosleep(&time, NULL);
}

/* Two looks, so that there are rates. */
static void look_once(struct top_watch *watch, struct top_layout *layout, bool as_json)
{
    const struct top_figures *figures = top_look(watch);

    if (figures->runs) {
        sleep_ns(layout->interval_ns);
        figures = top_look(watch);
    }
    if (as_json)
        print_json(figures);
    else
        print_text(figures, layout);
}

/* A terminal that cannot move its cursor gets one text after another, until it is interrupted. */
static void print_for_ever(struct top_watch *watch, struct top_layout *layout)
{
    for (;;) {
        print_text(top_look(watch), layout);
        putchar('\n');
        sleep_ns(layout->interval_ns);
    }
}

int top_run(const struct top_options *options)
{
    struct top_layout layout = {.interval_ns = options->interval_ns, .sort = options->sort};
    bool is_terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    const char *terminal = getenv("TERM");
    struct problem why = {0};
    struct top_watch *watch;
    int status = top_open(&watch, options->target, &why);

    if (status < 0)
        return report_problem("inspect", NULL, &why);
    if (options->once || options->as_json || !is_terminal)
        look_once(watch, &layout, options->as_json);
    else if (!terminal || !*terminal || strcmp(terminal, "dumb") == 0)
        print_for_ever(watch, &layout);
    else
        status = top_screen(watch, &layout, &why);
    top_close(watch);
    return status < 0 ? report_problem("inspect", NULL, &why) : EXIT_FINE;
}
