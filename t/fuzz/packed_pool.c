/*
 * packed_pool.c - see packed_pool.h.
 */
#include "t/fuzz/packed_pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <fcntl.h>
#include <unistd.h>
#include "core/base/checksum.h"
#include "core/pool/format.h"
#include "core/tx/log_format.h"

#define NODES_SEALED   200u /* of one input: a hostile tree has no end */
#define RECORDS_SEALED 200u
#define PIECE_HEAD     6u

struct file {
    uint8_t *data;
    uint64_t frames, bytes;
    unsigned nodes_left;
};

static char path[64];

static void remove_file(void)
{
    unlink(path);
}

/* --- checksums made to fit --- */

static bool holds(const struct file *file, uint64_t frame, uint64_t bytes)
{
    return frame < file->frames && bytes > 0 && bytes <= file->bytes - (frame << FRAME_SHIFT);
}

static void seal_bytes(const struct file *file, uint64_t frame, uint64_t bytes, uint64_t *checksum)
{
    if (holds(file, frame, bytes))
        *checksum = checksum64(file->data + (frame << FRAME_SHIFT), bytes);
}

/* As deep as the tree has levels. */
static void seal_entry(struct file *file, struct index_entry *entry, int level)
{
    struct index_node *node;

    if (entry->frame < FRAME_FIRST || entry->frame >= file->frames || file->nodes_left == 0)
        return;
    if (level >= 0) {
        node = (struct index_node *)(file->data + (entry->frame << FRAME_SHIFT));
        file->nodes_left--;
        for (unsigned i = 0; i < INDEX_NODE_ENTRIES; i++)
            seal_entry(file, &node->entries[i], level - 1);
    }
    seal_bytes(file, entry->frame, FRAME_BYTES, &entry->checksum);
}

static void seal_delta(struct file *file, struct delta_place *place)
{
    uint64_t bytes = place->frames << FRAME_SHIFT;
    struct index_delta *delta;

    if (place->frame < FRAME_FIRST || place->frames > file->frames ||
        !holds(file, place->frame, bytes) || file->nodes_left == 0)
        return;
    delta = (struct index_delta *)(file->data + (place->frame << FRAME_SHIFT));
    file->nodes_left--;
    seal_delta(file, &delta->before);
    for (uint64_t i = 0; i < delta->entry_count && 32 + 24 * (i + 1) <= bytes; i++)
        seal_entry(file, &delta->entries[i].entry, -1);
    seal_bytes(file, place->frame, bytes, &place->checksum);
}

static void seal_generation(struct file *file, struct generation_entry *entry)
{
    seal_entry(file, &entry->index_root, INDEX_LEVELS - 1);
    seal_delta(file, &entry->index_delta);
    seal_bytes(file, entry->record_frame, entry->record_bytes, &entry->record_checksum);
}

/* Records one behind the other from where the log begins, in that extent. */
static void seal_log(struct file *file, const struct superblock *super)
{
    const struct log_extent *extent = &super->log.extents[super->log.start_extent % LOG_EXTENTS];
    uint64_t previous = super->log.root, at, end;

    if (extent->frames > file->frames || super->log.start > file->bytes ||
        !holds(file, extent->frame, extent->frames << FRAME_SHIFT))
        return;
    at = (extent->frame << FRAME_SHIFT) + super->log.start / LOG_ALIGN * LOG_ALIGN;
    end = (extent->frame + extent->frames) << FRAME_SHIFT;
    for (unsigned i = 0; i < RECORDS_SEALED && at + sizeof(struct log_record) <= end; i++) {
        struct log_record *record = (struct log_record *)(file->data + at);

        if (record->magic != LOG_MAGIC || record->bytes < sizeof *record ||
            record->bytes % LOG_ALIGN || record->bytes > end - at)
            return;
        record->sequence = super->log.sequence + i + 1;
        record->previous = previous;
        memcpy(&record->checksum, super->uuid, sizeof record->checksum);
        record->checksum = previous = checksum64(record, record->bytes);
        at += record->bytes;
    }
}

static void seal(struct file *file)
{
    for (unsigned i = 0; i < 2 && i < file->frames; i++) {
        struct superblock *super = (struct superblock *)(file->data + i * FRAME_BYTES);

        if (memcmp(super->magic, POOL_MAGIC, sizeof super->magic) != 0)
            continue;
        for (uint32_t k = 0; k < super->generation_count && k < SUPERBLOCK_GENERATIONS; k++)
            seal_generation(file, &super->generations[k]);
        seal_log(file, super);
        super->checksum = checksum64(super, __builtin_offsetof(struct superblock, checksum));
    }
}

/* --- the file --- */

static uint16_t word(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

static void put_pieces(struct file *file, const uint8_t *data, size_t size)
{
    size_t at = 4;

    while (size - at >= PIECE_HEAD) {
        uint64_t offset =
            (uint64_t)word(data + at) * FRAME_BYTES + word(data + at + 2) % FRAME_BYTES;
        uint64_t bytes = word(data + at + 4);

        at += PIECE_HEAD;
        if (bytes > size - at)
            bytes = size - at;
        if (offset < file->bytes)
            memcpy(file->data + offset, data + at,
                   bytes < file->bytes - offset ? bytes : file->bytes - offset);
        at += bytes;
    }
}

const char *packed_pool_write(const uint8_t *data, size_t size)
{
    struct file file = {.nodes_left = NODES_SEALED};
    int fd;

    if (path[0] == 0) {
        snprintf(path, sizeof path, "/dev/shm/pheap-fuzz-%d", (int)getpid());
        atexit(remove_file);
    }
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    file.frames = size < 4 ? 0 : word(data + 2) % (PACKED_FRAMES_MAX + 1);
    file.bytes = file.frames << FRAME_SHIFT;
    if (fd < 0 || ftruncate(fd, (off_t)file.bytes) < 0)
        abort();
    if (file.frames > 0) {
        file.data = mmap(NULL, file.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (file.data == MAP_FAILED)
            abort();
        put_pieces(&file, data, size);
        if (data[0] & 1)
            seal(&file);
        munmap(file.data, file.bytes);
    }
    close(fd);
    return path;
}
