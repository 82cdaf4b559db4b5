/*
 * checksum.c - the one place that sees xxHash. XXH_INLINE_ALL makes its functions static here:
 * libpheap.so exports none of them and needs no libxxhash at run time.
 */
#include "core/base/checksum.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t checksum64(const void *data, size_t bytes)
{
    return XXH3_64bits(data, bytes);
}
