/*
 * recover_resolve.c - pheap recover --resolve: a heap that is in doubt, because the pool that
 * decides about one of its transactions is gone, is settled by who knows better. A pool that is
 * there decides itself, and nobody else.
 */
#include <stdio.h>
#include "core/tx/opened.h"
#include "tools/command.h"
#include "tools/pool_state.h"
#include "tools/recover.h"

static int settle(struct pheap *heap, bool commits, struct problem *why)
{
    heap->settle_as = commits ? LOG_COMMITTED : LOG_UNDONE;
    if (!pool_generation(&heap->pool, 0))
        return problem_set(why, STATUS_NO_GENERATION, "pool '%s' holds no heap", heap->pool.path);
    return opened_load(heap, why);
}

/* A program that has just been killed may have left its agent for a moment. */
static int attach(struct pheap **heap, const char *path, struct problem *why)
{
    static struct pool_state state;
    int status = pool_state_read(path, &state, why);

    if (status == 0)
        status = pool_state_wait_free(&state, why);
    return status < 0 ? status : opened_attach(heap, path, false, why);
}

int recover_resolve(const struct recover_request *request)
{
    struct problem why = {0};
    struct pheap *heap;
    uint32_t settled = 0;
    int status = attach(&heap, request->path, &why);

    if (status == 0) {
        status = settle(heap, request->commits, &why);
        settled = heap->settled;
        (void)opened_close(heap);
    }
    if (status < 0)
        return report_problem("recover", request->path, &why);
    if (settled == 0)
        printf("%s: nothing is in doubt\n", request->path);
    else
        printf("%s: %u transaction%s that another pool decides: %s\n", request->path, settled,
               settled > 1 ? "s" : "", request->commits ? "committed" : "undone");
    return EXIT_FINE;
}
