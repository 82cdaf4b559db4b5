/*
 * kernel_features.c - see kernel_features.h. A feature counts as there only when it has done its
 * work once, on a page of our own: a kernel, a container's filter or an emulator that accepts the
 * call and does nothing must not make us lose a page.
 */
#include "core/base/kernel_features.h"

#include <errno.h>
#include <stdint.h>

#include "core/base/kernel_uffd.h"
#include "core/base/sys.h"
#include "core/base/valgrind.h"

#define PROBE_PAGES      4
#define PROBE_HOLE_BYTES (8u << 20) /* more than three page tables map, so two of them wholly */

/* The number of pages found written in the probe's range, now protected again; or -errno. */
static int probe_written(int pagemap, const char *memory)
{
    struct page_region regions[PROBE_PAGES];
    struct pm_scan_arg scan = {
        .size = sizeof scan,
        .flags = PM_SCAN_WP_MATCHING,
        .start = (uintptr_t)memory,
        .end = (uintptr_t)memory + PROBE_PAGES * PAGE_BYTES,
        .vec = (uintptr_t)regions,
        .vec_len = PROBE_PAGES,
        .category_mask = PAGE_IS_WRITTEN,
        .category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        .return_mask = PAGE_IS_WRITTEN,
    };
    int count = (int)sys_call(SYS_ioctl, pagemap, PAGEMAP_SCAN, &scan);
    int pages = 0;

    for (int i = 0; i < count; i++)
        pages += (int)((regions[i].end - regions[i].start) / PAGE_BYTES);
    return count < 0 ? count : pages;
}

/* Pages 0 and 2 are present, 1 and 3 were never touched. */
static int probe_present(int pagemap, const char *memory)
{
    struct page_region regions[PROBE_PAGES];
    struct pm_scan_arg scan = {
        .size = sizeof scan,
        .start = (uintptr_t)memory,
        .end = (uintptr_t)memory + PROBE_PAGES * PAGE_BYTES,
        .vec = (uintptr_t)regions,
        .vec_len = PROBE_PAGES,
        .category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        .return_mask = PAGE_IS_PRESENT,
    };
    int count = (int)sys_call(SYS_ioctl, pagemap, PAGEMAP_SCAN, &scan);

    if (count < 0)
        return count;
    return count == 2 && regions[0].start == (uintptr_t)memory ? 0 : -EOPNOTSUPP;
}

static int probe_tracking(int uffd, int pagemap, char *memory)
{
    struct uffdio_api api = {
        .api = UFFD_API,
        .features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED,
    };
    struct uffdio_register range = {
        .range = {(uintptr_t)memory, PROBE_PAGES * PAGE_BYTES},
        .mode = UFFDIO_REGISTER_MODE_WP,
    };
    int status = (int)sys_call(SYS_ioctl, uffd, UFFDIO_API, &api);

    if (status < 0)
        return status;
    status = (int)sys_call(SYS_ioctl, uffd, UFFDIO_REGISTER, &range);
    if (status < 0 || pagemap < 0)
        return status;
    if (probe_written(pagemap, memory) != 2 || probe_written(pagemap, memory) != 0)
        return -EOPNOTSUPP;
    memory[0] = 2;
    return probe_written(pagemap, memory) == 1 ? 0 : -EOPNOTSUPP;
}

/* What PAGEMAP_SCAN says when it is asked for WRITTEN and nothing else: the number of regions. */
static int ask_unprotected(int pagemap, const char *memory, size_t bytes,
                           struct page_region regions[PROBE_PAGES])
{
    struct pm_scan_arg scan = {
        .size = sizeof scan,
        .start = (uintptr_t)memory,
        .end = (uintptr_t)memory + bytes,
        .vec = (uintptr_t)regions,
        .vec_len = PROBE_PAGES,
        .category_mask = PAGE_IS_WRITTEN,
        .return_mask = PAGE_IS_WRITTEN,
    };

    return (int)sys_call(SYS_ioctl, pagemap, PAGEMAP_SCAN, &scan);
}

static bool is_region(const struct page_region *region, const char *memory, size_t bytes)
{
    return region->start == (uintptr_t)memory && region->end == (uintptr_t)memory + bytes;
}

/* Where there is no page table: not before Linux 7, or 6.18 with its later corrections. */
static bool probe_hole(int uffd, int pagemap)
{
    struct page_region regions[PROBE_PAGES];
    char *memory = sys_mmap(NULL, PROBE_HOLE_BYTES, PROT_NONE, /* else mlockall() would fill it */
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct uffdio_register range = {
        .range = {(uintptr_t)memory, PROBE_HOLE_BYTES},
        .mode = UFFDIO_REGISTER_MODE_WP,
    };
    bool told;

    if (sys_failed((long)memory))
        return false;
    told = sys_call(SYS_ioctl, uffd, UFFDIO_REGISTER, &range) == 0 &&
           ask_unprotected(pagemap, memory, PROBE_HOLE_BYTES, regions) == 1 &&
           is_region(&regions[0], memory, PROBE_HOLE_BYTES);
    sys_munmap(memory, PROBE_HOLE_BYTES);
    return told;
}

/*
 * All but protected pages: absent ones are told with those that were written. That is a short cut
 * of the kernel, not a promise. And move_pages() without a place to move to says of each page
 * whether it is there. Pages 0 and 2 are present and protected.
 */
static bool probe_quick(int uffd, int pagemap, const char *memory)
{
    struct page_region regions[PROBE_PAGES];
    const void *pages[] = {memory, memory + PAGE_BYTES, memory + 2 * PAGE_BYTES};
    int nodes[3] = {-1, 0, -1};

    return ask_unprotected(pagemap, memory, PROBE_PAGES * PAGE_BYTES, regions) == 2 &&
           is_region(&regions[0], memory + PAGE_BYTES, PAGE_BYTES) &&
           is_region(&regions[1], memory + 3 * PAGE_BYTES, PAGE_BYTES) &&
           sys_call(SYS_move_pages, 0, 3, pages, NULL, nodes, 0) == 0 && nodes[0] >= 0 &&
           nodes[1] < 0 && nodes[2] >= 0 && probe_hole(uffd, pagemap);
}

static void probe_kernel(struct kernel_features *features)
{
    void *mapped = sys_mmap(NULL, PROBE_PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    volatile char *memory = mapped;
    int uffd = -1, pagemap = -1;

    if (sys_failed((long)mapped))
        return;
    sys_madvise(mapped, PROBE_PAGES * PAGE_BYTES, MADV_NOHUGEPAGE);
    memory[0] = memory[2 * PAGE_BYTES] = 1;
    pagemap = sys_open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC, 0);
    features->pagemap_scan_error = pagemap < 0 ? pagemap : probe_present(pagemap, mapped);
    features->pagemap_scan = features->pagemap_scan_error == 0;

    uffd = (int)sys_call(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    features->userfaultfd_error =
        uffd < 0 ? uffd : probe_tracking(uffd, features->pagemap_scan ? pagemap : -1, mapped);
    features->userfaultfd_wp_async = features->userfaultfd_error == 0;
    features->pagemap_quick = features->userfaultfd_wp_async && features->pagemap_scan &&
                              probe_quick(uffd, pagemap, mapped);

    if (uffd >= 0)
        sys_close(uffd);
    if (pagemap >= 0)
        sys_close(pagemap);
    sys_munmap(mapped, PROBE_PAGES * PAGE_BYTES);
}

/* Valgrind says of each call here that it does not know it, and takes what the kernel has written
 * for what nobody has. */
void kernel_features_probe(struct kernel_features *features)
{
    bool emulated = valgrind_is_running();
    int error = emulated ? -ENOSYS : -ENOMEM;

    *features = (struct kernel_features){
        .userfaultfd_error = error, .pagemap_scan_error = error, .soft_dirty_error = -EOPNOTSUPP};
    if (!emulated)
        probe_kernel(features);
}

/* --- soft-dirty bits --- */

/* 1 or 0: the page's bit; or a negative status. */
static int soft_dirty_bit(int pagemap, const volatile char *page)
{
    uint64_t entry = 0;
    ssize_t got =
        sys_pread(pagemap, &entry, sizeof entry, (uintptr_t)page / PAGE_BYTES * sizeof entry);

    if (got != (ssize_t)sizeof entry)
        return got < 0 ? (int)got : -EIO;
    return (entry & PAGEMAP_SOFT_DIRTY) != 0;
}

/* A page that was written has the bit, loses it when the bits are cleared, and gets it again. */
static int probe_soft_dirty(int pagemap, int clear_refs, volatile char *page)
{
    int bit;

    page[0] = 1;
    bit = soft_dirty_bit(pagemap, page);
    if (bit != 1) /* a kernel without them: nothing is cleared */
        return bit < 0 ? bit : -EOPNOTSUPP;
    if (sys_write(clear_refs, CLEAR_SOFT_DIRTY, 1) != 1)
        return -EOPNOTSUPP;
    bit = soft_dirty_bit(pagemap, page);
    if (bit != 0)
        return bit < 0 ? bit : -EOPNOTSUPP;
    page[0] = 2;
    bit = soft_dirty_bit(pagemap, page);
    return bit == 1 ? 0 : bit < 0 ? bit : -EOPNOTSUPP;
}

void kernel_features_probe_soft_dirty(struct kernel_features *features)
{
    void *mapped =
        sys_mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int pagemap = sys_open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC, 0);
    int clear_refs = sys_open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC, 0);

    if (sys_failed((long)mapped))
        features->soft_dirty_error = (int)(long)mapped;
    else if (pagemap < 0 || clear_refs < 0)
        features->soft_dirty_error = pagemap < 0 ? pagemap : clear_refs;
    else
        features->soft_dirty_error = probe_soft_dirty(pagemap, clear_refs, mapped);
    features->soft_dirty = features->soft_dirty_error == 0;

    if (clear_refs >= 0)
        sys_close(clear_refs);
    if (pagemap >= 0)
        sys_close(pagemap);
    if (!sys_failed((long)mapped))
        sys_munmap(mapped, PAGE_BYTES);
}
