/*
 * process_image_reading.h - what the files that read a process record share. Internal to
 * core/process.
 */
#ifndef PHEAP_PROCESS_PROCESS_IMAGE_READING_H
#define PHEAP_PROCESS_PROCESS_IMAGE_READING_H

#include "core/process/process_image.h"
#include "core/process/record.h"

#define KINDS     34
#define TID_LIMIT (1 << 22) /* PID_MAX_LIMIT of 64-bit kernels */

struct reading {
    struct process_image *image;
    struct problem *why;
    struct record_item item;
    uint32_t counts[KINDS];
    uint8_t *seen_tids; /* a bit each */
};

/* STATUS_DAMAGED, with what is wrong about reading->item. */
int damaged(struct reading *reading, const char *what);

/* attributes.c */
MUST_CHECK int read_thread_attributes(struct reading *reading);
MUST_CHECK int read_process_attributes(struct reading *reading);

/* children.c */
MUST_CHECK int read_child(struct reading *reading);

/* saved_files.c; they follow their file. */
MUST_CHECK int read_saved_file(struct reading *reading);
MUST_CHECK int read_saved_vdso(struct reading *reading);
/* saved_contents.c; they follow descriptions and files. */
MUST_CHECK int read_saved_content(struct reading *reading);

/* terminal.c */
MUST_CHECK int read_terminal(struct reading *reading);

/* inotify_files.c */
MUST_CHECK int read_inotify_watch(struct reading *reading);

bool is_path(const char *path);

/* process_image_objects.c; contents follow their object. */
MUST_CHECK int read_object(struct reading *reading);
MUST_CHECK int read_object_content(struct reading *reading);

/* process_image_sockets.c; options and messages follow their socket. */
MUST_CHECK int read_socket(struct reading *reading);
MUST_CHECK int read_socket_option(struct reading *reading);
MUST_CHECK int read_socket_message(struct reading *reading);
MUST_CHECK int read_socket_connection(struct reading *reading);
/* Sockets and descriptions are one to one; ends of pairs name each other. */
MUST_CHECK int check_sockets(struct reading *reading);

#endif
