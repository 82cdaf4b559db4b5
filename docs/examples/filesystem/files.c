/*
 * files.c - see files.h. Direct transactions: every store to the heap is announced first, ASSIGN
 * does both. What cannot be done leaves by longjmp, and is undone.
 */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1u
#define RENAME_EXCHANGE  2u
#endif
#define FIRST_BUCKETS 8u
#define FIRST_CHUNKS  4u
#define SIZE_LIMIT    (64ull << 30)
#define ASSIGN(change, place, value)                                                               \
    (announce((change), &(place), sizeof(place)), (place) = (value))

struct change {
    struct pheap_tx *tx;
    jmp_buf failed;
    volatile int status;
};

static void __attribute__((noreturn)) give_up(struct change *change, int status)
{
    change->status = status < -4095 ? -EIO : status; /* pheap's own errors have no errno */
    longjmp(change->failed, 1);
}

static void must(struct change *change, int status)
{
    if (status < 0)
        give_up(change, status);
}

static void announce(struct change *change, void *place, size_t bytes)
{
    must(change, pheap_tx_add(change->tx, place, bytes));
}

static void *make(struct change *change, size_t bytes, uint32_t type)
{
    void *made;

    must(change, pheap_tx_alloc(change->tx, bytes, type, &made));
    return made;
}

static void drop(struct change *change, void *object)
{
    must(change, pheap_tx_free(change->tx, object));
}

static int change_begin(struct change *change, const struct files *files)
{
    change->tx = NULL;
    change->status = 0;
    return pheap_tx_begin(files->heap, &change->tx) < 0 ? -EIO : 0;
}

static int change_end(struct change *change)
{
    int status = pheap_tx_commit_soon(change->tx, NULL);

    return status < -4095 ? -EIO : status;
}

static int change_undo(struct change *change)
{
    pheap_tx_abort(change->tx);
    return change->status;
}

static struct timespec now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_REALTIME, &time);
    return time;
}

static void touch(struct change *change, struct inode *inode, bool content)
{
    struct timespec time = now();

    ASSIGN(change, inode->changed, time);
    if (content)
        ASSIGN(change, inode->modified, time);
}

/* --- directories --- */

static uint64_t hash_of(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325;

    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3;
    return hash ^ hash >> 32;
}

static struct directory *directory_make(struct change *change)
{
    struct directory *made = make(change, sizeof *made, TYPE_DIRECTORY);

    made->bucket_count = FIRST_BUCKETS;
    made->buckets = make(change, FIRST_BUCKETS * sizeof *made->buckets, TYPE_BUCKETS);
    return made;
}

/* Where the entry with this name hangs; NULL hangs there if there is none. */
static struct entry **entry_place(const struct directory *directory, const char *name)
{
    uint64_t hash = hash_of(name);
    struct entry **place = &directory->buckets[hash % directory->bucket_count];

    while (*place && ((*place)->hash != hash || strcmp((*place)->name, name) != 0))
        place = &(*place)->next;
    return place;
}

static void directory_grow(struct change *change, struct directory *directory)
{
    uint64_t larger = 4 * directory->bucket_count;
    struct entry **buckets = make(change, larger * sizeof *buckets, TYPE_BUCKETS), *next;

    for (uint64_t i = 0; i < directory->bucket_count; i++)
        for (struct entry *entry = directory->buckets[i]; entry; entry = next) {
            next = entry->next;
            ASSIGN(change, entry->next, buckets[entry->hash % larger]);
            buckets[entry->hash % larger] = entry;
        }
    drop(change, directory->buckets);
    ASSIGN(change, directory->buckets, buckets);
    ASSIGN(change, directory->bucket_count, larger);
}

static void directory_add(struct change *change, struct inode *in, const char *name,
                          struct inode *inode)
{
    struct directory *directory = in->directory;
    struct entry *entry = make(change, sizeof *entry + strlen(name) + 1, TYPE_ENTRY), **place;

    strcpy(entry->name, name);
    entry->hash = hash_of(name);
    entry->inode = inode;
    place = &directory->buckets[entry->hash % directory->bucket_count];
    entry->next = *place;
    ASSIGN(change, *place, entry);
    ASSIGN(change, directory->count, directory->count + 1);
    if (directory->count > 2 * directory->bucket_count)
        directory_grow(change, directory);
    touch(change, in, true);
}

static void directory_remove(struct change *change, struct inode *in, struct entry **place)
{
    struct entry *entry = *place;

    ASSIGN(change, *place, entry->next);
    ASSIGN(change, in->directory->count, in->directory->count - 1);
    drop(change, entry);
    touch(change, in, true);
}

const struct entry *files_next(const struct directory *directory, uint64_t *bucket,
                               const struct entry *after)
{
    const struct entry *entry = after ? after->next : NULL;

    if (after && !entry)
        ++*bucket;
    while (!entry && *bucket < directory->bucket_count) {
        entry = directory->buckets[*bucket];
        if (!entry)
            ++*bucket;
    }
    return entry;
}

/* --- paths --- */

/* Goes down to the directory of the last name. name: NAME_MAX_BYTES + 1 bytes; "" for "/". */
static int find_parent(const struct files *files, const char *path, struct inode **parent,
                       char *name)
{
    struct inode *at = files->tree->root;
    struct entry *entry;
    size_t length;

    *name = 0;
    while (*path == '/')
        path++;
    while (*path) {
        if (*name) {
            entry = *entry_place(at->directory, name);
            if (!entry)
                return -ENOENT;
            at = entry->inode;
            if (!S_ISDIR(at->mode))
                return -ENOTDIR;
        }
        length = strcspn(path, "/");
        if (length > NAME_MAX_BYTES)
            return -ENAMETOOLONG;
        memcpy(name, path, length);
        name[length] = 0;
        path += length;
        while (*path == '/')
            path++;
    }
    *parent = at;
    return 0;
}

int files_find(const struct files *files, const char *path, struct inode **inode)
{
    char name[NAME_MAX_BYTES + 1];
    struct inode *parent;
    struct entry *entry;
    int status = find_parent(files, path, &parent, name);

    if (status < 0)
        return status;
    if (!*name) {
        *inode = files->tree->root;
        return 0;
    }
    entry = *entry_place(parent->directory, name);
    if (!entry)
        return -ENOENT;
    *inode = entry->inode;
    return 0;
}

/* --- content --- */

static char **block_place(const struct content *content, uint64_t block)
{
    uint64_t chunk = block / CHUNK_BLOCKS;

    return chunk < content->chunk_room && content->chunks[chunk]
               ? &content->chunks[chunk]->blocks[block % CHUNK_BLOCKS]
               : NULL;
}

static void chunks_grow(struct change *change, struct content *content, uint64_t chunk)
{
    uint64_t room = content->chunk_room;
    struct chunk **larger;

    while (room <= chunk)
        room *= 2;
    larger = make(change, room * sizeof *larger, TYPE_CHUNKS);
    memcpy(larger, content->chunks, content->chunk_room * sizeof *larger);
    drop(change, content->chunks);
    ASSIGN(change, content->chunks, larger);
    ASSIGN(change, content->chunk_room, room);
}

/* The block, made if need be. *fresh: it is new, and need not be announced. */
static char *need_block(struct change *change, struct content *content, uint64_t block, bool *fresh)
{
    uint64_t chunk = block / CHUNK_BLOCKS;
    char **place;

    if (chunk >= content->chunk_room)
        chunks_grow(change, content, chunk);
    if (!content->chunks[chunk])
        ASSIGN(change, content->chunks[chunk], make(change, sizeof(struct chunk), TYPE_CHUNK));
    place = &content->chunks[chunk]->blocks[block % CHUNK_BLOCKS];
    *fresh = !*place;
    if (*fresh) {
        ASSIGN(change, *place, make(change, BLOCK_BYTES, TYPE_BLOCK));
        ASSIGN(change, content->block_count, content->block_count + 1);
    }
    return *place;
}

static void drop_block(struct change *change, struct content *content, uint64_t block)
{
    char **place = block_place(content, block);

    if (!place || !*place)
        return;
    drop(change, *place);
    ASSIGN(change, *place, NULL);
    ASSIGN(change, content->block_count, content->block_count - 1);
}

/* Zeroes of a range: whole blocks go, parts of blocks are cleared. */
static void clear_range(struct change *change, struct content *content, uint64_t at, uint64_t end)
{
    while (at < end) {
        uint64_t block = at / BLOCK_BYTES, offset = at % BLOCK_BYTES;
        uint64_t bytes = BLOCK_BYTES - offset < end - at ? BLOCK_BYTES - offset : end - at;
        char **place = block_place(content, block);

        if (!place) { /* no chunk: on to the next */
            at = (at / ((uint64_t)BLOCK_BYTES * CHUNK_BLOCKS) + 1) * BLOCK_BYTES * CHUNK_BLOCKS;
            continue;
        }
        if (bytes == BLOCK_BYTES) {
            drop_block(change, content, block);
        } else if (*place) {
            announce(change, *place + offset, bytes);
            memset(*place + offset, 0, bytes);
        }
        at += bytes;
    }
}

static uint64_t content_end(const struct content *content)
{
    return content->chunk_room * CHUNK_BLOCKS * BLOCK_BYTES;
}

static void content_drop(struct change *change, struct content *content)
{
    clear_range(change, content, 0, content_end(content));
    for (uint64_t i = 0; i < content->chunk_room; i++)
        if (content->chunks[i])
            drop(change, content->chunks[i]);
    drop(change, content->chunks);
    drop(change, content);
}

static struct content *content_make(struct change *change)
{
    struct content *made = make(change, sizeof *made, TYPE_CONTENT);

    made->chunk_room = FIRST_CHUNKS;
    made->chunks = make(change, FIRST_CHUNKS * sizeof *made->chunks, TYPE_CHUNKS);
    return made;
}

ssize_t files_read(const struct inode *inode, char *to, size_t bytes, uint64_t at)
{
    size_t done = 0;

    if (at >= inode->size)
        return 0;
    bytes = inode->size - at < bytes ? inode->size - at : bytes;
    while (done < bytes) {
        uint64_t offset = (at + done) % BLOCK_BYTES;
        size_t part = BLOCK_BYTES - offset < bytes - done ? BLOCK_BYTES - offset : bytes - done;
        char **place = block_place(inode->content, (at + done) / BLOCK_BYTES);

        if (place && *place)
            memcpy(to + done, *place + offset, part);
        else
            memset(to + done, 0, part);
        done += part;
    }
    return (ssize_t)bytes;
}

ssize_t files_write(struct files *files, struct inode *inode, const char *from, size_t bytes,
                    uint64_t at)
{
    struct change change;
    int status;

    if (at > SIZE_LIMIT || bytes > SIZE_LIMIT - at)
        return -EFBIG;
    if ((status = change_begin(&change, files)) < 0)
        return status;
    if (setjmp(change.failed))
        return change_undo(&change);
    for (size_t done = 0, part; done < bytes; done += part) {
        uint64_t offset = (at + done) % BLOCK_BYTES;
        bool fresh;
        char *block;

        part = BLOCK_BYTES - offset < bytes - done ? BLOCK_BYTES - offset : bytes - done;
        block = need_block(&change, inode->content, (at + done) / BLOCK_BYTES, &fresh);
        if (!fresh)
            announce(&change, block + offset, part);
        memcpy(block + offset, from + done, part);
    }
    if (at + bytes > inode->size)
        ASSIGN(&change, inode->size, at + bytes);
    touch(&change, inode, true);
    status = change_end(&change);
    return status < 0 ? status : (ssize_t)bytes;
}

int files_truncate(struct files *files, struct inode *inode, uint64_t size)
{
    struct change change;
    int status;

    if (size > SIZE_LIMIT)
        return -EFBIG;
    if ((status = change_begin(&change, files)) < 0)
        return status;
    if (setjmp(change.failed))
        return change_undo(&change);
    if (size < inode->size)
        clear_range(&change, inode->content, size, content_end(inode->content));
    ASSIGN(&change, inode->size, size);
    touch(&change, inode, true);
    return change_end(&change);
}

int files_punch(struct files *files, struct inode *inode, uint64_t at, uint64_t bytes)
{
    struct change change;
    int status = change_begin(&change, files);

    if (status < 0)
        return status;
    if (setjmp(change.failed))
        return change_undo(&change);
    clear_range(&change, inode->content, at, at + bytes);
    touch(&change, inode, true);
    return change_end(&change);
}

/* --- inodes --- */

static struct inode *inode_make(struct change *change, struct files *files, mode_t mode,
                                const char *target)
{
    struct inode *made = make(change, sizeof *made, TYPE_INODE);

    made->number = files->tree->next_number;
    ASSIGN(change, files->tree->next_number, made->number + 1);
    made->mode = mode;
    made->links = S_ISDIR(mode) ? 2 : 1;
    made->uid = files->uid;
    made->gid = files->gid;
    made->accessed = made->modified = made->changed = now();
    if (S_ISDIR(mode)) {
        made->directory = directory_make(change);
    } else if (S_ISLNK(mode)) {
        made->target = make(change, strlen(target) + 1, TYPE_TARGET);
        strcpy(made->target, target);
        made->size = strlen(target);
    } else {
        made->content = content_make(change);
    }
    return made;
}

/* One name fewer leads there; with the last the inode goes. */
static void inode_unlink(struct change *change, struct inode *inode)
{
    bool is_directory = S_ISDIR(inode->mode);

    if (!is_directory && inode->links > 1) {
        ASSIGN(change, inode->links, inode->links - 1);
        touch(change, inode, false);
        return;
    }
    if (is_directory) {
        drop(change, inode->directory->buckets);
        drop(change, inode->directory);
    } else if (S_ISLNK(inode->mode)) {
        drop(change, inode->target);
    } else {
        content_drop(change, inode->content);
    }
    drop(change, inode);
}

static int set_attributes(struct files *files, struct inode *inode, const struct inode *wanted)
{
    struct change change;
    int status = change_begin(&change, files);

    if (status < 0)
        return status;
    if (setjmp(change.failed))
        return change_undo(&change);
    announce(&change, inode, sizeof *inode);
    *inode = *wanted;
    inode->changed = now();
    return change_end(&change);
}

int files_set_mode(struct files *files, struct inode *inode, mode_t mode)
{
    struct inode wanted = *inode;

    wanted.mode = (wanted.mode & S_IFMT) | (mode & 07777);
    return set_attributes(files, inode, &wanted);
}

int files_set_owner(struct files *files, struct inode *inode, uint32_t uid, uint32_t gid)
{
    struct inode wanted = *inode;

    wanted.uid = uid == UINT32_MAX ? wanted.uid : uid;
    wanted.gid = gid == UINT32_MAX ? wanted.gid : gid;
    return set_attributes(files, inode, &wanted);
}

int files_set_times(struct files *files, struct inode *inode, const struct timespec times[2])
{
    struct inode wanted = *inode;

    if (times[0].tv_nsec != UTIME_OMIT)
        wanted.accessed = times[0].tv_nsec == UTIME_NOW ? now() : times[0];
    if (times[1].tv_nsec != UTIME_OMIT)
        wanted.modified = times[1].tv_nsec == UTIME_NOW ? now() : times[1];
    return set_attributes(files, inode, &wanted);
}

/* --- names --- */

int files_make(struct files *files, const char *path, mode_t mode, const char *target)
{
    char name[NAME_MAX_BYTES + 1];
    struct inode *parent;
    struct change change;
    int status = find_parent(files, path, &parent, name);

    if (status < 0)
        return status;
    if (!S_ISDIR(mode) && !S_ISREG(mode) && !S_ISLNK(mode))
        return -EPERM;
    if (!*name || *entry_place(parent->directory, name))
        return -EEXIST;
    if ((status = change_begin(&change, files)) < 0)
        return status;
    if (setjmp(change.failed))
        return change_undo(&change);
    directory_add(&change, parent, name, inode_make(&change, files, mode, target));
    if (S_ISDIR(mode))
        ASSIGN(&change, parent->links, parent->links + 1);
    return change_end(&change);
}

/* May this go, or be replaced by something that is (not) a directory? */
static int check_removal(const struct inode *inode, bool directory)
{
    if (directory && !S_ISDIR(inode->mode))
        return -ENOTDIR;
    if (!directory && S_ISDIR(inode->mode))
        return -EISDIR;
    return directory && inode->directory->count > 0 ? -ENOTEMPTY : 0;
}

static void remove_entry(struct change *change, struct inode *parent, struct entry **place)
{
    struct inode *inode = (*place)->inode;

    if (S_ISDIR(inode->mode))
        ASSIGN(change, parent->links, parent->links - 1);
    directory_remove(change, parent, place);
    inode_unlink(change, inode);
}

int files_remove(struct files *files, const char *path, bool directory)
{
    char name[NAME_MAX_BYTES + 1];
    struct inode *parent;
    struct entry **place;
    struct change change;
    int status = find_parent(files, path, &parent, name);

    if (status < 0)
        return status;
    if (!*name)
        return -EBUSY;
    place = entry_place(parent->directory, name);
    status = *place ? check_removal((*place)->inode, directory) : -ENOENT;
    if (status < 0 || (status = change_begin(&change, files)) < 0)
        return status;
    if (setjmp(change.failed))
        return change_undo(&change);
    remove_entry(&change, parent, place);
    return change_end(&change);
}

int files_link(struct files *files, const char *from, const char *to)
{
    char name[NAME_MAX_BYTES + 1];
    struct inode *inode, *parent;
    struct change change;
    int status = files_find(files, from, &inode);

    if (status < 0 || (status = find_parent(files, to, &parent, name)) < 0)
        return status;
    if (S_ISDIR(inode->mode))
        return -EPERM;
    if (!*name || *entry_place(parent->directory, name))
        return -EEXIST;
    if ((status = change_begin(&change, files)) < 0)
        return status;
    if (setjmp(change.failed))
        return change_undo(&change);
    ASSIGN(&change, inode->links, inode->links + 1);
    touch(&change, inode, false);
    directory_add(&change, parent, name, inode);
    return change_end(&change);
}

/* --- rename --- */

struct renaming {
    struct inode *from_parent, *to_parent;
    char from_name[NAME_MAX_BYTES + 1], to_name[NAME_MAX_BYTES + 1];
    struct inode *moved, *there; /* there NULL: nothing */
};

/* Is what is at `path` within the directory at `directory`? */
static bool is_within(const char *directory, const char *path)
{
    size_t length = strlen(directory);

    return strncmp(directory, path, length) == 0 && path[length] == '/';
}

static int renaming_look(const struct files *files, const char *from, const char *to,
                         unsigned flags, struct renaming *renaming)
{
    struct entry *entry;
    int status = find_parent(files, from, &renaming->from_parent, renaming->from_name);

    if (status == 0)
        status = find_parent(files, to, &renaming->to_parent, renaming->to_name);
    if (status < 0)
        return status;
    if (!*renaming->from_name || !*renaming->to_name)
        return -EBUSY;
    entry = *entry_place(renaming->from_parent->directory, renaming->from_name);
    if (!entry)
        return -ENOENT;
    renaming->moved = entry->inode;
    entry = *entry_place(renaming->to_parent->directory, renaming->to_name);
    renaming->there = entry ? entry->inode : NULL;
    if (is_within(from, to) || ((flags & RENAME_EXCHANGE) && is_within(to, from)))
        return -EINVAL;
    if ((flags & RENAME_NOREPLACE) && renaming->there)
        return -EEXIST;
    if (flags & RENAME_EXCHANGE)
        return renaming->there ? 0 : -ENOENT;
    return renaming->there ? check_removal(renaming->there, S_ISDIR(renaming->moved->mode)) : 0;
}

static void count_directory(struct change *change, struct inode *parent, const struct inode *inode,
                            int more)
{
    if (S_ISDIR(inode->mode))
        ASSIGN(change, parent->links, parent->links + (uint32_t)more);
}

static void exchange(struct change *change, struct renaming *r)
{
    struct entry *from = *entry_place(r->from_parent->directory, r->from_name);
    struct entry *to = *entry_place(r->to_parent->directory, r->to_name);

    ASSIGN(change, from->inode, r->there);
    ASSIGN(change, to->inode, r->moved);
    count_directory(change, r->from_parent, r->moved, -1);
    count_directory(change, r->to_parent, r->moved, 1);
    count_directory(change, r->to_parent, r->there, -1);
    count_directory(change, r->from_parent, r->there, 1);
    touch(change, r->from_parent, true);
    touch(change, r->to_parent, true);
    touch(change, r->there, false);
}

static void move(struct change *change, struct renaming *r)
{
    if (r->there)
        remove_entry(change, r->to_parent, entry_place(r->to_parent->directory, r->to_name));
    directory_remove(change, r->from_parent, entry_place(r->from_parent->directory, r->from_name));
    directory_add(change, r->to_parent, r->to_name, r->moved);
    count_directory(change, r->from_parent, r->moved, -1);
    count_directory(change, r->to_parent, r->moved, 1);
}

int files_rename(struct files *files, const char *from, const char *to, unsigned flags)
{
    struct renaming renaming;
    struct change change;
    int status;

    if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    status = renaming_look(files, from, to, flags, &renaming);
    if (status < 0 || renaming.moved == renaming.there)
        return status;
    if ((status = change_begin(&change, files)) < 0)
        return status;
    if (setjmp(change.failed))
        return change_undo(&change);
    if (flags & RENAME_EXCHANGE)
        exchange(&change, &renaming);
    else
        move(&change, &renaming);
    touch(&change, renaming.moved, false);
    return change_end(&change);
}

/* --- the tree --- */

static int make_tree(struct files *files)
{
    struct change change;
    struct tree *made;
    int status = change_begin(&change, files);

    if (status < 0)
        return status;
    if (setjmp(change.failed)) {
        files->tree = NULL;
        return change_undo(&change);
    }
    files->tree = made = make(&change, sizeof *made, TYPE_TREE);
    made->next_number = 1;
    made->root = inode_make(&change, files, S_IFDIR | 0755, NULL);
    must(&change, pheap_root_set(change.tx, "tree", made, TYPE_TREE));
    return change_end(&change);
}

int files_open(struct files *files, const char *path, char *problem, size_t problem_bytes)
{
    struct pheap_options options = {0};
    int status;

    options.problem = problem;
    options.problem_bytes = problem_bytes;
    status = pheap_open(path, PHEAP_CREATE, &options, &files->heap);
    if (status < 0)
        return status;
    files->tree = pheap_root(files->heap, "tree", NULL);
    if (files->tree)
        return 0;
    status = make_tree(files);
    if (status < 0)
        snprintf(problem, problem_bytes, "%s: %s", path, pheap_error_text(status));
    return status;
}

int files_close(struct files *files)
{
    return pheap_close(files->heap);
}

int files_sync(struct files *files)
{
    int status = pheap_sync(files->heap);

    return status < -4095 ? -EIO : status;
}
