/*
 * record_memory_format.h - the items of a process record that are about memory and the files in it:
 * see record_format.h.
 */
#ifndef PHEAP_PROCESS_RECORD_MEMORY_FORMAT_H
#define PHEAP_PROCESS_RECORD_MEMORY_FORMAT_H

#include <stdint.h>

/* OFFSET SIZE: twelve addresses as in struct prctl_mm_map, the auxiliary vector is the tail */
struct record_memory_layout {
    uint64_t start_code, end_code;
    uint64_t start_data, end_data;
    uint64_t start_brk, brk;
    uint64_t start_stack;
    uint64_t arg_start, arg_end;
    uint64_t env_start, env_end;
};

/* OFFSET SIZE
 *   0     8  start
 *   8     8  end
 *  16     4  prot
 *  20     4  1: this is the vdso's text
 *  24     8  checksum64 of the text, 0 for data pages */
struct record_kernel_mapping {
    uint64_t start, end;
    uint32_t prot;
    uint32_t is_text;
    uint64_t checksum;
};

#define RECORD_BUILD_ID_BYTES 32

/* OFFSET SIZE
 *   0     4  id
 *   4     4  flags: enum record_file_flags
 *   8     8  device, as stat gives it
 *  16     8  inode
 *  24     8  size
 *  32     8  time of last change
 *  40     4  mode
 *  44     4  bytes of the build-id, 0: none
 *  48    32  build-id of an ELF file, zero-padded */
struct record_file {
    uint32_t id;
    uint32_t flags;
    uint64_t device;
    uint64_t inode;
    uint64_t size;
    int64_t mtime_ns;
    uint32_t mode;
    uint32_t build_id_bytes;
    uint8_t build_id[RECORD_BUILD_ID_BYTES];
};

enum record_file_flags {
    RECORD_FILE_MAY_CHANGE = 1u << 0, /* mapped shared and writable: not compared at restore */
};

enum record_mapping_flags {
    RECORD_MAPPING_SHARED = 1u << 0,
    RECORD_MAPPING_GROWS_DOWN = 1u << 1,
    RECORD_MAPPING_HEAP = 1u << 2,   /* the brk area */
    RECORD_MAPPING_OBJECT = 1u << 3, /* `file` is the id of an object */
};

/* OFFSET SIZE
 *   0     8  start
 *   8     8  end
 *  16     8  offset in the file
 *  24     4  prot
 *  28     4  flags: enum record_mapping_flags
 *  32     4  file id or object id, RECORD_ID_NONE for anonymous memory
 *  36     4  attributes: enum record_memory_attributes; 0 in version 1 */
struct record_mapping {
    uint64_t start, end;
    uint64_t file_offset;
    uint32_t prot;
    uint32_t flags;
    uint32_t file;
    uint32_t attributes;
};

enum record_memory_attributes {
    MEMORY_DONT_FORK = 1u << 0,
    MEMORY_WIPE_ON_FORK = 1u << 1,
    MEMORY_DONT_DUMP = 1u << 2,
    MEMORY_LOCKED = 1u << 3,
    MEMORY_LOCKED_ON_FAULT = 1u << 4,
    MEMORY_HUGE_PAGES = 1u << 5,
    MEMORY_NO_HUGE_PAGES = 1u << 6,
    MEMORY_MERGEABLE = 1u << 7,
    MEMORY_SEQUENTIAL = 1u << 8,
    MEMORY_RANDOM = 1u << 9,
    MEMORY_NO_RESERVE = 1u << 10,
    MEMORY_GROWS_DOWN = 1u << 11, /* and is not [stack] */
    MEMORY_DROPPABLE = 1u << 12,
    MEMORY_KNOWN = 1u << 13, /* without it the others are 0 and say nothing */
};

#define MEMORY_ATTRIBUTES_ALL ((1u << 14) - 1)

/* OFFSET SIZE
 *   0     4  file id
 *   4     4  reserved, 0
 *   8     8  page of the index that holds the file's first one */
struct record_saved_file {
    uint32_t file;
    uint32_t reserved;
    uint64_t first_page;
};

/* OFFSET SIZE
 *   0     4  description id, or file id
 *   4     4  flags: enum record_content_flags
 *   8     8  page of the index that holds the file's first one
 *  16     8  bytes of the file
 *  24     4  its mode
 *  28     4  reserved, 0 */
struct record_saved_content {
    uint32_t id;
    uint32_t flags;
    uint64_t first_page;
    uint64_t bytes;
    uint32_t mode;
    uint32_t reserved;
};

enum record_content_flags {
    CONTENT_OF_FILE = 1u << 0,   /* id is that of a mapped file, not of a description */
    CONTENT_READ_ONLY = 1u << 1, /* the program does not write to it: for when it is gone */
};

/* OFFSET SIZE
 *   0     8  page of the index that holds the first one of the vdso's text
 *   8     8  its bytes */
struct record_saved_vdso {
    uint64_t first_page;
    uint64_t bytes;
};

_Static_assert(sizeof(struct record_saved_vdso) == 16, "as drawn");
_Static_assert(sizeof(struct record_memory_layout) == 88, "as drawn");
_Static_assert(sizeof(struct record_kernel_mapping) == 32, "as drawn");
_Static_assert(sizeof(struct record_file) == 80, "as drawn");
_Static_assert(sizeof(struct record_mapping) == 40, "as drawn");
_Static_assert(sizeof(struct record_saved_file) == 16, "as drawn");
_Static_assert(sizeof(struct record_saved_content) == 32, "as drawn");

#endif
