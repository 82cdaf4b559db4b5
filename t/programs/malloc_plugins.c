/*
 * malloc_plugins.c - malloc and libraries that come and go. Prints TAP.
 *
 * Usage: malloc_plugins PLUGIN [ALLOCATOR]    libraries/plugin.c compiled; an allocator's library,
 *                                             to be opened and closed as if it were any other
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "../lib/program_tap.h"

#define ROUNDS  50
#define THREADS 4

static const char *plugin_path, *allocator_path;

struct plugin {
    void *handle;
    void *(*make)(size_t);
    void (*end)(void *);
    int (*touch)(void);
};

static bool plugin_open(struct plugin *plugin, int flags)
{
    plugin->handle = dlopen(plugin_path, RTLD_NOW | flags);
    if (plugin->handle == NULL) {
        printf("# %s\n", dlerror());
        return false;
    }
    *(void **)&plugin->make = dlsym(plugin->handle, "plugin_make");
    *(void **)&plugin->end = dlsym(plugin->handle, "plugin_free");
    *(void **)&plugin->touch = dlsym(plugin->handle, "plugin_touch");
    return plugin->make && plugin->end && plugin->touch;
}

static void *touch(void *plugin)
{
    for (size_t bytes = 10; bytes < 100000; bytes *= 4)
        free(opaque(malloc(bytes)));
    return (void *)(intptr_t)((struct plugin *)plugin)->touch();
}

static void thread_local_storage_of_a_library_comes_and_goes(void)
{
    for (int i = 0; i < ROUNDS; i++) {
        pthread_t threads[THREADS];
        struct plugin plugin;

        if (!plugin_open(&plugin, 0)) {
            CHECK(!"opened");
            return;
        }
        for (int j = 0; j < THREADS; j++)
            pthread_create(&threads[j], NULL, touch, &plugin);
        for (int j = 0; j < THREADS; j++) {
            void *fine = NULL;

            pthread_join(threads[j], &fine);
            CHECK(fine != NULL);
        }
        CHECK(dlclose(plugin.handle) == 0);
    }
}

static void blocks_outlive_the_library_that_made_them(void)
{
    struct plugin plugin;
    char *block;

    CHECK(plugin_open(&plugin, 0));
    block = plugin.make(5000);
    plugin.end(malloc(100));
    CHECK(dlclose(plugin.handle) == 0);
    CHECK(block[0] == 7 && block[4999] == 7);
    free(block);
}

/* As PHP's extensions: blocks of the one are freed by the other. */
static void a_library_that_binds_deeply_has_the_same_heap(void)
{
    struct plugin plugin;

    CHECK(plugin_open(&plugin, RTLD_DEEPBIND));
    plugin.end(plugin.make(3000));
    free(plugin.make(3000));
    plugin.end(malloc(3000));
    CHECK(dlclose(plugin.handle) == 0);
}

/* PHEAP_DEEPBIND=1, or an allocator that does not look at dlopen. */
static void a_library_that_binds_deeply_may_have_a_heap_of_its_own(void)
{
    struct plugin plugin;

    CHECK(plugin_open(&plugin, RTLD_DEEPBIND));
    plugin.end(plugin.make(3000));
    free(plugin.make(3000)); /* a leak at most */
    CHECK(dlclose(plugin.handle) == 0);
}

static void *use_allocator(void *handle)
{
    void *(*make)(size_t);
    void (*end)(void *);

    *(void **)&make = dlsym(handle, "malloc");
    *(void **)&end = dlsym(handle, "free");
    end(make(1000));
    CHECK(dlclose(handle) == 0);
    return NULL; /* what it arranged for the thread's end must still be there */
}

static void an_allocator_may_be_opened_and_closed(void)
{
    for (int i = 0; i < 3; i++) {
        void *handle = dlopen(allocator_path, RTLD_NOW | RTLD_LOCAL);
        pthread_t thread;

        if (handle == NULL) {
            printf("# %s\n", dlerror());
            CHECK(!"opened");
            return;
        }
        pthread_create(&thread, NULL, use_allocator, handle);
        pthread_join(thread, NULL);
    }
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    plugin_path = argv[1];
    allocator_path = argc > 2 ? argv[2] : NULL;
    RUN(thread_local_storage_of_a_library_comes_and_goes);
    RUN(blocks_outlive_the_library_that_made_them);
    RUN(a_library_that_binds_deeply_may_have_a_heap_of_its_own);
    if (!getenv("PHEAP_DEEPBIND"))
        RUN(a_library_that_binds_deeply_has_the_same_heap);
    if (allocator_path)
        RUN(an_allocator_may_be_opened_and_closed);
    return tests_done();
}
