/*
 * malloc_info.c - what glibc's statistics calls say, from a census of the heap. The numbers are
 * taken while other threads allocate: each is right for some moment, not all for the same one.
 */
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include "core/base/format_text.h"
#include "core/base/sys.h"
#include "core/heap/heap.h"

/* Exported, by preload.map. */
#pragma GCC visibility push(default)

static struct heap_census census_now(void)
{
    struct heap_census census = {0};

    if (heap_census_live(&census) < 0)
        census = (struct heap_census){0};
    return census;
}

struct mallinfo2 mallinfo2(void)
{
    struct heap_census census = census_now();
    struct mallinfo2 info = {0};

    /* What glibc would have mapped one by one, our large blocks, counts apart. */
    info.arena = census.totals.committed_bytes - census.large_bytes;
    info.ordblks = census.totals.free_bytes ? 1 : 0;
    info.hblks = census.large_blocks;
    info.hblkhd = census.large_bytes;
    info.uordblks = census.totals.live_bytes - census.large_bytes;
    info.fordblks = info.arena - info.uordblks;
    info.keepcost = census.totals.free_bytes;
    return info;
}

static int clamp_to_int(size_t value)
{
    return value > INT_MAX ? INT_MAX : (int)value;
}

struct mallinfo mallinfo(void)
{
    struct mallinfo2 wide = mallinfo2();

    return (struct mallinfo){
        .arena = clamp_to_int(wide.arena),
        .ordblks = clamp_to_int(wide.ordblks),
        .hblks = clamp_to_int(wide.hblks),
        .hblkhd = clamp_to_int(wide.hblkhd),
        .uordblks = clamp_to_int(wide.uordblks),
        .fordblks = clamp_to_int(wide.fordblks),
        .keepcost = clamp_to_int(wide.keepcost),
    };
}

/* glibc's parameters describe arenas and thresholds that this heap does not have: accepted,
 * without effect, because programs take a refusal for a failure. */
int mallopt(int parameter, int value)
{
    (void)parameter;
    (void)value;
    return 1;
}

int malloc_trim(size_t keep_bytes)
{
    (void)keep_bytes;
    return heap_trim();
}

void malloc_stats(void)
{
    struct heap_census census = census_now();
    char text[512];
    size_t length;

    length = format_text(text, sizeof text,
                         "pheap: slot %u\n"
                         "committed bytes  = %14lu\n"
                         "in use bytes     = %14lu\n"
                         "blocks           = %14lu\n"
                         "free slice bytes = %14lu\n"
                         "thread heaps     = %14lu\n",
                         heap_slot(), census.totals.committed_bytes, census.totals.live_bytes,
                         census.totals.live_blocks, census.totals.free_bytes, census.thread_heaps);
    (void)sys_write(2, text, length);
}

int malloc_info(int options, FILE *stream)
{
    struct heap_census census;

    if (options != 0)
        return EINVAL;
    census = census_now();
    fprintf(stream, "<malloc version=\"pheap-1\">\n<heap nr=\"%u\">\n<sizes>\n", heap_slot());
    for (uint32_t i = 0; i < census.class_count; i++) {
        const struct heap_class_totals *class_totals = &census.classes[i];

        if (class_totals->slabs == 0 || class_totals->block_bytes == 0)
            continue;
        fprintf(stream, "  <size block=\"%u\" slabs=\"%lu\" used=\"%lu\" total=\"%lu\"/>\n",
                class_totals->block_bytes, class_totals->slabs, class_totals->blocks_used,
                class_totals->blocks_total);
    }
    fprintf(stream, "</sizes>\n<total type=\"large\" count=\"%lu\" size=\"%lu\"/>\n",
            census.large_blocks, census.large_bytes);
    fprintf(stream, "<total type=\"rest\" count=\"1\" size=\"%lu\"/>\n", census.totals.free_bytes);
    fprintf(stream, "<system type=\"current\" size=\"%lu\"/>\n</heap>\n</malloc>\n",
            census.totals.committed_bytes);
    return 0;
}

#pragma GCC visibility pop
