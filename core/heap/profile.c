/*
 * profile.c - see profile.h: when to sample, and the blocks that are.
 *
 * Always true: until_sample is 0 in a thread heap that is not profiled and at least 1 in one that
 * is. While a thread takes a sample nothing that it allocates is sampled.
 */
#include "core/heap/profile.h"

#include <errno.h>
#include <string.h>
#include "core/base/sys.h"
#include "core/heap/fast_path.h"
#include "core/heap/hardened.h"
#include "core/heap/heap.h"
#include "core/heap/profile_table.h"
#include "core/heap/thread_heap.h"

static heap_stack_walker *walker;
static __thread bool is_sampling __attribute__((tls_model("initial-exec")));

/* ln x for 0 < x <= 1, to six digits: libm is not loaded. x = m * 2^e, ln m by its atanh series. */
static double logarithm(double x)
{
    union {
        double value;
        uint64_t bits;
    } mantissa = {x};
    int exponent = (int)(mantissa.bits >> 52) - 1023;
    double s, s2;

    mantissa.bits = (mantissa.bits & ((1ull << 52) - 1)) | 1023ull << 52;
    s = (mantissa.value - 1) / (mantissa.value + 1);
    s2 = s * s;
    return exponent * 0.6931471805599453 +
           2 * s * (1 + s2 * (1.0 / 3 + s2 * (1.0 / 5 + s2 * (1.0 / 7 + s2 * (1.0 / 9)))));
}

/* Bytes until the next sample: exponentially distributed, at least 1. */
static uint64_t draw(struct thread_heap *mine, uint64_t rate_bytes)
{
    uint64_t dice = mine->sample_dice;

    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    mine->sample_dice = dice;
    return 1 + (uint64_t)(-logarithm((double)((dice >> 11) + 1) * 0x1p-53) * (double)rate_bytes);
}

void profile_init_thread(const struct heap *heap, struct thread_heap *mine)
{
    uint64_t rate_bytes = heap->profile_rate_bytes;

    mine->small_limit = rate_bytes ? 0 : SMALL_MAX_BYTES;
    mine->medium_limit = rate_bytes ? 0 : BLOCK_MAX_BYTES;
    if (mine->sample_dice == 0)
        mine->sample_dice = (heap->secret ^ (uint64_t)mine * 0x9e3779b97f4a7c15ull) | 1;
    mine->until_sample = rate_bytes ? draw(mine, rate_bytes) : 0;
}

int heap_profile_start(uint64_t rate_bytes, heap_stack_walker *given)
{
    struct heap *heap = heap_here();
    struct thread_heap *slabs;

    if (heap == NULL || heap_is_hardened(heap) || heap->profile.start == 0)
        return STATUS_REFUSED;
    slabs = thread_heap_make_shared(heap);
    if (slabs == NULL || !profile_table_create(heap, slabs, rate_bytes))
        return -ENOMEM;
    walker = given;
    heap->profile_rate_bytes = rate_bytes;
    /* Of threads that there are already, this one alone is surely not in the middle of a malloc. */
    if (heap_thread != &heap_thread_none)
        profile_init_thread(heap, heap_thread);
    return 0;
}

bool profile_hits(struct heap *heap, struct thread_heap *mine, uint64_t bytes)
{
    if (bytes < mine->until_sample) {
        mine->until_sample -= bytes;
        return false;
    }
    mine->until_sample = draw(mine, heap->profile_rate_bytes);
    return true;
}

static bool may_sample(const struct heap *heap)
{
    const struct profile *profile = heap_profile(heap);

    return !is_sampling && !heap_is_interrupted(heap) && !heap_is_forking(heap) &&
           !lock_held_by(&profile->lock, heap_holder()) &&
           !lock_held_by(&profile->slabs->lock, heap_holder());
}

void *profile_alloc_small(struct heap *heap, uint32_t size_class, uint64_t bytes, bool *is_zero)
{
    uint64_t frames[PROFILE_FRAMES_MAX];
    uint32_t count;
    void *block;

    if (!may_sample(heap))
        return NULL;
    is_sampling = true;
    count = walker(frames, PROFILE_FRAMES_MAX);
    block = alloc_sampled(heap, heap_profile(heap)->slabs, size_class, is_zero);
    if (block)
        profile_table_add(heap, block, bytes, frames, count);
    is_sampling = false;
    return block;
}

void profile_note_large(struct heap *heap, void *block, uint64_t bytes)
{
    uint64_t frames[PROFILE_FRAMES_MAX];

    if (!profile_hits(heap, heap_thread, bytes) || !may_sample(heap))
        return;
    is_sampling = true;
    profile_table_add(heap, block, bytes, frames, walker(frames, PROFILE_FRAMES_MAX));
    heap_block_span(block)->flags |= SPAN_SAMPLED;
    is_sampling = false;
}

void profile_forget(struct heap *heap, const void *block)
{
    struct span *span = heap_block_span(block);

    if (span->kind == SPAN_LARGE)
        span->flags &= (uint8_t)~SPAN_SAMPLED;
    if (!lock_held_by(&heap_profile(heap)->lock, heap_holder()))
        profile_table_remove(heap, block);
}

void profile_resize(struct heap *heap, const void *block, uint64_t bytes)
{
    if (!lock_held_by(&heap_profile(heap)->lock, heap_holder()))
        profile_table_resize(heap, block, bytes);
}
