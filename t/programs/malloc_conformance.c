/*
 * malloc_conformance.c - the corners of the malloc family that programs rely on: what glibc 2.36
 * promises or does, POSIX.1-2024 and C23. Knows nothing of pheap, so that it can be run plainly
 * (then it tests glibc, and the test itself) and with LD_PRELOAD=libpheap.so. Prints TAP.
 *
 * Where glibc 2.36 differs from what is asked for here, MALLOC_IS_GLIBC=1 (set by the plain run)
 * says so and the check is skipped: aligned_alloc of an alignment that is no power of two (glibc
 * refuses it since 2.38) and fork in a signal handler.
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../lib/program_tap.h"

static bool is_glibc;

static bool is_aligned(const void *pointer, size_t align)
{
    return (uintptr_t)pointer % align == 0;
}

static void malloc_of_0_gives_blocks_of_their_own(void)
{
    void *a = opaque(malloc(0)), *b = opaque(malloc(0)), *c = opaque(calloc(0, 5));

    CHECK(a != NULL && b != NULL && c != NULL && a != b && b != c);
    free(a);
    free(b);
    free(c);
}

static void sizes_above_PTRDIFF_MAX_are_ENOMEM(void)
{
    static const size_t sizes[] = {(size_t)PTRDIFF_MAX + 1, SIZE_MAX - 4096, SIZE_MAX - 1,
                                   SIZE_MAX};
    char *block = malloc(10);
    void *out;

    memcpy(block, "untouched", 10);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t bytes = opaque_size(sizes[i]);

#define REFUSED(call) (errno = 0, opaque(call) == NULL && errno == ENOMEM)
        CHECK(REFUSED(malloc(bytes)));
        CHECK(REFUSED(calloc(1, bytes)));
        CHECK(REFUSED(calloc(bytes, 1)));
        CHECK(REFUSED(realloc(opaque(block), bytes)));
        CHECK(REFUSED(reallocarray(opaque(block), 1, bytes)));
        CHECK(REFUSED(memalign(64, bytes)));
        CHECK(REFUSED(memalign(4096, bytes)));
        CHECK(REFUSED(aligned_alloc(64, bytes)));
        CHECK(REFUSED(valloc(bytes)));
        CHECK(REFUSED(pvalloc(bytes)));
        out = block;
        CHECK(posix_memalign(&out, 64, bytes) == ENOMEM && out == block);
    }
    CHECK(strcmp(block, "untouched") == 0);
    free(block);
}

static void products_that_overflow_are_ENOMEM(void)
{
    size_t half = opaque_size(SIZE_MAX / 2 + 2);
    char *block = malloc(8);

    memcpy(block, "as was", 7);
    CHECK(REFUSED(calloc(half, 2)));
    CHECK(REFUSED(calloc(2, half)));
    CHECK(REFUSED(reallocarray(opaque(block), half, 2)));
    CHECK(strcmp(block, "as was") == 0);
    free(block);
}

static void more_than_there_can_be_is_ENOMEM(void)
{
    CHECK(REFUSED(malloc(opaque_size((size_t)1 << 50))));
    CHECK(REFUSED(calloc(1, opaque_size((size_t)1 << 50))));
}

static void realloc_of_NULL_is_malloc_and_to_0_is_free(void)
{
    char *block = realloc(opaque(NULL), 100);

    CHECK(block != NULL);
    memset(block, 1, 100);
    errno = 77;
    CHECK(opaque(realloc(block, opaque_size(0))) == NULL);
    CHECK(errno == 77);
    block = realloc(opaque(NULL), opaque_size(0));
    CHECK(block != NULL);
    free(block);
}

static void realloc_keeps_the_content_at_all_sizes(void)
{
    static const size_t sizes[] = {1,     20,     100,     1000,   5000,  70000, 300000, 5000000,
                                   40000, 900000, 9000000, 200000, 60000, 700,   30,     1};
    unsigned char *block = malloc(1);
    size_t kept = 1;

    *block = 9;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t both = kept < sizes[i] ? kept : sizes[i];
        bool same = true;

        block = realloc(block, sizes[i]);
        for (size_t j = 0; j < both; j++)
            same = same && block[j] == 9;
        CHECK(same);
        CHECK(is_aligned(block, 16));
        memset(block, 9, sizes[i]);
        kept = sizes[i];
    }
    free(block);
}

static void posix_memalign_says_it_by_its_result(void)
{
    void *mark = &tests_run, *out = mark;
    static const size_t bad[] = {0, 1, 2, 3, 4, 12, 24, 100, 4095};

    errno = 4244;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(posix_memalign(&out, opaque_size(bad[i]), 10) == EINVAL && out == mark);
    CHECK(errno == 4244);
    for (size_t align = 8; align <= 1 << 22; align *= 2) {
        CHECK(posix_memalign(&out, align, 10) == 0 && is_aligned(out, align));
        memset(out, 1, 10);
        free(out);
    }
}

static void aligned_alloc_takes_any_size_and_only_powers_of_two(void)
{
    for (size_t align = 1; align <= 1 << 20; align *= 2)
        for (size_t bytes = 0; bytes < 20000; bytes = bytes * 3 + 7) {
            void *block = opaque(aligned_alloc(align, bytes));

            CHECK(block != NULL && is_aligned(block, align < 16 ? 16 : align));
            free(block);
        }
    if (is_glibc)
        return;
    CHECK((errno = 0, opaque(aligned_alloc(opaque_size(24), 48)) == NULL && errno == EINVAL));
    CHECK((errno = 0, opaque(aligned_alloc(opaque_size(0), 48)) == NULL && errno == EINVAL));
}

static void memalign_rounds_odd_alignments_up(void)
{
    static const size_t aligns[] = {0, 1, 3, 8, 24, 48, 100, 4095, 5000, 100000};

    for (size_t i = 0; i < sizeof aligns / sizeof *aligns; i++) {
        size_t rounded = 16;
        void *block = opaque(memalign(opaque_size(aligns[i]), 50));

        while (rounded < aligns[i])
            rounded *= 2;
        CHECK(block != NULL && is_aligned(block, rounded));
        free(block);
    }
    CHECK((errno = 0, opaque(memalign(opaque_size(SIZE_MAX), 1)) == NULL && errno == EINVAL));
}

static void alignment_up_to_a_gibibyte(void)
{
    for (size_t align = 1 << 16; align <= (size_t)1 << 30; align *= 4) {
        char *block = memalign(align, 100000);

        CHECK(block != NULL && is_aligned(block, align));
        block[0] = block[99999] = 1;
        free(block);
    }
}

static void valloc_and_pvalloc_are_page_aligned(void)
{
    void *block = opaque(valloc(1));

    CHECK(is_aligned(block, 4096));
    free(block);
    block = opaque(pvalloc(1));
    CHECK(is_aligned(block, 4096) && malloc_usable_size(block) >= 4096);
    free(block);
    block = opaque(pvalloc(opaque_size(0)));
    CHECK(block != NULL);
    free(block);
    block = opaque(pvalloc(4097));
    CHECK(malloc_usable_size(block) >= 8192);
    free(block);
}

static void every_block_is_aligned_to_16(void)
{
    for (size_t bytes = 0; bytes < 300000; bytes += bytes < 3000 ? 1 : 97) {
        void *block = opaque(malloc(bytes)), *zeroed = opaque(calloc(1, bytes));

        CHECK(is_aligned(block, 16) && is_aligned(zeroed, 16));
        block = opaque(realloc(block, bytes + bytes / 2 + 1));
        CHECK(is_aligned(block, 16));
        free(block);
        free(zeroed);
    }
}

/* A block of glibc's own, as a library that was opened with RTLD_DEEPBIND hands out. */
static void blocks_of_another_allocator_are_left_alone(void)
{
    void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
    void *(*other_malloc)(size_t);
    char *block, *moved;

    *(void **)&other_malloc = dlsym(libc, "malloc");
    block = other_malloc(100);
    memcpy(block, "content", 8);
    errno = 5;
    (void)malloc_usable_size(block);
    moved = realloc(opaque(block), 200);
    CHECK(moved && strcmp(moved, "content") == 0 && errno == 5);
    memset(moved, 1, 200);
    free(moved);
    free(other_malloc(100000));
    free(other_malloc(10000000));
    CHECK(errno == 5);
    dlclose(libc);
}

static void usable_size_is_writable_and_stable(void)
{
    CHECK(malloc_usable_size(NULL) == 0);
    for (size_t bytes = 1; bytes < 10000000; bytes = bytes * 2 + 13) {
        char *block = malloc(bytes), *aligned = memalign(256, bytes);
        size_t usable = malloc_usable_size(block), aligned_usable = malloc_usable_size(aligned);

        CHECK(usable >= bytes && aligned_usable >= bytes);
        memset(opaque(block), 0x55, usable);
        memset(opaque(aligned), 0x55, aligned_usable);
        CHECK(malloc_usable_size(block) == usable);
        CHECK(malloc_usable_size(aligned) == aligned_usable);
        free(aligned);
        free(block);
    }
}

static void calloc_is_zero_also_where_memory_was_used(void)
{
    for (size_t bytes = 1; bytes < 30000000; bytes = bytes * 3 + 1) {
        unsigned char *block = malloc(bytes);
        bool zero = true;

        memset(opaque(block), 0xff, bytes);
        free(block);
        block = calloc(1, bytes);
        for (size_t i = 0; i < bytes; i++)
            zero = zero && block[i] == 0;
        CHECK(zero);
        free(block);
    }
}

static void statistics_follow_what_is_allocated(void)
{
    struct mallinfo2 before = mallinfo2(), after;
    void *block = opaque(malloc(100000)), *large;
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);

    large = opaque(malloc(10000000));
    after = mallinfo2();
    CHECK(after.uordblks + after.hblkhd >= before.uordblks + before.hblkhd + 10100000);
    CHECK(malloc_info(0, stream) == 0);
    CHECK(malloc_info(1, stream) == EINVAL);
    fclose(stream);
    CHECK(text && strncmp(text, "<malloc version=", 16) == 0 && strstr(text, "</malloc>"));
    CHECK(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1);
    free(text);
    free(block);
    free(large);
}

static void trim_gives_memory_back(void)
{
    char *blocks[64];

    for (int i = 0; i < 64; i++)
        memset(blocks[i] = malloc(100000), 1, 100000);
    for (int i = 0; i < 64; i++)
        free(blocks[i]);
    CHECK(malloc_trim(0) == 1);
    blocks[0] = calloc(1, 100000);
    CHECK(blocks[0][0] == 0 && blocks[0][99999] == 0);
    free(blocks[0]);
}

/* --- ends of threads --- */

static pthread_key_t late_key;
static void *late_block;

static void late_destructor(void *rounds)
{
    intptr_t left = (intptr_t)rounds;

    free(late_block);
    late_block = malloc(3000);
    if (left > 1)
        pthread_setspecific(late_key, (void *)(left - 1));
}

static void *with_late_destructor(void *argument)
{
    free(opaque(malloc(10)));
    pthread_setspecific(late_key, (void *)3);
    return memset(malloc(5000), 7, 5000), argument;
}

static void destructors_that_run_last_may_allocate(void)
{
    CHECK(pthread_key_create(&late_key, late_destructor) == 0);
    for (int i = 0; i < 50; i++) {
        pthread_t thread;

        CHECK(pthread_create(&thread, NULL, with_late_destructor, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    CHECK(late_block != NULL);
    free(late_block);
    pthread_key_delete(late_key);
}

static void *make_blocks(void *argument)
{
    char **blocks = argument;

    for (int i = 0; i < 1000; i++)
        memset(blocks[i] = malloc((size_t)i * 17 + 1), i, (size_t)i * 17 + 1);
    return NULL;
}

static void blocks_outlive_the_thread_that_made_them(void)
{
    static char *blocks[1000];
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, make_blocks, blocks) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    for (int i = 0; i < 1000; i++) {
        CHECK(blocks[i][0] == (char)i && blocks[i][i * 17] == (char)i);
        free(blocks[i]);
    }
}

/* --- in a child of their own --- */

static int exhaust_data_limit(void)
{
    struct rlimit limit = {64 << 20, 64 << 20};
    void *block = NULL;
    int count = 0;

    free(opaque(malloc(100))); /* as any program has done by then */
    if (setrlimit(RLIMIT_DATA, &limit) != 0)
        return 2;
    errno = 0;
    while (count < 200 && (block = opaque(malloc(1 << 20))) != NULL)
        count++;
    if (block != NULL || errno != ENOMEM || count < 8)
        return 3;
    return opaque(malloc(100)) ? 0 : 4;
}

static void at_a_limit_malloc_is_ENOMEM_and_the_program_goes_on(void)
{
    CHECK(child_says_yes(exhaust_data_limit));
}

static volatile sig_atomic_t handler_runs;

/* Whether the child gets its block depends on what was interrupted; that it comes back does not. */
static void fork_and_allocate(int signal_number)
{
    (void)signal_number;
    handler_runs++;
    if (fork() == 0) {
        alarm(10);
        free(opaque(malloc(100)));
        free(opaque(malloc(300000)));
        _exit(0);
    }
    free(opaque(malloc(300000)));
}

static int fork_in_handlers(void)
{
    int bad = 0, status;

    signal(SIGALRM, SIG_DFL);
    signal(SIGVTALRM, fork_and_allocate);
    setitimer(ITIMER_VIRTUAL, &(struct itimerval){{0, 1000}, {0, 1000}}, NULL);
    while (handler_runs < 60) {
        void *blocks[100];

        for (int i = 0; i < 100; i++)
            blocks[i] = opaque(malloc((size_t)(i % 30) * 1000 + 200000));
        for (int i = 0; i < 100; i++)
            free(blocks[i]);
        while (waitpid(-1, &status, WNOHANG) > 0)
            bad += status != 0;
    }
    setitimer(ITIMER_VIRTUAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
    while (waitpid(-1, &status, 0) > 0)
        bad += status != 0;
    return bad;
}

static void fork_in_a_signal_handler_does_not_deadlock(void)
{
    if (is_glibc) /* deadlocks: fork waits for the arena that the interrupted malloc holds */
        return;
    CHECK(child_says_yes(fork_in_handlers));
}

int main(void)
{
    is_glibc = getenv("MALLOC_IS_GLIBC") != NULL;
    /* First: later tests leave free memory that would hide the limit. */
    RUN(at_a_limit_malloc_is_ENOMEM_and_the_program_goes_on);
    RUN(malloc_of_0_gives_blocks_of_their_own);
    RUN(sizes_above_PTRDIFF_MAX_are_ENOMEM);
    RUN(products_that_overflow_are_ENOMEM);
    RUN(more_than_there_can_be_is_ENOMEM);
    RUN(realloc_of_NULL_is_malloc_and_to_0_is_free);
    RUN(realloc_keeps_the_content_at_all_sizes);
    RUN(posix_memalign_says_it_by_its_result);
    RUN(aligned_alloc_takes_any_size_and_only_powers_of_two);
    RUN(memalign_rounds_odd_alignments_up);
    RUN(alignment_up_to_a_gibibyte);
    RUN(valloc_and_pvalloc_are_page_aligned);
    RUN(every_block_is_aligned_to_16);
    RUN(blocks_of_another_allocator_are_left_alone);
    RUN(usable_size_is_writable_and_stable);
    RUN(calloc_is_zero_also_where_memory_was_used);
    RUN(statistics_follow_what_is_allocated);
    RUN(trim_gives_memory_back);
    RUN(destructors_that_run_last_may_allocate);
    RUN(blocks_outlive_the_thread_that_made_them);
    RUN(fork_in_a_signal_handler_does_not_deadlock);
    return tests_done();
}
