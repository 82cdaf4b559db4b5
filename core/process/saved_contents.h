/*
 * saved_contents.h - the content of open files in a generation: those that the program writes to in
 * place, to be put back by a restore (--files=save). Internal to core/process.
 */
#ifndef PHEAP_PROCESS_SAVED_CONTENTS_H
#define PHEAP_PROCESS_SAVED_CONTENTS_H

#include "core/process/saved_files.h"

/* While the program runs: reads those that have changed since the last checkpoint, so that the
 * freeze finds most of it in the index. */
MUST_CHECK int saved_contents_begin(struct saved_files *files, struct problem *why);

#endif
