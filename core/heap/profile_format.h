/*
 * profile_format.h - who allocated what, as it lies in the slot of a profiled heap. Nothing but
 * layout, and in which bucket a stack and a sample are.
 *
 *   heap->profile.start + 0       struct profile
 *   profile->stacks.start         struct profile_stack, one a distinct stack
 *   profile->samples.start        struct profile_sample, one a sampled block that is live
 *
 * The area is the last part of the slot's reserve, so that a heap without a profile lies as ever.
 * Stacks and samples have numbers from 1 on, their place in their array; 0 is none. Both are found
 * through buckets and chains. A stack is never dropped; a sample's place is used again.
 *
 * Under the lock: each stack is in the chain of its bucket and in no other; so is a sample with an
 * address, and one without is in the list of free places; live + [free_sample] == sample_count.
 *
 * One allocation is sampled with the probability 1 - exp(-bytes / rate_bytes): whoever counts
 * divides by that.
 */
#ifndef PHEAP_HEAP_PROFILE_FORMAT_H
#define PHEAP_HEAP_PROFILE_FORMAT_H

#include "core/heap/heap_format.h"

#define PROFILE_MAGIC          0x656c69666f7270ull /* "profile" */
#define PROFILE_FRAMES_MAX     60
#define PROFILE_STACK_BUCKETS  4096u
#define PROFILE_SAMPLE_BUCKETS 65536u

struct profile_stack {
    uint64_t hash;
    uint64_t taken, taken_bytes; /* samples so far, freed ones too; bytes asked for */
    uint32_t next;
    uint32_t frame_count;
    uint64_t frames[PROFILE_FRAMES_MAX]; /* return addresses, the innermost first */
};

struct profile_sample {
    uint64_t address; /* of the block; 0: the place is free */
    uint64_t bytes;   /* asked for */
    uint64_t order;   /* samples taken before it */
    uint32_t stack;
    uint32_t next; /* in its chain, or of free places */
};

struct profile {
    uint64_t magic;
    uint64_t rate_bytes;
    struct lock lock;          /* guards what follows */
    struct thread_heap *slabs; /* whose slabs hold the small sampled blocks; no thread's */
    struct area stacks, samples;
    uint32_t stack_count, sample_count; /* places that were ever used */
    uint32_t free_sample;
    uint32_t live; /* samples */
    uint64_t taken;
    uint64_t lost; /* not kept for want of memory */
    uint32_t stack_buckets[PROFILE_STACK_BUCKETS];
    uint32_t sample_buckets[PROFILE_SAMPLE_BUCKETS];
};

static inline uint64_t profile_stack_hash(const uint64_t *frames, uint32_t count)
{
    uint64_t hash = count;

    for (uint32_t i = 0; i < count; i++)
        hash = (hash ^ frames[i]) * 0x9e3779b97f4a7c15ull ^ hash >> 29;
    return hash;
}

static inline uint32_t profile_stack_bucket(uint64_t hash)
{
    return (uint32_t)(hash % PROFILE_STACK_BUCKETS);
}

static inline uint32_t profile_sample_bucket(uint64_t address)
{
    return (uint32_t)(address * 0x9e3779b97f4a7c15ull >> 48);
}

_Static_assert(PROFILE_SAMPLE_BUCKETS == 1u << 16, "16 bits of a product");
_Static_assert(__builtin_offsetof(struct heap, profile_rate_bytes) == 512 &&
                   __builtin_offsetof(struct heap, profile) == 520,
               "docs/pool-format.md says where the profile is");
_Static_assert(__builtin_offsetof(struct profile, lock) == 16 &&
                   __builtin_offsetof(struct profile, stacks) == 40 &&
                   __builtin_offsetof(struct profile, stack_count) == 88 &&
                   __builtin_offsetof(struct profile, taken) == 104 &&
                   __builtin_offsetof(struct profile, stack_buckets) == 120 &&
                   __builtin_offsetof(struct profile, sample_buckets) == 16504,
               "docs/pool-format.md draws it");
_Static_assert(sizeof(struct profile_stack) == 512, "a stack is 512 bytes");
_Static_assert(sizeof(struct profile_sample) == 32, "a sample is 32 bytes");

#endif
