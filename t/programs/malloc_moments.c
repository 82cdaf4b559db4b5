/*
 * malloc_moments.c - malloc at unusual moments: before constructors, in fork handlers, in signal
 * handlers, in threads that are cancelled, after main. Run plainly and with LD_PRELOAD, as
 * malloc_conformance.c; MALLOC_IS_GLIBC=1 leaves out signal handlers, in which glibc deadlocks.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include "../lib/program_tap.h"

#define CHURNERS     3
#define MANY_THREADS 1500
#define SMALL_STACK  (64 << 10)

extern char **environ;

static bool is_glibc;
static atomic_int stop, failures;

/* Allocates, writes, frees; the sizes take every path. */
static bool can_allocate(unsigned seed)
{
    static const size_t sizes[] = {24, 700, 9000, 40000, 150000, 1500000};
    char *blocks[12];
    bool whole = true;

    for (unsigned i = 0; i < 12; i++) {
        blocks[i] = opaque(malloc(sizes[(i + seed) % 6]));
        if (blocks[i])
            memset(blocks[i], (int)i, 24);
    }
    for (unsigned i = 0; i < 12; i++) {
        whole = whole && blocks[i] && blocks[i][0] == (char)i && blocks[i][23] == (char)i;
        free(blocks[i]);
    }
    return whole;
}

static void *churner(void *argument)
{
    unsigned seed = (unsigned)(uintptr_t)argument;

    while (!atomic_load(&stop))
        if (!can_allocate(seed++))
            atomic_fetch_add(&failures, 1);
    return NULL;
}

static void start_churners(pthread_t threads[CHURNERS])
{
    atomic_store(&stop, 0);
    for (uintptr_t i = 0; i < CHURNERS; i++)
        pthread_create(&threads[i], NULL, churner, (void *)i);
}

static void stop_churners(const pthread_t threads[CHURNERS])
{
    atomic_store(&stop, 1);
    for (int i = 0; i < CHURNERS; i++)
        pthread_join(threads[i], NULL);
}

/* --- before main --- */

static char *preinit_block, *constructor_block;

static void preinit(void)
{
    preinit_block = opaque(malloc(100));
    if (preinit_block)
        strcpy(preinit_block, "made before every constructor");
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit_entry)(void) = preinit;

__attribute__((constructor(101))) static void first_constructor(void)
{
    constructor_block = opaque(realloc(opaque(malloc(10)), 100000));
    if (constructor_block)
        strcpy(constructor_block, "made in the first constructor");
}

static void blocks_from_before_main_are_blocks(void)
{
    CHECK(preinit_block && strcmp(preinit_block, "made before every constructor") == 0);
    CHECK(constructor_block && strcmp(constructor_block, "made in the first constructor") == 0);
    preinit_block = realloc(preinit_block, 5000);
    CHECK(strcmp(preinit_block, "made before every constructor") == 0);
    free(preinit_block);
    free(constructor_block);
}

/* --- after main --- */

static void allocate_or_die(void)
{
    if (!can_allocate(5))
        _exit(9);
}

__attribute__((destructor)) static void last_destructor(void)
{
    allocate_or_die();
}

static int exit_while_threads_allocate(void)
{
    pthread_t threads[CHURNERS];

    start_churners(threads);
    atexit(allocate_or_die);
    allocate_or_die();
    exit(0);
}

static void handlers_and_destructors_allocate_while_threads_do(void)
{
    for (int i = 0; i < 20; i++)
        CHECK(child_says_yes(exit_while_threads_allocate));
}

static void *outlives_main(void *argument)
{
    pthread_t *main_thread = argument;

    pthread_join(*main_thread, NULL);
    allocate_or_die();
    exit(0);
}

static int end_the_first_thread(void)
{
    static pthread_t first;
    pthread_t other;

    first = pthread_self();
    free(opaque(malloc(100)));
    pthread_create(&other, NULL, outlives_main, &first);
    pthread_exit(NULL);
}

static void a_thread_outlives_the_first_one(void)
{
    CHECK(child_says_yes(end_the_first_thread));
}

/* --- fork, vfork, spawn --- */

static atomic_int handlers_run, handlers_failed;

static void fork_handler(void)
{
    atomic_fetch_add(&handlers_run, 1);
    if (!can_allocate(2))
        atomic_fetch_add(&handlers_failed, 1);
}

static int child_of_handlers(void)
{
    bool fine = true;

    for (unsigned i = 0; i < 200; i++)
        fine = fine && can_allocate(i);
    return fine && atomic_load(&handlers_failed) == 0 ? 0 : 1;
}

static void fork_handlers_allocate_while_threads_do(void)
{
    pthread_t threads[CHURNERS];

    pthread_atfork(fork_handler, fork_handler, fork_handler);
    start_churners(threads);
    for (int i = 0; i < 40; i++)
        CHECK(child_says_yes(child_of_handlers));
    stop_churners(threads);
    CHECK(atomic_load(&handlers_run) >= 80 && atomic_load(&handlers_failed) == 0);
}

static int grandchildren_allocate(void)
{
    return child_says_yes(child_of_handlers) && can_allocate(0) ? 0 : 1;
}

static void children_of_children_allocate(void)
{
    CHECK(child_says_yes(grandchildren_allocate));
}

static void a_vfork_child_allocates_in_our_memory(void)
{
    char *volatile block = NULL;
    int status = -1;
    pid_t child = vfork();

    if (child == 0) {
        block = opaque(malloc(1000));
        _exit(block ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(block != NULL);
    memset(block, 1, 1000);
    free(block);
    CHECK(can_allocate(1));
}

static void posix_spawn_and_popen_while_threads_allocate(void)
{
    char *arguments[] = {"true", NULL};
    pthread_t threads[CHURNERS];

    start_churners(threads);
    for (int i = 0; i < 20; i++) {
        FILE *stream = popen("echo spoken", "r");
        char line[20] = "";
        int status = -1;
        pid_t child;

        CHECK(posix_spawnp(&child, "true", NULL, NULL, arguments, environ) == 0);
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        CHECK(stream && fgets(line, sizeof line, stream) && strcmp(line, "spoken\n") == 0);
        CHECK(stream && pclose(stream) == 0);
    }
    stop_churners(threads);
}

/* --- threads --- */

static pthread_barrier_t all_are_there;
static void *_Atomic passed_on[MANY_THREADS];

static void *one_of_many(void *argument)
{
    uintptr_t number = (uintptr_t)argument;
    char *block = malloc(100 + number);

    memset(block, (int)number, 100 + number);
    atomic_store(&passed_on[number], block);
    pthread_barrier_wait(&all_are_there);
    number = (number + 1) % MANY_THREADS;
    block = atomic_load(&passed_on[number]);
    if (block[0] != (char)number || block[99 + number] != (char)number)
        atomic_fetch_add(&failures, 1);
    free(block);
    return NULL;
}

static void many_threads_at_once_free_each_others_blocks(void)
{
    static pthread_t threads[MANY_THREADS];
    pthread_attr_t small;

    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, SMALL_STACK);
    pthread_barrier_init(&all_are_there, NULL, MANY_THREADS);
    for (uintptr_t i = 0; i < MANY_THREADS; i++)
        if (pthread_create(&threads[i], &small, one_of_many, (void *)i) != 0) {
            printf("Bail out! thread %zu of %d cannot be made here\n", (size_t)i, MANY_THREADS);
            exit(1);
        }
    for (int i = 0; i < MANY_THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(atomic_load(&failures) == 0);
}

static void give_up(void *block)
{
    free(block);
    if (!can_allocate(3))
        atomic_fetch_add(&failures, 1);
}

static void *cancelled(void *argument)
{
    pthread_barrier_wait(&all_are_there);
    for (unsigned i = 0;; i++) {
        void *block = malloc(100 + i % 2000);

        pthread_cleanup_push(give_up, block);
        pthread_testcancel();
        pthread_cleanup_pop(0);
        free(block);
    }
    return argument;
}

static void cancelled_threads_free_in_their_clean_up(void)
{
    pthread_barrier_init(&all_are_there, NULL, 2);
    for (int i = 0; i < 200; i++) {
        pthread_t thread;
        void *result = NULL;

        CHECK(pthread_create(&thread, NULL, cancelled, NULL) == 0);
        pthread_barrier_wait(&all_are_there);
        pthread_cancel(thread);
        CHECK(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
    }
    CHECK(atomic_load(&failures) == 0);
}

/* --- signal handlers --- */

static atomic_int signals_handled;

/* It may get no block where it interrupted one being made; it comes back, and what it gets is its
 * own. */
static void allocate_in_handler(int signal_number)
{
    static const size_t sizes[] = {40, 3000, 30000, 300000};
    int saved_errno = errno;
    char *blocks[8];

    (void)signal_number;
    for (int i = 0; i < 8; i++) {
        blocks[i] = opaque(malloc(sizes[i % 4]));
        if (blocks[i])
            memset(blocks[i], i, sizes[i % 4]);
    }
    for (int i = 0; i < 8; i++) {
        if (blocks[i] && blocks[i][39] != (char)i)
            atomic_fetch_add(&failures, 1);
        free(blocks[i]);
    }
    atomic_fetch_add(&signals_handled, 1);
    errno = saved_errno;
}

static int allocate_over_allocations(void)
{
    const struct itimerval often = {{0, 500}, {0, 500}};
    struct sigaction action = {.sa_handler = allocate_in_handler, .sa_flags = SA_RESTART};
    pthread_t threads[CHURNERS];

    sigaction(SIGVTALRM, &action, NULL);
    setitimer(ITIMER_VIRTUAL, &often, NULL);
    start_churners(threads);
    while (atomic_load(&signals_handled) < 300)
        (void)can_allocate((unsigned)atomic_load(&signals_handled));
    stop_churners(threads);
    signal(SIGVTALRM, SIG_IGN);
    return can_allocate(0) && atomic_load(&failures) == 0 ? 0 : 1;
}

static void signal_handlers_allocate(void)
{
    if (is_glibc)
        return;
    CHECK(child_says_yes(allocate_over_allocations));
}

int main(void)
{
    is_glibc = getenv("MALLOC_IS_GLIBC") != NULL;
    RUN(blocks_from_before_main_are_blocks);
    RUN(handlers_and_destructors_allocate_while_threads_do);
    RUN(a_thread_outlives_the_first_one);
    RUN(a_vfork_child_allocates_in_our_memory);
    RUN(posix_spawn_and_popen_while_threads_allocate);
    RUN(many_threads_at_once_free_each_others_blocks);
    RUN(cancelled_threads_free_in_their_clean_up);
    RUN(signal_handlers_allocate);
    RUN(fork_handlers_allocate_while_threads_do); /* the handlers stay */
    RUN(children_of_children_allocate);
    return tests_done();
}
