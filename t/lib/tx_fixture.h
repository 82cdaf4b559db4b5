/*
 * tx_fixture.h - a heap in a pool in a directory of the test's own, opened and opened again.
 */
#ifndef PHEAP_T_LIB_TX_FIXTURE_H
#define PHEAP_T_LIB_TX_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/base/sys.h"
#include "core/tx/opened.h"
#include "core/tx/roots.h"
#include "core/tx/transaction.h"
#include "t/lib/tap.h"

#define FIXTURE_SLOT 1 /* the one that ThreadSanitizer leaves room for */

static char fixture_dir[128], fixture_path[160];
static struct pheap *heap;
static struct problem why;

static inline void fixture_begin(void)
{
    const char *parent = getenv("TMPDIR");

    if (access("/dev/shm", W_OK) == 0)
        parent = "/dev/shm";
    snprintf(fixture_dir, sizeof fixture_dir, "%s/pheap-tx-XXXXXX", parent ? parent : "/tmp");
    if (!mkdtemp(fixture_dir)) {
        perror(fixture_dir);
        exit(1);
    }
    snprintf(fixture_path, sizeof fixture_path, "%s/pool", fixture_dir);
}

static inline void fixture_end(void)
{
    unlink(fixture_path);
    rmdir(fixture_dir);
}

static inline int fixture_open_path(struct pheap **out, const char *path, bool read_only)
{
    int status = opened_attach(out, path, read_only, &why);

    if (status == 0)
        status = opened_load(*out, &why);
    if (status < 0 && *out)
        (void)opened_close(*out);
    return status;
}

static inline int fixture_open(void)
{
    return fixture_open_path(&heap, fixture_path, false);
}

static inline void fixture_create(void)
{
    unlink(fixture_path);
    CHECK_OK(pool_create(fixture_path, FIXTURE_SLOT, 3, &why));
    if (!tap_check(fixture_open() == 0, __FILE__, __LINE__, "open: %s", why.text))
        exit(1);
}

static inline void fixture_close(void)
{
    CHECK(opened_is_valid(heap));
    CHECK_EQ(opened_close(heap), 0);
}

/* As if the process had been killed and another one opened the heap. */
static inline void fixture_reopen(void)
{
    fixture_close();
    if (!tap_check(fixture_open() == 0, __FILE__, __LINE__, "open: %s", why.text))
        exit(1);
    CHECK(opened_is_valid(heap));
}

static inline int64_t fixture_checkpoint(void)
{
    return opened_checkpoint(heap, 1000000, &why);
}

#endif
