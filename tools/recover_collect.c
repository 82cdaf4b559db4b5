/*
 * recover_collect.c - pheap recover --collect: frees what nothing leads to, in an opened heap or,
 * with --free, in a program's.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include "recovery/collect/collect.h"
#include "tools/command.h"
#include "tools/pool_state.h"
#include "tools/recover.h"

static json_t *number_or_null(uint64_t number)
{
    return number ? json_integer((json_int_t)number) : json_null();
}

static void print_json(const char *path, const struct collect_result *result)
{
    json_t *json = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:b, s:I, s:I, s:o, s:I, s:o}", "pool", path,
        "marked_generation", (json_int_t)result->marked, "blocks_in_use",
        (json_int_t)result->blocks_in_use, "blocks", (json_int_t)result->blocks, "bytes",
        (json_int_t)result->bytes, "freed", result->generation > 0, "freed_blocks",
        (json_int_t)result->freed_blocks, "freed_bytes", (json_int_t)result->freed_bytes,
        "generation", number_or_null(result->generation), "waiting_blocks",
        (json_int_t)result->waiting_blocks, "earlier_generation", number_or_null(result->earlier));

    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(json);
}

static void print_freed(const struct collect_result *result)
{
    char size[32];

    if (result->generation && result->freed_blocks < result->blocks)
        printf("; %" PRIu64 " freed, %s, in generation %" PRIu64, result->freed_blocks,
               show_bytes(size, result->freed_bytes), result->generation);
    else if (result->generation)
        printf("; freed, in generation %" PRIu64, result->generation);
    else if (result->blocks > 0)
        printf("; nothing is changed");
}

static void print_of_program(const struct collect_request *request,
                             const struct collect_result *result)
{
    char size[32];

    if (request->only_says && result->freed_blocks > 0)
        printf("; %" PRIu64 ", %s, would be freed", result->freed_blocks,
               show_bytes(size, result->freed_bytes));
    else
        print_freed(result);
    if (result->waiting_blocks == 0 || request->only_says)
        return;
    printf("; %" PRIu64 " wait in the quarantine: ", result->waiting_blocks);
    if (result->has_not_run)
        printf("the program has not run since generation %" PRIu64 ", when they were found",
               result->earlier);
    else
        printf("freed when they are found so once more, after the program has run on");
}

static void print_text(const char *path, const struct collect_request *request,
                       const struct collect_result *result)
{
    char size[32];

    printf("%s: nothing leads to %" PRIu64 " of %" PRIu64 " blocks, %s", path, result->blocks,
           result->blocks_in_use, show_bytes(size, result->bytes));
    if (result->is_programs && request->from_programs)
        print_of_program(request, result);
    else if (result->is_programs)
        printf("; in a program's own heap nothing is freed without --free (`pheap inspect POOL "
               "leaks`)");
    else
        print_freed(result);
    putchar('\n');
}

int recover_collect(const struct recover_request *request)
{
    static struct pool_state state;
    const struct collect_request collect = {.path = state.path,
                                            .only_says = request->dry_run,
                                            .from_programs = request->frees,
                                            .now = request->now};
    struct collect_result result;
    struct problem why = {0};
    int status = pool_state_read(request->path, &state, &why);

    if (status == 0 && !request->dry_run)
        status = pool_state_wait_free(&state, &why);
    if (status == 0)
        status = collect_heap(&collect, &result, &why);
    if (status < 0)
        return report_problem("recover", request->path, &why);
    if (request->as_json)
        print_json(state.path, &result);
    else
        print_text(state.path, &collect, &result);
    return EXIT_FINE;
}
