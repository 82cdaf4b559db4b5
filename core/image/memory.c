/*
 * memory.c - see memory.h. Always true: only a copy may meet memory that is gone, and nothing has
 * to be put in order when it is broken off.
 */
#include "core/image/memory.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>

int memory_open(struct memory *memory)
{
    memory->pid = sys_getpid();
    memory->by_vm_readv = true;
    memory->fd = sys_open("/proc/self/mem", O_RDONLY | O_CLOEXEC, 0);
    return memory->fd < 0 ? memory->fd : 0;
}

void memory_close(struct memory *memory)
{
    if (memory->fd >= 0)
        sys_close(memory->fd);
    memory->fd = -1;
}

/* Set when the agent begins, so that an image that holds it is not written anew for it. */
static struct memory *in_place;

void memory_in_place(struct memory *memory)
{
    in_place = memory;
}

void memory_fault(void)
{
    if (in_place && in_place->may_fault)
        __builtin_longjmp(in_place->fault_return, 1);
}

/* A call, whatever the compiler knows of memcpy: into a function that calls nothing it lets nobody
 * jump back. */
static void *(*const volatile copy)(void *, const void *, size_t) = memcpy;

/* False: there is nothing to be read. */
__attribute__((noinline)) static bool copy_in_place(struct memory *memory, uint64_t page, void *out)
{
    if (__builtin_setjmp(memory->fault_return) != 0) {
        memory->may_fault = false;
        return false;
    }
    memory->may_fault = true;
    (void)copy(out, (const void *)((page & MEMORY_PAGE_MASK) << PAGE_SHIFT), PAGE_BYTES);
    memory->may_fault = false;
    return true;
}

/* Describes pages[0 .. *count) as pieces, contiguous pages in one; *count becomes what fits. */
static long describe(struct memory *memory, const uint64_t *pages, uint64_t *count)
{
    long pieces = 0;
    uint64_t i = 0;

    for (; i < *count; i++) {
        char *address = (char *)((pages[i] & MEMORY_PAGE_MASK) << PAGE_SHIFT);
        struct iovec *last = pieces ? &memory->pieces[pieces - 1] : NULL;

        if (last && (char *)last->iov_base + last->iov_len == address) {
            last->iov_len += PAGE_BYTES;
            continue;
        }
        if (pieces == MEMORY_PIECES)
            break;
        memory->pieces[pieces++] = (struct iovec){address, PAGE_BYTES};
    }
    *count = i;
    return pieces;
}

/* Returns how many whole pages from the first on were read. */
static uint64_t read_across(struct memory *memory, const uint64_t *pages, uint64_t count, void *out)
{
    long pieces = describe(memory, pages, &count);
    struct iovec local = {out, count * PAGE_BYTES};
    long got = sys_call(SYS_process_vm_readv, memory->pid, &local, 1, memory->pieces, pieces, 0);

    if (got == -ENOSYS || got == -EPERM)
        memory->by_vm_readv = false;
    return got > 0 ? (uint64_t)got / PAGE_BYTES : 0;
}

static bool read_one(struct memory *memory, uint64_t page, void *out)
{
    return sys_pread(memory->fd, out, PAGE_BYTES, (page & MEMORY_PAGE_MASK) << PAGE_SHIFT) ==
           PAGE_BYTES;
}

/* Copies pages from the first on, up to one that memcpy will not do for. Returns how many. */
static uint64_t copy_pages(struct memory *memory, uint64_t *pages, uint64_t count, uint8_t *out)
{
    uint64_t i = 0;

    for (; i < count; i++, out += PAGE_BYTES) {
        if (pages[i] & MEMORY_DIRECT)
            memcpy(out, (const void *)((pages[i] & MEMORY_PAGE_MASK) << PAGE_SHIFT), PAGE_BYTES);
        else if (!(pages[i] & MEMORY_IN_PLACE))
            break;
        else if (!copy_in_place(memory, pages[i], out)) {
            pages[i] &= ~MEMORY_IN_PLACE; /* the kernel has the last word */
            break;
        }
    }
    return i;
}

static uint64_t count_others(const uint64_t *pages, uint64_t count)
{
    uint64_t i = 0;

    while (i < count && !(pages[i] & (MEMORY_DIRECT | MEMORY_IN_PLACE)))
        i++;
    return i;
}

uint64_t memory_read(struct memory *memory, uint64_t *pages, uint64_t count, void *out)
{
    uint8_t *to = out;
    uint64_t unread = 0;

    for (uint64_t i = 0; i < count;) {
        uint64_t done;

        i += copy_pages(memory, pages + i, count - i, to + i * PAGE_BYTES);
        if (i == count)
            break;
        done = memory->by_vm_readv
                   ? read_across(memory, pages + i, count_others(pages + i, count - i),
                                 to + i * PAGE_BYTES)
                   : 0;
        i += done;
        if (done)
            continue;
        if (!read_one(memory, pages[i], to + i * PAGE_BYTES)) {
            pages[i] |= MEMORY_UNREAD;
            unread++;
        }
        i++;
    }
    return unread;
}

/* Leaf 7, ECX bit 4: the kernel has switched protection keys on, so RDPKRU and WRPKRU exist. */
static bool has_protection_keys(void)
{
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;

    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ecx & (1u << 4));
}

unsigned memory_protection_keys(void)
{
    unsigned rights = 0, unused;

    if (has_protection_keys())
        __asm__ volatile(".byte 0x0f, 0x01, 0xee" : "=a"(rights), "=d"(unused) : "c"(0));
    return rights;
}

void memory_set_protection_keys(unsigned rights)
{
    if (has_protection_keys())
        __asm__ volatile(".byte 0x0f, 0x01, 0xef" : : "a"(rights), "c"(0), "d"(0));
}

void memory_open_protection_keys(void)
{
    memory_set_protection_keys(0);
}
