/*
 * doctor_place.c - the directory in which a pool would lie: is there space, do syncs reach a disk,
 * is it persistent memory. True always: the file that tries it has no name.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>
#include "core/base/sys.h"
#include "tools/command.h"
#include "tools/doctor.h"

#define TRY_BYTES 65536
#define TRY_COUNT 5
#define SPACE_LOW (1ull << 30)

static const struct {
    unsigned long magic;
    const char *name;
    enum doctor_verdict verdict;
    const char *advice;
} kinds[] = {
    {0xef53, "ext4", DOCTOR_OK, NULL},
    {0x58465342, "xfs", DOCTOR_OK, NULL},
    {0x9123683e, "btrfs", DOCTOR_OK, NULL},
    {0x2fc12fc1, "zfs", DOCTOR_OK, NULL},
    {0xf2f52010, "f2fs", DOCTOR_OK, NULL},
    {0x794c7630, "overlayfs", DOCTOR_LIMITED,
     "a container's own files go with it: put pools on a volume"},
    {0x01021994, "tmpfs", DOCTOR_LIMITED,
     "it is memory and does not outlive the machine: put pools on a disk"},
    {0x6969, "nfs", DOCTOR_LIMITED,
     "locks and syncs are the server's: one machine at a time may use a pool there"},
    {0xff534d42, "cifs", DOCTOR_LIMITED,
     "locks and syncs are the server's: one machine at a time may use a pool there"},
    {0x65735546, "fuse", DOCTOR_LIMITED,
     "whether a sync reaches a disk is up to the program behind it"},
};
#define KIND_COUNT (sizeof kinds / sizeof kinds[0])

static void say_kind(struct doctor *doctor, const char *directory, unsigned long magic)
{
    for (size_t i = 0; i < KIND_COUNT; i++)
        if (kinds[i].magic == magic) {
            doctor_find(doctor, "file system", kinds[i].verdict, kinds[i].advice, "%s is on %s",
                        directory, kinds[i].name);
            return;
        }
    doctor_find(doctor, "file system", DOCTOR_OK, NULL, "%s is on a file system of type %#lx",
                directory, magic);
}

/* The shortest of some syncs of 64 KiB, or a negative error. */
static int64_t time_sync(int fd)
{
    static char bytes[TRY_BYTES];
    uint64_t least = UINT64_MAX, begin, took;

    for (int i = 0; i < TRY_COUNT; i++) {
        memset(bytes, i + 1, sizeof bytes);
        begin = sys_clock_ns(CLOCK_MONOTONIC);
        if (pwrite(fd, bytes, sizeof bytes, (off_t)i * TRY_BYTES) != (ssize_t)sizeof bytes ||
            fdatasync(fd) < 0)
            return errno ? -errno : -ENOSPC;
        took = sys_clock_ns(CLOCK_MONOTONIC) - begin;
        least = took < least ? took : least;
    }
    return (int64_t)least;
}

static int open_nameless(const char *directory)
{
    char path[4096];
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
        return fd;
    snprintf(path, sizeof path, "%s/pheap-doctor-XXXXXX", directory);
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        unlink(path);
    return fd;
}

static void try_to_write(struct doctor *doctor, const char *directory)
{
    int fd = open_nameless(directory);
    int64_t took;
    char text[32];

    if (fd < 0) {
        doctor_find(doctor, "syncs", DOCTOR_NO, "name another directory with -d",
                    "no file can be made in %s: %s", directory, strerror(errno));
        return;
    }
    took = time_sync(fd);
    close(fd);
    if (took < 0)
        doctor_find(doctor, "syncs", DOCTOR_NO,
                    "free some space, or name another directory with -d",
                    "64 KiB cannot be written durably in %s: %s", directory, strerror((int)-took));
    else
        doctor_find(doctor, "syncs", DOCTOR_OK, NULL, "64 KiB are written and synced in %s",
                    show_ns(text, (uint64_t)took));
}

static void say_space(struct doctor *doctor, const char *directory)
{
    struct statvfs info;
    uint64_t bytes;
    char text[32];

    if (statvfs(directory, &info) < 0)
        return;
    bytes = (uint64_t)info.f_bavail * info.f_frsize;
    doctor_find(doctor, "space", bytes < SPACE_LOW ? DOCTOR_LIMITED : DOCTOR_OK,
                bytes < SPACE_LOW ? "a pool takes the program's memory, and with each kept "
                                    "generation what was written since the one before"
                                  : NULL,
                "%s free", show_bytes(text, bytes));
}

void doctor_place(struct doctor *doctor, const char *directory)
{
    struct statfs info;
    struct statx attributes;

    if (statfs(directory, &info) < 0) {
        doctor_find(doctor, "file system", DOCTOR_NO, "name a directory with -d", "%s: %s",
                    directory, strerror(errno));
        return;
    }
    if (statx(AT_FDCWD, directory, 0, STATX_BASIC_STATS, &attributes) == 0 &&
        (attributes.stx_attributes & STATX_ATTR_DAX))
        doctor_find(doctor, "file system", DOCTOR_OK, NULL,
                    "%s is on persistent memory (DAX); libpmem.so.1 makes checkpoints faster there",
                    directory);
    else
        say_kind(doctor, directory, (unsigned long)info.f_type);
    say_space(doctor, directory);
    try_to_write(doctor, directory);
}
