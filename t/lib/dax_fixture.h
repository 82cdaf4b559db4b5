/*
 * dax_fixture.h - the DAX back end in a unit test: libpmem loaded, a window to map into, and a
 * directory where it works: $TMPDIR if that is on a DAX file system (in the guest of make
 * check-dax), else tmpfs, with PMEM_IS_PMEM_FORCE=1.
 */
#ifndef PHEAP_T_LIB_DAX_FIXTURE_H
#define PHEAP_T_LIB_DAX_FIXTURE_H

#include "core/pool/persist.h"

#define DAX_WINDOW_BYTES (1ull << 30)

/* The directory, or NULL (with a note) where there is neither. */
const char *dax_directory(void);

/* A new reservation. */
void *dax_window(uint64_t bytes);

/* libpmem's functions, which must accept the file at path; the test is failed if they do not. */
struct persist_pmem dax_pmem(const char *path);

/* With PHEAP_TEST_STORAGE=dax: persist, open on the file at path, goes on with the DAX back end.
 * The window is the test's one and only. */
void dax_use_if_asked(struct persist *persist, const char *path);

#endif
