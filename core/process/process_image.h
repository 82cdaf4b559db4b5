/*
 * process_image.h - a process record read into arrays, every field checked.
 *
 * The record's bytes are hostile. After process_image_read() has returned 0 the following holds,
 * and what rebuilds or shows a process need not look again:
 *   - there is one of each item that must be one; ids are dense and refer to what exists;
 *   - mappings and kernel mappings are page-aligned, ascending, disjoint and in user space;
 *   - strings are NUL-terminated inside the record; paths begin with '/';
 *   - threads[0] is the leader, its tid the pid; tids are positive and different;
 *   - descriptor numbers are ascending and below PROCESS_DESCRIPTORS_MAX;
 *   - socket i is that of the i-th description of its kind; addresses are of its family; the two
 *     ends of a pair name each other.
 * Pointers go into the record's buffer, which must outlive the image.
 */
#ifndef PHEAP_PROCESS_PROCESS_IMAGE_H
#define PHEAP_PROCESS_PROCESS_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/process/record_format.h"

#define PROCESS_DESCRIPTORS_MAX (1u << 20)
#define PROCESS_ADDRESS_LIMIT   0x7ffffffff000ull

struct stat;

struct image_file {
    const struct record_file *record;
    const char *path;
    const struct record_saved_file *saved; /* NULL: the generation has not its content */
    bool is_replaced; /* mapped_files_check(): not there as it was, so `saved` takes its place */
};

struct image_mapping {
    const struct record_mapping *record;
    const char *name;
};

struct image_kernel_mapping {
    const struct record_kernel_mapping *record;
    const char *name;
};

struct image_thread {
    const struct record_thread *record;
    const uint8_t *xstate;
    const struct record_thread_attributes *attributes; /* or NULL */
    const uint8_t *cpus;
    uint32_t cpu_bytes; /* 0: any */
};

struct image_description {
    const struct record_description *record;
    const char *path;
};

struct image_pipe {
    const struct record_pipe *record;
    const uint8_t *content;
};

#define SOCKET_OPTION_BYTES_MAX 16

struct image_socket_option {
    const struct record_socket_option *record;
    const uint8_t *value;
};

struct image_socket_message {
    const uint8_t *content;
    uint32_t bytes;
};

struct image_socket {
    const struct record_socket *record;
    const uint8_t *address;
    const uint8_t *peer;
    const struct image_socket_option *options;
    uint32_t option_count;
    const struct image_socket_message *messages;
    const struct record_socket_connection *connection; /* in state SOCKET_CONNECTED, else NULL */
    const uint8_t *unread, *unacknowledged;            /* what its tail has */
    uint32_t message_count;
};

struct image_inotify_watch {
    const struct record_inotify_watch *record;
    const char *path;
};

struct image_object_part {
    const uint8_t *content;
    uint32_t bytes;
    uint64_t offset;
};

struct image_object {
    const struct record_object *record;
    const char *name;
    const struct image_object_part *parts;
    uint32_t part_count;
};

struct process_image {
    const struct record_process *process;
    const struct record_memory_layout *layout;
    const uint8_t *auxv;
    uint32_t auxv_bytes;
    const struct record_signal_actions *signals;
    const struct record_limits *limits;
    const struct record_process_attributes *attributes; /* or NULL */
    const struct record_terminal *terminal;             /* or NULL */
    const struct record_clocks *clocks;                 /* or NULL */
    const struct record_processor *processor;           /* or NULL */
    const struct record_saved_vdso *vdso;               /* or NULL */
    const char *directory;
    struct image_kernel_mapping *kernel_mappings;
    uint32_t kernel_mapping_count;
    struct image_file *files;
    uint32_t file_count;
    struct image_mapping *mappings;
    uint32_t mapping_count;
    struct image_thread *threads;
    uint32_t thread_count;
    struct image_description *descriptions;
    uint32_t description_count;
    const struct record_descriptor **descriptors;
    uint32_t descriptor_count;
    struct image_pipe *pipes;
    uint32_t pipe_count;
    struct image_socket *sockets;
    uint32_t socket_count;
    struct image_socket_option *socket_options;
    uint32_t socket_option_count;
    struct image_socket_message *socket_messages;
    uint32_t socket_message_count;
    struct image_inotify_watch *inotify_watches;
    uint32_t inotify_watch_count;
    struct image_object *objects;
    uint32_t object_count;
    struct image_object_part *object_parts;
    uint32_t object_part_count;
    const struct record_epoll_watch **watches;
    uint32_t watch_count;
    const struct record_interval_timer **interval_timers;
    uint32_t interval_timer_count;
    const struct record_posix_timer **posix_timers;
    uint32_t posix_timer_count;
    const struct record_pending_signal **pending;
    uint32_t pending_count;
    const struct record_file_lock **locks;
    uint32_t lock_count;
    const struct record_saved_content **contents;
    uint32_t content_count;
    const struct record_child **children;
    uint32_t child_count;
};

/* STATUS_DAMAGED says which item; STATUS_NEWER_FORMAT. */
MUST_CHECK int process_image_read(struct process_image *image, const void *record, size_t bytes,
                                  struct arena *arena, struct problem *why);

/* The file, or the object, that a mapping shows; NULL if it shows none. */
const struct image_file *process_image_file(const struct process_image *image,
                                            const struct record_mapping *mapping);
const struct image_object *process_image_object(const struct process_image *image,
                                                const struct record_mapping *mapping);

/* Is the mapping of a file that is not there as it was, so that the image takes its place? */
bool process_image_is_replaced(const struct process_image *image,
                               const struct record_mapping *mapping);

/* The saved content of an open or mapped file, or NULL; and where that file is. */
const struct record_saved_content *process_image_content(const struct process_image *image,
                                                         uint64_t device, uint64_t inode);
/* Is what its path leads to now, as stat says, the file that it was? */
bool process_image_is_content(const struct process_image *image,
                              const struct record_saved_content *content, const struct stat *stat);
const char *process_image_content_path(const struct process_image *image,
                                       const struct record_saved_content *content);

/* The mapping that holds address, or NULL. */
const struct image_mapping *process_image_mapping(const struct process_image *image,
                                                  uint64_t address);

#endif
