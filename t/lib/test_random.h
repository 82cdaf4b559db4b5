/*
 * test_random.h - numbers that look random, the same ones from the same seed (xorshift64).
 */
#ifndef PHEAP_T_LIB_TEST_RANDOM_H
#define PHEAP_T_LIB_TEST_RANDOM_H

#include <stdint.h>

/* Of a state that is not 0, and never becomes it. */
static inline uint64_t test_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#endif
