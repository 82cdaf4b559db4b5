/*
 * kernel_features.h - everything that is asked of the kernel, a named field each, probed once.
 *
 * Debian 12's 6.1 kernel has neither PAGEMAP_SCAN nor asynchronous write protection, and its
 * headers do not define them: the definitions are carried in core/base/kernel_uffd.h. It has
 * soft-dirty bits (CONFIG_MEM_SOFT_DIRTY), which other kernels may lack.
 * PHEAP_TRACK=checksum and PHEAP_TRACK=soft-dirty force a fallback (tests use it).
 */
#ifndef PHEAP_BASE_KERNEL_FEATURES_H
#define PHEAP_BASE_KERNEL_FEATURES_H

#include <stdbool.h>

/* How written pages are found. */
enum tracking {
    TRACKING_BEST, /* the first of these that the kernel has: */
    TRACKING_WRITE_PROTECTION,
    TRACKING_SOFT_DIRTY,
    TRACKING_CHECKSUM,
};

struct kernel_features {
    bool userfaultfd_wp_async; /* UFFD_FEATURE_WP_ASYNC and _WP_UNPOPULATED, unprivileged */
    bool pagemap_scan;         /* the PAGEMAP_SCAN ioctl */
    bool pagemap_quick;        /* its short cut for what is not protected, and move_pages() */
    bool soft_dirty;           /* asked for apart, see below */
    int userfaultfd_error;     /* why not: -errno, for messages */
    int pagemap_scan_error;
    int soft_dirty_error;
};

/* Probes by doing; opens and closes descriptors of the caller, leaves nothing behind. */
void kernel_features_probe(struct kernel_features *features);

/* Clears the soft-dirty bits of the whole address space: for who is going to rely on them, before
 * it does. */
void kernel_features_probe_soft_dirty(struct kernel_features *features);

#endif
