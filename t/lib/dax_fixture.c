/*
 * dax_fixture.c - see dax_fixture.h.
 */
#include "t/lib/dax_fixture.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/base/sys.h"
#include "t/lib/tap.h"

/* Files say it, directories do not. */
static bool has_dax_files(const char *directory)
{
    char path[128];
    bool has = false;
    int file;

    snprintf(path, sizeof path, "%.80s/pheap-dax-XXXXXX", directory);
    file = mkstemp(path);
    if (file >= 0) {
        has = persist_may_use_dax(path, false);
        unlink(path);
        close(file);
    }
    return has;
}

const char *dax_directory(void)
{
    const char *directory = getenv("TMPDIR");

    if (directory != NULL && has_dax_files(directory))
        return directory;
    if (access("/dev/shm", W_OK) == 0 && persist_may_use_dax("/dev/shm", true)) {
        setenv("PMEM_IS_PMEM_FORCE", "1", 1); /* read by libpmem when it is first asked */
        return "/dev/shm";
    }
    tap_note("neither $TMPDIR on a DAX file system nor a tmpfs at /dev/shm");
    return NULL;
}

void *dax_window(uint64_t bytes)
{
    void *window = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    CHECK(window != MAP_FAILED);
    return window;
}

struct persist_pmem dax_pmem(const char *path)
{
    static void *library;
    struct persist_pmem pmem = {0};

    if (library == NULL)
        library = dlopen(PERSIST_PMEM_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    CHECK(library != NULL);
    if (library != NULL)
        CHECK_OK(persist_pmem_find(&pmem, path, dlsym, library));
    pmem.forced = getenv("PMEM_IS_PMEM_FORCE") != NULL;
    return pmem;
}

void dax_use_if_asked(struct persist *persist, const char *path)
{
    static void *window;
    const char *storage = getenv("PHEAP_TEST_STORAGE");
    struct persist_pmem pmem;

    if (storage == NULL || strcmp(storage, "dax") != 0)
        return;
    setenv("PMEM_IS_PMEM_FORCE", "1", 0);
    if (window == NULL)
        window = dax_window(DAX_WINDOW_BYTES);
    pmem = dax_pmem(path);
    CHECK_OK(persist_use_dax(persist, &pmem, window, DAX_WINDOW_BYTES));
}
