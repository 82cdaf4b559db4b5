/*
 * agent_ends.c - whatever the program does - ends, execs, unmaps, makes threads, is killed - the
 * agent neither hangs nor crashes, ends with it, and leaves what it should.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "core/image/image_reader.h"
#include "t/lib/agent_fixture.h"

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
    raise(SIGSEGV);
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

int main(int argc, char **argv)
{
    if (fixture_begin(argc, argv) != 0)
        return 1;
    RUN(threads_may_come_and_go);
    RUN(memory_may_be_unmapped_at_any_time);
    RUN(the_program_may_end_at_any_moment);
    RUN(the_agent_leaves_after_an_exec);
    RUN(the_program_may_exec_at_any_moment);
    RUN(the_last_memory_of_a_killed_program_is_in_its_crash_image);
    RUN(a_crash_image_is_found_by_checksums_too);
    return fixture_end();
}
