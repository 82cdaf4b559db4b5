/*
 * check_pool.c - fuzz target: the checker. No file makes it crash, read what is not its own, or
 * hang; and what it calls fine can be opened, loaded and committed to.
 */
#include <stdio.h>
#include <stdlib.h>
#include "core/base/arena.h"
#include "core/pool/pool.h"
#include "recovery/check/check.h"
#include "t/fuzz/packed_pool.h"
#include "t/fuzz/target.h"

#define ARENA_BYTES (1ull << 30)

static void ignore(void *context, const struct finding *finding)
{
    (void)context;
    if (finding_id(finding->kind) == NULL || finding_meaning(finding->kind) == NULL)
        abort();
}

/* It was called fine. */
static void must_work(const char *path)
{
    static struct pool pool;
    struct generation_entry entry = {.kind = GENERATION_HEAP, .slot = 7};
    struct problem why = {0};
    struct arena arena;

    if (arena_create(&arena, ARENA_BYTES) < 0)
        return;
    if (pool_open(&pool, path, POOL_WRITE, &why) < 0 || pool_load(&pool, &arena, 0, &why) < 0 ||
        why.status < 0 || pool_commit(&pool, &entry, NULL, 0, &why) < 0) {
        fprintf(stderr, "called fine, but: %s\n", why.text);
        abort();
    }
    pool_close(&pool);
    arena_destroy(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct check_result result;
    struct check_request request = {.heaps = HEAPS_OF_ALL, .found = ignore};
    struct problem why = {0};
    int status;

    request.path = packed_pool_write(data, size);
    status = check_pool(&request, &result, &why);
    if (status < 0 && why.text[0] == 0)
        abort();
    if (status == 0 && result.worst == SEVERITY_NONE)
        must_work(request.path);
    return 0;
}
