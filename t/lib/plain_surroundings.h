/*
 * plain_surroundings.h - a test that compares counts begins the same way wherever it runs: what it
 * inherits (descriptors, a pipe as standard input, the limit of its stack, which decides where
 * mappings lie) is part of a process image, and so of what a checkpoint and a restore cost.
 */
#ifndef T_LIB_PLAIN_SURROUNDINGS_H
#define T_LIB_PLAIN_SURROUNDINGS_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define PLAIN_STACK_BYTES 8388608

/* Starts the test again where its stack was made by another limit. False: it cannot be had. */
static inline bool surroundings_are_plain(char **argv)
{
    struct rlimit stack;

    if (close_range(3, ~0u, 0) != 0 || close(0) != 0 || open("/dev/null", O_RDONLY) != 0 ||
        getrlimit(RLIMIT_STACK, &stack) != 0)
        return false;
    if (stack.rlim_cur == PLAIN_STACK_BYTES)
        return true;
    stack.rlim_cur = PLAIN_STACK_BYTES;
    if (setrlimit(RLIMIT_STACK, &stack) == 0)
        execv("/proc/self/exe", argv);
    return false;
}

/* First in main(). */
#define BEGIN_PLAIN(argv)                                                                          \
    do {                                                                                           \
        if (!surroundings_are_plain(argv)) {                                                       \
            puts("Bail out! needs a stack limit of 8 MiB and /dev/null");                          \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

#endif
