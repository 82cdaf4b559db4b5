/*
 * mark.c - the blocks of a heap that nothing leads to.
 */
#include <errno.h>
#include <string.h>
#include "recovery/collect/garbage.h"
#include "recovery/view/reach.h"

static bool count_block(void *context, const struct block *block)
{
    struct collect_result *result = context;

    result->blocks++;
    result->bytes += block->bytes;
    return true;
}

static int mark(struct view *view, struct block_map *map, struct reach *reach, struct problem *why)
{
    int status = block_map_build_whole(map, view, "nothing is freed", why);

    return status == 0 ? reach_mark_in_place(reach, map, why) : status;
}

static int find_garbage(struct view *view, struct garbage *garbage, struct collect_result *result,
                        struct problem *why)
{
    struct block_map *map = arena_alloc(&view->arena, sizeof *map, 8);
    struct reach reach;
    int status = map ? mark(view, map, &reach, why) : problem_set(why, -ENOMEM, "out of memory");

    if (status < 0)
        return status;
    *result = (struct collect_result){.blocks_in_use = map->used_count,
                                      .is_programs = !view->is_opened,
                                      .marked = view->generation.number};
    block_map_each(map, reach.unreached, count_block, result);
    garbage->map = map;
    garbage->unreached = reach.unreached;
    return 0;
}

int collect_mark(const char *path, struct garbage *garbage, struct collect_result *result,
                 struct problem *why)
{
    static struct view view;
    int status = view_open(&view, path, 0, why);

    if (status == 0)
        status = find_garbage(&view, garbage, result, why);
    if (status == 0) { /* the view goes, what lies in its memory stays */
        garbage->arena = view.arena;
        memset(&view.arena, 0, sizeof view.arena);
    }
    view_close(&view);
    return status;
}

void garbage_each(const struct garbage *garbage, garbage_visit *visit, void *context)
{
    block_map_each_address(garbage->map, garbage->unreached, visit, context);
}

void garbage_forget(struct garbage *garbage)
{
    if (garbage->arena.base)
        arena_destroy(&garbage->arena);
    memset(garbage, 0, sizeof *garbage);
}
