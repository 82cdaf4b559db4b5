/*
 * recover_collect.c - pheap recover --collect: frees what nothing leads to in an opened heap.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include "recovery/collect/collect.h"
#include "tools/command.h"
#include "tools/pool_state.h"
#include "tools/recover.h"

static void print_json(const char *path, const struct collect_result *result)
{
    json_t *json =
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:b, s:o}", "pool", path, "marked_generation",
                  (json_int_t)result->marked, "blocks_in_use", (json_int_t)result->blocks_in_use,
                  "blocks", (json_int_t)result->blocks, "bytes", (json_int_t)result->bytes, "freed",
                  result->generation > 0, "generation",
                  result->generation ? json_integer((json_int_t)result->generation) : json_null());

    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(json);
}

int recover_collect(const struct recover_request *request)
{
    static struct pool_state state;
    struct collect_result result;
    struct problem why = {0};
    char size[32];
    int status = pool_state_read(request->path, &state, &why);

    if (status == 0 && !request->dry_run)
        status = pool_state_wait_free(&state, &why);
    if (status == 0)
        status = collect_heap(state.path, !request->dry_run, &result, &why);
    if (status < 0)
        return report_problem("recover", request->path, &why);
    if (request->as_json) {
        print_json(state.path, &result);
        return EXIT_FINE;
    }
    printf("%s: nothing leads to %" PRIu64 " of %" PRIu64 " blocks, %s", state.path, result.blocks,
           result.blocks_in_use, show_bytes(size, result.bytes));
    if (result.is_programs)
        printf("; in a program's own heap nothing is freed (`pheap inspect POOL leaks`)");
    else if (result.generation)
        printf("; freed, in generation %" PRIu64, result.generation);
    else if (result.blocks > 0)
        printf("; nothing is changed");
    putchar('\n');
    return EXIT_FINE;
}
