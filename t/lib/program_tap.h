/*
 * program_tap.h - TAP for the programs of t/programs, which know nothing of pheap and are one file
 * each. A test is a function with a sentence for a name, as in tap.h:
 *
 *     static void malloc_of_0_gives_a_block(void) { CHECK(malloc(0) != NULL); }
 *     int main(void) { RUN(malloc_of_0_gives_a_block); return tests_done(); }
 */
#ifndef PHEAP_T_LIB_PROGRAM_TAP_H
#define PHEAP_T_LIB_PROGRAM_TAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static int tests_run, tests_failed, current_failed;

#define CHECK(condition) check((condition), __LINE__, #condition)
#define RUN(test)        run(test, #test)

static inline void check(bool passed, int line, const char *text)
{
    if (passed)
        return;
    current_failed = 1;
    printf("# line %d: %s\n", line, text);
}

static inline void run(void (*test)(void), const char *name)
{
    current_failed = 0;
    test();
    tests_run++;
    tests_failed += current_failed;
    printf("%sok %d - ", current_failed ? "not " : "", tests_run);
    for (; *name; name++)
        putchar(*name == '_' ? ' ' : *name);
    printf("\n");
    fflush(stdout);
}

static inline int tests_done(void)
{
    printf("1..%d\n", tests_run);
    return tests_failed != 0;
}

/* The compiler knows malloc and would decide some of this itself. */
static inline void *opaque(void *pointer)
{
    __asm__ volatile("" : "+r"(pointer));
    return pointer;
}

static inline size_t opaque_size(size_t bytes)
{
    __asm__ volatile("" : "+r"(bytes));
    return bytes;
}

/* In a child of its own; a deadlock is a failure, not a hang. */
static inline bool child_says_yes(int (*body)(void))
{
    int status = 0;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        alarm(30);
        _exit(body());
    }
    waitpid(child, &status, 0);
    if (status != 0)
        printf("# child: status 0x%x\n", status);
    return status == 0;
}

#endif
