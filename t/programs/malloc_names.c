/*
 * malloc_names.c - every exported name of the malloc family: that it is there, that blocks of one
 * are blocks of all, and errno, on every way a block can come and go. Run plainly and with
 * LD_PRELOAD, as malloc_conformance.c. MALLOC_IS_GLIBC=1 leaves out what glibc 2.36 does not have.
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "../lib/program_tap.h"

static bool is_glibc;

#define SYMBOL(name) dlsym(RTLD_DEFAULT, name)

static void every_name_of_the_family_is_there_and_fits_together(void)
{
    static const char *const names[] = {"malloc",
                                        "free",
                                        "calloc",
                                        "realloc",
                                        "reallocarray",
                                        "memalign",
                                        "valloc",
                                        "aligned_alloc",
                                        "posix_memalign",
                                        "malloc_usable_size",
                                        "pvalloc",
                                        "mallinfo",
                                        "mallinfo2",
                                        "mallopt",
                                        "malloc_trim",
                                        "malloc_stats",
                                        "malloc_info",
                                        "__libc_malloc",
                                        "__libc_free",
                                        "__libc_calloc",
                                        "__libc_realloc",
                                        "__libc_memalign",
                                        "cfree",
                                        "free_sized",
                                        "free_aligned_sized"};
    Dl_info home, info;

    CHECK(dladdr(dlsym(RTLD_DEFAULT, "malloc"), &home));
    for (size_t i = 0; i < sizeof names / sizeof *names - (is_glibc ? 3 : 0); i++) {
        void *symbol = dlsym(RTLD_DEFAULT, names[i]);

        if (symbol && dladdr(symbol, &info) && info.dli_fbase == home.dli_fbase)
            continue;
        printf("# %s is %s\n", names[i], symbol ? info.dli_fname : "missing");
        current_failed = 1;
    }
}

/* A block of one name is one of all names. */
static void blocks_of_libc_names_are_blocks_of_all(void)
{
    void *(*make)(size_t), *(*make_zeroed)(size_t, size_t), *(*make_aligned)(size_t, size_t);
    void (*end)(void *);
    char *blocks[3];

    *(void **)&make = SYMBOL("__libc_malloc");
    *(void **)&make_zeroed = SYMBOL("__libc_calloc");
    *(void **)&make_aligned = SYMBOL("__libc_memalign");
    *(void **)&end = SYMBOL("__libc_free");
    blocks[0] = make(100);
    blocks[1] = make_zeroed(10, 10);
    blocks[2] = make_aligned(4096, 100);
    CHECK((uintptr_t)blocks[2] % 4096 == 0);
    for (int i = 0; i < 3; i++) {
        CHECK(malloc_usable_size(blocks[i]) >= 100);
        blocks[i] = realloc(blocks[i], 5000);
        memset(blocks[i], 1, 5000);
        free(blocks[i]);
    }
    end(malloc(100));
}

static void free_keeps_errno(void)
{
    static const size_t sizes[] = {1, 100, 3000, 50000, 200000, 3000000, 100000000};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        void *blocks[20];

        for (int j = 0; j < 20; j++)
            blocks[j] = opaque(malloc(sizes[i]));
        errno = 4242;
        for (int j = 0; j < 20; j++)
            free(blocks[j]);
        free(NULL);
        CHECK(errno == 4242);
    }
}

/* --- errno, by every name that frees and on every way a block can go --- */

static void free_by_realloc(void *block)
{
    CHECK(opaque(realloc(block, opaque_size(0))) == NULL);
}

static void free_by_reallocarray(void *block)
{
    CHECK(opaque(reallocarray(block, opaque_size(0), 16)) == NULL);
}

static void (*sized_free)(void *, size_t), (*aligned_sized_free)(void *, size_t, size_t);
static void *(*libc_realloc)(void *, size_t);

static void free_by_sized(void *block)
{
    sized_free(block, malloc_usable_size(block));
}

static void free_by_aligned_sized(void *block)
{
    aligned_sized_free(block, 16, malloc_usable_size(block));
}

static void free_by_libc_realloc(void *block)
{
    CHECK(libc_realloc(block, opaque_size(0)) == NULL);
}

/* Those that there are; how many. */
static int names_that_free(void (*names[8])(void *))
{
    int count = 0;

    names[count++] = free;
    names[count++] = free_by_realloc;
    names[count++] = free_by_reallocarray;
    *(void **)&libc_realloc = SYMBOL("__libc_realloc");
    names[count++] = free_by_libc_realloc;
    *(void **)&names[count++] = SYMBOL("__libc_free");
    if (is_glibc) /* cfree is for old binaries, the sized ones are newer */
        return count;
    *(void **)&names[count++] = SYMBOL("cfree");
    *(void **)&sized_free = SYMBOL("free_sized");
    *(void **)&aligned_sized_free = SYMBOL("free_aligned_sized");
    names[count++] = free_by_sized;
    names[count++] = free_by_aligned_sized;
    return count;
}

struct made_elsewhere {
    size_t bytes;
    void *blocks[200];
};

static void *make_elsewhere(void *argument)
{
    struct made_elsewhere *made = argument;

    for (int i = 0; i < 200; i++)
        made->blocks[i] = malloc(made->bytes);
    return NULL;
}

/* Blocks of a thread that is gone: remote frees, full slabs, slabs that empty, purging. */
static bool all_ways_keep_errno(void (*end)(void *), size_t bytes)
{
    static struct made_elsewhere made;
    pthread_t thread;
    bool kept = true;

    made.bytes = bytes;
    pthread_create(&thread, NULL, make_elsewhere, &made);
    pthread_join(thread, NULL);
    for (int i = 0; i < 200; i++) {
        void *own = opaque(malloc(bytes));

        errno = 4242 + i;
        end(made.blocks[i]);
        end(own);
        kept = kept && errno == 4242 + i;
    }
    return kept;
}

static void free_by_any_name_keeps_errno(void)
{
    static const size_t sizes[] = {1, 100, 1000, 9000, 50000, 100000, 3000000};
    void (*names[8])(void *);
    int count = names_that_free(names);
    int local = 0;

    for (int i = 0; i < count; i++)
        for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++)
            CHECK(all_ways_keep_errno(names[i], sizes[j]));
    if (is_glibc)
        return;
    errno = 17;
    free(opaque(&local)); /* no block of anybody's */
    CHECK(errno == 17 && local == 0);
}

static void success_keeps_errno(void)
{
    void *out = NULL;

    errno = 4243;
    free(opaque(malloc(5000000)));
    free(opaque(calloc(10, 100)));
    free(opaque(memalign(4096, 10)));
    CHECK(posix_memalign(&out, 64, 10) == 0);
    free(out);
    CHECK(errno == 4243);
}

int main(void)
{
    is_glibc = getenv("MALLOC_IS_GLIBC") != NULL;
    RUN(every_name_of_the_family_is_there_and_fits_together);
    RUN(blocks_of_libc_names_are_blocks_of_all);
    RUN(free_keeps_errno);
    RUN(free_by_any_name_keeps_errno);
    RUN(success_keeps_errno);
    return tests_done();
}
