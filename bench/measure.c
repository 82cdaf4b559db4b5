/*
 * measure.c - runs a command and writes what it took: "WALL_NS CPU_NS RSS_KIB STATUS" to FILE.
 *
 *     measure FILE [NAME=VALUE...] -- COMMAND [ARGUMENT...]
 *
 * Small and linked with libc alone, because a child's peak RSS begins with that of the process it
 * was forked from: started by Python, no program would seem to take less than Python does. The
 * variables are set in the child only: this program is not to be preloaded. CPU time is that of
 * the command, its children, and what outlives it: the agent of a pool, which this process, a
 * subreaper, waits for after the clock has stopped.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t cpu_ns(const struct rusage *usage)
{
    return 1000u * ((uint64_t)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000u +
                    (uint64_t)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec));
}

static void run(char **arguments)
{
    while (*arguments && strcmp(*arguments, "--") != 0)
        putenv(*arguments++);
    if (*arguments && arguments[1]) {
        execvp(arguments[1], arguments + 1);
        fprintf(stderr, "measure: cannot run %s: %s\n", arguments[1], strerror(errno));
    }
    _exit(127);
}

/* Returns the status as a shell shows it. */
static int exit_status(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
    struct rusage usage = {0};
    uint64_t start_ns, wall_ns, cpu_total_ns;
    int status = 0;
    pid_t child;
    FILE *out;

    if (argc < 4) {
        fprintf(stderr, "usage: measure FILE [NAME=VALUE...] -- COMMAND [ARGUMENT...]\n");
        return 2;
    }
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    start_ns = now_ns();
    child = fork();
    if (child == 0)
        run(argv + 2);
    while (child < 0 || wait4(child, &status, __WALL, &usage) != child) {
        if (child < 0 || errno != EINTR) {
            perror("measure");
            return 1;
        }
    }
    wall_ns = now_ns() - start_ns;
    cpu_total_ns = cpu_ns(&usage);
    out = fopen(argv[1], "w");
    if (!out) {
        fprintf(stderr, "measure: cannot write %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    fprintf(out, "%llu ", (unsigned long long)wall_ns);
    for (struct rusage late; wait4(-1, NULL, __WALL, &late) > 0;)
        cpu_total_ns += cpu_ns(&late);
    fprintf(out, "%llu %ld %d\n", (unsigned long long)cpu_total_ns, usage.ru_maxrss,
            exit_status(status));
    return fclose(out) != 0;
}
