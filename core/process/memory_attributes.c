/*
 * memory_attributes.c - see memory_attributes.h: read from VmFlags of smaps, made again by madvise
 * and mlock.
 *
 * Always true: ranges ascend; neighbours with the same flags are one. A range that is not known
 * says nothing, and its mapping is restored as a new one.
 */
#include "core/process/memory_attributes.h"

#include <string.h>
#include <sys/mman.h>
#include "core/base/sys.h"
#include "core/image/smaps.h"
#include "core/process/proc_text.h"
#include "core/process/rebuild.h"

#define RANGES_FIRST 256u
#define RANGES_MAX   (1u << 20)
#define CHEAP_NS     2000000ull /* a reading that takes less is done for each checkpoint */
#define SHARE        50 /* a longer one at most so rarely that it takes a 50th of the time */

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif

/* Beyond enum record_memory_attributes: what cannot be restored. */
#define SEALED         (1u << 16)
#define SHADOW_STACK   (1u << 17)
#define PROTECTION_KEY (1u << 18)
#define OBSTACLES      (SEALED | SHADOW_STACK | PROTECTION_KEY)

struct attribute_range {
    uint64_t start, end;
    uint32_t flags;
};

struct memory_attributes {
    struct arena *arena;
    struct attribute_range *ranges;
    uint32_t count, capacity;
    bool is_known, has_settings;
    uint32_t calls;             /* begun and ended when they were read */
    uint64_t read_ns, taken_ns; /* when the reading ended, and how long it took */
    struct attribute_range now; /* the mapping whose lines are being read */
};

static const struct {
    char name[4];
    uint32_t flag;
} flag_names[] = {
    {"dc", MEMORY_DONT_FORK},       {"wf", MEMORY_WIPE_ON_FORK},
    {"dd", MEMORY_DONT_DUMP},       {"lo", MEMORY_LOCKED},
    {"lf", MEMORY_LOCKED_ON_FAULT}, {"hg", MEMORY_HUGE_PAGES},
    {"nh", MEMORY_NO_HUGE_PAGES},   {"mg", MEMORY_MERGEABLE},
    {"sr", MEMORY_SEQUENTIAL},      {"rr", MEMORY_RANDOM},
    {"nr", MEMORY_NO_RESERVE},      {"gd", MEMORY_GROWS_DOWN},
    {"dp", MEMORY_DROPPABLE},       {"sl", SEALED},
    {"ss", SHADOW_STACK},
};

struct memory_attributes *memory_attributes_create(struct arena *arena)
{
    struct memory_attributes *known = arena_alloc(arena, sizeof *known, 16);

    if (known != NULL)
        *known = (struct memory_attributes){.arena = arena};
    return known;
}

/* Sizes double, so what is left behind is no more than one table. */
static bool make_room(struct memory_attributes *known)
{
    uint32_t capacity = known->capacity > 0 ? known->capacity * 2 : RANGES_FIRST;
    struct attribute_range *ranges;

    if (known->count < known->capacity)
        return true;
    ranges =
        capacity <= RANGES_MAX ? arena_alloc(known->arena, capacity * sizeof *ranges, 16) : NULL;
    if (ranges == NULL)
        return false;
    if (known->count > 0)
        memcpy(ranges, known->ranges, known->count * sizeof *ranges);
    known->ranges = ranges;
    known->capacity = capacity;
    return true;
}

static void add_range(struct memory_attributes *known, const struct attribute_range *range)
{
    struct attribute_range *last = known->count > 0 ? &known->ranges[known->count - 1] : NULL;

    known->has_settings |= (range->flags & ~MEMORY_NO_RESERVE) != 0;
    if (last != NULL && last->end == range->start && last->flags == range->flags)
        last->end = range->end;
    else if (make_room(known))
        known->ranges[known->count++] = *range;
    else
        known->is_known = false;
}

static uint32_t parse_flags(const char *at)
{
    uint32_t flags = 0;

    for (; at[0] != 0 && at[1] != 0; at += at[2] == ' ' ? 3 : 2)
        for (size_t i = 0; i < sizeof flag_names / sizeof *flag_names; i++)
            if (at[0] == flag_names[i].name[0] && at[1] == flag_names[i].name[1])
                flags |= flag_names[i].flag;
    return flags;
}

/* "ProtectionKey:         0" comes before "VmFlags: rd wr mr mw me ac", the last line. */
static void take_line(void *context, const char *line)
{
    struct memory_attributes *known = context;
    struct attribute_range *now = &known->now;
    uint64_t start, end;

    if (smaps_begins_mapping(line, &start, &end)) {
        *now = (struct attribute_range){.start = start, .end = end};
    } else if (text_starts_with(line, "ProtectionKey:")) {
        if (proc_number(line, "ProtectionKey", 10) != 0)
            now->flags |= PROTECTION_KEY;
    } else if (text_starts_with(line, "VmFlags: ")) {
        now->flags |= parse_flags(line + sizeof "VmFlags: " - 1);
        add_range(known, now);
    }
}

static uint32_t calls_begun(const struct memory_calls *calls)
{
    return calls != NULL ? __atomic_load_n(&calls->begun, __ATOMIC_ACQUIRE) : 0;
}

static uint32_t calls_ended(const struct memory_calls *calls)
{
    return calls != NULL ? __atomic_load_n(&calls->ended, __ATOMIC_ACQUIRE) : 0;
}

static void read_all(struct memory_attributes *known, const struct memory_calls *calls)
{
    uint64_t began_ns = sys_clock_ns(CLOCK_MONOTONIC);

    known->calls = calls_ended(calls);
    known->count = 0;
    known->has_settings = false;
    known->is_known = true;
    if (smaps_each_line(take_line, known) < 0)
        known->is_known = false;
    known->read_ns = sys_clock_ns(CLOCK_MONOTONIC);
    known->taken_ns = known->read_ns - began_ns;
}

static bool has_changed(const struct memory_attributes *known, const struct memory_calls *calls)
{
    return !known->is_known || calls_begun(calls) != known->calls;
}

void memory_attributes_look(struct memory_attributes *known, const struct memory_calls *calls)
{
    uint64_t age_ns = sys_clock_ns(CLOCK_MONOTONIC) - known->read_ns;

    if (has_changed(known, calls) || known->taken_ns < CHEAP_NS ||
        (known->has_settings && age_ns > SHARE * known->taken_ns))
        read_all(known, calls);
}

void memory_attributes_settle(struct memory_attributes *known, const struct memory_calls *calls)
{
    if (has_changed(known, calls))
        read_all(known, calls);
}

/* The first range that it meets, or NULL. */
static const struct attribute_range *find(const struct memory_attributes *known,
                                          const struct mapping *mapping)
{
    uint32_t low = 0, high = known->is_known ? known->count : 0;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (known->ranges[middle].end <= mapping->start)
            low = middle + 1;
        else
            high = middle;
    }
    return known->is_known && low < known->count && known->ranges[low].start < mapping->end
               ? &known->ranges[low]
               : NULL;
}

uint32_t memory_attributes_of(const struct memory_attributes *known, const struct mapping *mapping)
{
    const struct attribute_range *range = find(known, mapping);

    if (range == NULL)
        return 0;
    return (range->flags & ~OBSTACLES & ~(mapping->grows_down ? MEMORY_GROWS_DOWN : 0u)) |
           MEMORY_KNOWN;
}

const char *memory_attributes_obstacle(const struct memory_attributes *known,
                                       const struct mapping *mapping)
{
    const struct attribute_range *range = find(known, mapping);
    uint32_t flags = range != NULL ? range->flags : 0;

    return flags & SHADOW_STACK     ? "a shadow stack (start the program with "
                                      "GLIBC_TUNABLES=glibc.cpu.x86_shstk=off)"
           : flags & SEALED         ? "sealed memory (mseal)"
           : flags & PROTECTION_KEY ? "memory with a protection key (pkey_mprotect)"
                                    : NULL;
}

uint32_t memory_calls_flags(const struct memory_calls *calls)
{
    uint32_t locks = calls != NULL ? calls->lock_future : 0;

    return (locks & MCL_FUTURE ? RECORD_LOCKS_FUTURE : 0u) |
           (locks & MCL_ONFAULT ? RECORD_LOCKS_FUTURE_ON_FAULT : 0u);
}

/* What is made writable only to be filled would stay accounted for ever. */
uint64_t memory_attributes_flags(const struct record_mapping *mapping, bool widened)
{
    uint32_t attributes = mapping->attributes;
    bool reserves = (attributes & MEMORY_KNOWN) && !(attributes & MEMORY_NO_RESERVE) && !widened;

    return (attributes & MEMORY_DROPPABLE ? MAP_DROPPABLE : MAP_PRIVATE) |
           (reserves ? 0u : MAP_NORESERVE) | (attributes & MEMORY_GROWS_DOWN ? MAP_GROWSDOWN : 0u);
}

static void advise(struct rebuild *rebuild, const struct record_mapping *mapping, int advice)
{
    batch_add(rebuild->batch, "what madvise had set", SYS_madvise,
              BATCH_ARGS(mapping->start, mapping->end - mapping->start, (uint64_t)advice));
    if (advice != MADV_DONTFORK && advice != MADV_WIPEONFORK)
        batch_may_fail(rebuild->batch); /* a kernel without huge pages or KSM */
}

/* A limit (RLIMIT_MEMLOCK) that is lower than the one of before leaves it unlocked. */
static void lock(struct rebuild *rebuild, const struct record_mapping *mapping)
{
    bool on_fault = mapping->attributes & MEMORY_LOCKED_ON_FAULT;

    batch_add(
        rebuild->batch, "locked memory", SYS_mlock2,
        BATCH_ARGS(mapping->start, mapping->end - mapping->start, on_fault ? MLOCK_ONFAULT : 0));
    batch_may_fail(rebuild->batch);
}

void rebuild_memory_attributes(struct rebuild *rebuild)
{
    static const struct {
        uint32_t attribute;
        int advice;
    } advices[] = {
        {MEMORY_DONT_FORK, MADV_DONTFORK},       {MEMORY_WIPE_ON_FORK, MADV_WIPEONFORK},
        {MEMORY_DONT_DUMP, MADV_DONTDUMP},       {MEMORY_HUGE_PAGES, MADV_HUGEPAGE},
        {MEMORY_NO_HUGE_PAGES, MADV_NOHUGEPAGE}, {MEMORY_MERGEABLE, MADV_MERGEABLE},
        {MEMORY_SEQUENTIAL, MADV_SEQUENTIAL},    {MEMORY_RANDOM, MADV_RANDOM},
    };

    for (uint32_t i = 0; i < rebuild->image->mapping_count; i++) {
        const struct record_mapping *mapping = rebuild->image->mappings[i].record;

        if (mapping->attributes & MEMORY_DROPPABLE) /* wiped and undumped by its nature */
            continue;
        for (size_t k = 0; k < sizeof advices / sizeof *advices; k++)
            if (mapping->attributes & advices[k].attribute)
                advise(rebuild, mapping, advices[k].advice);
        if (mapping->attributes & (MEMORY_LOCKED | MEMORY_LOCKED_ON_FAULT))
            lock(rebuild, mapping);
    }
}
