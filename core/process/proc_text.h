/*
 * proc_text.h - reads the kernel's texts about a process: /proc/PID/status, stat, fdinfo.
 *
 * No allocation; the caller gives the buffers. Numbers stop at the first character that is no
 * digit of their base.
 */
#ifndef PHEAP_PROCESS_PROC_TEXT_H
#define PHEAP_PROCESS_PROC_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "core/base/status.h"

/* As getdents64 fills them in. */
struct kernel_dirent {
    uint64_t inode;
    int64_t offset;
    uint16_t bytes;
    uint8_t type;
    char name[];
};

/* /proc/PID/NAME into buffer, NUL-terminated; its length or -errno. */
MUST_CHECK ssize_t proc_read(int pid, const char *name, char *buffer, size_t size);

/* The text behind a line's "KEY:" and its blanks, or NULL. */
const char *proc_field(const char *text, const char *key);
/* The same as a number, 0 if the line is missing. base 8, 10 or 16. */
uint64_t proc_number(const char *text, const char *key, unsigned base);

/* The seccomp filters of the process whose /proc/PID/status this is. Kernels before 5.9 tell only
 * whether there are any: then 0, or 2. */
uint32_t proc_seccomp_filters(const char *status);

/* Reads a number at *at and moves *at behind it; a leading '-' is understood for base 10. */
uint64_t text_number(const char **at, unsigned base);
bool text_starts_with(const char *text, const char *prefix);
bool text_ends_with(const char *text, const char *suffix);

/* readlink, NUL-terminated. Length or -errno; -ENAMETOOLONG when it does not fit. */
MUST_CHECK int proc_readlink(int pid, const char *name, char *buffer, size_t size);

#endif
