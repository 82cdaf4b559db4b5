/*
 * doctor_trial.c - the proof: a small program is run under pheap, checkpointed, killed, resumed and
 * ended, by the commands that a person would give. True always: its processes are ended by their
 * pids, and its directory is removed, however far it came.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "core/agent/control.h"
#include "core/base/sys.h"
#include "tools/command.h"
#include "tools/doctor.h"
#include "tools/pool_state.h"

#define WAIT_MS      10000
#define STEP_NS      5000000
#define PATH_ROOM    4096
#define OUTPUT_BYTES 1024

extern char **environ;

struct trial {
    char directory[PATH_ROOM], pool[PATH_ROOM + 8];
    char output[OUTPUT_BYTES]; /* what the last command said on stderr */
    uint64_t resumed_ns;       /* how long a restore took */
    const char *failed;        /* the step that went wrong, NULL: none yet */
};

static void pause_step(void)
{
    nanosleep(&(struct timespec){.tv_nsec = STEP_NS}, NULL);
}

/* Starts pheap itself; its stderr goes to *said. The pid, or -1. */
static pid_t start(char *const argv[], int *said)
{
    posix_spawn_file_actions_t files;
    int pipes[2];
    pid_t pid;
    int error;

    if (pipe2(pipes, O_CLOEXEC) < 0)
        return -1;
    error = posix_spawn_file_actions_init(&files);
    if (error == 0) {
        if ((error = posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDWR, 0)) == 0 &&
            (error = posix_spawn_file_actions_adddup2(&files, 0, 1)) == 0 &&
            (error = posix_spawn_file_actions_adddup2(&files, pipes[1], 2)) == 0)
            error = posix_spawn(&pid, "/proc/self/exe", &files, NULL, argv, environ);
        posix_spawn_file_actions_destroy(&files);
    }
    close(pipes[1]);
    *said = pipes[0];
    if (error != 0)
        close(pipes[0]);
    return error == 0 ? pid : -1;
}

/* The first line on stderr, or what there is when nobody writes any more. */
static void read_line(struct trial *trial, int said)
{
    struct pollfd wait = {said, POLLIN, 0};
    size_t used = 0;
    ssize_t got;

    while (used + 1 < sizeof trial->output && poll(&wait, 1, WAIT_MS) > 0) {
        got = read(said, trial->output + used, sizeof trial->output - 1 - used);
        if (got <= 0)
            break;
        used += (size_t)got;
        if (memchr(trial->output, '\n', used))
            break;
    }
    trial->output[used] = 0;
    trial->output[strcspn(trial->output, "\n")] = 0;
}

static void end(pid_t pid, int signal)
{
    if (signal)
        kill(pid, signal);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* Waits until the program's agent answers. */
static bool agent_answers(const struct trial *trial)
{
    struct control_answer answer;
    struct pool_state state;
    uint64_t deadline = sys_clock_ns(CLOCK_MONOTONIC) + (uint64_t)WAIT_MS * 1000000;

    while (sys_clock_ns(CLOCK_MONOTONIC) < deadline) {
        if (pool_state_read(trial->pool, &state, NULL) == 0 && pool_state_agent(&state, &answer))
            return true;
        pause_step();
    }
    return false;
}

static bool take_checkpoint(struct trial *trial)
{
    char *argv[] = {"pheap", "checkpoint", trial->pool, NULL};
    int said, status = -1;
    pid_t pid = start(argv, &said);

    if (pid < 0)
        return false;
    read_line(trial, said);
    close(said);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static const char *run_and_checkpoint(struct trial *trial)
{
    char *argv[] = {"pheap", "run", "-i", "0", trial->pool, "sleep", "600", NULL};
    const char *failed = NULL;
    int said;
    pid_t pid = start(argv, &said);

    if (pid < 0)
        return "starting pheap";
    if (!agent_answers(trial))
        failed = "running";
    else if (!take_checkpoint(trial))
        failed = "the checkpoint";
    end(pid, SIGKILL);
    if (failed && !trial->output[0])
        read_line(trial, said);
    close(said);
    return failed;
}

static const char *resume(struct trial *trial)
{
    char *argv[] = {"pheap", "restore", trial->pool, NULL};
    uint64_t begin = sys_clock_ns(CLOCK_MONOTONIC);
    int said;
    pid_t pid = start(argv, &said);

    if (pid < 0)
        return "starting pheap";
    read_line(trial, said);
    trial->resumed_ns = sys_clock_ns(CLOCK_MONOTONIC) - begin;
    end(pid, SIGTERM);
    close(said);
    return strstr(trial->output, "resumed generation") ? NULL : "the restore";
}

static void say(struct doctor *doctor, const struct trial *trial)
{
    char text[32];

    if (!trial->failed)
        doctor_find(doctor, "trial", DOCTOR_OK, NULL,
                    "a program was run, checkpointed, killed and resumed (in %s)",
                    show_ns(text, trial->resumed_ns));
    else
        doctor_find(doctor, "trial", DOCTOR_NO, "see the lines above that are not ok",
                    "a small program was tried; %s failed: %s", trial->failed,
                    trial->output[0] ? trial->output : "no message");
}

void doctor_trial(struct doctor *doctor, const char *directory)
{
    struct trial trial = {0};

    snprintf(trial.directory, sizeof trial.directory, "%s/pheap-doctor-XXXXXX", directory);
    if (!mkdtemp(trial.directory)) {
        doctor_find(doctor, "trial", DOCTOR_NO, "name another directory with -d",
                    "no directory can be made in %s: %s", directory, strerror(errno));
        return;
    }
    snprintf(trial.pool, sizeof trial.pool, "%s/pool", trial.directory);
    trial.failed = run_and_checkpoint(&trial);
    if (!trial.failed)
        trial.failed = resume(&trial);
    say(doctor, &trial);
    unlink(trial.pool);
    rmdir(trial.directory);
}
