/*
 * serial_history.c - see serial_history.h. A node an attempt, node 0 for the beginning, then one a
 * tick; edges in one array, sorted by where they start.
 */
#include "t/lib/serial_history.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_MARK 0x5ea1ull /* the upper 16 bits of every value */

struct edge {
    uint32_t from, to;
};

struct graph {
    struct edge *edges;
    size_t count, room;
    uint32_t nodes;
};

static void *need(void *memory)
{
    if (!memory) {
        perror("serial_history");
        exit(1);
    }
    return memory;
}

/* --- values --- */

uint64_t history_value(uint32_t thread, uint32_t attempt, uint32_t variable)
{
    return VALUE_MARK << 48 | (uint64_t)thread << 40 | (uint64_t)attempt << 8 | variable;
}

bool history_is_value(uint64_t word)
{
    return word >> 48 == VALUE_MARK && history_variable_of(word) < HISTORY_VARIABLES;
}

uint32_t history_variable_of(uint64_t value)
{
    return value & 0xff;
}

static uint32_t thread_of(uint64_t value)
{
    return value >> 40 & 0xff;
}

static uint32_t attempt_of(uint64_t value)
{
    return (uint32_t)(value >> 8);
}

/* --- recording --- */

void history_create(struct history *history, uint32_t attempts_a_thread)
{
    size_t events = (size_t)attempts_a_thread * HISTORY_EVENTS_EACH;

    memset(history, 0, sizeof *history);
    history->room = attempts_a_thread;
    for (uint32_t i = 0; i < HISTORY_THREADS; i++) {
        struct history_thread *thread = &history->threads[i];

        thread->number = i;
        thread->events = need(calloc(events, sizeof *thread->events));
        thread->attempts = need(calloc(attempts_a_thread, sizeof *thread->attempts));
    }
    for (uint32_t i = 0; i < HISTORY_VARIABLES; i++)
        history->order[i] = need(calloc(HISTORY_THREADS * (size_t)attempts_a_thread + 1, 8));
}

void history_destroy(struct history *history)
{
    for (uint32_t i = 0; i < HISTORY_THREADS; i++) {
        free(history->threads[i].events);
        free(history->threads[i].attempts);
    }
    for (uint32_t i = 0; i < HISTORY_VARIABLES; i++)
        free(history->order[i]);
}

uint32_t history_attempt_begins(struct history *history, uint32_t thread)
{
    struct history_thread *own = &history->threads[thread];

    if (own->attempt_count == history->room)
        return 0;
    own->attempts[own->attempt_count] =
        (struct history_attempt){.began = __atomic_fetch_add(&history->tick, 1, __ATOMIC_SEQ_CST)};
    return ++own->attempt_count;
}

static void note(struct history *history, uint32_t thread, uint32_t variable, uint64_t value,
                 bool is_write)
{
    struct history_thread *own = &history->threads[thread];

    if (own->event_count == history->room * HISTORY_EVENTS_EACH)
        abort();
    own->events[own->event_count++] =
        (struct history_event){own->attempt_count, variable, value, is_write};
}

void history_read(struct history *history, uint32_t thread, uint32_t variable, uint64_t value)
{
    note(history, thread, variable, value, false);
}

void history_write(struct history *history, uint32_t thread, uint32_t variable, uint64_t value)
{
    note(history, thread, variable, value, true);
}

void history_attempt_ends(struct history *history, uint32_t thread, bool committed)
{
    struct history_thread *own = &history->threads[thread];
    struct history_attempt *attempt = &own->attempts[own->attempt_count - 1];

    attempt->committed = committed;
    attempt->ended = __atomic_fetch_add(&history->tick, 1, __ATOMIC_SEQ_CST);
}

void history_follows(struct history *history, uint64_t value)
{
    uint32_t variable = history_variable_of(value);
    uint32_t count = history->order_count[variable];

    if (count > 0 && history->order[variable][count - 1] == value)
        return; /* one record may name it twice */
    if (count > HISTORY_THREADS * history->room)
        abort();
    history->order[variable][count] = value;
    history->order_count[variable]++;
}

/* --- the graph --- */

static void add_edge(struct graph *graph, uint32_t from, uint32_t to)
{
    if (from == to)
        return;
    if (graph->count == graph->room) {
        graph->room = graph->room ? graph->room * 2 : 4096;
        graph->edges = need(realloc(graph->edges, graph->room * sizeof *graph->edges));
    }
    graph->edges[graph->count++] = (struct edge){from, to};
}

static bool wrong(struct history *history, const char *what, uint32_t thread, uint32_t attempt,
                  uint64_t value)
{
    if (!history->text[0])
        snprintf(history->text, sizeof history->text,
                 "%s: attempt %u of thread %u, variable %u, value of attempt %u of thread %u", what,
                 attempt, thread, history_variable_of(value), attempt_of(value), thread_of(value));
    return false;
}

/* NULL: nobody can have written that. *node: 0 for the beginning. */
static const struct history_attempt *writer_of(const struct history *history, uint64_t value,
                                               uint32_t *node)
{
    const struct history_thread *thread;

    *node = 0;
    if (!history_is_value(value) || thread_of(value) >= HISTORY_THREADS ||
        attempt_of(value) > history->threads[thread_of(value)].attempt_count ||
        attempt_of(value) == 0)
        return NULL;
    thread = &history->threads[thread_of(value)];
    *node = thread->attempts[attempt_of(value) - 1].node;
    return &thread->attempts[attempt_of(value) - 1];
}

static bool is_initial(uint64_t value)
{
    return value == history_value(0, 0, history_variable_of(value));
}

/* Who wrote the value that follows; UINT32_MAX: it is the last. */
static uint32_t next_writer(const struct history *history, uint64_t value)
{
    uint32_t variable = history_variable_of(value), node, i = 0;
    const uint64_t *order = history->order[variable];
    uint32_t count = history->order_count[variable];

    if (!is_initial(value)) {
        while (i < count && order[i] != value)
            i++;
        i++;
    }
    if (i >= count)
        return UINT32_MAX;
    (void)writer_of(history, order[i], &node);
    return node;
}

static bool draw_read(struct history *history, struct graph *graph, uint32_t thread,
                      const struct history_event *event, uint32_t node)
{
    const struct history_attempt *writer;
    uint32_t from, next;

    if (!history_is_value(event->value) || history_variable_of(event->value) != event->variable)
        return wrong(history, "no value of this variable was read", thread, event->attempt,
                     event->value);
    writer = writer_of(history, event->value, &from);
    if (!is_initial(event->value) && (!writer || !writer->committed))
        return wrong(history, "a value was read that nobody has committed", thread, event->attempt,
                     event->value);
    add_edge(graph, from, node);
    next = next_writer(history, event->value);
    if (next != UINT32_MAX)
        add_edge(graph, node, next);
    return true;
}

static bool is_in_order(const struct history *history, uint64_t value)
{
    uint32_t variable = history_variable_of(value);

    for (uint32_t i = 0; i < history->order_count[variable]; i++)
        if (history->order[variable][i] == value)
            return true;
    return false;
}

static bool draw_thread(struct history *history, struct graph *graph,
                        const struct history_thread *thread)
{
    bool fine = true;

    for (uint32_t i = 0; fine && i < thread->event_count; i++) {
        const struct history_event *event = &thread->events[i];
        const struct history_attempt *attempt = &thread->attempts[event->attempt - 1];

        if (!event->is_write)
            fine = draw_read(history, graph, thread->number, event, attempt->node);
        else if (attempt->committed && !is_in_order(history, event->value))
            fine = wrong(history, "a committed value is not in the log", thread->number,
                         event->attempt, event->value);
    }
    return fine;
}

/* Every committed value is in the order once, no other one is; each comes before the next. */
static bool draw_order(struct history *history, struct graph *graph, uint32_t variable)
{
    const struct history_attempt *writer;
    uint32_t before = 0, node;

    for (uint32_t i = 0; i < history->order_count[variable]; i++) {
        uint64_t value = history->order[variable][i];

        writer = writer_of(history, value, &node);
        if (!writer || !writer->committed)
            return wrong(history, "a value is in the log that nobody has committed", 0, 0, value);
        add_edge(graph, before, node);
        before = node;
    }
    return true;
}

static void draw_time(struct history *history, struct graph *graph)
{
    uint32_t first_tick = graph->nodes;

    for (uint32_t t = 0; t < HISTORY_THREADS; t++)
        for (uint32_t i = 0; i < history->threads[t].attempt_count; i++) {
            const struct history_attempt *attempt = &history->threads[t].attempts[i];

            add_edge(graph, first_tick + (uint32_t)attempt->began, attempt->node);
            add_edge(graph, attempt->node, first_tick + (uint32_t)attempt->ended);
        }
    for (uint32_t i = 0; i + 1 < history->tick; i++)
        add_edge(graph, first_tick + i, first_tick + i + 1);
    add_edge(graph, 0, first_tick);
    graph->nodes += (uint32_t)history->tick;
}

static void number_attempts(struct history *history, struct graph *graph)
{
    graph->nodes = 1;
    for (uint32_t t = 0; t < HISTORY_THREADS; t++)
        for (uint32_t i = 0; i < history->threads[t].attempt_count; i++)
            history->threads[t].attempts[i].node = graph->nodes++;
}

static int by_start(const void *a, const void *b)
{
    const struct edge *one = a, *other = b;

    return one->from < other->from ? -1 : one->from > other->from;
}

/* Takes away, again and again, what nothing leads to; what is left has a circle. */
static uint32_t nodes_in_circles(struct graph *graph, uint32_t *example)
{
    uint32_t *degree = need(calloc(graph->nodes + 1, sizeof *degree));
    uint32_t *start = need(calloc(graph->nodes + 2, sizeof *start));
    uint32_t *queue = need(calloc(graph->nodes + 1, sizeof *queue));
    uint32_t head = 0, tail = 0;

    qsort(graph->edges, graph->count, sizeof *graph->edges, by_start);
    for (size_t i = 0; i < graph->count; i++) {
        degree[graph->edges[i].to]++;
        start[graph->edges[i].from + 1]++;
    }
    for (uint32_t i = 0; i < graph->nodes; i++) {
        start[i + 1] += start[i];
        if (degree[i] == 0)
            queue[tail++] = i;
    }
    while (head < tail) {
        uint32_t node = queue[head++];

        for (uint32_t i = start[node]; i < start[node + 1]; i++)
            if (--degree[graph->edges[i].to] == 0)
                queue[tail++] = graph->edges[i].to;
    }
    for (*example = 0; *example < graph->nodes && degree[*example] == 0;)
        ++*example;
    free(degree);
    free(start);
    free(queue);
    return graph->nodes - tail;
}

bool history_is_serial(struct history *history)
{
    struct graph graph = {0};
    uint32_t left = 0, example = 0;
    bool fine = true;

    number_attempts(history, &graph);
    for (uint32_t i = 0; fine && i < HISTORY_VARIABLES; i++)
        fine = draw_order(history, &graph, i);
    for (uint32_t i = 0; fine && i < HISTORY_THREADS; i++)
        fine = draw_thread(history, &graph, &history->threads[i]);
    if (fine) {
        draw_time(history, &graph);
        left = nodes_in_circles(&graph, &example);
    }
    if (left > 0) {
        snprintf(history->text, sizeof history->text,
                 "no serial order: %u nodes of %u in or behind a circle, node %u one of them", left,
                 graph.nodes, example);
        fine = false;
    }
    history->nodes = graph.nodes;
    history->edges = graph.count;
    free(graph.edges);
    return fine;
}
