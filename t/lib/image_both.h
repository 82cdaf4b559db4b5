/*
 * image_both.h - for tests of the image writer that run twice: with the kernel's dirty tracking and
 * by page checksums.
 */
#ifndef PHEAP_T_LIB_IMAGE_BOTH_H
#define PHEAP_T_LIB_IMAGE_BOTH_H

#include "t/lib/image_fixture.h"

static bool by_checksum;
static struct fixture f;

static inline bool start(void)
{
    return fixture_start(&f, by_checksum, 0);
}

static inline void fill(void *memory, size_t bytes, unsigned seed)
{
    uint32_t *words = memory;

    for (size_t i = 0; i < bytes / 4; i++)
        words[i] = seed = seed * 1664525u + 1013904223u;
}

/* The state of `pages` pages at memory as a model outside the image. */
static inline void *remember(const void *memory, size_t pages)
{
    void *model = fixture_model(&f, pages * 4096);

    memcpy(model, memory, pages * 4096);
    return model;
}

#define RUN_BOTH(test)                                                                             \
    do {                                                                                           \
        by_checksum = false;                                                                       \
        tap_run(#test "_by_tracking", test);                                                       \
        by_checksum = true;                                                                        \
        tap_run(#test "_by_checksums", test);                                                      \
    } while (0)

#endif
