/*
 * pmem.c - libpmem is loaded for a pool on DAX only, so that other programs have no library that
 * they did not ask for. What fails here costs speed: the pool is written as any file is.
 */
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include "core/base/options.h"
#include "preload/program.h"

extern char **environ;

void program_find_pmem(const char *pool_path, struct persist_pmem *pmem)
{
    const char *force = options_variable(environ, "PMEM_IS_PMEM_FORCE"); /* libpmem's own */
    bool forced = force && strcmp(force, "1") == 0;
    int saved_errno = errno;
    void *library = NULL;

    *pmem = (struct persist_pmem){0};
    if (persist_may_use_dax(pool_path, forced))
        library = dlopen(PERSIST_PMEM_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library && persist_pmem_find(pmem, pool_path, dlsym, library) < 0)
        dlclose(library);
    pmem->forced = forced;
    errno = saved_errno;
}
