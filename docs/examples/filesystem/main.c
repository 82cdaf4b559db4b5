/*
 * main.c - a file system in one pool, mounted with FUSE: filesystem POOL DIRECTORY [-f]
 *
 *     cc main.c files.c $(pkg-config --cflags --libs pheap fuse3) -o filesystem
 *     ./filesystem data /mnt/somewhere        (-f: stay in the foreground)
 *     fusermount3 -u /mnt/somewhere
 *
 * Hard links, symbolic links, sparse files, rename over others and in exchange. kill -9 loses
 * nothing; after a power cut everything before the last fsync of any file is there.
 */
#define _GNU_SOURCE      1 /* FALLOC_FL_PUNCH_HOLE */
#define FUSE_USE_VERSION 31
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static struct files files;
static char pool[4096]; /* absolute: FUSE changes the directory */

/* What is made belongs to who asks for it. */
static void note_caller(void)
{
    files.uid = fuse_get_context()->uid;
    files.gid = fuse_get_context()->gid;
}

static int find(const char *path, struct fuse_file_info *info, struct inode **inode)
{
    if (info && info->fh) {
        *inode = (struct inode *)(uintptr_t)info->fh;
        return 0;
    }
    return files_find(&files, path, inode);
}

static void fill_stat(const struct inode *inode, struct stat *st)
{
    memset(st, 0, sizeof *st);
    st->st_ino = inode->number;
    st->st_mode = inode->mode;
    st->st_nlink = inode->links;
    st->st_uid = inode->uid;
    st->st_gid = inode->gid;
    st->st_size = (off_t)inode->size;
    st->st_blksize = BLOCK_BYTES;
    if (S_ISREG(inode->mode))
        st->st_blocks = (blkcnt_t)(inode->content->block_count * (BLOCK_BYTES / 512));
    st->st_atim = inode->accessed;
    st->st_mtim = inode->modified;
    st->st_ctim = inode->changed;
}

static int do_getattr(const char *path, struct stat *st, struct fuse_file_info *info)
{
    struct inode *inode;
    int status = find(path, info, &inode);

    if (status == 0)
        fill_stat(inode, st);
    return status;
}

static int do_readlink(const char *path, char *to, size_t bytes)
{
    struct inode *inode;
    int status = files_find(&files, path, &inode);

    if (status == 0)
        snprintf(to, bytes, "%s", inode->target);
    return status;
}

static int do_mkdir(const char *path, mode_t mode)
{
    note_caller();
    return files_make(&files, path, S_IFDIR | (mode & 07777), NULL);
}

static int do_mknod(const char *path, mode_t mode, dev_t device)
{
    (void)device;
    note_caller();
    return files_make(&files, path, mode, NULL);
}

static int do_symlink(const char *target, const char *path)
{
    note_caller();
    return files_make(&files, path, S_IFLNK | 0777, target);
}

static int do_unlink(const char *path)
{
    return files_remove(&files, path, false);
}

static int do_rmdir(const char *path)
{
    return files_remove(&files, path, true);
}

static int do_rename(const char *from, const char *to, unsigned flags)
{
    return files_rename(&files, from, to, flags);
}

static int do_link(const char *from, const char *to)
{
    return files_link(&files, from, to);
}

static int do_chmod(const char *path, mode_t mode, struct fuse_file_info *info)
{
    struct inode *inode;
    int status = find(path, info, &inode);

    return status < 0 ? status : files_set_mode(&files, inode, mode);
}

static int do_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *info)
{
    struct inode *inode;
    int status = find(path, info, &inode);

    return status < 0 ? status : files_set_owner(&files, inode, uid, gid);
}

static int do_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *info)
{
    struct inode *inode;
    int status = find(path, info, &inode);

    return status < 0 ? status : files_set_times(&files, inode, times);
}

static int do_truncate(const char *path, off_t size, struct fuse_file_info *info)
{
    struct inode *inode;
    int status = find(path, info, &inode);

    return status < 0 ? status : files_truncate(&files, inode, (uint64_t)size);
}

/* An open file is its inode: FUSE keeps one that is removed under a hidden name until it is
 * closed. */
static int do_open(const char *path, struct fuse_file_info *info)
{
    struct inode *inode;
    int status = files_find(&files, path, &inode);

    if (status == 0 && (info->flags & O_TRUNC) && inode->size > 0)
        status = files_truncate(&files, inode, 0);
    info->fh = status == 0 ? (uintptr_t)inode : 0;
    return status;
}

static int do_create(const char *path, mode_t mode, struct fuse_file_info *info)
{
    int status;

    note_caller();
    status = files_make(&files, path, S_IFREG | (mode & 07777), NULL);
    return status < 0 ? status : do_open(path, info);
}

static int do_read(const char *path, char *to, size_t bytes, off_t at, struct fuse_file_info *info)
{
    struct inode *inode;
    int status = find(path, info, &inode);

    return status < 0 ? status : (int)files_read(inode, to, bytes, (uint64_t)at);
}

static int do_write(const char *path, const char *from, size_t bytes, off_t at,
                    struct fuse_file_info *info)
{
    struct inode *inode;
    int status = find(path, info, &inode);

    return status < 0 ? status : (int)files_write(&files, inode, from, bytes, (uint64_t)at);
}

static int do_fallocate(const char *path, int mode, off_t at, off_t bytes,
                        struct fuse_file_info *info)
{
    struct inode *inode;
    int status = find(path, info, &inode);

    if (status < 0)
        return status;
    if (mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
        return files_punch(&files, inode, (uint64_t)at, (uint64_t)bytes);
    return -EOPNOTSUPP;
}

static int do_fsync(const char *path, int only_data, struct fuse_file_info *info)
{
    (void)path, (void)only_data, (void)info;
    return files_sync(&files);
}

static int do_readdir(const char *path, void *buffer, fuse_fill_dir_t add, off_t at,
                      struct fuse_file_info *info, enum fuse_readdir_flags flags)
{
    struct inode *inode;
    uint64_t bucket = 0;
    int status = find(path, info, &inode);

    (void)at, (void)flags;
    if (status < 0)
        return status;
    add(buffer, ".", NULL, 0, 0);
    add(buffer, "..", NULL, 0, 0);
    for (const struct entry *entry = files_next(inode->directory, &bucket, NULL); entry;
         entry = files_next(inode->directory, &bucket, entry)) {
        struct stat st = {.st_ino = entry->inode->number, .st_mode = entry->inode->mode};

        if (add(buffer, entry->name, &st, 0, 0))
            return -ENOMEM;
    }
    return 0;
}

/* As much is free as the disk has that the pool lies on. */
static int do_statfs(const char *path, struct statvfs *out)
{
    (void)path;
    if (statvfs(pool, out) < 0)
        return -errno;
    out->f_namemax = NAME_MAX_BYTES;
    return 0;
}

static void *do_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
    (void)connection;
    config->use_ino = 1;
    config->nullpath_ok = 0;
    return NULL;
}

static void open_pool(void)
{
    char problem[512] = "";

    if (files_open(&files, pool, problem, sizeof problem) < 0) {
        fprintf(stderr, "filesystem: %s\n", problem);
        exit(1);
    }
}

static const struct fuse_operations operations = {
    .init = do_init,
    .getattr = do_getattr,
    .readlink = do_readlink,
    .mkdir = do_mkdir,
    .mknod = do_mknod,
    .symlink = do_symlink,
    .unlink = do_unlink,
    .rmdir = do_rmdir,
    .rename = do_rename,
    .link = do_link,
    .chmod = do_chmod,
    .chown = do_chown,
    .truncate = do_truncate,
    .open = do_open,
    .create = do_create,
    .read = do_read,
    .write = do_write,
    .fallocate = do_fallocate,
    .fsync = do_fsync,
    .fsyncdir = do_fsync,
    .readdir = do_readdir,
    .statfs = do_statfs,
    .utimens = do_utimens,
};

static struct fuse *mount_at(const char *directory)
{
    char *words[] = {(char *)(uintptr_t) "filesystem", (char *)(uintptr_t) "-o",
                     (char *)(uintptr_t) "default_permissions,fsname=pheap"};
    struct fuse_args args = FUSE_ARGS_INIT(3, words);
    struct fuse *fuse = fuse_new(&args, &operations, sizeof operations, NULL);

    if (fuse && fuse_mount(fuse, directory) != 0) {
        fuse_destroy(fuse);
        fuse = NULL;
    }
    fuse_opt_free_args(&args);
    return fuse;
}

static int serve(const char *directory, int foreground)
{
    struct fuse *fuse;
    int status;

    /* A heap stays with the process that has opened it, and the one that goes into the background
     * is another: so it is opened twice, the first time to say what is wrong with it. */
    open_pool();
    if (files_close(&files) < 0 || !(fuse = mount_at(directory)) || fuse_daemonize(foreground) != 0)
        return 1;
    open_pool();
    if (foreground) {
        printf("ready\n");
        fflush(stdout);
    }
    fuse_set_signal_handlers(fuse_get_session(fuse));
    status = fuse_loop(fuse); /* one thread */
    fuse_unmount(fuse);
    fuse_destroy(fuse);
    return files_close(&files) < 0 || status < 0;
}

int main(int argc, char **argv)
{
    bool foreground = argc == 4 && strcmp(argv[3], "-f") == 0;

    if (argc != 3 && !foreground) {
        fprintf(stderr, "usage: filesystem POOL DIRECTORY [-f]\n");
        return 2;
    }
    if (argv[1][0] == '/')
        snprintf(pool, sizeof pool, "%s", argv[1]);
    else {
        char here[2048];

        if (!getcwd(here, sizeof here))
            return 1;
        snprintf(pool, sizeof pool, "%s/%s", here, argv[1]);
    }
    return serve(argv[2], foreground);
}
