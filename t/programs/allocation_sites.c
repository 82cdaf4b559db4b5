/*
 * allocation_sites.c - allocates at sites that are known by name, and says in lines "NAME VALUE"
 * how many bytes of each are live. Then it waits for commands on its standard input: "grow" keeps
 * more of what kept() makes, "end" ends. Arguments: a number of threads that do the same.
 *
 *   leaked()   blocks that nothing points to
 *   kept()     blocks in a list that grows
 *   passed()   freed at once, between the calls of the other two
 *   moved()    one array that realloc() lets grow
 *   large()    a few of 300,000 bytes
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS       20000
#define LEAKED_BYTES 96
#define KEPT_BYTES   160
#define LARGE_BYTES  300000
#define LARGE_COUNT  10
#define MOVED_BYTES  3000000

struct link {
    struct link *next;
    char content[KEPT_BYTES - sizeof(struct link *)];
};

static struct link *list;
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static char *array, *volatile larges[LARGE_COUNT];
static uint64_t kept_count;

__attribute__((noinline)) static void leaked(void)
{
    char *block = malloc(LEAKED_BYTES);

    memset(block, 0, LEAKED_BYTES);
    __asm__ volatile("" ::"r"(block) : "memory");
}

__attribute__((noinline)) static void kept(void)
{
    struct link *link = calloc(1, sizeof *link);

    pthread_mutex_lock(&list_lock);
    link->next = list;
    list = link;
    kept_count++;
    pthread_mutex_unlock(&list_lock);
}

__attribute__((noinline)) static void passed(void)
{
    char *volatile block = malloc(LEAKED_BYTES);

    *block = 1;
    free(block);
}

__attribute__((noinline)) static void moved(void)
{
    for (size_t bytes = 1000; bytes <= MOVED_BYTES; bytes *= 3)
        array = realloc(array, bytes);
    array = realloc(array, MOVED_BYTES);
    memset(array, 0, MOVED_BYTES);
}

__attribute__((noinline)) static void large(void)
{
    for (int i = 0; i < LARGE_COUNT; i++)
        larges[i] = malloc(LARGE_BYTES);
}

static void *work(void *argument)
{
    for (int i = 0; i < ROUNDS; i++) {
        leaked();
        passed();
        kept();
        passed();
    }
    return argument;
}

/* A child frees what it got and allocates on: what it does is its own. */
static void fork_and_allocate(void)
{
    pid_t child = fork();

    if (child == 0) {
        struct link *next;

        for (; list; list = next) {
            next = list->next;
            free(list);
        }
        work(NULL);
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

static void say_all(uint64_t threads)
{
    printf("leaked %lu\nkept %lu\nlarge %u\nmoved %u\n", ROUNDS * threads * LEAKED_BYTES,
           kept_count * KEPT_BYTES, LARGE_BYTES * LARGE_COUNT, MOVED_BYTES);
    printf("ready\n");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    pthread_t others[16];
    char line[64];

    for (int i = 1; i < threads && i < 16; i++)
        pthread_create(&others[i], NULL, work, NULL);
    work(NULL);
    for (int i = 1; i < threads && i < 16; i++)
        pthread_join(others[i], NULL);
    moved();
    large();
    fork_and_allocate();
    say_all((uint64_t)threads);
    while (fgets(line, sizeof line, stdin) && strcmp(line, "end\n") != 0) {
        for (int i = 0; i < ROUNDS; i++)
            kept();
        say_all((uint64_t)threads);
    }
    return 0;
}
