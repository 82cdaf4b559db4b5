/*
 * patience.c - see patience.h. Always true: patience ends, however fast the program writes, and
 * then the next attempt is made at once.
 */
#include "core/agent/patience.h"

#define INTERVALS     5             /* of patience, */
#define NO_INTERVAL   1000000000ull /* or so long where there is none; between */
#define SHORTEST      250000000ull
#define LONGEST       5000000000ull
#define WAIT_PER_WORK 4

/* As much less than the last round as that was less than the one before. */
uint64_t patience_left(uint64_t copied, uint64_t before)
{
    if (before == UINT64_MAX || copied >= before)
        return copied;
    return (uint64_t)((double)copied / (double)before * (double)copied);
}

bool patience_goes_on(unsigned rounds, uint64_t copied, uint64_t before)
{
    return rounds < PATIENCE_ROUNDS && patience_left(copied, before) > PATIENCE_ENOUGH_PAGES &&
           copied <= before / 2;
}

/* Who wants a checkpoint every 100 ms would rather be stopped for 20 ms than wait for seconds. */
static uint64_t end_of(const struct patience *patience, uint64_t interval_ns)
{
    uint64_t length = interval_ns ? INTERVALS * interval_ns : NO_INTERVAL;

    length = length < SHORTEST ? SHORTEST : length;
    return patience->large_since_ns + (length < LONGEST ? length : LONGEST);
}

uint64_t patience_limit(const struct patience *patience, uint64_t interval_ns, uint64_t now_ns)
{
    if (patience->large_since_ns && now_ns >= end_of(patience, interval_ns))
        return 0;
    return PATIENCE_CUT_PAGES;
}

void patience_exceeded(struct patience *patience, uint64_t interval_ns, uint64_t now_ns,
                       uint64_t spent_ns)
{
    uint64_t end;

    if (patience->large_since_ns == 0)
        patience->large_since_ns = now_ns;
    end = end_of(patience, interval_ns);
    patience->wait_ns = WAIT_PER_WORK * spent_ns;
    if (now_ns + patience->wait_ns > end)
        patience->wait_ns = end > now_ns ? end - now_ns : 0;
}

void patience_committed(struct patience *patience)
{
    *patience = (struct patience){0};
}
