/*
 * inspect_parts.h - parts of views, for the page of --html, which shows many of one generation: the
 * heap is mapped, walked and marked once. What a part gives is what its view's --json has.
 */
#ifndef PHEAP_TOOLS_INSPECT_PARTS_H
#define PHEAP_TOOLS_INSPECT_PARTS_H

#include <jansson.h>
#include "recovery/view/blocks.h"
#include "recovery/view/reach.h"
#include "tools/inspect.h"
#include "tools/stacks.h"

/* Of heap: shows it, or adds "heap". */
MUST_CHECK int inspect_heap_part(struct inspection *inspection, struct view *view,
                                 struct problem *why);

/* Of slabs: "slabs". */
json_t *inspect_slab_rows(const struct block_map *map);

/* Of leaks: shows it, or adds "leaked", "leaks" and, if there is a profile, "leaking_stacks". */
void inspect_leaks_part(struct inspection *inspection, const struct block_map *map,
                        const struct reach *reach, const struct stacks *stacks);

/* Of profile: "profile", with these rows of stacks_rows(). */
json_t *inspect_profile_json(const struct stacks *stacks, json_t *rows);

/* Of blocks: a row. */
json_t *inspect_block_row(const struct block *block);

/* Of diff: "sites", from the rows of stacks_rows() of two generations. Either may be NULL. */
json_t *inspect_site_changes(json_t *was, json_t *is);

#endif
