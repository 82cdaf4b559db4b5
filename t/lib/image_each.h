/*
 * image_each.h - for tests of the image writer that run once for each way of finding written pages.
 */
#ifndef PHEAP_T_LIB_IMAGE_EACH_H
#define PHEAP_T_LIB_IMAGE_EACH_H

#include "t/lib/image_fixture.h"

static enum tracking track;
static struct fixture f;

static inline bool start(void)
{
    return fixture_start(&f, track, 0);
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

#define RUN_EACH(test) fixture_run_by_each(&track, #test, test)

#endif
