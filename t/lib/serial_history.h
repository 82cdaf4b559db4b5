/*
 * serial_history.h - is there one serial order that explains what transactions of several threads
 * have read and written? Opacity: the attempts that did not commit count too, as readers.
 *
 * Threads record attempts; each value is written once in a history, so that a value says who wrote
 * it. Afterwards the test says, variable by variable, in which order the committed values came (the
 * log knows). The checker draws the graph
 *
 *     writer -> who read its value -> who wrote the next value      of each variable
 *     who had ended -> who began after that                         (real time)
 *
 * An order exists if and only if the graph has no circle. A value of somebody who has not committed
 * is wrong by itself.
 */
#ifndef PHEAP_T_LIB_SERIAL_HISTORY_H
#define PHEAP_T_LIB_SERIAL_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HISTORY_THREADS   8
#define HISTORY_VARIABLES 32

struct history_event {
    uint32_t attempt; /* of its thread */
    uint32_t variable;
    uint64_t value;
    bool is_write;
};

struct history_attempt {
    uint64_t began, ended; /* ticks */
    uint32_t node;
    bool committed;
};

struct history_thread {
    struct history_event *events;
    struct history_attempt *attempts;
    uint32_t event_count, attempt_count;
    uint32_t number;
};

struct history {
    struct history_thread threads[HISTORY_THREADS];
    uint64_t *order[HISTORY_VARIABLES]; /* values as they were committed */
    uint32_t order_count[HISTORY_VARIABLES];
    uint32_t room; /* attempts a thread; 16 events each */
    uint64_t tick;
    uint64_t nodes, edges; /* out */
    char text[256];        /* out: what is wrong */
};

#define HISTORY_EVENTS_EACH 16

/* Each variable has value history_value(0, 0, variable) at first. */
void history_create(struct history *history, uint32_t attempts_a_thread);
void history_destroy(struct history *history);

/* A value: never 0. Attempts count from 1. */
uint64_t history_value(uint32_t thread, uint32_t attempt, uint32_t variable);
bool history_is_value(uint64_t word);
uint32_t history_variable_of(uint64_t value);

/* By its thread. Returns the attempt's number; 0: there is no room for more. */
uint32_t history_attempt_begins(struct history *history, uint32_t thread);
void history_read(struct history *history, uint32_t thread, uint32_t variable, uint64_t value);
void history_write(struct history *history, uint32_t thread, uint32_t variable, uint64_t value);
void history_attempt_ends(struct history *history, uint32_t thread, bool committed);

/* The value came behind those of its variable that were named before. */
void history_follows(struct history *history, uint64_t value);

/* False: history->text says what is wrong. */
bool history_is_serial(struct history *history);

#endif
