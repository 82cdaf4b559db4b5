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
#include "core/heap/hardened.h"
#include "core/heap/heap.h"
#include "core/heap/slot.h"
#include "preload/program.h"

#define STATISTICS_BYTES 6144
_Static_assert(HEAP_CLASSES_MAX * 41 + 512 <= STATISTICS_BYTES, "a line for each class");

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
    program_write_statistics("");
}

static void print_classes(FILE *stream, const struct heap_census *census)
{
    for (uint32_t i = 0; i < census->class_count; i++) {
        const struct heap_class_totals *totals = &census->classes[i];

        if (totals->slabs == 0 || totals->block_bytes == 0)
            continue;
        fprintf(stream, "  <size block=\"%u\" slabs=\"%lu\" used=\"%lu\" total=\"%lu\"/>\n",
                totals->block_bytes, totals->slabs, totals->blocks_used, totals->blocks_total);
    }
}

/* glibc's elements, in its order, so that what reads its output reads ours; there is one arena. */
static void print_totals(FILE *stream, const struct heap_census *census)
{
    uint64_t free_blocks = 0, free_block_bytes = 0;

    for (uint32_t i = 0; i < census->class_count; i++) {
        const struct heap_class_totals *totals = &census->classes[i];
        uint64_t count = totals->blocks_total - totals->blocks_used;

        free_blocks += count;
        free_block_bytes += count * totals->block_bytes;
    }
    fprintf(stream, "<total type=\"fast\" count=\"%lu\" size=\"%lu\"/>\n", free_blocks,
            free_block_bytes);
    fprintf(stream, "<total type=\"rest\" count=\"%d\" size=\"%lu\"/>\n",
            census->totals.free_bytes > 0, census->totals.free_bytes);
}

/* Committed memory never shrinks: what it is now is the most it was. */
static void print_system(FILE *stream, const struct heap_census *census)
{
    uint64_t committed = census->totals.committed_bytes;

    fprintf(stream, "<system type=\"current\" size=\"%lu\"/>\n", committed);
    fprintf(stream, "<system type=\"max\" size=\"%lu\"/>\n", committed);
    fprintf(stream, "<aspace type=\"total\" size=\"%lu\"/>\n", committed);
    fprintf(stream, "<aspace type=\"mprotect\" size=\"%lu\"/>\n", committed);
}

int malloc_info(int options, FILE *stream)
{
    struct heap_census census;

    if (options != 0)
        return EINVAL;
    census = census_now();
    fprintf(stream, "<malloc version=\"pheap-1\">\n<heap nr=\"%u\">\n<sizes>\n", heap_slot());
    print_classes(stream, &census);
    fprintf(stream, "</sizes>\n");
    print_totals(stream, &census);
    print_system(stream, &census);
    fprintf(stream, "</heap>\n");
    print_totals(stream, &census);
    fprintf(stream, "<total type=\"mmap\" count=\"%lu\" size=\"%lu\"/>\n", census.large_blocks,
            census.large_bytes);
    print_system(stream, &census);
    fprintf(stream, "</malloc>\n");
    return 0;
}

#pragma GCC visibility pop

/* ---- to stderr --------------------------------------------------------------------------- */

static size_t add_totals(char *text, size_t size, const struct heap_census *census)
{
    bool is_hardened = heap_here() && heap_is_hardened(heap_here());

    return format_text(text, size,
                       "pheap: slot %u%s\n"
                       "committed bytes  = %14lu\n"
                       "in use bytes     = %14lu\n"
                       "blocks           = %14lu\n"
                       "large blocks     = %14lu\n"
                       "free slice bytes = %14lu\n"
                       "thread heaps     = %14lu\n"
                       "    block    slabs       used      total\n",
                       heap_slot(), is_hardened ? ", hardened" : "", census->totals.committed_bytes,
                       census->totals.live_bytes, census->totals.live_blocks, census->large_blocks,
                       census->totals.free_bytes, census->thread_heaps);
}

static size_t add_class(char *text, size_t size, const struct heap_class_totals *totals)
{
    if (totals->slabs == 0 || totals->block_bytes == 0)
        return 0;
    return format_text(text, size, "%9u %8lu %10lu %10lu\n", totals->block_bytes, totals->slabs,
                       totals->blocks_used, totals->blocks_total);
}

void program_write_statistics(const char *title)
{
    struct heap_census census = census_now();
    char text[STATISTICS_BYTES];
    size_t length = format_text(text, sizeof text, "%s", title);

    length += add_totals(text + length, sizeof text - length, &census);
    for (uint32_t i = 0; i < census.class_count && length < sizeof text; i++)
        length += add_class(text + length, sizeof text - length, &census.classes[i]);
    (void)sys_write(2, text, length);
}
