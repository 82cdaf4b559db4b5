/*
 * golden_costs.h - how often each system call is made, as a line of text, and the comparison with
 * the lines that stand in t/costs. PHEAP_UPDATE_COSTS=1 writes them instead.
 */
#ifndef PHEAP_T_LIB_GOLDEN_COSTS_H
#define PHEAP_T_LIB_GOLDEN_COSTS_H

#include <stdio.h>

#define COSTS_CALLS 512 /* numbers of system calls are below */

int costs_total(const int counts[COSTS_CALLS]);

/* "17 calls, openat 4, mmap 3, others 10": those that tell something by their names, the rest in
 * one sum. */
void costs_describe(FILE *out, const int counts[COSTS_CALLS]);

/* Where the counts of `name` stand: root's and those of another user, who may less. */
const char *costs_path(const char *name);

/* One CHECK: the text is the file's. */
void costs_compare(const char *path, const char *text);

#endif
