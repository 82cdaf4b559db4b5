/*
 * inspect_html.c - pheap inspect --html FILE: one page with a map of the heap, its growth, its
 * allocation stacks and tables. The page is tools/page/ with one JSON object in it, which holds
 * what the views' own --json has, so figures cannot differ; it asks for nothing else.
 *
 * What cannot be shown of a damaged generation is missing, and "absent" says why.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "recovery/copy/unfinished.h"
#include "tools/command.h"
#include "tools/inspect_parts.h"
#include "tools/page_data.h"
#include "tools/table.h"
#include "tools/type_table.h"

#define PLACE_OF_DATA "@DATA@"

extern const char page_html[]; /* page/page.S */

static struct view old_view;
static json_t *profile_rows; /* of the generation that is shown, and of the oldest */
static json_t *oldest_rows;
static struct type_table types; /* the same two */

/* A part that cannot be had is left out, unless this process cannot go on. */
static int tolerate(struct inspection *inspection, const char *part, int status,
                    struct problem *why)
{
    if (status >= 0 || status == -ENOMEM)
        return status;
    inspection->left_out += status == STATUS_DAMAGED;
    json_object_set_new(json_object_get(inspection->json, "absent"), part,
                        table_text(why->text, strlen(why->text)));
    *why = (struct problem){0};
    return 0;
}

/* --- the generation that is shown --- */

static const struct generation_entry *older(const struct inspection *inspection,
                                            const struct generation_entry *shown, bool is_oldest)
{
    const struct superblock *super = &inspection->state.super;
    const struct generation_entry *found = NULL;

    for (uint32_t i = 0; i < super->generation_count && i < SUPERBLOCK_GENERATIONS; i++) {
        const struct generation_entry *entry = &super->generations[i];

        if (entry->number < shown->number && entry->slot == shown->slot && !(is_oldest && found))
            found = entry;
    }
    return found;
}

static int add_changes_since(struct inspection *inspection, struct view *view,
                             const struct heap_map *map, const struct generation_entry *entry,
                             json_t *list, struct problem *why)
{
    uint32_t *pages = calloc(map->count + 1ull, sizeof *pages);
    int status = pages ? view_open(&old_view, inspection->state.path, entry->number, why) : -ENOMEM;

    if (status == 0)
        status = heap_map_changes(map, view, &old_view, pages, why);
    if (status == 0)
        json_array_append_new(list, json_pack("{s:I, s:o}", "since", (json_int_t)entry->number,
                                              "pages", page_runs(pages, map->count)));
    if (pages)
        view_close(&old_view);
    free(pages);
    return status;
}

/* Pages written since the generation before, and since the oldest. */
static int add_changes(struct inspection *inspection, struct view *view, const struct heap_map *map,
                       json_t *list, struct problem *why)
{
    const struct generation_entry *before = older(inspection, &view->generation, false);
    const struct generation_entry *oldest = older(inspection, &view->generation, true);
    int status = before ? add_changes_since(inspection, view, map, before, list, why) : 0;

    if (status == 0 && oldest != before)
        status = add_changes_since(inspection, view, map, oldest, list, why);
    return status;
}

static int add_map(struct inspection *inspection, struct view *view, const struct block_map *blocks,
                   const struct reach *reach, struct problem *why)
{
    json_t *json, *changes = json_array();
    struct heap_map map;
    int status = heap_map_make(&map, blocks, reach, why);

    if (status == 0) {
        json = page_map(&map);
        status =
            tolerate(inspection, "changes", add_changes(inspection, view, &map, changes, why), why);
        json_object_set(json, "changes", changes);
        json_object_set_new(inspection->json, "map", json);
    }
    json_decref(changes);
    return status;
}

static int add_blocks(struct inspection *inspection, const struct block_map *map,
                      const struct reach *reach, const struct stacks *stacks, struct problem *why)
{
    struct largest largest;
    int status = largest_find(&largest, map, PAGE_LARGEST_MOST, why);

    if (status < 0)
        return status;
    json_object_set_new(inspection->json, "slabs", inspect_slab_rows(map));
    types.which = 1;
    block_map_each(map, map->used, type_table_add, &types);
    json_object_set_new(inspection->json, "largest", page_largest(&largest, reach, stacks));
    inspect_leaks_part(inspection, map, reach, stacks);
    if (stacks->reading.rate_bytes) {
        profile_rows = stacks_rows(stacks, map->used);
        json_object_set_new(inspection->json, "profile",
                            inspect_profile_json(stacks, profile_rows));
    }
    return 0;
}

static int add_heap(struct inspection *inspection, struct view *view, struct problem *why)
{
    struct block_map map;
    struct reach reach;
    struct stacks stacks = {0};
    int status = inspect_heap_part(inspection, view, why);

    if (status == 0)
        status = block_map_build(&map, view, why);
    if (status == 0)
        status = reach_mark(&reach, &map, why);
    if (status == 0)
        status = add_map(inspection, view, &map, &reach, why);
    if (status == 0)
        status = tolerate(inspection, "profile", stacks_open(&stacks, view, &map, why), why);
    if (status == 0)
        status = add_blocks(inspection, &map, &reach, &stacks, why);
    stacks_close(&stacks);
    return status;
}

static int add_shown(struct inspection *inspection, struct view *view, struct problem *why)
{
    const struct generation_entry *entry = &view->generation;

    json_object_set_new(inspection->json, "shown",
                        json_pack("{s:I, s:b, s:I}", "number", (json_int_t)entry->number,
                                  "is_opened", entry->kind == GENERATION_HEAP, "pages",
                                  (json_int_t)entry->page_count));
    inspection->generation = entry->number; /* the parts that follow show the same */
    return tolerate(inspection, "heap", add_heap(inspection, view, why), why);
}

/* --- growth --- */

static int measure(const struct inspection *inspection, uint64_t number, bool is_oldest,
                   json_t **rows, struct problem *why)
{
    struct stacks stacks = {0};
    struct block_map map;
    int status = view_open(&old_view, inspection->state.path, number, why);

    if (status == 0)
        status = block_map_build(&map, &old_view, why);
    if (status == 0 && is_oldest)
        status = stacks_open(&stacks, &old_view, &map, why);
    if (status == 0) {
        *rows = inspect_slab_rows(&map);
        types.which = 0;
        if (is_oldest && number < inspection->generation)
            block_map_each(&map, map.used, type_table_add, &types);
        if (stacks.reading.rate_bytes)
            oldest_rows = stacks_rows(&stacks, map.used);
    }
    stacks_close(&stacks);
    view_close(&old_view);
    return status;
}

static int add_growth_of(struct inspection *inspection, const struct generation_entry *entry,
                         bool is_oldest, json_t *list, struct problem *why)
{
    json_t *rows = json_object_get(inspection->json, "slabs"), *point;
    int status = 0;

    if (entry->number == inspection->generation && rows)
        json_incref(rows);
    else
        status = measure(inspection, entry->number, is_oldest, &rows, why);
    if (status == -ENOMEM)
        return status;
    point = json_pack("{s:I, s:I}", "number", (json_int_t)entry->number, "time_ns",
                      (json_int_t)entry->time_ns);
    json_array_append_new(list, point);
    if (status == 0) {
        json_object_set_new(point, "slabs", rows);
        return 0;
    }
    inspection->left_out += status == STATUS_DAMAGED;
    json_object_set_new(point, "problem", table_text(why->text, strlen(why->text)));
    *why = (struct problem){0};
    return 0;
}

/* Of those that were kept at most PAGE_GENERATIONS, the first and the last among them. */
static int add_growth(struct inspection *inspection, struct problem *why)
{
    const struct generation_entry *kept[SUPERBLOCK_GENERATIONS];
    const struct superblock *super = &inspection->state.super;
    uint32_t count = 0, shown;
    json_t *list = json_array();
    int status = 0;

    json_object_set_new(inspection->json, "growth", list);
    for (uint32_t i = 0; i < super->generation_count && i < SUPERBLOCK_GENERATIONS; i++)
        if (super->generations[i].slot == super->slot)
            kept[count++] = &super->generations[i];
    shown = count < PAGE_GENERATIONS ? count : PAGE_GENERATIONS;
    for (uint32_t i = 0; status == 0 && i < shown; i++)
        status = add_growth_of(inspection, kept[shown == 1 ? 0 : i * (count - 1) / (shown - 1)],
                               i == 0, list, why);
    if (status == 0 && oldest_rows && kept[0]->number < inspection->generation) {
        json_object_set_new(inspection->json, "sites",
                            inspect_site_changes(oldest_rows, profile_rows));
        json_object_set_new(inspection->json, "sites_since",
                            json_integer((json_int_t)kept[0]->number));
    }
    return status;
}

/* --- the page --- */

/* No "<" of the data can end the element that it stands in. */
static void put_json(FILE *file, const json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT);

    for (const char *at = text; at && *at; at++)
        if (*at == '<')
            fputs("\\u003c", file);
        else
            putc(*at, file);
    free(text);
}

static int write_page(const char *path, const json_t *json, struct problem *why)
{
    const char *place = strstr(page_html, PLACE_OF_DATA);
    int fd = unfinished_create(path);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
    bool is_written;
    int status;

    status = fd < 0 ? fd : -errno;
    if (!file)
        return problem_set(why, status, "%s: %s; a page is written to a new file", path,
                           status_text(status));
    fwrite(page_html, 1, (size_t)(place - page_html), file);
    put_json(file, json);
    fputs(place + strlen(PLACE_OF_DATA), file);
    is_written = !ferror(file);
    status = is_written ? 0 : -errno;
    if (fclose(file) != 0 && status == 0)
        status = -errno;
    if (status < 0)
        unlink(path);
    unfinished_end();
    if (status == 0)
        return 0;
    return problem_set(why, status, "%s: the page cannot be written: %s; name a file elsewhere",
                       path, status_text(status));
}

/* The list of generations is whole, whichever is shown. */
static void add_list(struct inspection *inspection)
{
    uint64_t asked = inspection->generation;

    inspection->generation = 0;
    inspect_list_generations(inspection);
    inspection->generation = asked;
}

/* What a heap that programs open has beside blocks. */
static int add_opened(struct inspection *inspection, struct problem *why)
{
    if (types.failed < 0)
        return problem_set(why, types.failed, "no memory for a table of types");
    if (types.count == 0)
        return 0;
    json_object_set_new(inspection->json, "types", type_table_rows(&types, true));
    return tolerate(inspection, "roots", inspect_roots(inspection, why), why);
}

static int add_all(struct inspection *inspection, struct problem *why)
{
    int status = inspect_summary(inspection, why);

    if (status == 0)
        add_list(inspection);
    if (status == 0)
        status = inspect_with(inspection, add_shown, why);
    if (status == 0)
        status = add_growth(inspection, why);
    if (status == 0)
        status = add_opened(inspection, why);
    if (status == 0)
        status = tolerate(inspection, "mappings", inspect_mappings(inspection, why), why);
    if (status == 0)
        status = tolerate(inspection, "threads", inspect_threads(inspection, why), why);
    return status;
}

int inspect_html(struct inspection *inspection, struct problem *why)
{
    json_t *asked = inspection->json;
    int status;

    /* The views add to an object of the page's own, whether or not --json is given. */
    inspection->json = json_pack("{s:{}}", "absent");
    status = add_all(inspection, why);
    if (status == 0) {
        page_cut(inspection->json);
        page_share_frames(inspection->json);
        status = write_page(inspection->html_path, inspection->json, why);
    }
    json_decref(profile_rows);
    json_decref(oldest_rows);
    free(types.types);
    json_decref(inspection->json);
    inspection->json = asked;
    if (status < 0)
        return status;
    if (asked)
        json_object_set_new(asked, "html",
                            table_text(inspection->html_path, strlen(inspection->html_path)));
    else
        printf("%s: open it in a browser\n", inspection->html_path);
    return 0;
}
