/*
 * checksum_wide.c - the same checksum in registers of 32 bytes: compiled for AVX2, whatever the
 * rest is compiled for. Called only where checksum.c has found that there is AVX2.
 */
#include "core/base/checksum.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t checksum64_wide(const void *data, size_t bytes)
{
    return XXH3_64bits(data, bytes);
}
