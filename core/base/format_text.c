/*
 * format_text.c - see format_text.h. Nothing is allocated; what does not fit is cut off.
 */
#include "core/base/format_text.h"

#include <stdbool.h>
#include <stdint.h>

struct output {
    char *buffer;
    size_t size;
    size_t used; /* never above size - 1 */
};

struct spec {
    bool zero_padded;
    unsigned width;
    int precision;  /* -1: none */
    unsigned longs; /* l, ll and z count as 1, 2, 1 */
};

static void put(struct output *out, char c)
{
    if (out->used + 1 < out->size)
        out->buffer[out->used++] = c;
}

static void put_string(struct output *out, const char *text, const struct spec *spec)
{
    size_t length = 0;

    if (!text)
        text = "(null)";
    while ((spec->precision < 0 || length < (size_t)spec->precision) && text[length])
        length++;
    for (size_t pad = length; pad < spec->width; pad++)
        put(out, ' ');
    for (size_t i = 0; i < length; i++)
        put(out, text[i]);
}

static void put_number(struct output *out, uint64_t value, bool negative, unsigned base,
                       const struct spec *spec)
{
    char digits[24];
    unsigned count = 0;

    do
        digits[count++] = "0123456789abcdef"[value % base];
    while (value /= base);
    if (negative && spec->zero_padded)
        put(out, '-');
    for (unsigned pad = count + negative; pad < spec->width; pad++)
        put(out, spec->zero_padded ? '0' : ' ');
    if (negative && !spec->zero_padded)
        put(out, '-');
    while (count)
        put(out, digits[--count]);
}

static const char *parse_spec(const char *format, struct spec *spec, va_list *args)
{
    *spec = (struct spec){.precision = -1};
    for (; *format == '0'; format++)
        spec->zero_padded = true;
    for (; *format >= '0' && *format <= '9'; format++)
        spec->width = spec->width * 10 + (unsigned)(*format - '0');
    if (format[0] == '.' && format[1] == '*') {
        spec->precision = va_arg(*args, int);
        format += 2;
    }
    for (; *format == 'l' || *format == 'z' || *format == 'h'; format++)
        spec->longs += *format != 'h';
    return format;
}

static int64_t take_signed(const struct spec *spec, va_list *args)
{
    return spec->longs ? va_arg(*args, long) : va_arg(*args, int);
}

static uint64_t take_unsigned(const struct spec *spec, va_list *args)
{
    return spec->longs ? va_arg(*args, unsigned long) : va_arg(*args, unsigned);
}

static void put_signed(struct output *out, const struct spec *spec, va_list *args)
{
    int64_t value = take_signed(spec, args);
    uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

    put_number(out, magnitude, value < 0, 10, spec);
}

static void put_pointer(struct output *out, const struct spec *spec, va_list *args)
{
    put(out, '0');
    put(out, 'x');
    put_number(out, (uintptr_t)va_arg(*args, void *), false, 16, spec);
}

/* One conversion; false if it is none of ours. */
static bool convert(struct output *out, char conversion, const struct spec *spec, va_list *args)
{
    switch (conversion) {
    case '%':
        put(out, '%');
        return true;
    case 'c':
        put(out, (char)va_arg(*args, int));
        return true;
    case 's':
        put_string(out, va_arg(*args, const char *), spec);
        return true;
    case 'd':
    case 'i':
        put_signed(out, spec, args);
        return true;
    case 'u':
        put_number(out, take_unsigned(spec, args), false, 10, spec);
        return true;
    case 'x':
        put_number(out, take_unsigned(spec, args), false, 16, spec);
        return true;
    case 'p':
        put_pointer(out, spec, args);
        return true;
    default:
        return false;
    }
}

size_t format_text_v(char *buffer, size_t size, const char *format, va_list args)
{
    struct output out = {buffer, size, 0};
    va_list rest;

    if (size == 0)
        return 0;
    va_copy(rest, args);
    while (*format) {
        const char *start = format;
        struct spec spec;

        if (*format != '%') {
            put(&out, *format++);
            continue;
        }
        format = parse_spec(format + 1, &spec, &rest);
        if (*format && convert(&out, *format, &spec, &rest)) {
            format++;
            continue;
        }
        while (start < format)
            put(&out, *start++);
    }
    va_end(rest);
    buffer[out.used] = 0;
    return out.used;
}

size_t format_text(char *buffer, size_t size, const char *format, ...)
{
    va_list args;
    size_t length;

    va_start(args, format);
    length = format_text_v(buffer, size, format, args);
    va_end(args);
    return length;
}
