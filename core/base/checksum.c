/*
 * checksum.c - with checksum_wide.c the one place that sees xxHash. XXH_INLINE_ALL makes its
 * functions static here: libpheap.so exports none of them and needs no libxxhash at run time.
 */
#include "core/base/checksum.h"

#include <cpuid.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define OSXSAVE_AND_AVX (3u << 27) /* leaf 1, ECX */
#define AVX2            (1u << 5)  /* leaf 7, EBX */
#define SSE_AND_AVX     6u         /* of the state that the kernel keeps for each thread */

static bool has_avx2(void)
{
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0, kept = 0, unused;

    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || (ecx & OSXSAVE_AND_AVX) != OSXSAVE_AND_AVX)
        return false;
    __asm__ volatile("xgetbv" : "=a"(kept), "=d"(unused) : "c"(0));
    return (kept & SSE_AND_AVX) == SSE_AND_AVX && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) &&
           (ebx & AVX2);
}

/* Asked once: in a virtual machine the question takes longer than a page's checksum. Whoever asks
 * at the same time finds the same. */
static bool is_wide(void)
{
    enum { UNKNOWN, NARROW, WIDE };
    static int known;
    int is = __atomic_load_n(&known, __ATOMIC_RELAXED);

    if (is == UNKNOWN) {
        is = has_avx2() ? WIDE : NARROW;
        __atomic_store_n(&known, is, __ATOMIC_RELAXED);
    }
    return is == WIDE;
}

uint64_t checksum64(const void *data, size_t bytes)
{
    return bytes > XXH3_MIDSIZE_MAX && is_wide() ? checksum64_wide(data, bytes)
                                                 : XXH3_64bits(data, bytes);
}
