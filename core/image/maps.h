/*
 * maps.h - the mappings of an address space, as /proc/PID/maps shows them.
 *
 * The agent reads its own maps (/proc/self/maps): it shares the program's address space, and
 * needs nothing of the program for it. Ranges that belong to pheap's agent (its arena and stack)
 * are left out: they are never saved.
 *
 * Invariant: mappings are sorted, disjoint, page-aligned.
 */
#ifndef PHEAP_IMAGE_MAPS_H
#define PHEAP_IMAGE_MAPS_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"

enum mapping_kind {
    MAPPING_ANON, /* no backing file; [heap], [stack] and named anonymous ones too */
    MAPPING_FILE, /* private or shared mapping of a file */
    MAPPING_POOL, /* private mapping of a pool's frames, made by a restore; saved as MAPPING_ANON */
    MAPPING_VDSO, /* [vdso], [vvar], [vvar_vclock]: moved, never saved */
    MAPPING_VSYSCALL, /* fixed by the kernel: ignored */
    MAPPING_OTHER,    /* anything else: cannot be saved */
};

struct mapping {
    uintptr_t start, end;
    uint64_t file_offset;
    uint64_t inode;
    uint32_t dev_major, dev_minor;
    int prot; /* PROT_* */
    bool shared;
    bool grows_down; /* [stack] */
    bool is_heap;    /* [heap]: the brk area */
    bool deleted;    /* the file's name ended in " (deleted)" */
    enum mapping_kind kind;
    const char *name; /* path or [label] or "", in the address space's arena */
};

struct address_range {
    uintptr_t start, end;
};

#define ADDRESS_SPACE_EXCLUSIONS 4

struct address_space {
    struct mapping *mappings;
    uint32_t count;
    /* set by the caller before maps_read(): */
    struct address_range excluded[ADDRESS_SPACE_EXCLUSIONS];
    uint32_t excluded_count;
    uint32_t pool_dev_major, pool_dev_minor; /* of the open pool, to recognise MAPPING_POOL */
    uint64_t pool_inode;                     /* 0: none */
};

/* Reads path ("/proc/self/maps", "/proc/123/maps") anew; memory comes from arena. An excluded range
 * may share a mapping with neighbours (the kernel merges): it is cut out. */
MUST_CHECK int maps_read(struct address_space *space, const char *path, struct arena *arena);

/*
 * Fills in space->pool_*: how the file that pool_fd is open on shows in maps. A page of it is
 * mapped for that, since on some file systems (btrfs, overlayfs) the device in maps is not fstat's.
 */
MUST_CHECK int maps_identify_pool(struct address_space *space, int pool_fd, struct arena *arena);

/* The mapping that holds address, or NULL. */
const struct mapping *maps_find(const struct address_space *space, uintptr_t address);

bool maps_are_valid(const struct address_space *space);

#endif
