/*
 * quarantine.c - see quarantine.h.
 *
 * What must always be true: the file with the name is whole, and what it says was true of the
 * generation that it names.
 */
#include "recovery/collect/quarantine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"

static void quarantine_name(char *name, size_t size, const struct pool *pool)
{
    snprintf(name, size, "%s.quarantine", pool->path);
}

/* The checksum of what was before, and of the next part. */
static uint64_t add_sum(uint64_t sum, const void *data, size_t bytes)
{
    const uint64_t both[2] = {sum, checksum64(data, bytes)};

    return checksum64(both, sizeof both);
}

/* sum: of the entries, part by part. */
static uint64_t file_sum(uint64_t sum, const struct quarantine_head *head)
{
    return add_sum(sum, head, offsetof(struct quarantine_head, checksum));
}

/* --- reading --- */

static bool is_whole(const struct quarantine *quarantine, const struct pool *pool)
{
    const struct quarantine_head *head = quarantine->head;
    const struct quarantine_entry *entries = quarantine->next;
    uint64_t sum = 0, count = head->count;

    if (head->magic != QUARANTINE_MAGIC || head->version != QUARANTINE_VERSION ||
        memcmp(head->pool, pool->super.uuid, sizeof head->pool) != 0 ||
        head->run_first_generation != pool->super.run_first_generation ||
        count != (quarantine->bytes - sizeof *head) / sizeof *entries ||
        quarantine->bytes % sizeof *entries != 0)
        return false;
    for (uint64_t i = 0; i < count; i += QUARANTINE_PART)
        sum =
            add_sum(sum, entries + i,
                    (count - i < QUARANTINE_PART ? count - i : QUARANTINE_PART) * sizeof *entries);
    return file_sum(sum, head) == head->checksum;
}

static bool may_be_one(const struct stat *info)
{
    return S_ISREG(info->st_mode) && info->st_uid == (uint32_t)sys_call(SYS_geteuid) &&
           (uint64_t)info->st_size >= sizeof(struct quarantine_head);
}

static int read_file(struct quarantine *quarantine, int fd, const struct pool *pool)
{
    struct stat info;
    void *mapped;
    int status = sys_fstat(fd, &info);

    if (status < 0 || !may_be_one(&info))
        return status;
    quarantine->bytes = (uint64_t)info.st_size;
    mapped = sys_mmap(NULL, quarantine->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (sys_failed((long)mapped))
        return (int)(long)mapped;
    quarantine->head = mapped;
    quarantine->next = (const struct quarantine_entry *)(quarantine->head + 1);
    if (is_whole(quarantine, pool))
        quarantine->end = quarantine->next + quarantine->head->count;
    else
        quarantine_close(quarantine);
    return 0;
}

int quarantine_open(struct quarantine *quarantine, const struct pool *pool, struct problem *why)
{
    char name[4096 + 16];
    int fd, status;

    memset(quarantine, 0, sizeof *quarantine);
    quarantine_name(name, sizeof name, pool);
    fd = sys_open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
    if (fd == -ENOENT || fd == -ELOOP)
        return 0;
    status = fd < 0 ? fd : read_file(quarantine, fd, pool);
    if (fd >= 0)
        sys_close(fd);
    return status < 0 ? problem_set(why, status, "cannot read '%s': %s", name, status_text(status))
                      : 0;
}

void quarantine_close(struct quarantine *quarantine)
{
    if (quarantine->head)
        sys_munmap((void *)(uintptr_t)quarantine->head, quarantine->bytes);
    memset(quarantine, 0, sizeof *quarantine);
}

bool quarantine_has(struct quarantine *quarantine, const struct quarantine_entry *entry,
                    const void *content)
{
    const struct quarantine_entry *found;

    while (quarantine->next < quarantine->end && quarantine->next->address < entry->address)
        quarantine->next++;
    found = quarantine->next;
    return found < quarantine->end && found->address == entry->address &&
           found->bytes == entry->bytes && found->identity == entry->identity &&
           found->checksum == checksum64(content, entry->bytes);
}

/* --- writing --- */

void quarantine_begin(struct quarantine_writing *writing, const struct pool *pool,
                      uint64_t generation)
{
    memset(writing, 0, sizeof *writing);
    writing->fd = -1;
    writing->head =
        (struct quarantine_head){.magic = QUARANTINE_MAGIC,
                                 .version = QUARANTINE_VERSION,
                                 .run_first_generation = pool->super.run_first_generation,
                                 .generation = generation};
    memcpy(writing->head.pool, pool->super.uuid, sizeof writing->head.pool);
    quarantine_name(writing->name, sizeof writing->name, pool);
    snprintf(writing->temporary, sizeof writing->temporary, "%s-%d", writing->name, sys_getpid());
}

static void write_part(struct quarantine_writing *writing)
{
    size_t bytes = writing->held * sizeof *writing->part;
    uint64_t place = sizeof writing->head +
                     (writing->head.count - writing->held) * sizeof(struct quarantine_entry);

    if (writing->fd < 0 && writing->failed == 0) {
        (void)sys_call(SYS_unlinkat, AT_FDCWD, writing->temporary, 0);
        writing->fd = sys_open(writing->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        writing->failed = writing->fd < 0 ? writing->fd : 0;
    }
    if (writing->failed == 0)
        writing->failed = sys_pwrite_all(writing->fd, writing->part, bytes, place);
    writing->sum = add_sum(writing->sum, writing->part, bytes);
    writing->held = 0;
}

void quarantine_add(struct quarantine_writing *writing, const struct quarantine_entry *entry)
{
    writing->part[writing->held++] = *entry;
    writing->head.count++;
    if (writing->held == QUARANTINE_PART)
        write_part(writing);
}

/* Crash: up to the rename there is the file before, and perhaps one with the other name, which
 * nobody reads. */
static int complete(struct quarantine_writing *writing)
{
    int status;

    writing->head.checksum = file_sum(writing->sum, &writing->head);
    status = sys_pwrite_all(writing->fd, &writing->head, sizeof writing->head, 0);
    if (status == 0)
        status = (int)sys_call(SYS_fsync, writing->fd);
    if (status == 0)
        status = (int)sys_call(SYS_renameat, AT_FDCWD, writing->temporary, AT_FDCWD, writing->name);
    return status == 0 ? pool_sync_directory(writing->name) : status;
}

static int drop(const struct quarantine_writing *writing)
{
    int status = (int)sys_call(SYS_unlinkat, AT_FDCWD, writing->name, 0);

    return status == -ENOENT ? 0 : status;
}

int quarantine_finish(struct quarantine_writing *writing, struct problem *why)
{
    int status;

    if (writing->held > 0)
        write_part(writing);
    status = writing->failed;
    if (status == 0)
        status = writing->head.count > 0 ? complete(writing) : drop(writing);
    if (writing->fd >= 0)
        sys_close(writing->fd);
    if (status < 0 && writing->fd >= 0)
        (void)sys_call(SYS_unlinkat, AT_FDCWD, writing->temporary, 0);
    return status < 0 ? problem_set(why, status, "cannot write '%s': %s", writing->name,
                                    status_text(status))
                      : 0;
}
