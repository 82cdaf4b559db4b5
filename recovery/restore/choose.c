/*
 * choose.c - which generation a restore takes, and how resumes are counted.
 *
 * A generation that kills the program each time must not be resumed for ever: after
 * RESUMES_OF_ONE resumes without a newer generation the one before is taken, as often; then
 * nothing. resume_count counts on across the two, so that the superblock needs no third field:
 *
 *     resumed_generation   resume_count   newest is      taken
 *     anything else        -              N              N, count 1
 *     N                    1..2           N              N, count + 1
 *     N                    3              N              before N, count 4
 *     before N             4..5           N              before N, count + 1
 *     before N             6              N              refused
 *
 * "Anything else" covers a newer generation: the program then got further.
 */
#include <errno.h>
#include "core/base/status.h"
#include "recovery/restore/job.h"

#define RESUMES_OF_ONE 3u

static bool is_candidate(const struct superblock *super, const struct generation_entry *entry)
{
    return entry->kind == GENERATION_PROCESS && entry->number >= super->run_first_generation;
}

/* The newest candidate with a number below limit, or NULL. */
static const struct generation_entry *newest_below(const struct superblock *super, uint64_t limit)
{
    const struct generation_entry *found = NULL;

    for (uint32_t i = 0; i < super->generation_count && i < SUPERBLOCK_GENERATIONS; i++) {
        const struct generation_entry *entry = &super->generations[i];

        if (is_candidate(super, entry) && entry->number < limit &&
            (found == NULL || entry->number > found->number))
            found = entry;
    }
    return found;
}

static const struct generation_entry *newest_of(const struct superblock *super, uint32_t kind)
{
    const struct generation_entry *found = NULL;

    for (uint32_t i = 0; i < super->generation_count && i < SUPERBLOCK_GENERATIONS; i++)
        if (super->generations[i].kind == kind)
            found = &super->generations[i];
    return found;
}

int restore_nothing(const struct superblock *super, struct problem *why)
{
    const struct generation_entry *process = newest_of(super, GENERATION_PROCESS);
    const struct generation_entry *crash = newest_of(super, GENERATION_CRASH);
    int status = super->run_state == RUN_ENDED ? STATUS_ENDED : STATUS_NO_GENERATION;
    const char *what = status == STATUS_ENDED
                           ? "the program ended by itself: there is nothing to resume"
                           : "there is nothing to resume: no checkpoint was completed in this run";

    if (process != NULL)
        return problem_set(why, status, "%s; -g %lu takes the newest generation of a process", what,
                           (unsigned long)process->number);
    if (crash != NULL && status != STATUS_ENDED)
        return problem_set(why, status,
                           "the pool holds crash images only (the newest is generation %lu): the "
                           "memory of a killed program without its registers, which cannot be "
                           "resumed; pheap inspect -g %lu shows it",
                           (unsigned long)crash->number, (unsigned long)crash->number);
    return problem_set(why, status, "%s", what);
}

static int choose_named(const struct superblock *super, uint64_t wanted,
                        struct generation_entry *out, struct problem *why)
{
    for (uint32_t i = 0; i < super->generation_count && i < SUPERBLOCK_GENERATIONS; i++) {
        if (super->generations[i].number != wanted)
            continue;
        if (super->generations[i].kind == GENERATION_CRASH)
            return problem_set(why, STATUS_NO_GENERATION,
                               "generation %lu is the memory of a killed program, without its "
                               "registers: it is there to be looked at (pheap inspect -g %lu) and "
                               "cannot be resumed; leave -g out, or name one of kind process",
                               (unsigned long)wanted, (unsigned long)wanted);
        if (super->generations[i].kind != GENERATION_PROCESS)
            return problem_set(why, STATUS_NO_GENERATION,
                               "generation %lu holds memory without a process; open it with pheap "
                               "inspect",
                               (unsigned long)wanted);
        *out = super->generations[i];
        return 0;
    }
    return problem_set(why, STATUS_NO_GENERATION,
                       "generation %lu is not in the pool; pheap inspect lists what is",
                       (unsigned long)wanted);
}

int resume_choose(const struct superblock *super, uint64_t wanted, struct generation_entry *out,
                  struct problem *why)
{
    const struct generation_entry *newest = newest_below(super, UINT64_MAX), *before;

    if (wanted != 0)
        return choose_named(super, wanted, out, why);
    if (super->run_state == RUN_ENDED || newest == NULL)
        return restore_nothing(super, why);
    before = newest_below(super, newest->number);
    *out = *newest;
    if (super->resumed_generation == newest->number && super->resume_count < RESUMES_OF_ONE)
        return 0;
    if (super->resumed_generation == newest->number && before != NULL) {
        *out = *before;
        return 0;
    }
    if (super->resumed_generation != newest->number &&
        !(before != NULL && super->resumed_generation == before->number &&
          super->resume_count > RESUMES_OF_ONE))
        return 0;
    if (before != NULL && super->resumed_generation == before->number &&
        super->resume_count < 2 * RESUMES_OF_ONE) {
        *out = *before;
        return 0;
    }
    return problem_set(why, STATUS_REFUSED,
                       "resumed %u times without a newer checkpoint: the program does not survive "
                       "it; choose a generation with restore -g, or start afresh",
                       super->resume_count);
}

void resume_count(struct superblock *super, uint64_t number)
{
    const struct generation_entry *newest = newest_below(super, UINT64_MAX);
    bool falls_back = newest != NULL && super->resumed_generation == newest->number &&
                      super->resume_count >= RESUMES_OF_ONE && number < newest->number;

    if (super->resumed_generation == number || falls_back)
        super->resume_count++;
    else
        super->resume_count = 1;
    super->resumed_generation = number;
}
