/*
 * pool_scratch.c - see pool_scratch.h.
 */
#include "t/lib/pool_scratch.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "t/lib/dax_fixture.h"
#include "t/lib/tap.h"

struct arena scratch_arena;
static char directory[64];

void scratch_begin(void)
{
    const char *parent = getenv("TMPDIR");

    if (access("/dev/shm", W_OK) == 0)
        parent = "/dev/shm";
    snprintf(directory, sizeof directory, "%.40s/pheap-pool-XXXXXX", parent ? parent : "/tmp");
    if (mkdtemp(directory) == NULL || arena_create(&scratch_arena, 1ull << 30) < 0) {
        perror(directory);
        exit(1);
    }
}

void scratch_end(void)
{
    DIR *entries = opendir(directory);
    struct dirent *entry;

    while (entries != NULL && (entry = readdir(entries)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlink(scratch_path(entry->d_name));
    if (entries != NULL)
        closedir(entries);
    rmdir(directory);
    arena_destroy(&scratch_arena);
}

const char *scratch_path(const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof paths[0], "%s/%.60s", directory, name);
    return path;
}

void scratch_pool(struct pool *pool, struct oracle *oracle, uint32_t keep)
{
    const char *path = scratch_path("pool");
    struct problem why = {0};

    arena_rewind(&scratch_arena, scratch_arena.base);
    memset(oracle, 0, sizeof *oracle);
    unlink(path);
    CHECK_OK(pool_create(path, 7, keep, &why));
    CHECK_OK(pool_open(pool, path, POOL_WRITE, &why));
    dax_use_if_asked(&pool->persist, path);
    CHECK_OK(pool_load(pool, &scratch_arena, 0, &why));
    CHECK_STR(why.text, "");
}

int scratch_reopen(struct pool *pool, struct oracle *oracle, uint64_t base, struct problem *why)
{
    int status;

    pool_close(pool);
    arena_rewind(&scratch_arena, scratch_arena.base);
    status = pool_open(pool, scratch_path("pool"), POOL_WRITE, why);
    if (status == 0)
        dax_use_if_asked(&pool->persist, scratch_path("pool"));
    if (status == 0)
        status = pool_load(pool, &scratch_arena, base, why);
    oracle_start_from(oracle, base);
    return status;
}
