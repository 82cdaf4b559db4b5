/*
 * kernel_features.h - everything that is asked of the kernel, a named field each, probed once.
 *
 * Debian 12's 6.1 kernel has neither PAGEMAP_SCAN nor asynchronous write protection, and its
 * headers do not define them: the definitions are carried in core/base/kernel_uffd.h.
 * PHEAP_TRACK=checksum forces the fallback on any kernel (tests use it).
 */
#ifndef PHEAP_BASE_KERNEL_FEATURES_H
#define PHEAP_BASE_KERNEL_FEATURES_H

#include <stdbool.h>

struct kernel_features {
    bool userfaultfd_wp_async; /* UFFD_FEATURE_WP_ASYNC and _WP_UNPOPULATED, unprivileged */
    bool pagemap_scan;         /* the PAGEMAP_SCAN ioctl */
    int userfaultfd_error;     /* why not: -errno, for messages */
    int pagemap_scan_error;
};

/* Probes by doing; opens and closes descriptors of the caller, leaves nothing behind. */
void kernel_features_probe(struct kernel_features *features);

#endif
