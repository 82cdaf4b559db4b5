/*
 * collect.c - the n-th system call, or the n-th allocation, fails while what a program has lost is
 * freed in its checkpoints, n = 1, 2, ... until a run passes untouched. What fails says why. The
 * pool has the generation that it had or the new one, whole; the quarantine is whole; and the next
 * attempt frees what was not freed.
 *
 * Without PHEAP_TEST_LONG some of the later n are left out, others each time.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/base/sys.h"
#include "core/pool/pool.h"
#include "recovery/check/check.h"
#include "recovery/collect/collect.h"
#include "recovery/collect/quarantine.h"
#include "t/lib/pool_scratch.h"
#include "t/lib/sys_faults.h"
#include "t/lib/tap.h"

static struct problem why;
static struct pool pool;
static uint64_t marked, lost; /* the newest generation; blocks of it that nothing leads to */

/* --- a program's pool --- */

/* "BUILD/name", of the build that has the tools: ours is build/faults. */
static const char *built(const char *name)
{
    static char paths[2][4200];
    static unsigned next;
    char *path = paths[next++ % 2], *end;
    ssize_t length = readlink("/proc/self/exe", path, 4095);

    path[length > 0 ? length : 0] = 0;
    end = strstr(path, "/faults/t/faults/");
    if (end == NULL)
        end = strstr(path, "/t/faults/");
    if (end != NULL)
        snprintf(end, 100, "/%s", name);
    return path;
}

static bool has_said(const char *word)
{
    char text[4096] = "";
    FILE *file = fopen(scratch_path("said"), "r");
    size_t length = file ? fread(text, 1, sizeof text - 1, file) : 0;

    if (file)
        fclose(file);
    return length > 0 && strstr(text, word) != NULL;
}

static bool wait_until_said(const char *word)
{
    for (int i = 0; i < 3000 && !has_said(word); i++)
        usleep(10000);
    return has_said(word);
}

static pid_t start(const char *arguments[])
{
    pid_t pid = fork();

    if (pid == 0) {
        int fd = open(scratch_path("said"), O_WRONLY | O_CREAT | O_APPEND, 0600);

        dup2(fd, 1);
        dup2(fd, 2);
        execv(arguments[0], (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
    return pid;
}

static bool succeeds(const char *arguments[])
{
    int status = -1;
    pid_t pid = start(arguments);

    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

/* The agent of a program that was killed lives a moment longer. */
static bool open_when_free(enum pool_mode mode)
{
    int status = STATUS_IN_USE;

    for (int i = 0; i < 1000 && status == STATUS_IN_USE; i++) {
        status = pool_open(&pool, scratch_path("pool"), mode, &why);
        if (status == STATUS_IN_USE)
            usleep(10000);
    }
    return status == 0;
}

static bool make_pool(void)
{
    char path[128];
    const char *run[] = {built("bin/pheap"),          "run", "-i", "0", "-k", "2", path,
                         built("t/programs/leaking"), "20",  NULL};
    const char *checkpoint[] = {run[0], "checkpoint", path, NULL};
    bool is_made;
    pid_t pid;

    snprintf(path, sizeof path, "%s", scratch_path("pool"));
    pid = start(run);
    is_made = pid > 0 && wait_until_said("ready") && kill(pid, SIGUSR1) == 0 &&
              wait_until_said("leaked") && succeeds(checkpoint) && succeeds(checkpoint);
    if (pid > 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    is_made = open_when_free(POOL_WRITE) && is_made;
    pool_close(&pool);
    return is_made;
}

static bool copy_file(const char *from, const char *to)
{
    const char *arguments[] = {"/bin/cp", "--", from, to, NULL};

    return succeeds(arguments);
}

static int collect(bool now, struct collect_result *result)
{
    const struct collect_request request = {
        .path = scratch_path("pool"), .from_programs = true, .now = now};

    return collect_heap(&request, result, &why);
}

/* As if it had been found in the generation before the newest. */
static bool date_back(void)
{
    static struct quarantine_writing writing;
    struct quarantine found;
    bool is_done = open_when_free(POOL_READ) && quarantine_open(&found, &pool, &why) == 0 &&
                   found.head != NULL && found.head->generation == marked;

    if (!is_done)
        return false;
    quarantine_begin(&writing, &pool, marked - 1);
    for (const struct quarantine_entry *entry = found.next; entry < found.end; entry++)
        quarantine_add(&writing, entry);
    is_done = quarantine_finish(&writing, &why) == 0;
    quarantine_close(&found);
    pool_close(&pool);
    return is_done;
}

static void the_program_s_pool_is_made(void)
{
    struct collect_result result = {0};

    CHECK(make_pool());
    CHECK_OK(collect(false, &result));
    marked = result.marked;
    lost = result.blocks;
    CHECK(marked >= 2 && lost > 30 && result.waiting_blocks == lost);
    CHECK(date_back());
    CHECK(copy_file(scratch_path("pool"), scratch_path("pool.before")));
    CHECK(copy_file(scratch_path("pool.quarantine"), scratch_path("quarantine.before")));
}

/* --- freeing --- */

static void ignore_finding(void *context, const struct finding *finding)
{
    (void)context, (void)finding;
}

static bool is_whole(void)
{
    static struct check_result result;
    const struct check_request request = {
        .path = scratch_path("pool"), .heaps = HEAP_OF_NEWEST, .found = ignore_finding};

    return check_pool(&request, &result, &why) == 0 && result.worst <= SEVERITY_HARMLESS;
}

static uint64_t newest_process(void)
{
    uint64_t number = 0;

    if (!open_when_free(POOL_READ))
        return 0;
    for (uint32_t i = 0; i < pool.super.generation_count; i++)
        if (pool.super.generations[i].kind == GENERATION_PROCESS)
            number = pool.super.generations[i].number;
    pool_close(&pool);
    return number;
}

/* There is none, or one that is valid. */
static bool quarantine_is_whole(void)
{
    struct quarantine quarantine;
    bool is_there = access(scratch_path("pool.quarantine"), F_OK) == 0, is_whole;

    if (!open_when_free(POOL_READ))
        return false;
    is_whole =
        quarantine_open(&quarantine, &pool, &why) == 0 && is_there == (quarantine.head != NULL);
    quarantine_close(&quarantine);
    pool_close(&pool);
    return is_whole;
}

static bool try_collect(bool now, enum fault_kind kind, unsigned long n, unsigned long *failures)
{
    struct collect_result result = {0}, again = {0};
    uint64_t newest;
    bool hit;
    int status;

    CHECK(copy_file(scratch_path("pool.before"), scratch_path("pool")));
    CHECK(copy_file(scratch_path("quarantine.before"), scratch_path("pool.quarantine")));
    why = (struct problem){0};
    faults_arm(kind, n);
    status = collect(now, &result);
    hit = faults_disarm();
    *failures += status < 0;
    if (!CHECK(status == 0 ? result.freed_blocks == lost && result.generation > marked
                           : hit && why.text[0] != 0))
        tap_note("%s, n = %lu, call %ld: status %d %s, %lu freed", fault_names[kind], n,
                 faults_failed_call(), status, why.text, (unsigned long)result.freed_blocks);
    newest = newest_process();
    CHECK(status == 0 ? newest == result.generation : newest >= marked);
    CHECK(is_whole());
    CHECK(quarantine_is_whole());
    CHECK_OK(collect(now, &again));
    CHECK_EQ(again.freed_blocks, newest > marked ? 0 : lost);
    return hit;
}

static unsigned long next_n(unsigned long n)
{
    return getenv("PHEAP_TEST_LONG") ? n + 1 : n + 1 + (unsigned long)rand() % (1 + n / 4);
}

static void try_all(bool now)
{
    for (enum fault_kind kind = 0; marked > 0 && kind < FAULT_KINDS; kind++) {
        unsigned long n = 1, failures = 0;

        while (try_collect(now, kind, n, &failures))
            n = next_n(n);
        tap_note("%s: %lu places, %lu attempts failed", fault_names[kind], faults_counted(),
                 failures);
    }
}

static void whatever_fails_while_what_was_found_twice_is_freed(void)
{
    try_all(false);
}

static void whatever_fails_while_all_is_freed_at_once(void)
{
    try_all(true);
}

int main(int argc, char **argv)
{
    scratch_begin();
    tap_arguments(argc, argv);
    srand((unsigned)getpid());
    RUN(the_program_s_pool_is_made);
    RUN(whatever_fails_while_what_was_found_twice_is_freed);
    RUN(whatever_fails_while_all_is_freed_at_once);
    scratch_end();
    return tap_done();
}
