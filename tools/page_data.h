/*
 * page_data.h - what the page of pheap inspect --html shows beside the views, and what keeps it
 * small: however large the heap is, a page has at most HEAP_MAP_CELLS cells, PAGE_GENERATIONS
 * generations to compare and PAGE_*_MOST rows in a table. What is left out is counted, and the page
 * says so.
 */
#ifndef PHEAP_TOOLS_PAGE_DATA_H
#define PHEAP_TOOLS_PAGE_DATA_H

#include <jansson.h>
#include "recovery/view/heap_map.h"
#include "recovery/view/largest.h"
#include "tools/stacks.h"

#define PAGE_GENERATIONS   8
#define PAGE_LARGEST_MOST  1000
#define PAGE_STACKS_MOST   4096
#define PAGE_MAPPINGS_MOST 8192
#define PAGE_THREADS_MOST  1024
#define PAGE_TYPES_MOST    1024
#define PAGE_ROOTS_MOST    1024

/* The cells of a map, each figure as a run-length list: a number that is not negative is the next
 * cell's; -n: n more cells have the last number. */
json_t *page_map(const struct heap_map *map);
/* A run-length list of `count` numbers. */
json_t *page_runs(const uint32_t *numbers, uint32_t count);

/* Rows as those of `blocks`, with "reachable" and, if it was sampled, "allocated_by". */
json_t *page_largest(const struct largest *largest, const struct reach *reach,
                     const struct stacks *stacks);

/* Cuts the lists of the page that are too long, and counts what goes in "left_out". */
void page_cut(json_t *page);

/* "frames" of every row of stacks and of threads becomes a list of places in the page's one
 * "frames", in which each frame is once. */
void page_share_frames(json_t *page);

#endif
