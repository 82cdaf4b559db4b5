/*
 * malloc_threads.c - many threads allocate, hand blocks to each other and end; meanwhile one of
 * them forks, and each child allocates and frees what it was given. Prints TAP; knows nothing of
 * pheap.
 *
 * Usage: malloc_threads [ROUNDS]    (1 if not given)
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS     4
#define SHELF_SLOTS 1024

/* Blocks on their way from the thread that made them to whoever takes them. */
static _Atomic(unsigned char *) shelf[SHELF_SLOTS];
static atomic_int failures, stop;
static int tests_run, tests_failed;

static void report(int passed, const char *title)
{
    tests_run++;
    tests_failed += !passed;
    printf("%sok %d - %s\n", passed ? "" : "not ", tests_run, title);
    fflush(stdout);
}

static uint32_t random_next(uint64_t *state)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(*state >> 33);
}

static size_t random_size(uint64_t *state)
{
    uint32_t kind = random_next(state) % 100;

    if (kind < 80)
        return 16 + random_next(state) % 500;
    if (kind < 97)
        return 16 + random_next(state) % 20000;
    return 16 + random_next(state) % 700000;
}

/* First and last byte and the size say whether anybody else wrote to the block. */
static unsigned char *block_make(size_t bytes, uint64_t *state)
{
    unsigned char *block = random_next(state) % 8 == 0 ? calloc(1, bytes) : malloc(bytes);

    if (block == NULL) {
        atomic_fetch_add(&failures, 1);
        return NULL;
    }
    memcpy(block, &bytes, sizeof bytes);
    block[sizeof bytes] = block[bytes - 1] = (unsigned char)(bytes * 7);
    return block;
}

static void block_end(unsigned char *block)
{
    size_t bytes;

    if (block == NULL)
        return;
    memcpy(&bytes, block, sizeof bytes);
    if (block[bytes - 1] != (unsigned char)(bytes * 7))
        atomic_fetch_add(&failures, 1);
    free(block);
}

static void churn(uint64_t *state, int count)
{
    for (int i = 0; i < count; i++) {
        unsigned char *block = block_make(random_size(state), state);
        uint32_t place = random_next(state) % SHELF_SLOTS;

        block_end(atomic_exchange(&shelf[place], block));
    }
}

static void *churner(void *argument)
{
    uint64_t state = (uint64_t)(uintptr_t)argument * 77 + 1;

    while (!atomic_load(&stop))
        churn(&state, 200);
    return NULL;
}

static void *short_life(void *argument)
{
    uint64_t state = (uint64_t)(uintptr_t)argument;

    churn(&state, 50);
    return NULL;
}

static void start_churners(pthread_t *threads)
{
    atomic_store(&stop, 0);
    for (uintptr_t i = 0; i < WORKERS; i++)
        pthread_create(&threads[i], NULL, churner, (void *)(i + 1));
}

static void stop_churners(const pthread_t *threads)
{
    atomic_store(&stop, 1);
    for (int i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
}

static void thousands_of_short_threads(void)
{
    pthread_t threads[32];

    for (uintptr_t round = 0; round < 100; round++) {
        for (uintptr_t i = 0; i < 32; i++)
            pthread_create(&threads[i], NULL, short_life, (void *)(round * 32 + i + 1));
        for (int i = 0; i < 32; i++)
            pthread_join(threads[i], NULL);
    }
    report(atomic_load(&failures) == 0, "3,200 short threads hand blocks to each other");
}

static int child_of_fork(uint64_t seed)
{
    uint64_t state = seed;
    pthread_t thread;

    alarm(30); /* a deadlock is a failure, not a hang */
    churn(&state, 2000);
    if (pthread_create(&thread, NULL, short_life, (void *)(uintptr_t)seed) != 0)
        return 1;
    pthread_join(thread, NULL);
    return atomic_load(&failures) != 0;
}

static void fork_while_others_allocate(void)
{
    pthread_t threads[WORKERS];
    int bad = 0;

    start_churners(threads);
    for (int i = 0; i < 60; i++) {
        int status = 0;
        pid_t child = fork();

        if (child == 0)
            _exit(child_of_fork((uint64_t)i + 1));
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
            printf("# fork %d: status 0x%x\n", i, status);
            bad++;
        }
    }
    stop_churners(threads);
    report(bad == 0 && atomic_load(&failures) == 0, "60 forks while four threads allocate");
}

static void clear_shelf(void)
{
    for (int i = 0; i < SHELF_SLOTS; i++)
        block_end(atomic_exchange(&shelf[i], NULL));
    report(atomic_load(&failures) == 0, "every block on the shelf is whole");
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 1;

    for (int i = 0; i < rounds; i++) {
        thousands_of_short_threads();
        fork_while_others_allocate();
        clear_shelf();
    }
    printf("1..%d\n", tests_run);
    return tests_failed != 0;
}
