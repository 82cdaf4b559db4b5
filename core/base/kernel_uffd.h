/*
 * kernel_uffd.h - the kernel's interface to dirty tracking: PAGEMAP_SCAN (Linux 6.7) and the
 * userfaultfd features that go with it (6.4, 6.7). Debian 12's headers are of 6.1 and lack them,
 * so they are defined here, with the kernel's names and values. And the classic pagemap, which no
 * header has (Documentation/admin-guide/mm/pagemap.rst).
 */
#ifndef PHEAP_BASE_KERNEL_UFFD_H
#define PHEAP_BASE_KERNEL_UFFD_H

#include <linux/userfaultfd.h>
#include <stdint.h>
#include <sys/ioctl.h>

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1u << 13)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1u << 15)
#endif

#ifndef PAGEMAP_SCAN
#define PAGE_IS_WPALLOWED  (1u << 0)
#define PAGE_IS_WRITTEN    (1u << 1)
#define PAGE_IS_FILE       (1u << 2)
#define PAGE_IS_PRESENT    (1u << 3)
#define PAGE_IS_SWAPPED    (1u << 4)
#define PAGE_IS_PFNZERO    (1u << 5)
#define PAGE_IS_HUGE       (1u << 6)
#define PAGE_IS_SOFT_DIRTY (1u << 7)

#define PM_SCAN_WP_MATCHING   (1u << 0)
#define PM_SCAN_CHECK_WPASYNC (1u << 1)

struct page_region { /* [start, end) are addresses */
    uint64_t start;
    uint64_t end;
    uint64_t categories;
};

struct pm_scan_arg {
    uint64_t size;
    uint64_t flags;
    uint64_t start;
    uint64_t end;
    uint64_t walk_end;
    uint64_t vec;
    uint64_t vec_len;
    uint64_t max_pages;
    uint64_t category_inverted;
    uint64_t category_mask;
    uint64_t category_anyof_mask;
    uint64_t return_mask;
};

#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
#endif

/* Bits of an entry of /proc/PID/pagemap, eight bytes a page. */
#define PAGEMAP_PRESENT    (1ull << 63)
#define PAGEMAP_SWAPPED    (1ull << 62)
#define PAGEMAP_FILE       (1ull << 61) /* a file's page, or shared anonymous memory */
#define PAGEMAP_EXCLUSIVE  (1ull << 56) /* mapped here alone; never the shared zero page */
#define PAGEMAP_SOFT_DIRTY (1ull << 55)

#define CLEAR_SOFT_DIRTY "4" /* written to /proc/PID/clear_refs */

_Static_assert(sizeof(struct page_region) == 24, "as the kernel has it");
_Static_assert(sizeof(struct pm_scan_arg) == 96, "as the kernel has it");

#endif
