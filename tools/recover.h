/*
 * recover.h - what pheap recover can be asked for. Each returns an exit status.
 */
#ifndef PHEAP_TOOLS_RECOVER_H
#define PHEAP_TOOLS_RECOVER_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/status.h"
#include "recovery/check/check.h"

struct recover_request {
    const char *output;    /* --compact -o; NULL: none was named */
    const char *clone;     /* --clone */
    const char *directory; /* --salvage */
    const char *path;      /* the pool */
    uint64_t number;       /* of a generation */
    uint64_t generation;   /* -g; 0: not given */
    uint64_t slot;         /* --slot; 0: not given */
    bool all, as_json, yes, drops_log, dry_run;
    bool frees, now; /* --collect --free, --now */
    bool commits;    /* --resolve commit, not abort */
};

int recover_check(const struct recover_request *request);
int recover_rollback(const struct recover_request *request);
int recover_repair(const struct recover_request *request);
int recover_salvage(const struct recover_request *request);
int recover_collect(const struct recover_request *request);
int recover_resolve(const struct recover_request *request);
/* With request->clone a pool of its own; else into request->output, or in the pool's place. */
int recover_copy(const struct recover_request *request);

/* recover_check.c: checks all but the heaps, with a bar on the terminal, and keeps what is found to
 * itself. */
MUST_CHECK int recover_check_quietly(const char *path, struct check_result *result,
                                     struct problem *why);
/* Whether a person at the terminal says yes. Without one, or with --yes, nobody is asked. */
bool recover_is_agreed(const struct recover_request *request, const char *question);

#endif
