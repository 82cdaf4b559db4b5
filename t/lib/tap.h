/*
 * tap.h - the TAP harness of the unit tests. One file a test program; each test is a function with
 * a sentence for a name:
 *
 *     static void a_new_pool_has_no_generations(void) { CHECK_EQ(pool.super.generation_count, 0); }
 *     int main(int argc, char **argv) { RUN(a_new_pool_has_no_generations); return tap_done(); }
 *
 * A failed check prints both operands, file and line, and the test goes on; the test is then "not
 * ok". CHECK_OK(status) prints status_text. tap_skip(reason) marks the running test as skipped,
 * with the reason shown. `./pool_index NAME...` runs only the named tests.
 */
#ifndef PHEAP_T_LIB_TAP_H
#define PHEAP_T_LIB_TAP_H

#include <stdbool.h>
#include <stdint.h>

void tap_arguments(int argc, char **argv);
void tap_run(const char *name, void (*test)(void));
void tap_skip(const char *format, ...) __attribute__((format(printf, 1, 2)));
void tap_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
int tap_done(void); /* prints the plan; the exit status of main */
bool tap_check(bool passed, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#define RUN(test)   tap_run(#test, test)
#define CHECK(cond) tap_check((cond), __FILE__, __LINE__, "%s", #cond)
#define CHECK_EQ(a, b)                                                                             \
    __extension__({                                                                                \
        long long tap_a_ = (long long)(a), tap_b_ = (long long)(b);                                \
        tap_check(tap_a_ == tap_b_, __FILE__, __LINE__, "%s == %s --> %lld != %lld", #a, #b,       \
                  tap_a_, tap_b_);                                                                 \
    })
#define CHECK_STR(a, b) tap_check_str((a), (b), __FILE__, __LINE__, #a, #b)
#define CHECK_OK(call)                                                                             \
    __extension__({                                                                                \
        long tap_s_ = (long)(call);                                                                \
        tap_check(tap_s_ >= 0, __FILE__, __LINE__, "%s --> %ld", #call, tap_s_);                   \
    })
bool tap_check_str(const char *a, const char *b, const char *file, int line, const char *a_text,
                   const char *b_text);

#endif
