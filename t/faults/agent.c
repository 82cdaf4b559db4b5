/*
 * agent.c - the n-th system call, or the n-th allocation, of an agent fails, n = 1, 2, ... until a
 * checkpoint, a start, an end or a crash image passes untouched, once for each kind of failure. The
 * program goes on, all its threads; the next checkpoint works, or, where a sync has failed, the
 * pool is as it was and works for the next program; what is in the pool is whole and shows memory
 * as it was.
 *
 * Without PHEAP_TEST_LONG some of the n are left out, others each time.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/agent/agent.h"
#include "core/agent/control.h"
#include "core/base/sys.h"
#include "core/image/image_reader.h"
#include "core/pool/pool.h"
#include "recovery/check/check.h"
#include "t/lib/sys_faults.h"
#include "t/lib/tap.h"

#define SLOT        7
#define PATIENCE_MS 10000
#define THREADS     3
#define MEMORY      ((uint64_t *)0x6a0000000000)
#define PAGES       64u

enum outcome {
    ALL_DONE,      /* the last run was not hit */
    POOL_IS_STUCK, /* after a failed sync: the next program takes it */
    NOT_STARTED,
    NOT_AS_SHOULD, /* said why */
};

/* What the program tells the test, which outlives it. */
static struct story {
    enum fault_kind kind;
    unsigned long n;
    unsigned long failures, stuck;
    uint64_t generation, value; /* of the last checkpoint that was acknowledged: what it shows */
    uint64_t tried;             /* what one that failed would show */
    char text[512];
} * story;

static char directory[64], pool_path[96];
static struct agent_link program_link;
static _Atomic unsigned long beats[THREADS];
static int pipe_ends[2], epoll_fd;

static unsigned long next_n(unsigned long n)
{
    return getenv("PHEAP_TEST_LONG") ? n + 1 : n + 1 + (unsigned long)rand() % (1 + n / 20);
}

static int wrong(const char *what, long value)
{
    snprintf(story->text, sizeof story->text, "%s, n = %lu, call %ld: %.400s (%ld)",
             fault_names[story->kind], story->n, faults_failed_call(), what, value);
    return NOT_AS_SHOULD;
}

/* --- the program --- */

static void *count(void *unused)
{
    for (;;) {
        beats[0]++;
        usleep(100);
    }
    return unused;
}

static void *wait_for_events(void *unused)
{
    struct epoll_event event;

    for (;;)
        if (epoll_wait(epoll_fd, &event, 1, 5) < 0)
            abort();
        else
            beats[1]++;
    return unused;
}

static void *read_a_pipe(void *unused)
{
    char byte;

    for (;;)
        if (read(pipe_ends[0], &byte, 1) != 1)
            abort();
        else
            beats[2]++;
    return unused;
}

/* A few of everything that a capture looks at. */
static void make_things(void)
{
    static char text[] = "waiting to be read";
    struct itimerspec time = {{0, 0}, {1000, 0}};
    struct epoll_event event = {.events = EPOLLIN};
    int ends[2], fd;

    if (pipe(pipe_ends) < 0 || pipe(ends) < 0 || write(ends[1], text, sizeof text) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0 || write(ends[0], text, sizeof text) < 0)
        abort();
    epoll_fd = epoll_create1(0);
    fd = timerfd_create(CLOCK_MONOTONIC, 0);
    if (timerfd_settime(fd, 0, &time, NULL) < 0 ||
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 || eventfd(3, 0) < 0)
        abort();
    fd = open("/bin/sh", O_RDONLY);
    if (fd < 0 || lseek(fd, 100, SEEK_SET) != 100)
        abort();
    if (mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0) == MAP_FAILED)
        abort();
}

static bool make_program(void)
{
    void *(*const bodies[THREADS])(void *) = {count, wait_for_events, read_a_pipe};
    int sink = open("/dev/null", O_RDWR);

    dup2(sink, 0);
    dup2(sink, 2); /* what the agent says each time */
    make_things();
    for (int i = 0; i < THREADS; i++) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, bodies[i], NULL) != 0)
            return false;
    }
    return mmap(MEMORY, PAGES * 4096ul, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MEMORY;
}

/* Every page says so. */
static void remember(uint64_t value)
{
    for (unsigned i = 0; i < PAGES; i++)
        MEMORY[i * 512] = value;
}

static bool all_threads_go_on(void)
{
    unsigned long before[THREADS];

    for (int i = 0; i < THREADS; i++)
        before[i] = beats[i];
    if (write(pipe_ends[1], "x", 1) != 1)
        return false;
    for (int tries = 0; tries < 5000; tries++) {
        bool all = true;

        for (int i = 0; i < THREADS; i++)
            all = all && beats[i] != before[i];
        if (all)
            return true;
        usleep(200);
    }
    return false;
}

static int start(struct problem *why)
{
    memset(&program_link, 0, sizeof program_link);
    strcpy(program_link.pool_path, pool_path);
    program_link.slot = SLOT;
    program_link.omits_crash = 1;
    return agent_start(&program_link, why);
}

static int64_t checkpoint(uint64_t value)
{
    int64_t number;

    remember(value);
    number = agent_checkpoint(&program_link, PATIENCE_MS);
    if (number > 0) {
        story->generation = (uint64_t)number;
        story->value = value;
    }
    return number;
}

/* --- checkpoints --- */

static int take_checkpoints(void)
{
    struct problem why;

    if (!make_program() || start(&why) < 0 || checkpoint(story->n * 2) < 0)
        return NOT_STARTED;
    for (;; story->n = next_n(story->n)) {
        uint64_t before = story->generation;
        int64_t number;
        bool hit;

        story->tried = story->n * 2;
        faults_arm_agent(story->kind, story->n);
        number = checkpoint(story->n * 2);
        hit = faults_disarm();
        if (!all_threads_go_on())
            return wrong("a thread stands still", number);
        if (number > 0 && (uint64_t)number != before + 1 && (uint64_t)number != before + 2)
            return wrong("not the next generation", number);
        story->failures += number < 0;
        if (!hit)
            return number > 0 ? ALL_DONE : wrong("failed untouched", number);
        if (number > 0)
            continue;
        number = checkpoint(story->n * 2 + 1);
        if (!all_threads_go_on())
            return wrong("a thread stands still afterwards", number);
        if (number < 0 && faults_failed_call() != SYS_fdatasync)
            return wrong("does not go on", number);
        if (number < 0) {
            story->stuck++;
            return POOL_IS_STUCK;
        }
    }
}

/* --- the test --- */

static int run(int (*body)(void))
{
    int status = 0, pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0)
        _exit(body());
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void note(void *context, const struct finding *finding)
{
    (void)context;
    tap_note("%s: expected %s, found %s", finding_id(finding->kind), finding->expected,
             finding->found);
}

/* The agent ends shortly after its program; then the pool is whole. */
static bool after_the_end(struct superblock *super)
{
    const struct check_request request = {.path = pool_path, .found = note};
    static struct check_result result;
    static struct pool pool;
    struct problem why = {0};
    int status = STATUS_IN_USE;

    for (int i = 0; i < 5000 && status == STATUS_IN_USE; i++, usleep(500))
        status = pool_open(&pool, pool_path, POOL_WRITE, &why);
    if (!CHECK_OK(status))
        return false;
    *super = pool.super;
    pool_close(&pool);
    return CHECK_OK(check_pool(&request, &result, &why)) &&
           CHECK(result.worst <= SEVERITY_HARMLESS);
}

static bool shows(uint64_t number, uint64_t value)
{
    static struct pool pool;
    struct problem why = {0};
    struct image image;
    struct arena arena;
    bool same;

    if (arena_create(&arena, 1ull << 30) < 0 || pool_open(&pool, pool_path, POOL_READ, &why) < 0)
        return false;
    same = pool_generation(&pool, number) != NULL &&
           image_open(&image, &pool, pool_generation(&pool, number), &arena, &why) == 0;
    for (unsigned i = 0; same && i < PAGES; i++) {
        uint64_t word = 0;

        same =
            image_read(&image, (uintptr_t)(MEMORY + i * 512), &word, 8, &why) == 0 && word == value;
    }
    pool_close(&pool);
    arena_destroy(&arena);
    return same;
}

/* The newest generation is the last that was acknowledged; or one whose sync failed, and which is
 * there all the same. */
static bool pool_is_right(void)
{
    struct superblock super;
    uint64_t newest;

    if (!after_the_end(&super))
        return false;
    newest = super.generation_count ? super.generations[super.generation_count - 1].number : 0;
    if (newest == story->generation)
        return newest == 0 || shows(newest, story->value);
    return newest > story->generation && story->stuck > 0 && shows(newest, story->tried);
}

static void make_pool(void)
{
    struct problem why;

    unlink(pool_path);
    CHECK_OK(pool_create(pool_path, SLOT, 3, &why));
    story->generation = 0;
}

static void say(enum fault_kind kind)
{
    tap_note("%s: %lu places, %lu checkpoints failed, after %lu the pool took no more",
             fault_names[kind], faults_counted(), story->failures, story->stuck);
}

static void whatever_fails_in_a_checkpoint_the_program_goes_on(void)
{
    for (enum fault_kind kind = 0; kind < FAULT_KINDS; kind++) {
        int outcome = POOL_IS_STUCK;

        *story = (struct story){.kind = kind, .n = 1};
        make_pool();
        while (outcome == POOL_IS_STUCK) {
            outcome = run(take_checkpoints);
            (void)faults_disarm();
            if (!CHECK(pool_is_right()))
                tap_note("%s, n = %lu, call %ld: the pool", fault_names[kind], story->n,
                         faults_failed_call());
            story->n += outcome == POOL_IS_STUCK;
        }
        if (!CHECK_EQ(outcome, ALL_DONE))
            tap_note("%s", story->text);
        say(kind);
    }
}

/* --- starts --- */

static bool by_agent;

static int start_and_checkpoint(void)
{
    struct problem why = {0}, again = {0};
    bool hit;
    int status;

    if (!make_program())
        return NOT_STARTED;
    if (by_agent)
        faults_arm_agent(story->kind, story->n);
    else
        faults_arm(story->kind, story->n);
    status = start(&why);
    hit = faults_disarm();
    if (!all_threads_go_on())
        return wrong("a thread stands still", status);
    if (status < 0 && why.text[0] == 0)
        return wrong("no reason", status);
    if (status < 0 && !hit)
        return wrong("failed untouched", status);
    story->failures += status < 0;
    if (status < 0 && start(&again) < 0)
        return wrong(again.text, status);
    if (checkpoint(story->n) < 0)
        return wrong("no checkpoint", status);
    return hit ? POOL_IS_STUCK : ALL_DONE;
}

static void fail_starts(void)
{
    for (enum fault_kind kind = 0; kind < FAULT_KINDS; kind++) {
        int outcome = POOL_IS_STUCK;

        *story = (struct story){.kind = kind, .n = 1};
        make_pool();
        while (outcome == POOL_IS_STUCK) {
            outcome = run(start_and_checkpoint);
            (void)faults_disarm();
            CHECK(pool_is_right());
            if (outcome == POOL_IS_STUCK)
                story->n = next_n(story->n);
        }
        if (!CHECK_EQ(outcome, ALL_DONE))
            tap_note("%s", story->text);
        tap_note("%s: %lu starts failed", fault_names[kind], story->failures);
    }
}

static void whatever_fails_when_an_agent_starts(void)
{
    by_agent = true;
    fail_starts();
}

static void whatever_fails_on_the_side_of_the_program(void)
{
    by_agent = false;
    fail_starts();
}

/* --- ends --- */

static bool is_killed;

static int end(void)
{
    struct problem why;

    if (!make_program() || start(&why) < 0 || checkpoint(story->n) < 0)
        return NOT_STARTED;
    program_link.omits_crash = 0;
    remember(story->n + 1);
    program_link.exit_status = 42;
    program_link.exit_noted = !is_killed;
    faults_arm_agent(story->kind, story->n);
    if (is_killed)
        raise(SIGSEGV); /* not kill(): another thread could take it, and we be gone before */
    return 42;
}

static uint64_t newest_of(const struct superblock *super, bool crash)
{
    for (uint32_t i = super->generation_count; i-- > 0;)
        if ((super->generations[i].kind == GENERATION_CRASH) == crash)
            return super->generations[i].number;
    return 0;
}

/* What is to be resumed is there, whatever became of the rest. */
static bool end_is_right(bool hit, const struct superblock *super)
{
    uint64_t crash = newest_of(super, true);
    bool done = is_killed ? crash > story->generation : super->run_state == RUN_ENDED;

    story->failures += !done;
    if (crash > story->generation && !shows(crash, story->n + 1))
        return false;
    if (is_killed && super->run_state != RUN_STARTED)
        return false;
    return newest_of(super, false) == story->generation && shows(story->generation, story->value) &&
           (done || hit);
}

static void fail_ends(void)
{
    for (enum fault_kind kind = 0; kind < FAULT_KINDS; kind++) {
        bool hit = true, right = true;

        *story = (struct story){.kind = kind, .n = 1};
        make_pool();
        for (; hit && right; story->n = next_n(story->n)) {
            struct superblock super;
            int status = run(end);

            right = CHECK_EQ(status, is_killed ? 128 + SIGSEGV : 42) && after_the_end(&super);
            hit = faults_disarm();
            if (right && !CHECK(right = end_is_right(hit, &super)))
                tap_note("%s, n = %lu, call %ld", fault_names[kind], story->n,
                         faults_failed_call());
        }
        tap_note("%s: %lu places, %lu ends were not noted", fault_names[kind], faults_counted(),
                 story->failures);
    }
}

static void whatever_fails_at_the_end_of_a_program(void)
{
    is_killed = false;
    fail_ends();
}

static void whatever_fails_while_a_crash_image_is_taken(void)
{
    is_killed = true;
    fail_ends();
}

int main(int argc, char **argv)
{
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

    tap_arguments(argc, argv);
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    srand((unsigned)getpid());
    faults_share();
    story = mmap(NULL, sizeof *story, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    snprintf(directory, sizeof directory, "%s/pheap-faults-XXXXXX", base);
    if (story == MAP_FAILED || !mkdtemp(directory))
        return 1;
    snprintf(pool_path, sizeof pool_path, "%s/pool", directory);
    RUN(whatever_fails_in_a_checkpoint_the_program_goes_on);
    RUN(whatever_fails_when_an_agent_starts);
    RUN(whatever_fails_on_the_side_of_the_program);
    RUN(whatever_fails_at_the_end_of_a_program);
    RUN(whatever_fails_while_a_crash_image_is_taken);
    unlink(pool_path);
    rmdir(directory);
    return tap_done();
}
