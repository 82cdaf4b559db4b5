/*
 * optimistic.c - see optimistic.h.
 */
#include "core/tx/optimistic.h"

#include <errno.h>
#include "core/tx/mutant.h"

#define ARENA_BYTES    (8ull << 30)
#define TOKEN_FAILURES 8 /* after so many in a row */
#define SPIN_DOUBLINGS 9
#define YIELDS_FROM    3 /* failures */

int optimistic_create(struct optimistic **out, struct stripes *stripes)
{
    struct arena arena;
    struct optimistic *optimistic;
    int status = arena_create(&arena, ARENA_BYTES);

    if (status < 0)
        return status;
    optimistic = arena_alloc(&arena, sizeof *optimistic, 64);
    if (!optimistic || stripe_set_create(&optimistic->read, &arena) < 0) {
        arena_destroy(&arena);
        return -ENOMEM;
    }
    optimistic->arena = arena;
    optimistic->stripes = stripes;
    write_buffer_begin(&optimistic->buffer, &optimistic->arena);
    *out = optimistic;
    return 0;
}

void optimistic_destroy(struct optimistic *optimistic)
{
    struct arena arena = optimistic->arena;

    arena_destroy(&arena);
}

void optimistic_begin(struct optimistic *optimistic)
{
    optimistic->first = optimistic;
    optimistic->next = NULL;
}

void optimistic_begin_again(struct optimistic *first)
{
    first->clock = stripes_clock();
}

/* From a clock that has reached `version` on. */
static int look_again_at(struct optimistic *optimistic, uint64_t version)
{
    struct optimistic *first = optimistic->first;
    uint64_t clock = stripes_raise_clock(version);

    for (const struct optimistic *one = first; one; one = one->next)
        if (!stripes_unchanged(one->stripes, &one->read, first->clock, NULL))
            return STATUS_CONFLICT;
    first->clock = clock;
    return 0;
}

int optimistic_look_again(struct optimistic *optimistic)
{
    return look_again_at(optimistic, 0);
}

void optimistic_join(struct optimistic *optimistic, struct optimistic *first)
{
    optimistic->first = first;
    optimistic->next = first->next;
    first->next = optimistic;
}

/* --- reading --- */

/* Bytes of one stripe. */
static int read_piece(struct optimistic *optimistic, void *to, uintptr_t from, size_t bytes)
{
    uint64_t version;
    int status;

    for (;;) {
        status = stripes_copy(optimistic->stripes, to, from, bytes, &version);
        if (status < 0)
            return status;
        if (version <= optimistic->first->clock || TX_MUTANT(TX_MUTANT_READ_NOT_VALIDATED))
            break;
        status = look_again_at(optimistic, version);
        if (status < 0)
            return status;
    }
    stripe_set_put(&optimistic->read, stripe_of(from));
    (void)write_buffer_get(&optimistic->buffer, to, from, bytes);
    return 0;
}

int optimistic_read(struct optimistic *optimistic, void *to, uintptr_t from, size_t bytes)
{
    uint8_t *out = to;
    int status = 0;

    while (status == 0 && bytes > 0) {
        size_t step = STRIPE_BYTES - from % STRIPE_BYTES;

        if (step > bytes)
            step = bytes;
        if (!write_buffer_get(&optimistic->buffer, out, from, step))
            status = read_piece(optimistic, out, from, step);
        out += step;
        from += step;
        bytes -= step;
    }
    return status;
}

/* --- committing --- */

int optimistic_lock(struct optimistic *optimistic, struct stripe_set *locked)
{
    for (const struct line *line = optimistic->buffer.first; line; line = line->next)
        if (line->written && !stripes_lock(optimistic->stripes, locked, line->address, LINE_BYTES))
            return STATUS_CONFLICT;
    return 0;
}

int optimistic_validate(const struct optimistic *optimistic, const struct stripe_set *locked)
{
    if (TX_MUTANT(TX_MUTANT_COMMIT_NOT_VALIDATED))
        return 0;
    return stripes_unchanged(optimistic->stripes, &optimistic->read, optimistic->first->clock,
                             locked)
               ? 0
               : STATUS_CONFLICT;
}

/* --- ending, and beginning anew --- */

void optimistic_forget(struct optimistic *optimistic)
{
    stripe_set_empty(&optimistic->read);
    write_buffer_empty(&optimistic->buffer);
}

/* Different for each thread and each time. */
static unsigned any_number(const struct optimistic *optimistic)
{
    uint64_t number = ((uintptr_t)optimistic >> 12) + optimistic->failures + stripes_clock() * 31;

    return (unsigned)(number * 0x9e3779b97f4a7c15ull >> 40);
}

void optimistic_back_off(struct optimistic *first)
{
    unsigned failures = ++first->failures;
    unsigned doublings = failures < SPIN_DOUBLINGS ? failures : SPIN_DOUBLINGS;
    unsigned spins = any_number(first) % (1u << doublings);

    for (struct optimistic *one = first; failures >= TOKEN_FAILURES && one; one = one->next)
        stripes_take_token(one->stripes, first, failures - TOKEN_FAILURES);
    for (unsigned i = 0; i < spins; i++)
        stripes_pause(0);
    if (failures > YIELDS_FROM)
        stripes_pause(100);
}

void optimistic_end(struct optimistic *optimistic)
{
    stripes_drop_token(optimistic->stripes, optimistic->first);
    optimistic_forget(optimistic);
    optimistic->failures = 0;
}
