/*
 * mappings_state.c - does to its mappings what programs do: makes, splits, moves, protects, drops,
 * shrinks and grows them, in stages, and looks at all of them before each stage. A stage begins
 * with a line on stdin. Prints "stage N" when it stands, "whole" at the end of stdin; ends with 1
 * at the first thing that is not as it was left.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE        4096ul
#define MIB         (1ul << 20)
#define PIECES      20000ul /* mappings: every other page is read-only */
#define RESERVE     (4ul << 40)
#define HUGE_BYTES  (16 * MIB)
#define FREED_BYTES (4 * MIB)
#define HEAP_BYTES  (8 * MIB)

static unsigned stage;
static unsigned char *pieces, *reserve, *moved, *split, *huge, *dropped, *given_up, *brk_base;

static void expect(int right, const char *what)
{
    if (right)
        return;
    printf("stage %u: %s is not as it was\n", stage, what);
    exit(1);
}

static unsigned char *map(size_t bytes, int prot)
{
    void *mapped = mmap(NULL, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (mapped == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return mapped;
}

static int is_all(const unsigned char *start, size_t bytes, unsigned char value)
{
    return start[0] == value && memcmp(start, start + 1, bytes - 1) == 0;
}

/* --- what is made once --- */

static void make_pieces(void)
{
    pieces = map(PIECES * PAGE, PROT_READ | PROT_WRITE);
    for (size_t i = 0; i < PIECES; i++) {
        pieces[i * PAGE] = (unsigned char)i;
        if (i % 2)
            mprotect(pieces + i * PAGE, PAGE, PROT_READ);
    }
}

static void make_all(void)
{
    make_pieces();
    reserve = map(RESERVE, PROT_NONE);
    moved = map(MIB, PROT_READ | PROT_WRITE);
    memset(moved, 0x11, MIB);
    split = map(8 * MIB, PROT_READ | PROT_WRITE);
    memset(split, 0x22, 8 * MIB);
    huge = map(HUGE_BYTES, PROT_READ | PROT_WRITE);
    madvise(huge, HUGE_BYTES, MADV_HUGEPAGE);
    memset(huge, 0x33, HUGE_BYTES);
    dropped = map(FREED_BYTES, PROT_READ | PROT_WRITE);
    memset(dropped, 0x44, FREED_BYTES);
    given_up = map(FREED_BYTES, PROT_READ | PROT_WRITE);
    brk_base = sbrk(0);
    sbrk((intptr_t)MIB);
    memset(brk_base, 0x55, MIB);
}

/* --- what each stage does, after it has looked at what the last one left --- */

static void pieces_stage(void)
{
    for (size_t i = 0; i < PIECES; i++)
        expect(pieces[i * PAGE] == (unsigned char)(i + (i % 2 ? 0 : stage - 1)),
               "one of very many mappings");
    for (size_t i = 0; i < PIECES; i += 2)
        pieces[i * PAGE]++;
}

/* A page far out in the reservation, each time another one. */
static void reserve_stage(void)
{
    unsigned char *page = reserve + (RESERVE / 8) * (stage % 8);

    if (stage > 1) {
        unsigned char *before = reserve + (RESERVE / 8) * ((stage - 1) % 8);

        expect(is_all(before, PAGE, (unsigned char)(stage - 1)), "a page of a reservation");
        mprotect(before, PAGE, PROT_NONE);
        madvise(before, PAGE, MADV_DONTNEED);
    }
    mprotect(page, PAGE, PROT_READ | PROT_WRITE);
    expect(is_all(page, PAGE, 0), "a page of a reservation that was never written");
    memset(page, (int)stage, PAGE);
}

static void moved_stage(void)
{
    unsigned char *target = map(2 * MIB, PROT_NONE);

    expect(is_all(moved, MIB, (unsigned char)(0x10 + stage)), "a mapping that was moved");
    moved = mremap(moved, MIB, MIB, MREMAP_MAYMOVE | MREMAP_FIXED, target);
    expect(moved == target, "mremap");
    memset(moved, (int)(0x11 + stage), MIB);
}

/* Holes are cut and filled anew; what is filled reads as zero. */
static void split_stage(void)
{
    unsigned char *hole = split + (stage % 4) * 2 * MIB + MIB;

    if (stage > 1) {
        unsigned char *before = split + ((stage - 1) % 4) * 2 * MIB + MIB;

        expect(is_all(before, MIB, 0), "a hole that was filled");
        memset(before, 0x22, MIB);
    }
    expect(is_all(hole, MIB, 0x22), "a mapping that was split");
    munmap(hole, MIB);
    expect(mmap(hole, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                0) == hole,
           "mmap");
}

static void huge_stage(void)
{
    expect(is_all(huge + PAGE, HUGE_BYTES - PAGE, (unsigned char)(stage > 1 ? 0x30 : 0x33)),
           "memory of huge pages");
    memset(huge, 0x30, HUGE_BYTES);
    huge[0] = (unsigned char)stage;
    madvise(huge + 4 * MIB + PAGE, PAGE, MADV_DONTNEED); /* splits one */
    expect(is_all(huge + 4 * MIB + PAGE, PAGE, 0), "a page of a huge one that was dropped");
    memset(huge + 4 * MIB + PAGE, 0x30, PAGE);
}

/* Half is dropped and reads as zero; of the pages given up (MADV_FREE) each is zero or as it was.
 */
static void dropped_stage(void)
{
    size_t half = FREED_BYTES / 2;

    expect(is_all(dropped + half, half, 0x44), "memory that was kept");
    expect(stage == 1 || is_all(dropped, half, 0), "memory that was dropped");
    memset(dropped, 0x77, half);
    madvise(dropped, half, MADV_DONTNEED);
    for (size_t i = 0; stage > 1 && i < FREED_BYTES; i += PAGE)
        expect(is_all(given_up + i, PAGE, 0) ||
                   is_all(given_up + i, PAGE, (unsigned char)(stage - 1)),
               "a page that was given up");
    memset(given_up, (int)stage, FREED_BYTES);
    madvise(given_up, FREED_BYTES, MADV_FREE);
}

static void brk_stage(void)
{
    expect(is_all(brk_base, MIB / 2, 0x55), "what was kept of the brk area");
    expect(stage == 1 || sbrk(0) == brk_base + MIB / 2, "the end of the brk area");
    if (stage > 1)
        sbrk((intptr_t)(MIB / 2));
    expect(stage == 1 || is_all(brk_base + MIB / 2, MIB / 2, 0), "the brk area, grown again");
    memset(brk_base + MIB / 2, 0x66, MIB / 2);
    sbrk(-(intptr_t)(MIB / 2));
}

/* What free() gave back to the kernel is zero for calloc(). */
static void heap_stage(void)
{
    unsigned char *block = malloc(HEAP_BYTES);

    memset(block, 0x7f, HEAP_BYTES);
    free(block);
    block = calloc(1, HEAP_BYTES);
    expect(is_all(block, HEAP_BYTES, 0), "calloc's memory");
    free(block);
}

static void next_stage(void)
{
    stage++;
    pieces_stage();
    reserve_stage();
    moved_stage();
    split_stage();
    huge_stage();
    dropped_stage();
    brk_stage();
    heap_stage();
    printf("stage %u\n", stage);
    fflush(stdout);
}

int main(void)
{
    char line[16];

    make_all();
    next_stage();
    while (read(0, line, 1) == 1)
        next_stage();
    printf("whole\n");
    return 0;
}
