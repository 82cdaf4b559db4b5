/*
 * salvage.h - the generations of a pool as far as they can be read, however damaged it is.
 * README.md says how they are found.
 *
 * Calling sequence: salvage_open(), salvage_pages() for each image, salvage_close() (after a failed
 * salvage_open() too). Memory is malloc's. Thread safety: one user at a time.
 */
#ifndef PHEAP_RECOVERY_SALVAGE_H
#define PHEAP_RECOVERY_SALVAGE_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/status.h"
#include "core/pool/format.h"

#define SALVAGE_IMAGES_MAX 256u

enum salvage_source {
    SALVAGE_LISTED,  /* by a superblock that is valid */
    SALVAGE_DROPPED, /* by the superblock before it alone: frames of it may have been used again */
    SALVAGE_NAMED,   /* by a superblock that is not valid */
    SALVAGE_FOUND,   /* by its index alone: number, time, kind, record are not known */
};

struct salvage_image {
    enum salvage_source source;
    struct generation_entry entry;
};

struct salvage {
    int fd;
    char path[4096];
    uint64_t file_bytes, frame_count;
    uint64_t *sums;      /* of each frame; 0: it cannot be read */
    uint64_t unreadable; /* frames */
    bool has_superblock; /* one is valid: */
    struct superblock super;
    struct salvage_image images[SALVAGE_IMAGES_MAX];
    uint32_t image_count;
};

struct salvage_page {
    uint64_t page, frame;
    bool is_damaged;
};

struct salvage_pages {
    struct salvage_page *pages; /* ascending; free() */
    uint64_t count, damaged;
    uint64_t damaged_nodes; /* of the index: what they led to may be missing */
    uint64_t lost_frames;   /* that lie beyond the file's end */
};

/* -ENOENT and the like, STATUS_NOT_OWNER, -ENOMEM. A file without anything in it that can be told
 * is no error: it has no images. */
MUST_CHECK int salvage_open(struct salvage *salvage, const char *path, struct problem *why);
void salvage_close(struct salvage *salvage);

/* The pages of one of them. -ENOMEM. */
MUST_CHECK int salvage_pages(const struct salvage *salvage, const struct salvage_image *image,
                             struct salvage_pages *out);

/* One frame as it is. -EIO. */
MUST_CHECK int salvage_read(const struct salvage *salvage, uint64_t frame, void *buffer);

/* The record of an image, to be freed; *is_whole: it agrees with its checksum. NULL: there is none,
 * or it lies beyond the file's end. */
uint8_t *salvage_record(const struct salvage *salvage, const struct salvage_image *image,
                        bool *is_whole);

/* find.c: adds what index nodes and deltas lead to that no image has. -ENOMEM. */
MUST_CHECK int salvage_find(struct salvage *salvage);

static inline bool salvage_proves(const struct salvage *salvage, struct index_entry entry)
{
    return entry.frame >= FRAME_FIRST && entry.frame < salvage->frame_count &&
           entry.checksum != 0 && salvage->sums[entry.frame] == entry.checksum;
}

#endif
