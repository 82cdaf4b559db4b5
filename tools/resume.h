/*
 * resume.h - what `pheap restore` and `pheap run --resume` share: resume a program, say so, stay as
 * its parent, and end as it ended.
 */
#ifndef PHEAP_TOOLS_RESUME_H
#define PHEAP_TOOLS_RESUME_H

#include "recovery/restore/restore.h"

/*
 * 0 or a negative status, before anything ran. Says on stderr
 *     pheap: resumed generation G as pid P (outer pid Q)
 * with the parenthesis only where the two differ.
 */
MUST_CHECK int resume_program(const struct restore_options *options, struct restored *out,
                              struct problem *why);

/* Waits for the program; its exit status, or does not return: dies of the signal it died of. */
int resume_wait(const struct restored *restored);

/* For a problem of status STATUS_DAMAGED, STATUS_CHANGED: names the generation to try instead. */
void resume_offer_older(const char *command, const struct restore_options *options,
                        const struct problem *why);

#endif
