/*
 * start.c - the golden costs of a program's start under pheap run: how often it makes each system
 * call up to its main, less those that it makes without pheap; and how often pheap run, which is
 * the process before, writes and waits for the disk. With a new pool, and with one whose last run
 * has ended. t/costs/start.txt has them; a change of a cost is a change of that file, which
 *
 *     PHEAP_UPDATE_COSTS=1 build/faults/t/faults/start
 *
 * writes anew. The program is this one, and the test its tracer; the agent is a process of its own
 * and is not counted. Nor are calls that wait, or are made as often as something takes long; nor
 * reads of files that are as long as paths are.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "t/lib/golden_costs.h"
#include "t/lib/plain_surroundings.h"
#include "t/lib/pool_scratch.h"
#include "t/lib/tap.h"

#define GOLDEN  "t/costs/start.txt"
#define SUBJECT "--subject"
#define MARK    SYS_sched_yield /* main has begun: nothing before it gives its processor away */
#define TRIES   3

struct costs {
    int before[COSTS_CALLS], program[COSTS_CALLS]; /* pheap run; from its exec on */
};

static bool is_counted(long nr)
{
    return nr >= 0 && nr < COSTS_CALLS && nr != SYS_read && nr != SYS_close && nr != SYS_futex &&
           nr != SYS_wait4 && nr != SYS_ppoll && nr != SYS_nanosleep && nr != SYS_clock_nanosleep &&
           nr != SYS_clock_gettime && nr != SYS_getpid && nr != SYS_gettid;
}

/* The same surroundings whatever those of the test are. */
static _Noreturn void run_subject(bool by_pheap)
{
    char *const environment[] = {NULL};
    const struct rlimit stack = {8 << 20, 8 << 20}, files = {256, 256};
    const char *build = getenv("PHEAP_BUILD");
    char pheap[4096], self[4096] = "";
    int sink = open("/dev/null", O_RDWR);

    for (int fd = 0; fd < 3; fd++)
        dup2(sink, fd);
    close_range(3, ~0u, 0);
    setrlimit(RLIMIT_STACK, &stack);
    setrlimit(RLIMIT_NOFILE, &files);
    snprintf(pheap, sizeof pheap, "%s/bin/pheap", build ? build : "build");
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0 ||
        ptrace(PTRACE_TRACEME, 0, 0, 0) != 0)
        _exit(126);
    if (by_pheap)
        execle(pheap, "pheap", "run", "-i", "0", "--no-crash", scratch_path("pool"), self, SUBJECT,
               NULL, environment);
    else
        execle(self, self, SUBJECT, NULL, environment);
    _exit(127);
}

static long system_call_of(int pid)
{
    struct __ptrace_syscall_info info;
    long got = ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info);

    return got > 0 && info.op == PTRACE_SYSCALL_INFO_ENTRY ? (long)info.entry.nr : -1;
}

static bool stops_again(int pid, int signal, int *status)
{
    return ptrace(PTRACE_SYSCALL, pid, 0, signal) == 0 && waitpid(pid, status, 0) == pid &&
           WIFSTOPPED(*status);
}

/* Counts until main has begun; false if it never does. */
static bool count(int pid, int execs, struct costs *costs)
{
    int status = 0, signal = 0;

    if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status)) /* by the first exec */
        return false;
    ptrace(PTRACE_SETOPTIONS, pid, 0,
           PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL);
    while (stops_again(pid, signal, &status)) {
        long nr = -1;

        signal = 0;
        if (status >> 16 == PTRACE_EVENT_EXEC)
            execs--;
        else if (WSTOPSIG(status) == (SIGTRAP | 0x80))
            nr = system_call_of(pid);
        else
            signal = WSTOPSIG(status);
        if (nr == MARK && execs == 0)
            return true;
        if (is_counted(nr))
            (execs > 0 ? costs->before : costs->program)[nr]++;
    }
    return false;
}

static bool measure(bool by_pheap, struct costs *costs)
{
    int status = 0, pid = fork();
    bool counted;

    if (pid == 0)
        run_subject(by_pheap);
    memset(costs, 0, sizeof *costs);
    counted = count(pid, by_pheap ? 1 : 0, costs);
    ptrace(PTRACE_DETACH, pid, 0, 0);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
    while (waitpid(-1, NULL, 0) > 0) /* its agent, which is ours when it has ended */
        ;
    return CHECK(counted);
}

/* Of several starts the cheapest counts. */
static void find_cheapest(bool by_pheap, bool anew, struct costs *cheapest)
{
    for (int i = 0; i < TRIES; i++) {
        struct costs costs;

        if (anew)
            unlink(scratch_path("pool"));
        if (measure(by_pheap, &costs) &&
            (i == 0 || costs_total(costs.program) < costs_total(cheapest->program)))
            *cheapest = costs;
    }
}

static void describe(FILE *out, const char *what, const struct costs *costs,
                     const struct costs *bare)
{
    int more[COSTS_CALLS];

    for (int nr = 0; nr < COSTS_CALLS; nr++)
        more[nr] = costs->program[nr] - bare->program[nr];
    fprintf(out, "%s\n  the program, beyond its own: ", what);
    costs_describe(out, more);
    fprintf(out, "\n  pheap run: pwrite64 %d, fdatasync %d, fsync %d, fallocate %d\n",
            costs->before[SYS_pwrite64], costs->before[SYS_fdatasync], costs->before[SYS_fsync],
            costs->before[SYS_fallocate]);
}

static void a_start_costs_what_it_cost(void)
{
    static struct costs bare, first, later;
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);

    find_cheapest(false, false, &bare);
    find_cheapest(true, true, &first);
    find_cheapest(true, false, &later);
    describe(out, "a new pool", &first, &bare);
    describe(out, "a pool whose last run has ended", &later, &bare);
    fclose(out);
    costs_compare(GOLDEN, text);
    free(text);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], SUBJECT) == 0) {
        syscall(MARK);
        return 0;
    }
    BEGIN_PLAIN(argv);
    tap_arguments(argc, argv);
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    scratch_begin();
    RUN(a_start_costs_what_it_cost);
    scratch_end();
    return tap_done();
}
