/*
 * format_text.h - printf into a buffer without libc: the agent may not touch stdio, locales,
 * malloc, errno or thread-local storage.
 *
 * Understands exactly %% %c %s %.*s %p %d %i %u %x with the length modifiers h, hh, l, ll, z, and a
 * width with optional 0 (as in %016lx). Anything else is copied as it stands, so that a mistake
 * shows.
 */
#ifndef PHEAP_BASE_FORMAT_TEXT_H
#define PHEAP_BASE_FORMAT_TEXT_H

#include <stdarg.h>
#include <stddef.h>

/* Writes at most size bytes, always NUL-terminated when size > 0. Returns the length written. */
size_t format_text(char *buffer, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
size_t format_text_v(char *buffer, size_t size, const char *format, va_list args);

#endif
