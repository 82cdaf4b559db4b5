/*
 * persist_dax.c - the back end for files on persistent memory, and the one file that knows libpmem.
 *
 * Always true:
 *   1. the mapping is used only where a fence is all that durability takes: MAP_SYNC was granted
 *      (the kernel then makes a page's place in the file durable before it lets anybody store to
 *      it), or the file is on tmpfs, where nothing survives in any case;
 *   2. every page of the mapped part has space reserved: a store cannot find the disk full;
 *   3. a growth is durable, length and all, before it is written to: no fence could make it so;
 *   4. the mapping goes through an open file description of its own. The pool's locks belong to
 *      another one, so they end with the writer, not with the mapping;
 *   5. a child of fork never has the mapping in a form that can be read or written.
 *
 * A store is visible to who reads the file or maps it as soon as it is made: caches are coherent.
 * The fence orders what is stored before it and after it, and a kill does not undo a store, so all
 * that is said of crashes in pool_commit.c holds line by line for a power cut.
 */
#include <errno.h>
#include <libpmem.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include "core/base/format_text.h"
#include "core/base/sys.h"
#include "core/pool/mutant.h"
#include "core/pool/persist.h"

#define COPY_FLAGS (PMEM_F_MEM_NONTEMPORAL | PMEM_F_MEM_NODRAIN)

/* --- which files --- */

static bool on_tmpfs(const char *path)
{
    struct statfs info;

    return sys_call(SYS_statfs, path, &info) == 0 && info.f_type == TMPFS_MAGIC;
}

bool persist_may_use_dax(const char *path, bool forced)
{
    struct statx info;

    if (sys_call(SYS_statx, AT_FDCWD, path, 0, STATX_TYPE, &info) < 0)
        return false;
    return (info.stx_attributes & STATX_ATTR_DAX) != 0 || (forced && on_tmpfs(path));
}

int persist_pmem_find(struct persist_pmem *out, const char *path, persist_find *find, void *library)
{
    __typeof__(pmem_map_file) *map_file = find(library, "pmem_map_file");
    __typeof__(pmem_unmap) *unmap = find(library, "pmem_unmap");
    struct persist_pmem found = {find(library, "pmem_memcpy"), find(library, "pmem_drain"), false};
    size_t bytes = 0;
    int is_pmem = 0;
    void *mapping;

    if (!map_file || !unmap || !found.copy || !found.drain)
        return -ENOSYS;
    mapping = map_file(path, 0, 0, 0, &bytes, &is_pmem);
    if (mapping)
        (void)unmap(mapping, bytes);
    if (!mapping || !is_pmem)
        return -EOPNOTSUPP;
    *out = found;
    return 0;
}

/* --- the mapping --- */

/* The reservation again, as the caller made it. */
static void unmap_part(uint8_t *start, uint64_t bytes)
{
    (void)sys_mmap(start, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
                   -1, 0);
    (void)sys_madvise(start, bytes, MADV_DONTFORK);
}

/* Maps what the window holds of the file's first file_bytes and is not mapped yet. */
static int map_rest(struct persist_dax *dax, uint64_t file_bytes)
{
    uint64_t end = (file_bytes + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
    uint8_t *start = dax->window + dax->mapped_bytes, *place;
    int status;

    if (end > dax->window_bytes)
        end = dax->window_bytes;
    if (end <= dax->mapped_bytes)
        return 0;
    place = sys_mmap(start, end - dax->mapped_bytes, PROT_NONE, dax->map_flags | MAP_FIXED, dax->fd,
                     dax->mapped_bytes);
    if (sys_failed((long)place))
        return (int)(long)place;
    status = sys_madvise(start, end - dax->mapped_bytes, MADV_DONTFORK);
    if (status == 0)
        status = sys_madvise(start, end - dax->mapped_bytes, MADV_DONTDUMP);
    if (status == 0)
        status = sys_mprotect(start, end - dax->mapped_bytes, PROT_READ | PROT_WRITE);
    if (status < 0)
        unmap_part(start, end - dax->mapped_bytes);
    else
        dax->mapped_bytes = end;
    return status;
}

/* --- stores that find nothing --- */

/*
 * The file was truncated by somebody, or the memory is broken: the store is SIGBUS. Whoever has
 * persist_dax_fault() as the handler then sees a copy that fails; one copy at a time, as there is
 * one user of a pool, and one process that has the handler.
 */
static void *copy_return[5];
static volatile bool copying;

void persist_dax_fault(int signal_number)
{
    (void)signal_number;
    if (copying)
        __builtin_longjmp(copy_return, 1);
    (void)sys_call(SYS_exit_group, 1);
}

__attribute__((noinline)) static int copy_to_pool(const struct persist_pmem *pmem, void *to,
                                                  const void *from, size_t bytes, unsigned flags)
{
    if (__builtin_setjmp(copy_return) != 0) {
        copying = false;
        return -EIO;
    }
    copying = true;
    pmem->copy(to, from, bytes, flags);
    copying = false;
    return 0;
}

/* --- the operations --- */

bool persist_is_mapped(const struct persist *persist, uint64_t offset, uint64_t bytes)
{
    return persist->dax.window && offset + bytes <= persist->dax.mapped_bytes;
}

/* A file that was cut short kills here, as it does where a program stores to a mapping itself. */
void persist_store(const struct persist *persist, uint64_t offset, const void *data, size_t bytes)
{
    persist->dax.pmem.copy(persist->dax.window + offset, data, bytes, COPY_FLAGS);
}

void persist_fence(const struct persist *persist)
{
    persist->dax.pmem.drain();
}

static int dax_write(struct persist *persist, uint64_t offset, const void *data, size_t bytes)
{
    struct persist_dax *dax = &persist->dax;
    unsigned flags = POOL_MUTANT(MUTANT_DAX_NO_FLUSH) ? PMEM_F_MEM_NOFLUSH : COPY_FLAGS;

    if (offset + bytes <= dax->mapped_bytes) {
        persist->failed = copy_to_pool(&dax->pmem, dax->window + offset, data, bytes, flags);
        return persist->failed;
    }
    dax->file_sync_due = !POOL_MUTANT(MUTANT_DAX_FILE_NOT_SYNCED);
    return persist_file_ops.write(persist, offset, data, bytes);
}

static int dax_sync(struct persist *persist)
{
    struct persist_dax *dax = &persist->dax;
    int status = 0;

    if (!POOL_MUTANT(MUTANT_DAX_NO_DRAIN))
        dax->pmem.drain();
    if (dax->file_sync_due)
        status = persist_file_ops.sync(persist);
    if (status == 0)
        dax->file_sync_due = false;
    return status;
}

/*
 * The new part is filled with zeroes: space that was only reserved would cost a commit of the file
 * system's journal at the first store to each page. What cannot be mapped (no room in the window,
 * too many mappings) is written as to any file.
 */
static int dax_grow(struct persist *persist, uint64_t file_bytes)
{
    int status = persist_file_ops.grow(persist, file_bytes);

    if (status == 0)
        status = persist_file_fill(persist, file_bytes);
    if (status < 0)
        return status;
    if (!POOL_MUTANT(MUTANT_DAX_GROWTH_NOT_SYNCED))
        status = persist_file_ops.sync(persist);
    if (status < 0)
        persist->failed = status;
    else
        (void)map_rest(&persist->dax, file_bytes);
    return status;
}

/* Whose blocks a store goes to must be durable before the store is taken for durable. */
static int dax_reserve(struct persist *persist, uint64_t offset, uint64_t bytes)
{
    int status = persist_file_ops.reserve(persist, offset, bytes);

    if (status == 0)
        status = persist->failed = persist_file_ops.sync(persist);
    return status;
}

/* Space is given back by tools, which use the back end for files: a hole in what is mapped here
 * would be filled by the first store to it, at the price of a commit of the journal each. */
static int dax_punch(struct persist *persist, uint64_t offset, uint64_t bytes)
{
    (void)persist, (void)offset, (void)bytes;
    return -EOPNOTSUPP;
}

static const struct persist_ops dax_ops = {
    .name = "dax",
    .write = dax_write,
    .sync = dax_sync,
    .grow = dax_grow,
    .reserve = dax_reserve,
    .punch = dax_punch,
};

/* --- begin and end --- */

static int reserve_holes(const struct persist *persist)
{
    int status;

    do
        status = (int)sys_call(SYS_fallocate, persist->fd, 0, 0, persist->file_bytes);
    while (status == -EINTR);
    return status;
}

static int map_whole(struct persist_dax *dax, const char *link, uint64_t file_bytes)
{
    int status;

    dax->map_flags = MAP_SHARED_VALIDATE | MAP_SYNC;
    status = map_rest(dax, file_bytes);
    if (status != -EOPNOTSUPP || !dax->pmem.forced || !on_tmpfs(link))
        return status;
    dax->map_flags = MAP_SHARED;
    return map_rest(dax, file_bytes);
}

int persist_use_dax(struct persist *persist, const struct persist_pmem *pmem, void *window,
                    uint64_t window_bytes)
{
    struct persist_dax dax = {.pmem = *pmem, .window = window, .window_bytes = window_bytes};
    char link[32];
    int status;

    if (persist->file_bytes == 0 || window_bytes < PAGE_BYTES)
        return -EINVAL;
    status = reserve_holes(persist);
    if (status < 0)
        return status;
    format_text(link, sizeof link, "/proc/self/fd/%d", persist->fd);
    dax.fd = sys_open(link, O_RDWR | O_CLOEXEC, 0);
    if (dax.fd < 0)
        return dax.fd;
    status = map_whole(&dax, link, persist->file_bytes);
    if (status < 0) {
        sys_close(dax.fd);
        return status;
    }
    copying = false; /* an image may have been cut in the middle of one */
    persist->dax = dax;
    persist->ops = &dax_ops;
    return 0;
}

void persist_close(struct persist *persist)
{
    struct persist_dax *dax = &persist->dax;

    if (dax->window == NULL)
        return;
    unmap_part(dax->window, dax->mapped_bytes);
    sys_close(dax->fd);
    dax->window = NULL;
}
