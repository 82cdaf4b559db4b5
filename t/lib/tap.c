/*
 * tap.c - see tap.h. Output is line-buffered, so that a crash leaves what was said before it.
 */
#include "t/lib/tap.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int tests_run, tests_failed;
static bool current_failed;
static char current_skip[256];
static int wanted_count;
static char **wanted;

void tap_arguments(int argc, char **argv)
{
    wanted_count = argc - 1;
    wanted = argv + 1;
}

static bool is_wanted(const char *name)
{
    if (wanted_count <= 0)
        return true;
    for (int i = 0; i < wanted_count; i++)
        if (strcmp(wanted[i], name) == 0)
            return true;
    return false;
}

void tap_run(const char *name, void (*test)(void))
{
    if (!is_wanted(name))
        return;
    setvbuf(stdout, NULL, _IOLBF, 0);
    current_failed = false;
    current_skip[0] = 0;
    test();
    tests_run++;
    tests_failed += current_failed;
    printf("%sok %d - ", current_failed ? "not " : "", tests_run);
    for (const char *c = name; *c; c++)
        putchar(*c == '_' ? ' ' : *c);
    printf("%s%s\n", current_skip[0] ? " # SKIP " : "", current_skip);
}

void tap_skip(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(current_skip, sizeof current_skip, format, args);
    va_end(args);
}

void tap_note(const char *format, ...)
{
    va_list args;

    printf("# ");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
}

bool tap_check(bool passed, const char *file, int line, const char *format, ...)
{
    va_list args;

    if (passed)
        return true;
    current_failed = true;
    printf("# %s:%d: ", file, line);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    return false;
}

bool tap_check_str(const char *a, const char *b, const char *file, int line, const char *a_text,
                   const char *b_text)
{
    bool same = a && b && strcmp(a, b) == 0;

    return tap_check(same, file, line, "%s == %s --> \"%s\" != \"%s\"", a_text, b_text,
                     a ? a : "(null)", b ? b : "(null)");
}

int tap_done(void)
{
    printf("1..%d\n", tests_run);
    return tests_failed ? 1 : 0;
}

#ifdef __SANITIZE_THREAD__
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void);

/*
 * Races that are meant. free reads what a slab's owner may be changing (owned_start, room): any
 * value that they have had sends a block that is not the thread's own to the slow path, which looks
 * again. malloc reads a word of the slab's first block at the end of a list, whoever owns that.
 */
const char *__tsan_default_suppressions(void)
{
    return "race:fast_free\nrace:slab_free\nrace_top:fast_malloc\nrace_top:class_pop";
}
#endif
