/*
 * descriptors.h - what the kinds of open file descriptions share. Internal to core/process.
 *
 * Each kind (regular_files.c, stdio_files.c, pipes.c, sockets.c, event_files.c) gives
 *   capture: 1 and the record's fields when the description is of its kind, 0 when it is not,
 *            negative when it is and cannot be saved;
 *   open:    the calls that make it again; tells where the new descriptor's number will be.
 * descriptors.c has the table, groups descriptors into descriptions and puts them at their numbers.
 */
#ifndef PHEAP_PROCESS_DESCRIPTORS_H
#define PHEAP_PROCESS_DESCRIPTORS_H

#include "core/base/sys.h"
#include "core/process/capture_run.h"
#include "core/process/rebuild.h"

struct open_description {
    uint32_t number;     /* one descriptor of it, the lowest */
    int standard;        /* the lowest of 0, 1, 2 that refers to it, else -1 */
    uint32_t open_flags; /* without O_CLOEXEC */
    uint64_t offset;
    struct stat stat;
    const char *link;    /* what /proc/PID/fd/N says */
    bool is_file;        /* recorded as a regular file */
    uint32_t next_alike; /* the next description in the same list of descriptor_run, or none */
};

struct descriptor_run {
    struct capture_run *run;
    struct open_description *descriptions;
    uint32_t count;
    uint32_t *lists; /* [hash of an inode]: the newest description, RECORD_ID_NONE: none */
    uint32_t list_mask;
    struct record_descriptor *descriptors; /* ascending; all known before any kind is asked */
    uint32_t descriptor_count;
    uint64_t *pipe_inodes; /* [pipe id] */
    uint32_t pipe_count;
    uint32_t socket_count;
    bool has_terminal; /* its settings are recorded */
    int diag_fd;       /* socket_diag.c's; -1: not needed yet */
};

/* /proc/PID/fdinfo/N, in run->text; of a long one the beginning, where position, flags and locks
 * are.
 */
MUST_CHECK int descriptor_info(struct capture_run *run, uint32_t number);
/* All of fdinfo of an epoll or inotify, which has a line a watch. NULL: run->why. */
const char *descriptor_watches(struct descriptor_run *run, uint32_t number);
/* A descriptor of the agent's for the same description; closed by the caller. */
MUST_CHECK int descriptor_borrow(struct capture_run *run, uint32_t number);

/* Where a new descriptor's number is: an argument for the next calls. */
struct opened {
    uint64_t value;
    enum batch_reference how;
    bool keep; /* not ours to close: a standard stream of the restorer */
};

struct descriptor_rebuild {
    struct rebuild *rebuild;
    struct opened (*pipe_ends)[2]; /* [pipe id][0 read, 1 write] */
    bool *pipe_made;
    struct opened *socket_ends; /* [socket id] of a pair */
    bool *socket_made;
    struct reset_listener {
        struct opened opened;
        uint64_t address; /* where the batch has it */
        bool made;
    } reset_listeners[2];  /* socket_reset.c: of IPv4, of IPv6 */
    uint64_t temporary_fd; /* from here on numbers are free */
};

struct description_kind {
    int (*capture)(struct descriptor_run *run, const struct open_description *description,
                   struct record_description *record);
    struct opened (*open)(struct descriptor_rebuild *run,
                          const struct image_description *description);
};

extern const struct description_kind regular_file_kind, stdio_kind, pipe_kind, event_kind,
    socket_kind, object_kind, inotify_kind;

/* batch_add() of a call on an opened descriptor, which takes the place of args[0]. */
size_t opened_add(struct batch *batch, const char *what, long number, struct opened opened,
                  const uint64_t args[6]);
/* The same with up to four arguments. */
size_t opened_call(struct batch *batch, const char *what, long number, struct opened opened,
                   uint64_t second, uint64_t third, uint64_t fourth);
/* Moves it out of the way of the program's numbers. */
struct opened opened_move_up(struct descriptor_rebuild *run, struct opened opened);
/* The open flags that F_SETFL can set, for what is not made by open(). */
void opened_set_flags(struct batch *batch, struct opened opened, uint32_t open_flags);

/* terminal.c: of a description that is a terminal */
MUST_CHECK int capture_terminal(struct descriptor_run *run,
                                const struct open_description *description);

/* file_locks.c: the "lock:" lines of run->text, which has fdinfo of descriptor number. */
MUST_CHECK int capture_file_locks(struct capture_run *run, uint32_t number);
void rebuild_file_locks(struct rebuild *rebuild);

/* A descriptor of a description, or NULL. */
const struct record_descriptor *descriptor_of(const struct process_image *image, uint32_t id);
/* When all files are open and all descriptors in their places. */
void rebuild_inotify_watches(struct rebuild *rebuild);
void rebuild_watches(struct rebuild *rebuild);
/* Why a file cannot be opened again by its name, NULL if it can. */
const char *file_obstacle(const struct open_description *description);
/* 0: the file system does not tell. */
uint64_t file_birth_ns(const char *path);
MUST_CHECK int regular_file_check(const struct process_image *image,
                                  const struct image_description *description, struct problem *why);
MUST_CHECK int named_pipe_check(const struct image_description *description, struct problem *why);
/* renamed_files.c: the path of an entry of a folder with this inode, whatever it is. */
bool find_in_folder(const char *folder, uint64_t inode, char path[4096]);
/* Is all there that inotify watched? */
MUST_CHECK int inotify_check(const struct process_image *image, struct problem *why);
/* Is the place where a socket is to listen free? */
MUST_CHECK int socket_check(const struct image_socket *socket, struct problem *why);

#endif
