/*
 * named.c - a program whose names the test chooses: a file that it maps, its thread's name, and
 * (the test rewrites it in the program's symbol table) the function that allocates. Prints "ready"
 * and waits for its standard input to end. Arguments: the file, the thread's name.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define BLOCKS 64
#define BYTES  100000

static char *volatile blocks[BLOCKS];

__attribute__((noinline)) void function_that_has_a_name_of_the_test_s_own_choice(void);
void function_that_has_a_name_of_the_test_s_own_choice(void)
{
    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = calloc(1, BYTES);
}

int main(int argc, char **argv)
{
    int fd = argc == 3 ? open(argv[1], O_RDONLY) : -1;
    char byte;

    if (fd < 0 || mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED)
        return 2;
    prctl(PR_SET_NAME, argv[2]);
    function_that_has_a_name_of_the_test_s_own_choice();
    puts("ready");
    fflush(stdout);
    return read(0, &byte, 1) == 0 ? 0 : 1;
}
