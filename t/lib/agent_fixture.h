/*
 * agent_fixture.h - a program and its agent, without the preload: each test runs the program in a
 * child of its own, which says what went wrong by its exit status.
 */
#ifndef PHEAP_T_LIB_AGENT_FIXTURE_H
#define PHEAP_T_LIB_AGENT_FIXTURE_H

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/agent/agent.h"
#include "core/agent/control.h"
#include "core/base/kernel_features.h"
#include "core/base/sys.h"
#include "core/pool/pool.h"
#include "t/lib/tap.h"

#define SLOT        7
#define MS          1000000ull
#define PATIENCE_MS 5000

static char directory[64], pool_path[96];
static struct agent_link program_link;
static enum tracking program_tracking;

static inline void make_pool(void)
{
    struct problem why;

    unlink(pool_path);
    CHECK_EQ(pool_create(pool_path, SLOT, 3, &why), 0);
}

static inline void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};

    while (nanosleep(&time, &time) < 0)
        ;
}

static inline int start(uint64_t interval_ns, struct problem *why)
{
    memset(&program_link, 0, sizeof program_link);
    strcpy(program_link.pool_path, pool_path);
    program_link.interval_ns = interval_ns;
    program_link.slot = SLOT;
    program_link.track = program_tracking;
    return agent_start(&program_link, why);
}

static inline bool reaches(uint64_t generation)
{
    for (int i = 0; i < PATIENCE_MS; i++, sleep_ms(1))
        if (__atomic_load_n(&program_link.committed_generation, __ATOMIC_ACQUIRE) >= generation)
            return true;
    return false;
}

/* The exit status of body in a child process; 128 + signal if it was killed. */
static inline int run(int (*body)(void))
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
static inline struct superblock after_the_end(void)
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

static inline int fixture_begin(int argc, char **argv)
{
    const char *base = getenv("TMPDIR");

    tap_arguments(argc, argv);
    /* What the programs leave behind is waited for here, not by a slow process 1. */
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    snprintf(directory, sizeof directory, "%s/pheap-agent.XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(directory))
        return 1;
    snprintf(pool_path, sizeof pool_path, "%s/pool", directory);
    return 0;
}

static inline int fixture_end(void)
{
    unlink(pool_path);
    rmdir(directory);
    return tap_done();
}

#endif
