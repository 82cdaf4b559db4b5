/*
 * resume.c - see resume.h. True always: the line "resumed generation ..." is written once the
 * program runs, and never otherwise: scripts wait for it.
 */
#include "tools/resume.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tools/command.h"
#include "tools/pool_state.h"

int resume_program(const struct restore_options *options, struct restored *out, struct problem *why)
{
    int status = restore_process(options, out, why);

    if (status < 0)
        return status;
    if (out->outer_pid != 0 && out->outer_pid != out->pid)
        report("", 0, "resumed generation %" PRIu64 " as pid %d (outer pid %d)", out->generation,
               out->pid, out->outer_pid);
    else
        report("", 0, "resumed generation %" PRIu64 " as pid %d", out->generation, out->pid);
    if (options->tcp_established && out->connections == 0)
        report("", 0,
               "it has no TCP connections to go on with: they are kept by the checkpoint of "
               "pheap run --on-term --tcp-established at SIGTERM, by no other");
    return 0;
}

/* The caller sees what it would have seen of the program itself. The core dump was the program's.
 */
static void die_of_signal(int signal_number)
{
    const struct rlimit no_core = {0, 0};
    sigset_t set;

    setrlimit(RLIMIT_CORE, &no_core);
    signal(signal_number, SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, signal_number);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    raise(signal_number);
}

int resume_wait(const struct restored *restored)
{
    int wait_status = restore_wait(restored);

    if (WIFEXITED(wait_status))
        return WEXITSTATUS(wait_status);
    die_of_signal(WTERMSIG(wait_status));
    return 128 + WTERMSIG(wait_status);
}

void resume_offer_older(const char *command, const struct restore_options *options,
                        const struct problem *why)
{
    struct pool_state state;
    const struct generation_entry *tried, *older;
    uint64_t number = options->generation;

    if ((why->status != STATUS_DAMAGED && why->status != STATUS_LIMIT) ||
        pool_state_read(options->pool_path, &state, NULL) < 0)
        return;
    if (!number) {
        tried = pool_state_resumable(&state);
        number = tried ? tried->number : UINT64_MAX;
    }
    older = pool_state_older(&state, number);
    if (older)
        report(command, 0,
               "generation %" PRIu64 " may be whole; try: pheap restore -g %" PRIu64 " %s",
               older->number, older->number, state.path);
}
