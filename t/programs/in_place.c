/*
 * in_place.c - keeps two files, one by pwrite and one by a shared mapping, and remembers in its
 * memory what they must hold: each round changes some of both, and reads all of both back. A line a
 * round: "ROUND SUM", or "ROUND differs" when a file is not what memory says. The first file grows
 * and shrinks. Arguments: FILE FILE ROUNDS HURRY: a
 * round takes 5 ms, or none once the file HURRY is there.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE       4096
#define PAGES      64
#define SHORT_BYTE (40 * PAGE + 100)

static unsigned char memory[PAGES * PAGE], mirror[PAGES * PAGE], back[PAGES * PAGE];
static long length = PAGES * PAGE;

static void must(int holds)
{
    if (!holds)
        exit(98);
}

static void change(int fd, unsigned char *mapped, long round)
{
    for (int i = 0; i < 4; i++) {
        long at = (round * 7919 + i * 104729) % (PAGES * PAGE - 16);

        if (at + 16 <= length) {
            memset(memory + at, (int)(round + i), 16);
            must(pwrite(fd, memory + at, 16, at) == 16);
        }
        memset(mirror + at, (int)(round ^ i), 16);
        memcpy(mapped + at, mirror + at, 16);
    }
}

/* Every tenth round the file is cut, or grows again by zeroes. */
static void resize(int fd, long round)
{
    if (round % 10 != 0)
        return;
    length = length == SHORT_BYTE ? PAGES * PAGE : SHORT_BYTE;
    memset(memory + SHORT_BYTE, 0, sizeof memory - SHORT_BYTE);
    must(ftruncate(fd, length) == 0);
}

static int is_right(int fd, const unsigned char *mapped)
{
    struct stat stat;

    memset(back, 0, sizeof back);
    return fstat(fd, &stat) == 0 && stat.st_size == length &&
           pread(fd, back, sizeof back, 0) == length && memcmp(back, memory, sizeof back) == 0 &&
           memcmp(mapped, mirror, sizeof mirror) == 0;
}

static unsigned long sum(void)
{
    unsigned long total = 0;

    for (long i = 0; i < PAGES * PAGE; i++)
        total = total * 31 + memory[i] + 7ul * mirror[i];
    return total;
}

int main(int argc, char **argv)
{
    int fd = argc > 4 ? open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0640) : -1;
    int other = fd >= 0 ? open(argv[2], O_RDWR | O_CREAT | O_TRUNC, 0600) : -1;
    long rounds = other >= 0 ? atol(argv[3]) : 0;
    const struct timespec tick = {0, 5000000};
    unsigned char *mapped;

    must(rounds > 0 && ftruncate(fd, length) == 0 && ftruncate(other, sizeof mirror) == 0);
    mapped = mmap(NULL, sizeof mirror, PROT_READ | PROT_WRITE, MAP_SHARED, other, 0);
    must(mapped != MAP_FAILED);
    close(other);
    for (long round = 1; round <= rounds; round++) {
        change(fd, mapped, round);
        resize(fd, round);
        if (is_right(fd, mapped))
            printf("%ld %lx\n", round, sum());
        else
            printf("%ld differs\n", round);
        fflush(stdout);
        if (access(argv[4], F_OK) != 0)
            nanosleep(&tick, NULL);
    }
    return 0;
}
