/*
 * base_arena.c - arenas: alignment, zeroed memory also after a rewind, limits.
 */
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "core/base/arena.h"
#include "t/lib/tap.h"

static bool is_zero(const unsigned char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (bytes[i])
            return false;
    return true;
}

static void memory_is_zeroed_and_aligned(void)
{
    struct arena arena;

    CHECK_OK(arena_create(&arena, 1 << 20));
    for (size_t align = 1; align <= 4096; align *= 2) {
        unsigned char *p = arena_alloc(&arena, 100, align);

        CHECK(p && (uintptr_t)p % align == 0 && is_zero(p, 100));
        memset(p, 0xff, 100);
        CHECK(arena_is_valid(&arena));
    }
    arena_destroy(&arena);
}

/* More or less than there is, or nothing: an expectation changes where memory lies, no more. */
static void what_is_expected_need_not_be_used(void)
{
    static const size_t expected[] = {0, 1, 4096, 3ul << 20, 8ul << 20, 64ul << 20, SIZE_MAX};
    struct arena arena;

    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        size_t room = 0;

        CHECK_OK(arena_create(&arena, 32ul << 20));
        CHECK(arena_alloc(&arena, 100, 8) != NULL);
        arena_expect(&arena, expected[i]);
        CHECK(arena_is_valid(&arena));
        while (arena_alloc(&arena, 1ul << 20, 4096) != NULL)
            room++;
        CHECK(room >= 29 && arena_is_valid(&arena));
        arena_destroy(&arena);
    }
}

static void memory_is_zeroed_again_after_a_rewind(void)
{
    struct arena arena;
    const size_t bytes = 20 << 20;

    CHECK_OK(arena_create(&arena, 64 << 20));
    uintptr_t mark = arena_mark(&arena);
    unsigned char *first = arena_alloc(&arena, bytes, 16);
    memset(first, 0xff, bytes);
    arena_rewind(&arena, mark);
    unsigned char *second = arena_alloc(&arena, bytes, 16);
    CHECK(second == first);
    CHECK(is_zero(second, bytes));
    arena_destroy(&arena);
}

/* As after mlockall() in the program, whose memory an arena of the agent is in. */
static void memory_that_is_locked_is_zeroed_again_after_a_rewind(void)
{
    struct arena arena;
    const size_t bytes = 8 << 20;

    CHECK_OK(arena_create(&arena, 16 << 20));
    uintptr_t mark = arena_mark(&arena);
    unsigned char *first = arena_alloc(&arena, bytes, 16);
    if (mlock(first + (5 << 20), 4096) < 0) {
        arena_destroy(&arena);
        tap_skip("no memory may be locked");
        return;
    }
    memset(first, 0xff, bytes);
    arena_rewind(&arena, mark);
    unsigned char *second = arena_alloc(&arena, bytes, 16);
    CHECK(second == first);
    CHECK(is_zero(second, bytes));
    arena_destroy(&arena);
}

static void an_exhausted_arena_gives_null_and_stays_valid(void)
{
    struct arena arena;

    CHECK_OK(arena_create(&arena, 1 << 20));
    CHECK(arena_alloc(&arena, (1 << 20) + 1, 1) == NULL);
    CHECK(arena_alloc(&arena, SIZE_MAX - 10, 16) == NULL);
    CHECK(arena_alloc(&arena, 1 << 20, 1) != NULL);
    CHECK(arena_alloc(&arena, 1, 1) == NULL);
    CHECK(arena_is_valid(&arena));
    arena_destroy(&arena);
}

static void a_tight_address_space_limit_gives_a_smaller_arena(void)
{
    struct rlimit before, tight = {1ul << 30, RLIM_INFINITY};
    struct arena arena;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    tap_skip("the sanitizer's shadow is larger than any limit");
    return;
#endif
    getrlimit(RLIMIT_AS, &before);
    tight.rlim_max = before.rlim_max;
    setrlimit(RLIMIT_AS, &tight);
    CHECK_OK(arena_create(&arena, 64ul << 30));
    CHECK(arena.reserved_end - arena.base < 1ul << 30);
    setrlimit(RLIMIT_AS, &before);
    arena_destroy(&arena);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(memory_is_zeroed_and_aligned);
    RUN(what_is_expected_need_not_be_used);
    RUN(memory_is_zeroed_again_after_a_rewind);
    RUN(memory_that_is_locked_is_zeroed_again_after_a_rewind);
    RUN(an_exhausted_arena_gives_null_and_stays_valid);
    RUN(a_tight_address_space_limit_gives_a_smaller_arena);
    return tap_done();
}
