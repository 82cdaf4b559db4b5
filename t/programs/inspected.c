/*
 * inspected.c - makes one of each thing that pheap inspect shows, says in lines "NAME VALUE" where
 * it lies, and waits for commands on its standard input: "grow" adds memory, a mapping and a file.
 * Arguments: a path for its file; optionally the number of small blocks to make.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define LEAKED_BLOCKS 1000
#define LEAKED_BYTES  208 /* a size that libc does not use */
#define GROWN_BLOCKS  500
#define GROWN_BYTES   320

struct link {
    struct link *next;
    char text[40];
};

static int known_value = 12345;
static struct link *known_list;
static volatile int spinning = 1, spins, sleeper_tid;

__attribute__((noinline)) static void spin_here(void)
{
    spins = 1;
    while (spinning)
        ;
}

static void *spinner(void *argument)
{
    pthread_setname_np(pthread_self(), "spinner");
    spin_here();
    return argument;
}

static void *sleeper(void *argument)
{
    const struct timespec long_time = {100000, 0};

    pthread_setname_np(pthread_self(), "sleeper");
    sleeper_tid = gettid();
    nanosleep(&long_time, NULL);
    return argument;
}

static char state_of_thread(int tid)
{
    char path[64], line[256] = "", *name_end;
    FILE *file;

    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    file = fopen(path, "re");
    if (!file || !fgets(line, sizeof line, file))
        exit(7);
    fclose(file);
    name_end = strrchr(line, ')');
    return name_end ? name_end[2] : 0;
}

/* Each is where a checkpoint is to find it. */
static void wait_for_threads(void)
{
    while (!spins || !sleeper_tid || state_of_thread(sleeper_tid) != 'S')
        usleep(1000);
}

static void say(const char *name, uint64_t value)
{
    printf("%s %lu\n", name, (unsigned long)value);
}

static void make_list(void)
{
    for (int i = 0; i < 2; i++) {
        struct link *link = malloc(sizeof *link);

        link->next = known_list;
        snprintf(link->text, sizeof link->text, "needle in block %d", i);
        known_list = link;
    }
    say("list_second", (uintptr_t)known_list);
    say("list_first", (uintptr_t)known_list->next);
    say("known_list", (uintptr_t)&known_list);
    say("known_value", (uintptr_t)&known_value);
}

/* Only the inverse of the last address is kept. */
static volatile uint64_t hidden;
__attribute__((noinline)) static void leak(void)
{
    for (int i = 0; i < LEAKED_BLOCKS; i++) {
        void *block = malloc(LEAKED_BYTES);

        memset(block, 0x11, LEAKED_BYTES);
        hidden = ~(uint64_t)(uintptr_t)block;
    }
    hidden = ~(uint64_t)(uintptr_t)memset(malloc(1 << 20), 0x11, 1 << 20);
}

/* What leak() has left in registers and below the stack pointer. */
__attribute__((noinline)) static void clear_stack(void)
{
    volatile char used[16384];

    for (size_t i = 0; i < sizeof used; i++)
        used[i] = 0;
}

static void *make_mapping(void)
{
    char *mapped = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    /* A neighbour with other permissions keeps the kernel from merging it with others. */
    if (mapped == MAP_FAILED || mprotect(mapped, 4096, PROT_READ) != 0)
        exit(2);
    mapped[4096] = 1;
    strcpy(mapped + 8192 - 4, "straddling two pages");
    return mapped + 4096;
}

static void make_files(const char *path)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 77};
    int pipe_ends[2], file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), epoll, event_fd;

    if (file < 0 || write(file, "0123456789", 10) != 10 || lseek(file, 7, SEEK_SET) != 7 ||
        flock(file, LOCK_EX) != 0 || pipe(pipe_ends) != 0 || write(pipe_ends[1], "hello", 5) != 5)
        exit(3);
    epoll = epoll_create1(0);
    event_fd = eventfd(3, 0);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, pipe_ends[0], &event) != 0)
        exit(4);
    say("file", (uint64_t)file);
    say("pipe_read", (uint64_t)pipe_ends[0]);
    say("epoll", (uint64_t)epoll);
    say("eventfd", (uint64_t)event_fd);
}

static void **kept;
static void grow(const char *path)
{
    char other[4096];

    kept = calloc(GROWN_BLOCKS, sizeof *kept);
    for (int i = 0; i < GROWN_BLOCKS; i++)
        kept[i] = memset(malloc(GROWN_BYTES), 0x22, GROWN_BYTES);
    snprintf(other, sizeof other, "%s-grown", path);
    if (open(other, O_RDWR | O_CREAT, 0600) < 0)
        exit(5);
    say("grown_mapping", (uintptr_t)make_mapping());
}

static void make_many(long count)
{
    struct link *list = NULL;

    for (long i = 0; i < count; i++) {
        struct link *link = malloc(100);

        link->next = list;
        list = link;
    }
    known_list->next->next = list;
}

__attribute__((noinline)) static void wait_for_commands(const char *path)
{
    char line[64];

    while (read(0, line, sizeof line) > 0) {
        if (strncmp(line, "grow", 4) == 0)
            grow(path);
        printf("done\n");
        fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    pthread_t threads[2];
    char *mapping;

    if (argc < 2)
        return 1;
    leak();
    clear_stack();
    make_list();
    if (argc > 2)
        make_many(atol(argv[2]));
    mapping = make_mapping();
    say("mapping", (uintptr_t)mapping);
    say("straddling", (uintptr_t)mapping + 4096 - 4);
    make_files(argv[1]);
    if (pthread_create(&threads[0], NULL, spinner, NULL) != 0 ||
        pthread_create(&threads[1], NULL, sleeper, NULL) != 0)
        return 6;
    wait_for_threads();
    say("pid", (uint64_t)getpid());
    printf("ready\n");
    fflush(stdout);
    wait_for_commands(argv[1]);
    return 0;
}
