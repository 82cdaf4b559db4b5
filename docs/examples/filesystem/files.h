/*
 * files.h - a tree of files in a pheap heap: what the file system does, without FUSE.
 *
 * Every function that changes something is one transaction: after a crash it has happened as a
 * whole or not at all, a rename over another file too. It is there when the process dies; when the
 * machine dies, what came before the last files_sync() is there, and of the rest a beginning.
 *
 * Paths are absolute within the tree: "/", "/a/b". Errors are -errno, as FUSE has them. One thread
 * at a time.
 */
#ifndef FILESYSTEM_FILES_H
#define FILESYSTEM_FILES_H

#include <pheap.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define BLOCK_BYTES    4096u
#define CHUNK_BLOCKS   512u
#define NAME_MAX_BYTES 255u

enum {
    TYPE_TREE = 1,
    TYPE_INODE,
    TYPE_DIRECTORY,
    TYPE_BUCKETS,
    TYPE_ENTRY,
    TYPE_CONTENT,
    TYPE_CHUNKS,
    TYPE_CHUNK,
    TYPE_BLOCK,
    TYPE_TARGET
};

struct entry { /* a name in a directory */
    struct entry *next;
    struct inode *inode;
    uint64_t hash;
    char name[]; /* NUL-terminated */
};

/* Invariant: an entry is in bucket hash % bucket_count; count entries in all. */
struct directory {
    uint64_t count, bucket_count;
    struct entry **buckets;
};

struct chunk { /* 2 MiB of a file; a block that was never written is NULL and reads as zeroes */
    char *blocks[CHUNK_BLOCKS];
};

struct content {
    uint64_t block_count; /* that are there */
    uint64_t chunk_room;
    struct chunk **chunks; /* [chunk_room], each NULL or there */
};

/* Invariant: links is the number of names that lead here (for a directory: 2 and one for each
 * directory in it), but for the root's. Bytes of a block behind size are zero. */
struct inode {
    uint64_t number, size;
    uint32_t mode, links, uid, gid;
    struct timespec accessed, modified, changed;
    union {
        struct directory *directory;
        struct content *content;
        char *target; /* of a symbolic link, NUL-terminated */
    };
};

struct tree { /* the heap's root "tree" */
    struct inode *root;
    uint64_t next_number;
};

struct files {
    struct pheap *heap;
    struct tree *tree;
    uint32_t uid, gid; /* who makes what is made next */
};

int files_open(struct files *files, const char *path, char *problem, size_t problem_bytes);
int files_close(struct files *files);
int files_sync(struct files *files);

int files_find(const struct files *files, const char *path, struct inode **inode);

/* mode as mknod(2) has it; target for symbolic links. -EEXIST, -ENOENT, -ENOTDIR, -ENAMETOOLONG */
int files_make(struct files *files, const char *path, mode_t mode, const char *target);
int files_remove(struct files *files, const char *path, bool directory);
int files_link(struct files *files, const char *from, const char *to);
/* flags of renameat2(2): RENAME_NOREPLACE, RENAME_EXCHANGE */
int files_rename(struct files *files, const char *from, const char *to, unsigned flags);

ssize_t files_read(const struct inode *inode, char *to, size_t bytes, uint64_t at);
ssize_t files_write(struct files *files, struct inode *inode, const char *from, size_t bytes,
                    uint64_t at);
int files_truncate(struct files *files, struct inode *inode, uint64_t size);
/* A range of zeroes that takes no blocks. */
int files_punch(struct files *files, struct inode *inode, uint64_t at, uint64_t bytes);

int files_set_mode(struct files *files, struct inode *inode, mode_t mode);
int files_set_owner(struct files *files, struct inode *inode, uint32_t uid, uint32_t gid);
int files_set_times(struct files *files, struct inode *inode, const struct timespec times[2]);

/* The entries of a directory, in no order: begins with *bucket 0 and NULL; NULL at the end. */
const struct entry *files_next(const struct directory *directory, uint64_t *bucket,
                               const struct entry *after);

#endif
