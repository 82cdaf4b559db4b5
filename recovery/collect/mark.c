/*
 * mark.c - the blocks of a heap that nothing leads to.
 */
#include <errno.h>
#include <stdlib.h>
#include "recovery/collect/garbage.h"
#include "recovery/view/opened_heap.h"
#include "recovery/view/reach.h"

static bool add_block(void *context, const struct block *block)
{
    struct garbage *garbage = context;

    if (garbage->count == garbage->room)
        return false;
    garbage->addresses[garbage->count++] = block->address;
    garbage->bytes += block->bytes;
    return true;
}

static int find_garbage(struct view *view, struct garbage *garbage, struct collect_result *result,
                        struct problem *why)
{
    struct block_map map;
    struct reach reach;
    int status = view_map_heap(view, why);

    if (status == 0)
        status = opened_judge(view, "nothing is freed", why);
    if (status == 0)
        status = block_map_build(&map, view, why);
    if (status == 0)
        status = reach_mark_in_place(&reach, &map, why);
    if (status < 0)
        return status;
    garbage->room = reach.unreached_count;
    garbage->addresses = calloc(garbage->room + 1, sizeof *garbage->addresses);
    if (!garbage->addresses)
        return problem_set(why, -ENOMEM, "no memory for %lu blocks", garbage->room);
    block_map_each(&map, reach.unreached, add_block, garbage);
    *result = (struct collect_result){.blocks_in_use = map.used_count,
                                      .blocks = garbage->count,
                                      .bytes = garbage->bytes,
                                      .is_programs = !view->is_opened,
                                      .marked = view->generation.number};
    return 0;
}

int collect_mark(const char *path, struct garbage *garbage, struct collect_result *result,
                 struct problem *why)
{
    static struct view view;
    int status = view_open(&view, path, 0, why);

    if (status == 0)
        status = find_garbage(&view, garbage, result, why);
    view_close(&view);
    return status;
}
