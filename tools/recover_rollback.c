/*
 * recover_rollback.c - pheap recover --rollback: an older generation becomes the newest.
 *
 * True always: nothing is dropped before the generation that is gone back to has been checked, and
 * before somebody has agreed to what is lost.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "core/base/arena.h"
#include "tools/command.h"
#include "tools/pool_state.h"
#include "tools/recover.h"

#define ARENA_BYTES (16ull << 30) /* reserved, not used: the frames of very large pools */

bool recover_is_agreed(const struct recover_request *request, const char *question)
{
    char answer[16] = "";

    if (request->yes)
        return true;
    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return false;
    fprintf(stderr, "%s [y/N] ", question);
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

/* "6, 7, 8": the generations that are newer. Returns how many. */
static unsigned list_newer(const struct superblock *super, uint64_t number, char *text, size_t size)
{
    unsigned count = 0;
    size_t used = 0;

    text[0] = 0;
    for (uint32_t i = 0; i < super->generation_count && used < size; i++) {
        if (super->generations[i].number <= number)
            continue;
        used += (size_t)snprintf(text + used, size - used, "%s%" PRIu64, count ? ", " : "",
                                 super->generations[i].number);
        count++;
    }
    return count;
}

/* It is there, and whole. *records: of the log. */
static int judge(const char *path, uint64_t number, uint64_t *records, struct problem *why)
{
    static struct check_result result;
    int status = recover_check_quietly(path, &result, why);

    *records = result.log_records;
    if (status < 0)
        return status;
    for (uint32_t i = 0; i < result.super.generation_count; i++) {
        if (result.super.generations[i].number != number)
            continue;
        if (!(result.damaged >> i & 1))
            return 0;
        return problem_set(why, STATUS_DAMAGED,
                           "%s: generation %" PRIu64 " is not whole, nothing is changed; `pheap "
                           "recover --check` says which ones are",
                           path, number);
    }
    return problem_set(why, STATUS_NO_GENERATION,
                       "%s: no generation %" PRIu64 "; `pheap inspect POOL generations` lists "
                       "what it has",
                       path, number);
}

static int agree(const struct recover_request *request, const struct pool_state *state,
                 uint64_t records, struct problem *why)
{
    char newer[640], question[704];
    unsigned count = list_newer(&state->super, request->number, newer, sizeof newer);

    if (records > 0 && !request->drops_log)
        return problem_set(why, STATUS_REFUSED,
                           "%s: %" PRIu64 " transactions since generation %" PRIu64
                           " are in its log "
                           "and would be lost, nothing is changed; --drop-log gives them up",
                           state->path, records, state->super.log.generation);
    snprintf(question, sizeof question, "give up generation%s %.600s for ever?",
             count == 1 ? "" : "s", newer);
    if (count == 0 || recover_is_agreed(request, question))
        return 0;
    return problem_set(why, STATUS_REFUSED,
                       "%s: generation%s %s would be lost, nothing is changed; --yes does it",
                       state->path, count == 1 ? "" : "s", newer);
}

static int go_back(const struct pool_state *state, uint64_t number, struct problem *why)
{
    static struct pool pool;
    struct arena arena;
    int status = arena_create(&arena, ARENA_BYTES);

    if (status < 0)
        return problem_set(why, status, "cannot reserve memory: %s", status_text(status));
    status = pool_open(&pool, state->path, POOL_WRITE, why);
    if (status == 0) {
        status = pool_load(&pool, &arena, 0, why); /* gives up damaged ones, in memory */
        if (status == 0)
            status = pool_rollback(&pool, number, why);
        pool_close(&pool);
    }
    arena_destroy(&arena);
    return status;
}

int recover_rollback(const struct recover_request *request)
{
    static struct pool_state state;
    struct problem why = {0};
    uint64_t records = 0;
    char newer[640];
    int status = pool_state_read(request->path, &state, &why);

    if (status == 0)
        status = pool_state_wait_free(&state, &why);
    if (status == 0)
        status = judge(request->path, request->number, &records, &why);
    if (status == 0)
        status = agree(request, &state, records, &why);
    if (status == 0)
        status = go_back(&state, request->number, &why);
    if (status < 0)
        return report_problem("recover", request->path, &why);
    if (why.status < 0) /* a damaged one went with them */
        (void)report("recover", EXIT_FINE, "%s", why.text);
    if (list_newer(&state.super, request->number, newer, sizeof newer) > 0)
        printf("generation %" PRIu64 ": the newest now; given up: %s\n", request->number, newer);
    else
        printf("generation %" PRIu64 ": the newest\n", request->number);
    if (records > 0)
        printf("given up: %" PRIu64 " transactions of the log\n", records);
    return EXIT_FINE;
}
