/*
 * recover_copy.c - pheap recover --compact and --clone: the pool's generations in a new file.
 *
 * True always: the pool is locked for writing from before it is checked until the copy has its
 * name; a pool that is not whole is not copied.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "recovery/copy/copy.h"
#include "recovery/move/move.h"
#include "tools/command.h"
#include "tools/pool_state.h"
#include "tools/progress.h"
#include "tools/recover.h"

static void show_progress(void *context, uint64_t done, uint64_t total)
{
    progress_show(context, done, total);
}

/* Checked; *bytes: of what is in use. */
static int judge(const char *path, uint64_t *bytes, struct problem *why)
{
    static struct check_result result;
    int status = recover_check_quietly(path, &result, why);

    *bytes = result.checked_bytes + 2 * FRAME_BYTES;
    if (status == 0 && result.log_is_damaged)
        return problem_set(why, STATUS_DAMAGED,
                           "%s: its log is not whole, nothing is copied; `pheap recover --check` "
                           "says more, `--repair` keeps what is whole of it",
                           path);
    if (status < 0 || result.damaged == 0)
        return status;
    return problem_set(why, STATUS_DAMAGED,
                       "%s: generation %" PRIu64 " is not whole, nothing is copied; `pheap recover "
                       "--check` says more, `--drop` gives it up",
                       path, result.super.generations[__builtin_ctz(result.damaged)].number);
}

static int copy(const char *path, struct copy_request *request, uint64_t *before, uint64_t *after,
                struct problem *why)
{
    static struct pool pool;
    struct progress progress;
    int status = judge(path, &request->needed_bytes, why);

    if (status == 0)
        status = pool_open(&pool, path, POOL_WRITE, why);
    if (status < 0)
        return status;
    progress_begin(&progress, "copying");
    request->pool = &pool;
    request->progress = show_progress;
    request->context = &progress;
    *before = pool.file_frames << FRAME_SHIFT;
    if (request->to == NULL)
        request->to = pool.path;
    status = pool_copy(request, after, why);
    progress_end(&progress);
    pool_close(&pool);
    return status;
}

/* To another slot: the newest state of an opened heap. */
static int move(const struct recover_request *request, const char *path, const char *to)
{
    struct problem why = {0};
    uint64_t bytes = 0;
    int status = judge(path, &bytes, &why);

    if (status == 0)
        status = pool_move(path, to, (uint32_t)request->slot, &why);
    if (status < 0)
        return report_problem("recover", request->path, &why);
    printf("%s: the heap, in slot %" PRIu64 "\n", to, request->slot);
    return EXIT_FINE;
}

int recover_copy(const struct recover_request *request)
{
    const char *output = request->clone ? request->clone : request->output;
    static struct pool_state state;
    static char to[4096];
    struct copy_request copying = {.replaces = output == NULL,
                                   .new_identity = request->clone != NULL};
    struct problem why = {0};
    uint64_t before = 0, after = 0;
    char a[32], b[32];
    int status = pool_state_read(request->path, &state, &why);

    if (status == 0)
        status = pool_state_wait_free(&state, &why);
    if (status == 0 && output) {
        copying.to = to;
        if (parse_path(output, to, sizeof to) < 0)
            status = problem_set(&why, -ENAMETOOLONG, "'%s': the path is too long", output);
    }
    if (status == 0 && request->slot && request->slot != state.super.slot)
        return move(request, state.path, to);
    if (status == 0)
        status = copy(request->path, &copying, &before, &after, &why);
    if (status < 0)
        return report_problem("recover", request->path, &why);
    printf("%s: %" PRIu32 " generation%s, %s (%s %s)\n", copying.replaces ? state.path : to,
           state.super.generation_count, state.super.generation_count == 1 ? "" : "s",
           show_bytes(a, after), copying.replaces ? "before:" : "the pool:", show_bytes(b, before));
    return EXIT_FINE;
}
