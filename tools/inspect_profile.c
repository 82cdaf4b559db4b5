/*
 * inspect_profile.c - the view profile: live bytes by the stack that allocated them.
 */
#include <inttypes.h>
#include <stdio.h>
#include "tools/command.h"
#include "tools/inspect.h"
#include "tools/pprof.h"
#include "tools/stacks.h"

#define LIST_LIMIT 20

static int64_t sum_of(const json_t *rows, const char *key)
{
    const json_t *row;
    int64_t sum = 0;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        sum += json_integer_value(json_object_get(row, key));
    }
    return sum;
}

static int write_files(const struct inspection *inspection, const struct view *view,
                       const struct stacks *stacks, const json_t *rows, struct problem *why)
{
    int status = 0;

    if (inspection->folded_path)
        status = folded_write(inspection->folded_path, rows, why);
    if (status == 0 && inspection->pprof_path)
        status = pprof_write(inspection->pprof_path, rows, stacks->reading.rate_bytes,
                             view->generation.time_ns, why);
    return status;
}

static void print_profile(const struct inspection *inspection, const struct view *view,
                          const struct stacks *stacks, const json_t *rows)
{
    char live[32], rate[32];

    printf("generation %" PRIu64 ": about %s in %" PRId64 " blocks, by %u sample%s, one in %s\n",
           view->generation.number, show_bytes(live, (uint64_t)sum_of(rows, "bytes")),
           sum_of(rows, "blocks"), stacks->reading.sample_count,
           stacks->reading.sample_count == 1 ? "" : "s",
           show_bytes(rate, stacks->reading.rate_bytes));
    if (stacks->reading.lost)
        printf("%" PRIu64 " samples were lost for want of memory\n", stacks->reading.lost);
    stacks_print(inspection, rows, inspection->limit ? inspection->limit : LIST_LIMIT);
}

static int show_stacks(struct inspection *inspection, struct view *view,
                       const struct stacks *stacks, const uint64_t *bits, struct problem *why)
{
    json_t *rows = stacks_rows(stacks, bits);
    int status = write_files(inspection, view, stacks, rows, why);

    if (status < 0) {
        json_decref(rows);
        return status;
    }
    if (inspection->json) {
        json_object_set_new(inspection->json, "profile",
                            json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:O}", "rate_bytes",
                                      (json_int_t)stacks->reading.rate_bytes, "samples",
                                      (json_int_t)stacks->reading.sample_count, "taken",
                                      (json_int_t)stacks->reading.taken, "lost",
                                      (json_int_t)stacks->reading.lost, "bytes",
                                      (json_int_t)sum_of(rows, "bytes"), "blocks",
                                      (json_int_t)sum_of(rows, "blocks"), "stacks", rows));
    } else {
        print_profile(inspection, view, stacks, rows);
    }
    json_decref(rows);
    return 0;
}

static int show(struct inspection *inspection, struct view *view, struct problem *why)
{
    struct block_map map;
    struct stacks stacks = {0};
    int status = block_map_build(&map, view, why);

    if (status == 0)
        status = stacks_open(&stacks, view, &map, why);
    if (status == 0 && stacks.reading.rate_bytes == 0)
        status = problem_set(why, STATUS_NO_GENERATION,
                             "%s: generation %lu was not profiled; start the program with "
                             "PHEAP_PROFILE=1",
                             view->pool.path, (unsigned long)view->generation.number);
    if (status == 0)
        status = show_stacks(inspection, view, &stacks, map.used, why);
    stacks_close(&stacks);
    return status;
}

int inspect_profile(struct inspection *inspection, struct problem *why)
{
    return inspect_with(inspection, show, why);
}
