/*
 * inspect_html.c - pheap inspect --html FILE: one page with a map of the heap and the tables of
 * other views. The page is tools/page.html with the JSON of these views in it; it asks for nothing
 * else.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "recovery/view/heap_map.h"
#include "tools/command.h"
#include "tools/inspect.h"

#define PLACE_OF_DATA "@DATA@"

extern const char page_html[]; /* page.S */

static json_t *class_json(uint32_t class)
{
    if (class == BLOCK_CLASSES)
        return json_null();
    return json_integer(class < SIZE_CLASSES ? size_class_block_bytes(class) : 0);
}

static json_t *map_json(const struct view *view, const struct heap_map *map)
{
    json_t *used = json_array(), *lost = json_array(), *classes = json_array();

    for (uint32_t i = 0; i < map->count; i++) {
        json_array_append_new(used, json_integer((json_int_t)map->cells[i].used_bytes));
        json_array_append_new(lost, json_integer((json_int_t)map->cells[i].lost_bytes));
        json_array_append_new(classes, class_json(map->cells[i].class));
    }
    return json_pack("{s:I, s:I, s:I, s:o, s:o, s:o}", "generation",
                     (json_int_t)view->generation.number, "start", (json_int_t)map->start,
                     "cell_bytes", (json_int_t)map->cell_bytes, "used", used, "lost", lost,
                     "block_bytes", classes);
}

static int add_map(struct inspection *inspection, struct view *view, struct problem *why)
{
    struct block_map blocks;
    struct reach reach;
    struct heap_map map;
    int status = block_map_build(&blocks, view, why);

    if (status == 0)
        status = reach_mark(&reach, &blocks, why);
    if (status == 0)
        status = heap_map_make(&map, &blocks, &reach, why);
    if (status == 0)
        json_object_set_new(inspection->json, "map", map_json(view, &map));
    return status;
}

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
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
    bool is_written;

    if (!file)
        return problem_set(why, -errno, "%s: %s; a page is written to a new file", path,
                           strerror(errno));
    fwrite(page_html, 1, (size_t)(place - page_html), file);
    put_json(file, json);
    fputs(place + strlen(PLACE_OF_DATA), file);
    is_written = !ferror(file);
    if (fclose(file) == 0 && is_written)
        return 0;
    unlink(path);
    return problem_set(why, -EIO, "%s: the page cannot be written", path);
}

/* The views add to an object of the page's own, whether or not --json is given. */
int inspect_html(struct inspection *inspection, struct problem *why)
{
    static inspect_view *const views[] = {inspect_summary, inspect_generations, inspect_slabs,
                                          inspect_leaks, inspect_mappings};
    json_t *asked = inspection->json;
    int status = 0;

    inspection->json = json_object();
    for (size_t i = 0; status == 0 && i < sizeof views / sizeof views[0]; i++)
        status = views[i](inspection, why);
    if (status == 0)
        status = inspect_with(inspection, add_map, why);
    if (status == 0)
        status = write_page(inspection->html_path, inspection->json, why);
    json_decref(inspection->json);
    inspection->json = asked;
    if (status < 0)
        return status;
    if (asked)
        json_object_set_new(asked, "html", json_string(inspection->html_path));
    else
        printf("%s: open it in a browser\n", inspection->html_path);
    return 0;
}
