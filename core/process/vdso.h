/*
 * vdso.h - the code of an old kernel's vdso made to call a new kernel's. Internal to core/process.
 *
 * The program's libraries have the addresses of the old functions and call them for ever. So the
 * old code stays where it was, as memory, and each function that it exports begins with a jump to
 * the one of the same name in the new vdso, or, where there is none, with the system call that the
 * function stands for. The old kernel's data pages are not there: nothing else of the old code may
 * run.
 */
#ifndef PHEAP_PROCESS_VDSO_H
#define PHEAP_PROCESS_VDSO_H

#include <stddef.h>
#include <stdint.h>
#include "core/base/status.h"

#define VDSO_BYTES_MAX (64u << 10)

/*
 * text: the old vdso, changed. now: the new one, which is to be at now_address. STATUS_DAMAGED: one
 * of them is none; STATUS_UNSUPPORTED: a function for which nothing can stand in.
 */
MUST_CHECK int vdso_redirect(uint8_t *text, size_t bytes, const uint8_t *now, size_t now_bytes,
                             uint64_t now_address);

#endif
