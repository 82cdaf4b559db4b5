/*
 * memory_state.c - maps memory with every setting that madvise, mlock and mmap know and, at each
 * SIGUSR1, prints what the kernel says of it and what a forked child sees: the same each time.
 * SIGUSR2: ends.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA           0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif
#include <sys/prctl.h>

#define PAGE  4096ul
#define BYTES (4 * PAGE)

struct area {
    const char *name;
    char *start;
    size_t bytes;
};

static struct area areas[32];
static int area_count;
static char *wiped, *missing, *block;

/* Apart from its neighbours, which the kernel would show with it as one. */
static char *map(const char *name, int prot, int flags)
{
    char *room = mmap(NULL, BYTES + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *memory = mmap(room + PAGE, BYTES, prot, flags | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

    if (memory == MAP_FAILED) {
        printf("%s: not here\n", name);
        return NULL;
    }
    if (prot & PROT_WRITE)
        memset(memory, 'm', PAGE);
    areas[area_count++] = (struct area){name, memory, BYTES};
    return memory;
}

static char *advised(const char *name, int advice)
{
    char *memory = map(name, PROT_READ | PROT_WRITE, MAP_PRIVATE);

    if (madvise(memory, BYTES, advice) != 0)
        printf("%s: not here\n", name);
    return memory;
}

static void make(void)
{
    char *memory;

    missing = advised("DONTFORK", MADV_DONTFORK);
    wiped = advised("WIPEONFORK", MADV_WIPEONFORK);
    (void)advised("DONTDUMP", MADV_DONTDUMP);
    (void)advised("HUGEPAGE", MADV_HUGEPAGE);
    (void)advised("NOHUGEPAGE", MADV_NOHUGEPAGE);
    (void)advised("MERGEABLE", MADV_MERGEABLE);
    (void)advised("SEQUENTIAL", MADV_SEQUENTIAL);
    (void)advised("RANDOM", MADV_RANDOM);
    memory = advised("several", MADV_DONTDUMP);
    (void)madvise(memory, BYTES, MADV_NOHUGEPAGE);
    (void)prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, memory, BYTES, "several settings");
    (void)map("plain", PROT_READ | PROT_WRITE, MAP_PRIVATE);
    (void)map("NORESERVE", PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE);
    (void)map("none, NORESERVE", PROT_NONE, MAP_PRIVATE | MAP_NORESERVE);
    (void)map("GROWSDOWN", PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_GROWSDOWN);
    (void)map("DROPPABLE", PROT_READ | PROT_WRITE, MAP_DROPPABLE);
    memory = map("shared, DONTFORK", PROT_READ | PROT_WRITE, MAP_SHARED);
    (void)madvise(memory, BYTES, MADV_DONTFORK);
    memory = map("mlock", PROT_READ | PROT_WRITE, MAP_PRIVATE);
    (void)mlock(memory, BYTES);
    memory = map("mlock2", PROT_READ | PROT_WRITE, MAP_PRIVATE);
    (void)mlock2(memory, BYTES, MLOCK_ONFAULT);
    if (posix_memalign((void **)&block, PAGE, 64 * PAGE) != 0)
        abort();
    memset(block, 'b', 64 * PAGE);
    (void)madvise(block + 8 * PAGE, 2 * PAGE, MADV_WIPEONFORK);
    areas[area_count++] = (struct area){"malloc, WIPEONFORK", block + 8 * PAGE, 2 * PAGE};
    (void)madvise(block + 16 * PAGE, 2 * PAGE, MADV_DONTDUMP);
    areas[area_count++] = (struct area){"malloc, DONTDUMP", block + 16 * PAGE, 2 * PAGE};
}

/* Not those that tell of tracking, of use or of what the kernel happens to have at hand. */
static void print_flags(const struct area *area, const char *flags)
{
    static const char *const kept[] = {"rd", "wr", "ex", "sh", "gd", "lo", "sr", "rr", "dc",
                                       "lf", "nr", "ac", "wf", "dd", "hg", "nh", "mg", "dp"};

    printf("%s:", area->name);
    for (; flags[0] >= 'a'; flags += 3)
        for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
            if (strncmp(flags, kept[i], 2) == 0)
                printf(" %s", kept[i]);
    printf(" %d\n", area->start[0]);
}

static void print_areas(void)
{
    FILE *file = fopen("/proc/self/smaps", "r");
    unsigned long start, end, low = 0, high = 0;
    char line[512];

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2 && strchr(line, ':') > strchr(line, '-')) {
            low = start;
            high = end;
            if (strstr(line, "several settings") != NULL)
                printf("%s", line);
        }
        if (strncmp(line, "VmFlags: ", 9) != 0)
            continue;
        for (int i = 0; i < area_count; i++)
            if ((unsigned long)areas[i].start < high && (unsigned long)areas[i].start >= low) {
                if (strstr(line, "rd") == NULL)
                    printf("%s: %s", areas[i].name, strstr(line, " nr") ? "nr\n" : "\n");
                else
                    print_flags(&areas[i], line + 9);
            }
    }
    if (file != NULL)
        fclose(file);
}

static void print_child(void)
{
    unsigned char present;
    int status;

    fflush(stdout);
    if (fork() == 0)
        _exit(wiped[0] + (mincore(missing, PAGE, &present) == 0 ? 2 : 0) +
              (block[8 * PAGE] != 0 ? 4 : 0) + (block[0] == 'b' ? 0 : 8));
    wait(&status);
    printf("a child sees %d\n", WEXITSTATUS(status));
}

static void print_future(void)
{
    char line[256], *memory = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    FILE *file = fopen("/proc/self/smaps", "r");
    unsigned long start, end;
    int here = 0;

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2 && strchr(line, ':') > strchr(line, '-'))
            here = start <= (unsigned long)memory && (unsigned long)memory < end;
        if (here && strncmp(line, "VmFlags: ", 9) == 0)
            printf("new memory is %slocked\n", strstr(line, " lo") != NULL ? "" : "not ");
    }
    if (file != NULL)
        fclose(file);
    munmap(memory, PAGE);
}

int main(void)
{
    sigset_t both;
    int number = 0;

    sigemptyset(&both);
    sigaddset(&both, SIGUSR1);
    sigaddset(&both, SIGUSR2);
    sigprocmask(SIG_BLOCK, &both, NULL);
    make();
    if (geteuid() == 0)
        mlockall(MCL_FUTURE | MCL_ONFAULT);
    printf("ready\n");
    fflush(stdout);
    while (sigwait(&both, &number) == 0 && number == SIGUSR1) {
        print_areas();
        print_child();
        print_future();
        printf("end\n");
        fflush(stdout);
    }
    return 0;
}
