/*
 * carried_state.c - prints, for N lines of 10 ms, what it reads of files that are mapped: a
 * function and a variable of a library of its own, a data file mapped privately and written to, and
 * the same file mapped shared. Once the file HURRY is there, lines come at once. Arguments:
 * LIBRARY DATA N HURRY.
 *
 * Pages of the private mapping are written to, given back (MADV_DONTNEED, early on) and
 * written to again, so that each comes from where it must: the file, the program's memory, the
 * file again.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGES 16
#define PAGE  4096

typedef long library_function(long);

static unsigned char *map_data(int fd, int prot, int flags)
{
    unsigned char *memory = mmap(NULL, PAGES * PAGE, prot, flags, fd, 0);

    if (memory == MAP_FAILED)
        exit(98);
    return memory;
}

static unsigned long sum(const unsigned char *memory)
{
    unsigned long total = 0;

    for (long i = 0; i < PAGES * PAGE; i++)
        total = total * 31 + memory[i];
    return total;
}

int main(int argc, char **argv)
{
    const struct timespec tick = {0, 10000000};
    void *library = argc > 4 ? dlopen(argv[1], RTLD_NOW) : NULL;
    library_function *twist = library ? (library_function *)dlsym(library, "twist") : NULL;
    int fd = twist ? open(argv[2], O_RDONLY) : -1;
    long count = fd >= 0 ? atol(argv[3]) : 0;
    unsigned char *own, *shared;

    if (!count)
        return 99;
    own = map_data(fd, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    shared = map_data(fd, PROT_READ, MAP_SHARED);
    close(fd);
    memset(own + 3 * PAGE, 0, PAGE);
    memset(own + 5 * PAGE, 5, PAGE);
    for (long i = 1; i <= count; i++) {
        own[(i % 4 + 8) * PAGE + i % PAGE] ^= (unsigned char)i;
        if (i == count / 40)
            madvise(own + 5 * PAGE, PAGE, MADV_DONTNEED);
        printf("%ld %ld %lx %lx\n", i, twist(i), sum(own), sum(shared));
        fflush(stdout);
        if (access(argv[4], F_OK) != 0)
            nanosleep(&tick, NULL);
    }
    return 0;
}
