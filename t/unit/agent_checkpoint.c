/*
 * agent_checkpoint.c - a program and its agent, without the preload: checkpoints are taken, asked
 * for, deferred; and whatever the program does - ends, execs, unmaps, makes threads - the agent
 * neither hangs nor crashes, and ends with it.
 *
 * Each test runs the program in a child of its own, which says what went wrong by its exit status.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/agent/agent.h"
#include "core/agent/control.h"
#include "core/base/kernel_features.h"
#include "core/base/sys.h"
#include "core/image/image_reader.h"
#include "core/pool/pool.h"
#include "t/lib/tap.h"

#define SLOT        7
#define MS          1000000ull
#define PATIENCE_MS 5000

static char directory[64], pool_path[96];
static struct agent_link program_link;
static enum tracking program_tracking;

static void make_pool(void)
{
    struct problem why;

    unlink(pool_path);
    CHECK_EQ(pool_create(pool_path, SLOT, 3, &why), 0);
}

static void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};

    while (nanosleep(&time, &time) < 0)
        ;
}

static int start(uint64_t interval_ns, struct problem *why)
{
    memset(&program_link, 0, sizeof program_link);
    strcpy(program_link.pool_path, pool_path);
    program_link.interval_ns = interval_ns;
    program_link.slot = SLOT;
    program_link.track = program_tracking;
    return agent_start(&program_link, why);
}

static bool reaches(uint64_t generation)
{
    for (int i = 0; i < PATIENCE_MS; i++, sleep_ms(1))
        if (__atomic_load_n(&program_link.committed_generation, __ATOMIC_ACQUIRE) >= generation)
            return true;
    return false;
}

/* The exit status of body in a child process; 128 + signal if it was killed. */
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

/* The agent ends shortly after its program: its lock is free then. */
static struct superblock after_the_end(void)
{
    struct superblock super = {.run_state = 99};
    struct problem why = {0, ""};
    static struct pool pool;
    int status = 0;

    for (int i = 0; i < PATIENCE_MS; i++, sleep_ms(1)) {
        status = pool_open(&pool, pool_path, POOL_WRITE, &why);
        if (status != STATUS_IN_USE)
            break;
    }
    tap_check(status == 0, __FILE__, __LINE__, "pool after the end: %d %s", status, why.text);
    if (status == 0) {
        super = pool.super;
        pool_close(&pool);
    }
    return super;
}

/* ---- taken --------------------------------------------------------------------------------- */

static int take_three(void)
{
    struct problem why = {0, ""};

    if (start(20 * MS, &why) < 0) {
        printf("# %s\n", why.text);
        return 1;
    }
    return reaches(3) ? 0 : 2;
}

static void generations_are_committed_at_the_interval(void)
{
    struct superblock super;

    make_pool();
    CHECK_EQ(run(take_three), 0);
    super = after_the_end();
    CHECK(super.next_generation >= 4);
    CHECK_EQ(super.run_state, RUN_STARTED);
    CHECK_EQ(super.run_first_generation, 1);
    CHECK_EQ(super.slot, SLOT);
    CHECK_EQ(super.generations[0].kind, GENERATION_PROCESS);
    CHECK(super.generations[0].pause_ns > 0);
}

static int ask_for_two(void)
{
    struct problem why;

    if (start(0, &why) < 0)
        return 1;
    if (agent_request(&program_link, CONTROL_CHECKPOINT, 0, 0, PATIENCE_MS) != 0)
        return 2;
    if (program_link.committed_generation != 1)
        return 3;
    if (agent_request(&program_link, CONTROL_CHECKPOINT, 0, 0, PATIENCE_MS) != 0)
        return 4;
    return program_link.committed_generation == 2 ? 0 : 5;
}

static void the_program_can_ask_for_one(void)
{
    make_pool();
    CHECK_EQ(run(ask_for_two), 0);
    CHECK_EQ(after_the_end().next_generation, 3);
}

static int end_by_itself(void)
{
    struct problem why;

    if (start(0, &why) < 0)
        return 1;
    program_link.exit_status = 42;
    program_link.exit_noted = 1;
    return 42;
}

static void a_noted_exit_marks_the_run_as_ended(void)
{
    struct superblock super;

    make_pool();
    CHECK_EQ(run(end_by_itself), 42);
    super = after_the_end();
    CHECK_EQ(super.run_state, RUN_ENDED);
    CHECK_EQ(super.end_status, 42 << 8);
}

static int be_killed(void)
{
    struct problem why;

    if (start(20 * MS, &why) < 0 || !reaches(1))
        return 1;
    kill(getpid(), SIGKILL);
    return 2;
}

static void a_kill_leaves_the_run_resumable(void)
{
    make_pool();
    CHECK_EQ(run(be_killed), 128 + SIGKILL);
    CHECK_EQ(after_the_end().run_state, RUN_STARTED);
}

/* ---- asked from outside --------------------------------------------------------------------- */

static int wait_to_be_killed(void)
{
    struct problem why;

    if (start(0, &why) < 0)
        return 1;
    for (;;)
        pause();
}

static void tools_can_ask_over_the_socket(void)
{
    struct control_request request = {.kind = CONTROL_STATUS};
    struct control_answer answer = {0};
    struct problem why;
    static struct pool pool;
    int pid, status = -1;

    make_pool();
    CHECK_OK(pool_open(&pool, pool_path, POOL_READ, &why));
    CHECK_EQ(control_ask(pool.super.uuid, &request, &answer, 100), -ECONNREFUSED);
    pid = fork();
    if (pid == 0)
        _exit(wait_to_be_killed());
    for (int i = 0; i < PATIENCE_MS && status < 0; i++, sleep_ms(1))
        status = control_ask(pool.super.uuid, &request, &answer, 1000);
    CHECK_EQ(status, 0);
    CHECK_EQ(answer.pid, pid);
    CHECK_EQ(answer.generation, 0);
    CHECK(answer.tracking[0] != 0);
    request.kind = CONTROL_CHECKPOINT;
    CHECK_OK(control_ask(pool.super.uuid, &request, &answer, PATIENCE_MS));
    CHECK_EQ(answer.status, 0);
    CHECK_EQ(answer.generation, 1);
    CHECK_EQ(answer.checkpoints, 1);
    request.kind = CONTROL_TAKE_OVER;
    CHECK_OK(control_ask(pool.super.uuid, &request, &answer, 1000));
    CHECK_EQ(answer.status, STATUS_REFUSED);
    pool_close(&pool);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    after_the_end();
}

static int be_second(void)
{
    struct problem why;
    int status = start(0, &why);

    return status == STATUS_IN_USE && program_link.agent_pid == 0 ? 0 : 1;
}

static void a_pool_in_use_is_refused(void)
{
    int pid;

    make_pool();
    pid = fork();
    if (pid == 0)
        _exit(wait_to_be_killed());
    sleep_ms(200);
    CHECK_EQ(run(be_second), 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    after_the_end();
}

/* ---- deferred ------------------------------------------------------------------------------- */

static int have_a_child(void)
{
    struct problem why;
    int child, refused;

    if (start(0, &why) < 0)
        return 1;
    child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    refused = agent_request(&program_link, CONTROL_CHECKPOINT, 0, 0, 200);
    if (refused != -ETIMEDOUT || program_link.committed_generation != 0)
        return 2;
    kill(child, SIGKILL);
    if (agent_request(&program_link, CONTROL_CHECKPOINT, 0, 0, PATIENCE_MS) != 0)
        return 3; /* it has not been waited for: its end is in the record */
    waitpid(child, NULL, 0);
    return agent_request(&program_link, CONTROL_CHECKPOINT, 0, 0, PATIENCE_MS) == 0 ? 0 : 4;
}

static int have_a_child_and_ignore_it(void)
{
    struct problem why;
    int child, status;

    if (start(0, &why) < 0)
        return 1;
    program_link.ignores_children = 1;
    child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    status = agent_request(&program_link, CONTROL_CHECKPOINT, 0, 0, PATIENCE_MS);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return status == 0 ? 0 : 2;
}

static void a_child_defers_it_as_long_as_it_lives(void)
{
    make_pool();
    CHECK_EQ(run(have_a_child), 0);
    after_the_end();
}

static void a_child_does_not_defer_it_if_it_is_to_be_ignored(void)
{
    make_pool();
    CHECK_EQ(run(have_a_child_and_ignore_it), 0);
    after_the_end();
}

/* What an agent that was slow to let go leaves behind after an exec. */
static int have_an_old_agent(void)
{
    struct problem why;
    int child = fork();

    if (child == 0) {
        prctl(PR_SET_NAME, "pheap-agent");
        _exit(0);
    }
    sleep_ms(50);
    if (start(0, &why) < 0)
        return 1;
    return agent_request(&program_link, CONTROL_CHECKPOINT, 0, 0, PATIENCE_MS) == 0 ? 0 : 2;
}

static void an_agent_of_before_an_exec_is_no_child(void)
{
    make_pool();
    CHECK_EQ(run(have_an_old_agent), 0);
    after_the_end();
}

static int wait_sees_no_agent(void)
{
    struct problem why;

    if (start(5 * MS, &why) < 0 || !reaches(1))
        return 1;
    return waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD ? 0 : 2;
}

static void the_program_has_no_child_to_wait_for(void)
{
    make_pool();
    CHECK_EQ(run(wait_sees_no_agent), 0);
    after_the_end();
}

/* ---- storms --------------------------------------------------------------------------------- */

static void *short_lived(void *unused)
{
    return unused;
}

static atomic_bool storm_over;

static void *thread_storm(void *unused)
{
    while (!storm_over) {
        pthread_t threads[4];

        for (int i = 0; i < 4; i++)
            pthread_create(&threads[i], NULL, short_lived, NULL);
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
        sched_yield();
    }
    return unused;
}

static void *mapping_storm(void *unused)
{
    while (!storm_over) {
        const size_t bytes = 64 * 4096;
        char *memory =
            mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        memset(memory, 1, bytes);
        sched_yield();
        munmap(memory, bytes);
    }
    return unused;
}

static int weather(void *(*storm)(void *))
{
    struct problem why;
    pthread_t thread;

    storm_over = false;
    pthread_create(&thread, NULL, storm, NULL);
    if (start(2 * MS, &why) < 0)
        return 1;
    if (!reaches(30))
        return 2;
    storm_over = true;
    pthread_join(thread, NULL);
    return 0;
}

static int weather_threads(void)
{
    return weather(thread_storm);
}

static int weather_mappings(void)
{
    return weather(mapping_storm);
}

static void threads_may_come_and_go(void)
{
    make_pool();
    CHECK_EQ(run(weather_threads), 0);
    after_the_end();
}

static void memory_may_be_unmapped_at_any_time(void)
{
    make_pool();
    CHECK_EQ(run(weather_mappings), 0);
    after_the_end();
}

static int exit_delay_us;

static int end_in_the_middle(void)
{
    struct problem why;
    pthread_t threads[4];

    if (start(1 * MS, &why) < 0)
        return 1;
    storm_over = false;
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, i % 2 ? mapping_storm : thread_storm, NULL);
    usleep((useconds_t)exit_delay_us);
    program_link.exit_status = 7;
    program_link.exit_noted = 1;
    return 7;
}

static void the_program_may_end_at_any_moment(void)
{
    for (int i = 0; i < 40; i++) {
        make_pool();
        exit_delay_us = i * 733;
        if (!tap_check(run(end_in_the_middle) == 7, __FILE__, __LINE__, "exit after %d us",
                       exit_delay_us))
            return;
        if (!CHECK_EQ(after_the_end().run_state, RUN_ENDED))
            return;
    }
}

static int exec_in_the_middle(void)
{
    struct problem why;

    if (start(1 * MS, &why) < 0)
        return 1;
    usleep((useconds_t)exit_delay_us);
    execl("/bin/sleep", "sleep", "1.6", NULL);
    return 2;
}

static void the_agent_leaves_after_an_exec(void)
{
    static struct pool pool;
    struct problem why;
    int pid, status = STATUS_IN_USE;

    make_pool();
    exit_delay_us = 20000;
    pid = fork();
    if (pid == 0)
        _exit(exec_in_the_middle());
    sleep_ms(100);
    for (int i = 0; i < 1400 && status == STATUS_IN_USE; i++, sleep_ms(1))
        if ((status = pool_open(&pool, pool_path, POOL_WRITE, &why)) == 0)
            pool_close(&pool);
    CHECK_EQ(status, 0);
    CHECK_EQ(waitpid(pid, NULL, WNOHANG), 0); /* while the new program still runs */
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void the_program_may_exec_at_any_moment(void)
{
    for (int i = 0; i < 10; i++) {
        int status, pid;

        make_pool();
        exit_delay_us = 500 + i * 1117;
        fflush(stdout);
        pid = fork();
        if (pid == 0)
            _exit(exec_in_the_middle());
        sleep_ms(60);
        kill(pid, SIGKILL);
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        after_the_end();
    }
}

/* ---- killed -------------------------------------------------------------------------------- */

#define LAST_WORDS ((char *)0x6a0000000000)
#define LAST_BYTES (8u << 20)

/* Writes to every other page after a checkpoint, drops a few, and is killed. */
static int die_of_a_signal(void)
{
    struct problem why;
    char *memory = mmap(LAST_WORDS, LAST_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    if (memory != LAST_WORDS || start(0, &why) < 0)
        return 1;
    memset(memory, 1, LAST_BYTES);
    if (agent_checkpoint(&program_link, PATIENCE_MS) != 1)
        return 2;
    for (size_t at = 0; at < LAST_BYTES; at += 8192)
        memory[at] = (char)(at / 8192);
    madvise(memory + LAST_BYTES / 2, 65536, MADV_DONTNEED);
    kill(getpid(), SIGSEGV);
    return 3;
}

static void check_last_memory(const struct pool *pool, const struct generation_entry *entry)
{
    struct arena arena;
    struct problem why = {0, ""};
    struct image image;
    char byte = 0;
    size_t wrong = 0;

    CHECK_EQ(arena_create(&arena, 1u << 30), 0);
    CHECK_EQ(image_open(&image, pool, entry, &arena, &why), 0);
    for (size_t at = 0; at < LAST_BYTES; at += 4096) {
        bool dropped = at >= LAST_BYTES / 2 && at < LAST_BYTES / 2 + 65536;
        char expected = dropped ? 0 : at % 8192 ? 1 : (char)(at / 8192);

        wrong +=
            image_read(&image, (uintptr_t)LAST_WORDS + at, &byte, 1, &why) != 0 || byte != expected;
    }
    CHECK_EQ(wrong, 0);
    arena_destroy(&arena);
}

static void the_last_memory_of_a_killed_program_is_in_its_crash_image(void)
{
    static struct pool pool;
    struct problem why;
    struct superblock super;

    make_pool();
    CHECK_EQ(run(die_of_a_signal), 128 + SIGSEGV);
    super = after_the_end();
    CHECK_EQ(super.run_state, RUN_STARTED);
    CHECK_EQ(super.generation_count, 2);
    CHECK_EQ(super.generations[0].kind, GENERATION_PROCESS);
    CHECK_EQ(super.generations[1].kind, GENERATION_CRASH);
    CHECK_EQ(super.generations[1].slot, SLOT);
    CHECK_EQ(pool_open(&pool, pool_path, POOL_READ, &why), 0);
    check_last_memory(&pool, &super.generations[1]);
    pool_close(&pool);
}

static int die_by_checksum(void)
{
    program_tracking = TRACKING_CHECKSUM;
    return die_of_a_signal();
}

static void a_crash_image_is_found_by_checksums_too(void)
{
    make_pool();
    CHECK_EQ(run(die_by_checksum), 128 + SIGSEGV);
    CHECK_EQ(after_the_end().generations[1].kind, GENERATION_CRASH);
}

static int ask_and_compare(void)
{
    struct problem why;

    if (start(0, &why) < 0)
        return 1;
    for (int64_t i = 1; i <= 3; i++)
        if (agent_checkpoint(&program_link, PATIENCE_MS) != i)
            return 2;
    return 0;
}

static void a_checkpoint_that_is_asked_for_has_a_number(void)
{
    make_pool();
    CHECK_EQ(run(ask_and_compare), 0);
}

int main(int argc, char **argv)
{
    const char *base = getenv("TMPDIR");

    tap_arguments(argc, argv);
    /* What the programs leave behind is waited for here, not by a slow process 1. */
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    snprintf(directory, sizeof directory, "%s/agent_checkpoint.XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(directory))
        return 1;
    snprintf(pool_path, sizeof pool_path, "%s/pool", directory);
    RUN(generations_are_committed_at_the_interval);
    RUN(the_program_can_ask_for_one);
    RUN(a_noted_exit_marks_the_run_as_ended);
    RUN(a_kill_leaves_the_run_resumable);
    RUN(tools_can_ask_over_the_socket);
    RUN(a_pool_in_use_is_refused);
    RUN(a_child_defers_it_as_long_as_it_lives);
    RUN(a_child_does_not_defer_it_if_it_is_to_be_ignored);
    RUN(an_agent_of_before_an_exec_is_no_child);
    RUN(the_program_has_no_child_to_wait_for);
    RUN(threads_may_come_and_go);
    RUN(memory_may_be_unmapped_at_any_time);
    RUN(the_program_may_end_at_any_moment);
    RUN(the_agent_leaves_after_an_exec);
    RUN(the_program_may_exec_at_any_moment);
    RUN(a_checkpoint_that_is_asked_for_has_a_number);
    RUN(the_last_memory_of_a_killed_program_is_in_its_crash_image);
    RUN(a_crash_image_is_found_by_checksums_too);
    unlink(pool_path);
    rmdir(directory);
    return tap_done();
}
