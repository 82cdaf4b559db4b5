/*
 * misuse.c - see misuse.h.
 */
#include "core/heap/misuse.h"

#include <signal.h>
#include "core/base/format_text.h"
#include "core/base/sys.h"
#include "core/heap/hardened_large.h"
#include "core/heap/slab.h"

#define LINE_BYTES 256

/* abort() without libc: SIGABRT to this thread; should a handler return, once more by default. */
_Noreturn static void misuse_abort(void)
{
    const uint64_t abort_mask = 1ull << (SIGABRT - 1);
    const struct {
        void *handler;
        unsigned long flags;
        void *restorer;
        uint64_t mask;
    } by_default = {0};
    int pid = sys_getpid(), tid = sys_gettid();

    (void)sys_call(SYS_rt_sigprocmask, SIG_UNBLOCK, &abort_mask, 0, sizeof abort_mask);
    (void)sys_call(SYS_tgkill, pid, tid, SIGABRT);
    (void)sys_call(SYS_rt_sigaction, SIGABRT, &by_default, 0, sizeof abort_mask);
    (void)sys_call(SYS_tgkill, pid, tid, SIGABRT);
    __builtin_trap();
}

_Noreturn static void misuse_say(const char *line, size_t length)
{
    (void)sys_write(2, line, length);
    misuse_abort();
}

_Noreturn void misuse_double_free(const struct heap *heap, const struct span *slab,
                                  const void *block)
{
    char line[LINE_BYTES];
    size_t length;

    length = format_text(
        line, sizeof line, "pheap: double free of %p, a block of %u bytes in the slab at %p\n",
        block, size_class_block_bytes(slab->size_class), (void *)heap_span_address(heap, slab));
    misuse_say(line, length);
}

static size_t misuse_describe(const struct heap *heap, const void *pointer, char *out, size_t size)
{
    uint64_t slice = ((uintptr_t)pointer - (uintptr_t)heap) >> SLICE_SHIFT;
    const struct span *first;

    if (slice < heap->data_slice || slice >= heap->top)
        return format_text(out, size, "the heap has handed out nothing there");
    first = heap_span(heap, (uint32_t)slice);
    if (first->kind == SPAN_INSIDE)
        first -= first->slices;
    if (first->kind == SPAN_SLAB || first->kind == SPAN_HARD_SLAB)
        return format_text(out, size, "not the start of a block; the slab at %p has blocks of %u",
                           (void *)heap_span_address(heap, first),
                           size_class_block_bytes(first->size_class));
    if (first->kind == SPAN_LARGE || first->kind == SPAN_HARD_LARGE)
        return format_text(out, size, "a large block of %lu bytes starts at %p", first->large_bytes,
                           (void *)heap_large_block(heap, first));
    return format_text(out, size, "no block starts there (freed already, or never allocated)");
}

_Noreturn void misuse_invalid_pointer(const struct heap *heap, const void *pointer,
                                      const char *call)
{
    char what[LINE_BYTES / 2], line[LINE_BYTES];
    size_t length;

    misuse_describe(heap, pointer, what, sizeof what);
    length = format_text(line, sizeof line, "pheap: invalid pointer %p to %s: %s\n", pointer, call,
                         what);
    misuse_say(line, length);
}

/* "a block of N bytes in the slab at P, size class M". */
static const char *describe_block(const struct heap *heap, const struct span *span,
                                  const void *block, char *out, size_t size)
{
    size_t bytes = hardened_usable_bytes(heap, block);

    if (span->kind == SPAN_HARD_LARGE)
        format_text(out, size, "a large block of %lu bytes in the span at %p", span->large_bytes,
                    (void *)heap_span_address(heap, span));
    else if (bytes == 0)
        format_text(out, size, "a block in the slab at %p, size class %u",
                    (void *)heap_span_address(heap, span),
                    size_class_block_bytes(span->size_class));
    else
        format_text(out, size, "a block of %lu bytes in the slab at %p, size class %u", bytes,
                    (void *)heap_span_address(heap, span),
                    size_class_block_bytes(span->size_class));
    return out;
}

_Noreturn void misuse_freed_already(const struct heap *heap, const struct span *span,
                                    const void *block, const char *call)
{
    char what[LINE_BYTES / 2], line[LINE_BYTES];
    size_t length;

    describe_block(heap, span, block, what, sizeof what);
    length =
        format_text(line, sizeof line, "pheap: double free of %p in %s: %s\n", block, call, what);
    misuse_say(line, length);
}

_Noreturn void misuse_overflow(const struct heap *heap, const struct span *span, const void *block,
                               const void *where)
{
    char what[LINE_BYTES / 2], line[LINE_BYTES];
    size_t length;

    describe_block(heap, span, block, what, sizeof what);
    length = format_text(line, sizeof line, "pheap: overflow of %p, written to at %p: %s\n", block,
                         where, what);
    misuse_say(line, length);
}

_Noreturn void misuse_written_after_free(const struct heap *heap, const struct span *span,
                                         const void *block, const void *where)
{
    char what[LINE_BYTES / 2], line[LINE_BYTES];
    size_t length;

    describe_block(heap, span, block, what, sizeof what);
    length = format_text(line, sizeof line, "pheap: %p was written to after its free, at %p: %s\n",
                         block, where, what);
    misuse_say(line, length);
}

_Noreturn void misuse_fault(const void *address, const char *what)
{
    char line[LINE_BYTES];
    size_t length = format_text(line, sizeof line, "pheap: fault at %p: %s\n", address, what);

    misuse_say(line, length);
}

_Noreturn void misuse_damaged_list(const struct heap *heap, const struct span *slab)
{
    char line[LINE_BYTES];
    size_t length;

    length = format_text(line, sizeof line,
                         "pheap: a freed block was written to: %p, in the free list of the slab at "
                         "%p, blocks of %u bytes\n",
                         (void *)slab->free_head, (void *)heap_span_address(heap, slab),
                         size_class_block_bytes(slab->size_class));
    misuse_say(line, length);
}
