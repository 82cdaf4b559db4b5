/*
 * check_pool.c - libFuzzer on the checker: `make fuzz`, then build/fuzz/t/fuzz/check_pool
 * build/fuzz/corpus t/pools. No file makes it crash, read what is not its own, or hang; and what it
 * calls fine can be opened, loaded and committed to.
 *
 * Random bytes never get past a checksum. So half of the mutations are followed by a repair: the
 * checksums of superblocks, and of all that they lead to, are made to fit what is there.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/base/arena.h"
#include "core/base/checksum.h"
#include "core/pool/pool.h"
#include "recovery/check/check.h"

#define ARENA_BYTES  (1ull << 30)
#define NODES_SEALED 200 /* of one mutation: a hostile tree has no end */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

static char path[64];

static void remove_file(void)
{
    unlink(path);
}

static int open_file(void)
{
    if (path[0] == 0) {
        snprintf(path, sizeof path, "/dev/shm/pheap-fuzz-%d", (int)getpid());
        atexit(remove_file);
    }
    return open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
}

static void ignore(void *context, const struct finding *finding)
{
    (void)context;
    if (finding_id(finding->kind) == NULL || finding_meaning(finding->kind) == NULL)
        abort();
}

/* It was called fine. */
static void must_work(void)
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
    int fd = open_file(), status;

    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    close(fd);
    request.path = path;
    status = check_pool(&request, &result, &why);
    if (status < 0 && why.text[0] == 0)
        abort();
    if (status == 0 && result.worst == SEVERITY_NONE)
        must_work();
    return 0;
}

/* --- checksums made to fit --- */

struct sealing {
    uint8_t *data;
    uint64_t frames;
    unsigned left;
};

static uint64_t seal_frames(const struct sealing *sealing, uint64_t first, uint64_t frames,
                            uint64_t otherwise)
{
    if (first >= sealing->frames || frames == 0 || frames > sealing->frames - first)
        return otherwise;
    return checksum64(sealing->data + first * FRAME_BYTES, frames * FRAME_BYTES);
}

/* As deep as the tree has levels. */
static void seal_entry(struct sealing *sealing, struct index_entry *entry, int level)
{
    struct index_node node;

    if (entry->frame < FRAME_FIRST || entry->frame >= sealing->frames || sealing->left == 0)
        return;
    if (level >= 0) {
        sealing->left--;
        memcpy(&node, sealing->data + entry->frame * FRAME_BYTES, sizeof node);
        for (unsigned i = 0; i < INDEX_NODE_ENTRIES; i++)
            seal_entry(sealing, &node.entries[i], level - 1);
        memcpy(sealing->data + entry->frame * FRAME_BYTES, &node, sizeof node);
    }
    entry->checksum = seal_frames(sealing, entry->frame, 1, entry->checksum);
}

static void seal_generation(struct sealing *sealing, struct generation_entry *entry)
{
    uint64_t at = entry->record_frame * FRAME_BYTES;

    seal_entry(sealing, &entry->index_root, INDEX_LEVELS - 1);
    entry->index_delta.checksum = seal_frames(
        sealing, entry->index_delta.frame, entry->index_delta.frames, entry->index_delta.checksum);
    if (entry->record_frame < sealing->frames &&
        entry->record_bytes <= sealing->frames * FRAME_BYTES - at)
        entry->record_checksum = checksum64(sealing->data + at, entry->record_bytes);
}

static void seal(uint8_t *data, size_t size)
{
    struct sealing sealing = {data, size / FRAME_BYTES, NODES_SEALED};
    struct superblock super;

    for (size_t at = 0; at < 2 * FRAME_BYTES && at + FRAME_BYTES <= size; at += FRAME_BYTES) {
        memcpy(&super, data + at, sizeof super);
        memcpy(super.magic, POOL_MAGIC, sizeof super.magic);
        for (uint32_t i = 0; i < super.generation_count && i < SUPERBLOCK_GENERATIONS; i++)
            seal_generation(&sealing, &super.generations[i]);
        super.checksum = checksum64(&super, __builtin_offsetof(struct superblock, checksum));
        memcpy(data + at, &super, sizeof super);
    }
}

/* Also: a word of a superblock or of a frame becomes something that might be meant. */
static void change_word(uint8_t *data, size_t size, unsigned seed)
{
    const uint64_t values[] = {0, 1, 2, UINT64_MAX, size / FRAME_BYTES, seed % 64, 1ull << 40, 25};
    size_t limit = seed & 1 && size > 2 * FRAME_BYTES ? 2 * FRAME_BYTES : size;

    if (limit >= 8)
        memcpy(data + (seed >> 4) % (limit / 8) * 8, &values[(seed >> 1) % 8], 8);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    if (seed % 3 == 0)
        change_word(data, size, seed / 3 * 2654435761u);
    else
        size = LLVMFuzzerMutate(data, size, max_size);
    if (seed % 2 == 0)
        seal(data, size);
    return size;
}
