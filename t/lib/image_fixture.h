/*
 * image_fixture.h - a pool in a temporary directory and an image writer over the test's own
 * address space: the single thread is agent and program at once.
 *
 * Everything the writer, the pool and the test's model of memory need lies in one arena that is
 * excluded from the image, as the agent's is.
 */
#ifndef PHEAP_T_LIB_IMAGE_FIXTURE_H
#define PHEAP_T_LIB_IMAGE_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/sys.h"
#include "core/image/image_reader.h"
#include "core/image/image_writer.h"
#include "core/pool/pool.h"
#include "t/lib/tap.h"

struct fixture {
    char dir[256], path[300];
    struct arena arena; /* pool, writer; then the model */
    struct arena reading;
    struct kernel_features features;
    struct pool pool;
    struct image_writer *writer;
    struct address_space space;
    struct generation_entry entry; /* of the last checkpoint */
    struct problem why;
};

static inline void fixture_fail(const struct fixture *f, const char *what, long status)
{
    tap_check(false, __FILE__, __LINE__, "%s: %ld %s", what, status, f->why.text);
}

static inline void fixture_exclude(struct fixture *f)
{
    f->space.excluded[0].start = f->arena.base;
    f->space.excluded[0].end = f->arena.reserved_end;
    f->space.excluded[1].start = f->reading.base;
    f->space.excluded[1].end = f->reading.reserved_end;
    f->space.excluded_count = 2;
    if (maps_identify_pool(&f->space, f->pool.fd, &f->reading) < 0)
        fixture_fail(f, "maps_identify_pool", -1);
}

/* Opens the pool at f->path for writing, on top of generation base. */
static inline bool fixture_open(struct fixture *f, uint64_t base, enum tracking track,
                                uint64_t scratch_bytes)
{
    struct image_writer_options options = {
        .features = &f->features, .track = track, .scratch_bytes = scratch_bytes};
    int status = pool_open(&f->pool, f->path, POOL_WRITE, &f->why);

    if (status >= 0)
        status = pool_load(&f->pool, &f->arena, base, &f->why);
    if (status >= 0)
        status = image_writer_create(&f->writer, &f->arena, &f->pool, &options, &f->why);
    if (status < 0)
        fixture_fail(f, "open", status);
    fixture_exclude(f);
    return status >= 0;
}

static inline bool fixture_start(struct fixture *f, enum tracking track, uint64_t scratch_bytes)
{
    const char *tmp = getenv("TMPDIR");
    int status = 0;

    memset(f, 0, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "%s/pheap-image-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(f->dir)) {
        fixture_fail(f, "mkdtemp", -1);
        return false;
    }
    snprintf(f->path, sizeof f->path, "%s/pool", f->dir);
    kernel_features_probe(&f->features);
    if (track == TRACKING_SOFT_DIRTY)
        kernel_features_probe_soft_dirty(&f->features);
    status = arena_create(&f->arena, 8ull << 30);
    if (status >= 0)
        status = arena_create(&f->reading, 4ull << 30);
    if (status >= 0)
        status = pool_create(f->path, 7, 3, &f->why);
    if (status < 0)
        fixture_fail(f, "create", status);
    return status >= 0 && fixture_open(f, 0, track, scratch_bytes);
}

static inline void fixture_stop(struct fixture *f)
{
    if (f->writer)
        image_writer_destroy(f->writer);
    pool_close(&f->pool);
    arena_destroy(&f->arena);
    arena_destroy(&f->reading);
    unlink(f->path);
    rmdir(f->dir);
}

static inline int fixture_precopy(struct fixture *f)
{
    int64_t copied = image_writer_precopy(f->writer, &f->space, &f->why);

    return copied < 0 ? (int)copied : 0;
}

static inline int fixture_cut_of(struct fixture *f, uint64_t max_pages)
{
    uintptr_t mark = arena_mark(&f->reading);
    int status = maps_read(&f->space, "/proc/self/maps", &f->reading);

    if (status >= 0)
        status = image_writer_cut(f->writer, &f->space, max_pages, &f->why);
    arena_rewind(&f->reading, mark);
    return status;
}

static inline int fixture_cut(struct fixture *f)
{
    return fixture_cut_of(f, 0);
}

static inline int fixture_commit(struct fixture *f)
{
    f->entry = (struct generation_entry){.kind = GENERATION_HEAP, .slot = 7};
    return image_writer_commit(f->writer, &f->entry, "record", 6, &f->why);
}

/* Pre-copy (twice), cut, commit. */
static inline bool fixture_checkpoint(struct fixture *f)
{
    int status = fixture_precopy(f);

    if (status >= 0)
        status = fixture_precopy(f);
    if (status >= 0)
        status = fixture_cut(f);
    if (status >= 0)
        status = fixture_commit(f);
    if (status < 0)
        fixture_fail(f, "checkpoint", status);
    return status >= 0;
}

/* Opens the newest generation for reading; the arena `reading` is rewound by the next opening. */
static inline bool fixture_image(struct fixture *f, struct pool *pool, struct image *image)
{
    const struct generation_entry *generation = NULL;
    int status = 0;

    arena_rewind(&f->reading, f->reading.base);
    status = pool_open(pool, f->path, POOL_READ, &f->why);
    if (status >= 0)
        generation = pool_generation(pool, 0);
    if (status >= 0)
        status = generation ? image_open(image, pool, generation, &f->reading, &f->why)
                            : STATUS_NO_GENERATION;
    if (status < 0)
        fixture_fail(f, "image", status);
    return status >= 0;
}

/* True if the newest generation shows bytes at address as expected does. */
static inline bool fixture_shows(struct fixture *f, const void *address, const void *expected,
                                 size_t bytes)
{
    static uint8_t page[4096];
    struct pool pool;
    struct image image;
    bool same = fixture_image(f, &pool, &image);

    for (size_t i = 0; same && i < bytes; i += sizeof page) {
        size_t part = bytes - i < sizeof page ? bytes - i : sizeof page;
        int status = image_read(&image, (uintptr_t)address + i, page, part, &f->why);

        if (status < 0)
            fixture_fail(f, "image_read", status);
        same = status >= 0 && memcmp(page, (const char *)expected + i, part) == 0;
        if (!same)
            tap_note("differs at page %zu of %p", i / sizeof page, address);
    }
    pool_close(&pool);
    return same;
}

/* A page's entry in the newest generation. */
static inline struct index_entry fixture_entry(struct fixture *f, const void *address)
{
    struct index_entry entry = {~0ull, 0};
    struct pool pool;
    struct image image;

    if (fixture_image(f, &pool, &image) &&
        index_lookup(image.index, (uintptr_t)address >> PAGE_SHIFT, &entry) < 0)
        entry.frame = ~0ull;
    pool_close(&pool);
    return entry;
}

/*
 * Runs a test once for each way to find written pages, *track being what it has to ask for. With
 * PHEAP_TEST_TRACK=soft-dirty by soft-dirty bits alone, and then the kernel must have them.
 */
static inline void fixture_run_by_each(enum tracking *track, const char *name, void (*test)(void))
{
    static const struct {
        const char *suffix;
        enum tracking track;
    } ways[] = {{"by_tracking", TRACKING_BEST},
                {"by_soft_dirty_bits", TRACKING_SOFT_DIRTY},
                {"by_checksums", TRACKING_CHECKSUM}};
    const char *only = getenv("PHEAP_TEST_TRACK");
    struct kernel_features features = {0};
    char full[200];

    kernel_features_probe_soft_dirty(&features);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        bool by_bits = ways[i].track == TRACKING_SOFT_DIRTY;

        if ((only && !by_bits) || (!only && by_bits && !features.soft_dirty))
            continue; /* scripts/check-dax has a kernel with soft-dirty bits */
        *track = ways[i].track;
        snprintf(full, sizeof full, "%s_%s", name, ways[i].suffix);
        tap_run(full, test);
    }
}

/* Memory of the model: never part of the image. */
static inline void *fixture_model(struct fixture *f, size_t bytes)
{
    void *memory = arena_alloc(&f->arena, bytes, 4096);

    if (!memory)
        abort();
    return memory;
}

static inline void *fixture_map(size_t pages)
{
    void *memory =
        mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        abort();
    return memory;
}

#endif
