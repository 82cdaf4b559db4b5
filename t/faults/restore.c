/*
 * restore.c - the n-th system call, or the n-th allocation, of a restore fails, n = 1, 2, ... until
 * one passes untouched; in the restorer and in what it starts, up to the executable. It succeeds,
 * and the program runs; or it says why not in one line, no process is left, and the pool is as it
 * was, but for the count of resumes.
 *
 * And what a restore of a heap of 16 MB costs, in system calls of the restorer and of what it
 * starts, and in bytes read: t/costs/restore.txt has it, restore-unprivileged.txt what it costs an
 * ordinary user; PHEAP_UPDATE_COSTS=1 writes the one that fits. Of several the cheapest counts.
 * Calls that wait are left out, and what the new process does by itself.
 *
 * Without PHEAP_TEST_LONG some of the later n are left out, others each time.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "core/base/sys.h"
#include "recovery/check/check.h"
#include "recovery/restore/restore.h"
#include "t/lib/golden_costs.h"
#include "t/lib/plain_surroundings.h"
#include "t/lib/pool_scratch.h"
#include "t/lib/sys_faults.h"
#include "t/lib/tap.h"

#define PATIENCE_NS      30000000000ull
#define COUNTED_RESTORES 6
#define NOBODY           65534

/* What the restorer, a process of its own, says of its restore. */
static struct said {
    int status, killed, wait_status;
    bool came_back;
    struct restored restored;
    struct problem why;
} * said;

static uint8_t *pristine; /* the pool before the restore */
static size_t pristine_bytes;

static void nap(long ns)
{
    const struct timespec time = {0, ns};

    nanosleep(&time, NULL);
}

/* --- a pool with a program to resume --- */

static const char *built(const char *name)
{
    static char paths[2][4096];
    static unsigned turn;
    const char *build = getenv("PHEAP_BUILD");

    snprintf(paths[++turn % 2], sizeof *paths, "%s/%s", build ? build : "build", name);
    return paths[turn % 2];
}

/* Waits for input for ever: the writing end of the pipe is its own. Lies where it always does. */
static _Noreturn void run_program(const char *program, const char *argument)
{
    char *const environment[] = {(char *)(uintptr_t) "LC_ALL=C", NULL};
    int ends[2];

    if (pipe(ends) != 0 || dup2(ends[0], 0) != 0)
        _exit(126);
    close(ends[0]);
    personality(ADDR_NO_RANDOMIZE);
    execle(built("bin/pheap"), "pheap", "run", "-i", "0", "--no-crash", scratch_path("pool"),
           built(program), argument, NULL, environment);
    _exit(127);
}

static int start(const char *program, const char *argument)
{
    int pid = fork();

    if (pid == 0) {
        if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr))
            _exit(126);
        if (program)
            run_program(program, argument);
        execl(built("bin/pheap"), "pheap", "checkpoint", scratch_path("pool"), NULL);
        _exit(127);
    }
    return pid;
}

static bool take_checkpoint(void)
{
    int status, pid = start(NULL, NULL);

    return waitpid(pid, &status, 0) == pid && status == 0;
}

static bool is_any_child_left(void)
{
    char path[64], text[64] = "";
    int fd;

    while (waitpid(-1, NULL, WNOHANG | __WALL) > 0)
        ;
    snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
    fd = open(path, O_RDONLY | O_CLOEXEC);
    (void)!read(fd, text, sizeof text - 1);
    close(fd);
    return text[0] != 0;
}

static bool all_children_end(void)
{
    uint64_t until_ns = sys_clock_ns(CLOCK_MONOTONIC) + PATIENCE_NS / 2;

    while (is_any_child_left()) {
        if (sys_clock_ns(CLOCK_MONOTONIC) > until_ns)
            return false;
        nap(1000000);
    }
    return true;
}

static uint8_t *read_pool(size_t *bytes)
{
    int fd = open(scratch_path("pool"), O_RDONLY | O_CLOEXEC);
    struct stat stat = {0};
    uint8_t *copy;

    CHECK_EQ(fstat(fd, &stat), 0);
    copy = mmap(NULL, (size_t)stat.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                0);
    CHECK_EQ(pread(fd, copy, (size_t)stat.st_size, 0), stat.st_size);
    close(fd);
    *bytes = (size_t)stat.st_size;
    return copy;
}

static void make_pool(const char *program, const char *argument)
{
    bool taken = false;
    int pid;

    unlink(scratch_path("pool"));
    pid = start(program, argument);
    nap(300000000); /* it makes its heap */
    for (int tries = 0; !taken && tries < 500; tries++, nap(10000000))
        taken = take_checkpoint();
    CHECK(taken);
    kill(pid, SIGKILL);
    CHECK(all_children_end());
    pristine = read_pool(&pristine_bytes);
}

static void put_pool_back(void)
{
    int fd = open(scratch_path("pool"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    CHECK_EQ(pwrite(fd, pristine, pristine_bytes, 0), (ssize_t)pristine_bytes);
    close(fd);
}

/* --- one restore --- */

/* In the restorer. The program is killed by a call that does not count. */
static _Noreturn void restore(void)
{
    const struct restore_options options = {.pool_path = scratch_path("pool")};

    said->status = restore_process(&options, &said->restored, &said->why);
    faults_count_calls(NULL);
    if (said->status == 0) {
        said->killed =
            said->restored.outer_pid > 0 ? kill(said->restored.outer_pid, SIGKILL) : -ESRCH;
        said->wait_status = restore_wait(&said->restored);
    }
    said->came_back = true;
    _exit(0);
}

static bool ends_in_time(int pid, int *status)
{
    uint64_t until_ns = sys_clock_ns(CLOCK_MONOTONIC) + PATIENCE_NS;

    while (waitpid(pid, status, WNOHANG) != pid) {
        if (sys_clock_ns(CLOCK_MONOTONIC) > until_ns) {
            kill(pid, SIGKILL);
            waitpid(pid, status, 0);
            return false;
        }
        nap(1000000);
    }
    return true;
}

static void keep_last(void *context, const struct finding *finding)
{
    *(struct finding *)context = *finding;
}

static bool pool_is_whole(void)
{
    struct finding last = {0};
    struct check_request request = {
        .path = scratch_path("pool"), .heaps = HEAPS_OF_ALL, .found = keep_last, .context = &last};
    struct check_result result;
    struct problem why = {0};
    bool whole = CHECK_EQ(check_pool(&request, &result, &why), 0) &&
                 CHECK_EQ(result.worst, SEVERITY_NONE) && CHECK_EQ(result.generation_count, 1);

    if (!whole)
        tap_note("%s; %s %s", why.text, last.kind ? finding_id(last.kind) : "", last.found);
    return whole;
}

/* But for the superblocks, which have the count. */
static bool pool_is_as_it_was(void)
{
    size_t bytes, from = 2 * FRAME_BYTES;
    uint8_t *now = read_pool(&bytes);
    bool same = CHECK_EQ(bytes, pristine_bytes) &&
                CHECK_EQ(memcmp(now + from, pristine + from, bytes - from), 0);

    munmap(now, bytes);
    return same;
}

static bool failed_well(void)
{
    return CHECK(said->status < 0) && CHECK(said->why.text[0] != 0) &&
           CHECK(!strchr(said->why.text, '\n')) && pool_is_as_it_was();
}

/* Where a namespace's init process cannot write how the program ended, its exit status says so. */
static bool is_end_by_kill(int status)
{
    return (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) ||
           (said->restored.own_namespace && faults_failed_call() == SYS_write &&
            WIFEXITED(status) && WEXITSTATUS(status) == 128 + SIGKILL);
}

static bool succeeded(void)
{
    return CHECK_EQ(said->killed, 0) && CHECK(is_end_by_kill(said->wait_status));
}

/* False when there is no n-th call. */
static bool try_restore(enum fault_kind kind, unsigned long n, unsigned long *failures)
{
    bool in_time, hit, right;
    int status = 0, pid;

    memset(said, 0, sizeof *said);
    put_pool_back();
    faults_arm_others(kind, n);
    pid = fork();
    if (pid == 0)
        restore();
    in_time = ends_in_time(pid, &status);
    hit = faults_disarm();
    right = CHECK(in_time) && CHECK_EQ(status, 0) && CHECK(said->came_back);
    right = CHECK(all_children_end()) && right;
    if (right)
        right = said->status == 0 ? succeeded() : failed_well();
    right = pool_is_whole() && right;
    if (right && !hit)
        right = CHECK_EQ(said->status, 0);
    if (!right)
        tap_note("%s, n = %lu, call %ld: status %d %s", fault_names[kind], n, faults_failed_call(),
                 said->status, said->why.text);
    *failures += said->status != 0;
    return hit;
}

static unsigned long next_n(unsigned long n)
{
    return getenv("PHEAP_TEST_LONG") ? n + 1 : n + 1 + (unsigned long)rand() % (1 + n / 3);
}

static void a_restore_succeeds_or_leaves_nothing(void)
{
    make_pool("t/programs/undisturbed", "600000");
    for (enum fault_kind kind = 0; kind < FAULT_KINDS; kind++) {
        unsigned long n = 1, tried = 0, failures = 0;

        while (try_restore(kind, n, &failures)) {
            n = next_n(n);
            tried++;
        }
        tap_note("%s: %lu places, %lu of %lu restores failed", fault_names[kind], faults_counted(),
                 failures, tried);
    }
}

/* Root's restorer takes the pid that the program had; an ordinary user's makes a namespace first.
 */
static _Noreturn void be_an_ordinary_user(int out)
{
    if (dup2(out, 1) < 0 || setgroups(0, NULL) != 0 || setresgid(NOBODY, NOBODY, NOBODY) != 0 ||
        setresuid(NOBODY, NOBODY, NOBODY) != 0)
        _exit(126);
    execl("/proc/self/exe", "restore", "a_restore_succeeds_or_leaves_nothing", NULL);
    _exit(127);
}

static void an_ordinary_users_restore_likewise(void)
{
    int ends[2], status = 0, pid;
    char line[512];
    FILE *said_by_it;

    if (geteuid() != 0) {
        tap_skip("the test above was an ordinary user's");
        return;
    }
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0)
        be_an_ordinary_user(ends[1]);
    close(ends[1]);
    said_by_it = fdopen(ends[0], "r");
    while (fgets(line, sizeof line, said_by_it))
        tap_note("%.*s", (int)strcspn(line, "\n"), line);
    fclose(said_by_it);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
}

/* --- what it costs --- */

static struct call_counts *counts;

/* What is counted, wherever it was made. */
static void sum_up(int sums[COSTS_CALLS])
{
    for (int nr = 0; nr < COSTS_CALLS; nr++)
        sums[nr] = counts->frozen[nr] + counts->other[nr];
}

static void count_restore(void)
{
    int status = 0, pid;

    memset(counts, 0, sizeof *counts);
    put_pool_back();
    faults_count_calls(counts);
    pid = fork();
    if (pid == 0)
        restore();
    faults_count_calls(NULL);
    CHECK(ends_in_time(pid, &status));
    CHECK_EQ(said->status, 0);
    CHECK(all_children_end());
}

/* The record's paths are as long as the directory is deep: what is read, about. */
static void a_restore_costs_what_it_cost(void)
{
    int sums[COSTS_CALLS], cheapest[COSTS_CALLS] = {0};
    unsigned long read_bytes = 0, written_bytes = 0;
    char *text = NULL;
    size_t bytes = 0;
    FILE *out;

    make_pool("t/programs/dirty_pages", "16");
    for (int i = 0; i < COUNTED_RESTORES; i++) {
        count_restore();
        sum_up(sums);
        if (i > 0 && costs_total(sums) >= costs_total(cheapest))
            continue;
        memcpy(cheapest, sums, sizeof cheapest);
        read_bytes = counts->read_bytes;
        written_bytes = counts->written_bytes;
    }
    out = open_memstream(&text, &bytes);
    fprintf(out, "a heap of 16 MB: ");
    costs_describe(out, cheapest);
    fprintf(out, "\n  read: about %lu KiB, written: %lu bytes\n", (read_bytes + 4096) / 8192 * 8,
            written_bytes);
    fclose(out);
    costs_compare(costs_path("restore"), text);
    free(text);
}

int main(int argc, char **argv)
{
    BEGIN_PLAIN(argv);
    tap_arguments(argc, argv);
    srand((unsigned)time(NULL));
    faults_share();
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    said = mmap(NULL, sizeof *said, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    scratch_begin();
    counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    RUN(a_restore_succeeds_or_leaves_nothing);
    RUN(an_ordinary_users_restore_likewise);
    RUN(a_restore_costs_what_it_cost);
    scratch_end();
    return tap_done();
}
