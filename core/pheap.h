/*
 * pheap.h - for programs that know of pheap. A program needs none of this to be checkpointed.
 *
 * Linking. Every function here is declared weak: a program that is built with this header and not
 * linked with libpheap starts without it, and finds the functions when libpheap is preloaded:
 *
 *     if (pheap_is_present() && (number = pheap_checkpoint()) > 0) ...
 *
 * That takes a position-independent executable, which is what compilers make by default. In one
 * that is not (-no-pie, -static), link with -lpheap, or look functions up with dlsym().
 *
 * Errors are negative: one of enum pheap_error, or -errno of what failed (-ENOSPC: the disk is
 * full). errno is left alone.
 */
#ifndef PHEAP_H
#define PHEAP_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum pheap_error {
    PHEAP_ERROR_UNSUPPORTED = -5007,   /* something in the process cannot be saved */
    PHEAP_ERROR_DEFERRED = -5008,      /* not now: a child lives, a thread cannot be stopped */
    PHEAP_ERROR_NOT_PERMITTED = -5009, /* the process may not be traced */
    PHEAP_ERROR_NO_POOL = -5100,       /* this process has no pool: it was not started under pheap,
                                          or is a child of one that was, or its agent is gone */
};

/*
 * Takes a checkpoint now and waits until it is durable, whatever the interval. Returns the number
 * of the generation, or a negative error; the program goes on in either case.
 *
 * The generation holds everything that was done before the call. A process that is resumed from it
 * comes back from this very call with the same number.
 *
 * From any thread; several may call at once. Not from a signal handler. Waits 5 seconds for what
 * defers it, and a minute at most.
 */
__attribute__((weak)) int64_t pheap_checkpoint(void);

/* The text of an error, in English; never NULL. */
__attribute__((weak)) const char *pheap_error_text(int64_t error);

/* Whether libpheap is in this process. */
static inline int pheap_is_present(void)
{
    return pheap_checkpoint != 0;
}

#ifdef __cplusplus
}
#endif

#endif
