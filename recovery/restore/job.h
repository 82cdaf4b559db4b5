/*
 * job.h - what the steps of one restore share. Internal to recovery/restore.
 *
 *     restore.c    the order of the steps, seen from outside
 *     choose.c     which generation; counting resumes
 *     contents.c   which frames are mapped and which pages are read in
 *     fill.c, warm.c    the latter, and the page cache before it
 *     put_back.c   files that the program had written to in place
 *     resume_counter.c    verifies contents and counts the resume, beside the building
 *     spawn.c      a process with the wanted pid, in which namespaces, stopped behind its exec
 *     drive.c      makes the saved process out of it
 *     wait.c       stays as its parent
 */
#ifndef PHEAP_RECOVERY_RESTORE_JOB_H
#define PHEAP_RECOVERY_RESTORE_JOB_H

#include "core/base/arena.h"
#include "core/image/image_reader.h"
#include "core/pool/pool.h"
#include "core/process/process_image.h"
#include "core/process/rebuild.h"
#include "core/process/tracee.h"
#include "recovery/restore/restore.h"

/* Behind those of files that the image takes the place of: what the program wrote over them. */
#define CONTENTS_PLANS 4 /* below the slot, its two halves, above it */

struct restore_job {
    struct problem *why;
    bool verbose;
    bool keeps_files; /* those that are to be put back are in use by another process */
    bool keeps_connections;
    bool shifts_clocks; /* in the namespace, if the process is put into one */
    int terminal;       /* see struct rebuild; asked before there is any namespace */
    uint64_t began_ns;
    struct arena arena;
    struct pool pool;
    struct generation_entry generation;
    int lock_fd; /* holds the generation's lock; its mappings keep it */
    struct process_image process;
    struct image image;
    struct arena plan_arena;  /* of image and plans: another thread's while they are made */
    struct arena half_arena;  /* of the slot's upper half: a third thread's */
    struct image_plan *plans; /* in the order in which they are read in */
    uint32_t plan_count;
    struct image put_back; /* the generation, for put_back.c */
    bool is_planned;
    bool *widened;              /* [mapping]: see struct rebuild */
    struct count_result *count; /* of the counter, in memory shared with it */
    int count_fd;               /* end of file when the counter is done */

    /* numbers in the new process */
    int first_private_fd;
    int pool_fd;
};

/* How the child sees descriptors before its exec: private ones from first_private_fd on. */
enum private_fd {
    PRIVATE_POOL = 0,
    PRIVATE_STDIO = 1, /* 1, 2, 3 */
    PRIVATE_ERROR = 4, /* close-on-exec: why the exec failed */
    PRIVATE_COUNT = 5,
};

/* restore.c: what was done, with the time since the beginning, if the person wants to know. */
void restore_note(const struct restore_job *job, const char *what);

/* choose.c: 0: the newest that has not been resumed in vain. */
MUST_CHECK int resume_choose(const struct superblock *super, uint64_t wanted,
                             struct generation_entry *out, struct problem *why);
/* How the superblock counts a resume of generation number. */
void resume_count(struct superblock *super, uint64_t number);

/* contents.c */
MUST_CHECK int contents_plan(struct restore_job *job, struct problem *why);
/* How many calls contents_add() makes at most; it maps the extents. */
size_t contents_calls(const struct restore_job *job);
MUST_CHECK int contents_add(struct restore_job *job, struct batch *batch);

/* fill.c: verifies and copies what is not mapped into the stopped process, whose mappings are made
 * and writable. */
MUST_CHECK int contents_fill(struct restore_job *job, int pid);

/* clocks.c */
bool clocks_are_behind(const struct process_image *image);
/* Puts processes that are begun from here on into a time namespace where they are not. -EPERM, or
 * what else prevents it. */
MUST_CHECK int clocks_shift(const struct process_image *image);
void clocks_say_behind(const struct process_image *image, int status);

/* put_back.c: can the files that are saved be put back? Changes nothing. Then it is done. */
MUST_CHECK int put_back_check(struct restore_job *job);
MUST_CHECK int put_back(struct restore_job *job);

/* warm.c: a hint to the kernel before a plan's fills are read. */
void contents_warm(const struct restore_job *job, const struct image_plan *plan);

/* resume_counter.c: what needs time and no new process, done beside the building: the resume is
 * counted. Started once, waited for by whoever builds (again, if need be). */
MUST_CHECK int resume_counter_start(struct restore_job *job);
void resume_counter_go(struct restore_job *job);
MUST_CHECK int resume_counter_wait(struct restore_job *job);
void resume_counter_end(struct restore_job *job);

/* spawn.c */
struct spawned {
    struct tracee leader; /* stopped before the executable's first instruction */
    bool ambient;         /* it holds capabilities that must be dropped */
};
MUST_CHECK int spawn_stopped(struct restore_job *job, bool in_user_namespace, struct spawned *out);
/* The same and all that follows, in a pid namespace of its own. */
typedef int namespace_main(struct restore_job *job, bool in_user_namespace, int *pid);
MUST_CHECK int spawn_namespace(struct restore_job *job, namespace_main *body, struct restored *out);
void child_kill(int pid);

/* drive.c: from the stopped executable to the running program. */
MUST_CHECK int drive_rebuild(struct restore_job *job, struct spawned *spawned);

#endif
