/*
 * agent_heap.c - the agent of an opened heap: takes checkpoints by itself and on request while
 * transactions go on, is not noticed by the program, and ends with it.
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include "core/agent/heap_agent.h"
#include "core/heap/slot.h"
#include "t/lib/tx_fixture.h"

#define WAIT_NS 10000000000ull

static void open_with_agent(uint64_t interval_ns)
{
    fixture_create();
    CHECK_OK(heap_agent_start(heap, interval_ns));
}

static uint64_t *make_words(unsigned count)
{
    struct pheap_tx *tx = NULL;
    void *block = NULL;

    CHECK_OK(tx_begin(heap, &tx));
    CHECK_OK(tx_alloc(tx, count * 8, 1, &block));
    CHECK_OK(root_set(tx, "words", block, 1));
    CHECK_OK(tx_commit(tx));
    return block;
}

static void store(uint64_t *word, uint64_t value)
{
    struct pheap_tx *tx = NULL;

    CHECK_OK(tx_begin(heap, &tx));
    CHECK_OK(tx_add(tx, word, 8));
    *word = value;
    CHECK_OK(tx_commit(tx));
}

static uint64_t newest(void)
{
    return ((volatile struct superblock *)&heap->pool.super)->next_generation - 1;
}

static bool wait_for_generation(uint64_t number)
{
    uint64_t deadline = sys_clock_ns(CLOCK_MONOTONIC) + WAIT_NS;

    while (newest() < number && sys_clock_ns(CLOCK_MONOTONIC) < deadline)
        usleep(2000);
    return newest() >= number;
}

static void what_is_committed_is_in_a_generation_soon(void)
{
    uint64_t *words;

    open_with_agent(20000000);
    words = make_words(8);
    CHECK(wait_for_generation(2));
    store(words, 5);
    CHECK(wait_for_generation(3));
    fixture_reopen();
    CHECK_EQ(log_bytes(&heap->log), 0);
    CHECK_EQ(*words, 5);
    fixture_close();
}

static void without_commits_there_is_no_generation(void)
{
    open_with_agent(5000000);
    make_words(8);
    CHECK(wait_for_generation(2));
    usleep(100000);
    CHECK_EQ(newest(), 2);
    fixture_close();
}

static void a_checkpoint_is_taken_when_asked(void)
{
    uint64_t *words;

    open_with_agent(0);
    words = make_words(8);
    CHECK_EQ(opened_request_checkpoint(heap, 1000000000), 2);
    store(words, 7);
    CHECK_EQ(opened_request_checkpoint(heap, 1000000000), 3);
    CHECK_EQ(newest(), 3);
    heap->log.is_long = true; /* as when the log has grown: the next that begins tells the agent */
    store(words, 7);
    CHECK(wait_for_generation(4));
    fixture_reopen();
    CHECK_EQ(*words, 7);
    fixture_close();
}

static unsigned count_threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    unsigned count = 0;

    for (struct dirent *entry = tasks ? readdir(tasks) : NULL; entry; entry = readdir(tasks))
        count += entry->d_name[0] != '.';
    if (tasks)
        closedir(tasks);
    return count;
}

static void the_program_does_not_notice(void)
{
    int ends[2], pid;
    char byte;

    CHECK_OK(pipe(ends));
    open_with_agent(5000000);
    make_words(8);
    pid = heap->service.pid;
    CHECK_EQ(count_threads(), 1);
    CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1);
    CHECK_EQ(errno, ECHILD);
    close(ends[1]);
    CHECK_EQ(read(ends[0], &byte, 1), 0); /* nobody else has its other end */
    close(ends[0]);
    fixture_close();
    CHECK_EQ(kill(pid, 0), -1);
    CHECK_EQ(errno, ESRCH);
}

#define THREADS 3
#define ROUNDS  400

static void *count_up(void *argument)
{
    for (uint64_t i = 1; i <= ROUNDS; i++)
        store(argument, i);
    return NULL;
}

static void transactions_go_on_meanwhile(void)
{
    pthread_t threads[THREADS];
    uint64_t *words;
    int64_t number;

    open_with_agent(1000000);
    words = make_words(THREADS * 8);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, count_up, words + 8 * i);
    for (unsigned i = 0; i < 5; i++) {
        number = opened_request_checkpoint(heap, WAIT_NS);
        CHECK(number > 1);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    fixture_reopen();
    for (unsigned i = 0; i < THREADS; i++)
        CHECK_EQ(words[8 * i], ROUNDS);
    fixture_close();
}

static void *open_in_thread(void *unused)
{
    (void)unused;
    open_with_agent(0);
    make_words(8);
    return NULL;
}

static void the_thread_that_opened_it_may_end(void)
{
    pthread_attr_t attributes;
    pthread_t thread;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 20); /* too large to be kept by libc */
    pthread_create(&thread, &attributes, open_in_thread, NULL);
    pthread_join(thread, NULL);
    CHECK_EQ(opened_request_checkpoint(heap, 1000000000), 2);
    fixture_close();
}

static int open_patiently(void)
{
    uint64_t deadline = sys_clock_ns(CLOCK_MONOTONIC) + WAIT_NS;
    int status;

    while ((status = fixture_open()) == STATUS_IN_USE && sys_clock_ns(CLOCK_MONOTONIC) < deadline)
        usleep(1000);
    return status;
}

/* how: 0 killed, 1 _exit without closing, 2 exec. */
static void end_in_child(int how)
{
    uint64_t *words;
    int child = fork();

    if (child == 0) {
        open_with_agent(1000000);
        words = make_words(8);
        for (uint64_t i = 1; i <= 200; i++)
            store(words, i);
        if (how == 0)
            raise(SIGKILL);
        if (how == 1)
            _exit(0);
        execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    waitpid(child, NULL, 0);
    CHECK_OK(open_patiently());
    CHECK_EQ(*(uint64_t *)root_find(heap, "words", NULL), 200);
    fixture_close();
}

static void it_ends_with_the_program(void)
{
    for (int how = 0; how < 3; how++)
        end_in_child(how);
}

/* The agent waits for the lock then. */
static void it_ends_when_a_lock_was_held(void)
{
    uint64_t *words;
    int child = fork();

    if (child == 0) {
        open_with_agent(UINT64_MAX / 4);
        words = make_words(8);
        store(words, 7);
        lock_acquire(&heap->log.pool_lock, heap_holder());
        service_kick(&heap->service);
        while (!(__atomic_load_n(&heap->log.pool_lock.word, __ATOMIC_RELAXED) & 1))
            usleep(1000);
        raise(SIGKILL);
    }
    waitpid(child, NULL, 0);
    CHECK_OK(open_patiently());
    CHECK_EQ(*(uint64_t *)root_find(heap, "words", NULL), 7);
    fixture_close();
}

static void a_forked_child_leaves_it_alone(void)
{
    int child, status = 1;

    open_with_agent(0);
    make_words(8);
    child = fork();
    if (child == 0) {
        bool refused = opened_may_change(heap) == -ESRCH;

        _exit(refused && opened_close(heap) == 0 ? 0 : 1);
    }
    waitpid(child, &status, 0);
    CHECK_EQ(status, 0);
    CHECK_EQ(opened_request_checkpoint(heap, 1000000000), 2);
    fixture_close();
}

static void without_it_checkpoints_are_taken_here(void)
{
    uint64_t *words;

    open_with_agent(0);
    words = make_words(8);
    CHECK_EQ(opened_request_checkpoint(heap, 1000000000), 2);
    CHECK_OK(kill(heap->service.pid, SIGKILL));
    store(words, 3);
    CHECK_EQ(opened_request_checkpoint(heap, 1000000000), 3);
    store(words, 4);
    CHECK_EQ(opened_request_checkpoint(heap, 1000000000), 4);
    fixture_reopen();
    CHECK_EQ(*words, 4);
    fixture_close();
}

int main(int argc, char **argv)
{
    fixture_begin();
    tap_arguments(argc, argv);
    RUN(what_is_committed_is_in_a_generation_soon);
    RUN(without_commits_there_is_no_generation);
    RUN(a_checkpoint_is_taken_when_asked);
    RUN(the_program_does_not_notice);
    RUN(transactions_go_on_meanwhile);
    RUN(the_thread_that_opened_it_may_end);
    RUN(it_ends_with_the_program);
    RUN(it_ends_when_a_lock_was_held);
    RUN(a_forked_child_leaves_it_alone);
    RUN(without_it_checkpoints_are_taken_here);
    fixture_end();
    return tap_done();
}
