/*
 * base_checksum.c - one checksum, whatever the processor has: what one machine writes another
 * reads.
 */
#include <string.h>

#include "core/base/checksum.h"
#include "t/lib/tap.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define BYTES 9000

static unsigned char bytes[BYTES];

static void every_length_has_the_checksum_of_the_library(void)
{
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (unsigned char)(i * 2654435761u >> 24);
    for (size_t length = 0; length < BYTES - 64; length += length < 600 ? 1 : 37)
        for (size_t start = 0; start < 64; start += 13)
            if (checksum64(bytes + start, length) != XXH3_64bits(bytes + start, length)) {
                CHECK_EQ(length, SIZE_MAX);
                return;
            }
    CHECK(true);
}

/* Of a page that counts from 0, by xxhsum 0.8.1: what is in pools. */
static void a_known_page_has_the_known_checksum(void)
{
    for (size_t i = 0; i < 4096; i++)
        bytes[i] = (unsigned char)i;
    CHECK_EQ(checksum64(bytes, 4096), 0xeb4b7c3707879151);
    CHECK_EQ(checksum64("", 0), 0x2d06800538d394c2);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(every_length_has_the_checksum_of_the_library);
    RUN(a_known_page_has_the_known_checksum);
    return tap_done();
}
