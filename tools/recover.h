/*
 * recover.h - what pheap recover can be asked for. Each returns an exit status.
 */
#ifndef PHEAP_TOOLS_RECOVER_H
#define PHEAP_TOOLS_RECOVER_H

#include <stdbool.h>
#include <stdint.h>

struct recover_request {
    const char *path; /* the pool */
    uint64_t number;  /* --pin, --unpin, --drop */
    bool all, as_json;
};

int recover_check(const struct recover_request *request);

#endif
