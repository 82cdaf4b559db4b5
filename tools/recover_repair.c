/*
 * recover_repair.c - pheap recover --repair: says what a repair would do, and with --yes does it.
 */
#include <inttypes.h>
#include <stdio.h>
#include "recovery/repair/repair.h"
#include "tools/command.h"
#include "tools/pool_state.h"
#include "tools/recover.h"

static void show_plan(const struct repair_plan *plan, const struct check_result *result)
{
    const struct superblock *super = &result->super;

    if (plan->writes_superblock)
        printf("write the superblock in force over the one at offset %" PRIu64 "\n",
               (super->sequence + 1) % 2 * FRAME_BYTES);
    if (plan->trims)
        printf("let the superblock count %" PRIu64 " frames, as the file has, not %" PRIu64 "\n",
               plan->file_frames, plan->listed_frames);
    for (uint32_t i = 0; i < plan->gives_up_count; i++)
        printf("give up generation %" PRIu64 ", which is not whole\n", plan->gives_up[i]);
    if (plan->renews_log && plan->log_records)
        printf("begin a new log, with the %" PRIu64
               " transactions before the one that is damaged\n",
               plan->log_records);
    else if (plan->renews_log)
        printf("begin a new log: give up all transactions since generation %" PRIu64 "\n",
               plan->newest);
    if (plan->newest && plan->gives_up_count && super->log.extent_count == 0)
        printf("keep generation %" PRIu64 " as the newest%s\n", plan->newest,
               plan->is_resumed ? ", from which its program goes on"
                                : "; nothing is resumed from it but by `pheap restore -g`");
}

static int apply(const struct repair_plan *plan, const char *path)
{
    struct problem why = {0};

    if (repair_apply(plan, path, &why) < 0 || repair_judge_heap(plan, path, &why) < 0)
        return report_problem("recover", path, &why);
    printf("%s: repaired; its superblocks from before are in %s.backup\n", path, path);
    return EXIT_FINE;
}

int recover_repair(const struct recover_request *request)
{
    static struct pool_state state;
    static struct check_result result;
    struct problem why = {0};
    struct repair_plan plan;
    int status = pool_state_read(request->path, &state, &why);

    if (status == 0)
        status = pool_state_wait_free(&state, &why);
    if (status == 0)
        status = recover_check_quietly(state.path, &result, &why);
    if (status == 0)
        status = repair_plan(&plan, state.path, &result, &why);
    if (status < 0)
        return report_problem("recover", request->path, &why);
    if (!repair_is_needed(&plan)) {
        printf("%s: nothing to repair\n", state.path);
        return EXIT_FINE;
    }
    show_plan(&plan, &result);
    if (request->yes)
        return apply(&plan, state.path);
    printf("nothing is changed; --yes does it\n");
    return result.worst == SEVERITY_DAMAGE ? EXIT_DAMAGED : EXIT_FOUND;
}
