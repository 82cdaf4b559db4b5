/*
 * run.c - pheap run: starts a program with its heap in a pool, or resumes what the pool holds.
 *
 * True always: when this fails, nothing is left that was not there before (a pool made for a
 * program that then could not be started is removed), and what a pool could resume is given up
 * only when --fresh says so.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "core/base/options.h"
#include "core/process/connections.h"
#include "tools/command.h"
#include "tools/first_process.h"
#include "tools/next_option.h"
#include "tools/pool_state.h"
#include "tools/preload_env.h"
#include "tools/program_check.h"
#include "tools/resume.h"
#include "tools/run_environment.h"

#define NS_PER_S 1000000000ull

struct run {
    struct preload_options preload;
    struct program program;
    struct pool_state state;
    bool resume;
    bool pool_is_new;
    char **argv; /* COMMAND ARG... */
};

static int help(void)
{
    printf(
        "usage: pheap run [OPTION...] POOL COMMAND [ARGUMENT...]\n\n"
        "Starts COMMAND with its heap in POOL (made if absent) and checkpoints it; the process\n"
        "becomes COMMAND, so its pid is this one's.\n\n"
        "  -i, --interval TIME   a checkpoint this often: 100ms, 1s, 5m; 0: on request only (1s)\n"
        "      --dirty SIZE      and one when so much was written since the last: 64M, 1G\n"
        "  -k, --keep N          generations to keep, 1..16 (%d)\n"
        "      --resume          go on from the last checkpoint if there is one, else start\n"
        "      --fresh           start COMMAND even if something could be resumed, and give it up\n"
        "      --at-exit         a last checkpoint when the program ends by itself\n"
        "      --on-term         SIGTERM means a checkpoint and the end, to be resumed later\n"
        "      --tcp-established and TCP connections outlive that end (CAP_NET_ADMIN)\n"
        "      --self-contained  generations have the pages of mapped files: a restore needs none\n"
        "      --files=save[:SIZE]  files that COMMAND writes in place, up to SIZE (64M), are "
        "saved and\n"
        "                        put back by a restore\n"
        "      --children=ignore checkpoints while child processes live, which a resume loses\n"
        "      --deny io_uring   io_uring, which cannot be checkpointed, is not there for COMMAND\n"
        "      --no-crash        no image of the memory, for inspection, after a kill\n"
        "      --help, --version\n\n"
        "A program that ended by itself leaves nothing to resume; one that was killed does.\n",
        OPTIONS_KEEP_DEFAULT);
    return EXIT_FINE;
}

/* The pool's slot, path and state; makes it if it is absent. */
static int open_or_make_pool(struct run *run, const char *path, struct problem *why)
{
    int status = pool_state_read(path, &run->state, why);

    if (status == -ENOENT) {
        uint32_t keep = run->preload.keep ? run->preload.keep : OPTIONS_KEEP_DEFAULT;

        if ((status = pool_create(path, 0, keep, why)) < 0)
            return status;
        run->pool_is_new = true;
        status = pool_state_read(path, &run->state, why);
    }
    if (status < 0)
        return status;
    run->preload.pool_path = run->state.path;
    return 0;
}

/* A program that was killed before its first checkpoint starts again: that is not what --resume is
 * for, so somebody should know. */
static void tell_lost(const struct run *run)
{
    struct problem why = {0};

    if (run->state.super.run_state == RUN_STARTED &&
        restore_nothing(&run->state.super, &why) == STATUS_NO_GENERATION)
        report("run", 0, "%s: %s; %s starts afresh", run->state.path, why.text, run->argv[0]);
}

/* 1: resumed, *exit_status is the program's; 0: nothing to resume; or a negative status. */
static int try_resume(struct run *run, int *exit_status, struct problem *why)
{
    const struct restore_options options = {.pool_path = run->state.path,
                                            .tcp_established = run->preload.tcp_established};
    struct restored restored;
    int status;

    if (!pool_state_resumable(&run->state)) {
        tell_lost(run);
        return 0;
    }
    status = resume_program(&options, &restored, why);
    if (status == STATUS_ENDED || status == STATUS_NO_GENERATION)
        return 0;
    if (status < 0)
        return status;
    *exit_status = resume_wait(&restored);
    return 1;
}

static int refuse_to_lose(const struct run *run, struct problem *why)
{
    const struct generation_entry *entry = pool_state_resumable(&run->state);

    if (pool_state_is_opened(&run->state))
        return problem_set(why, STATUS_REFUSED,
                           "%s holds a heap that programs open by themselves, with a log of "
                           "transactions: name another pool",
                           run->state.path);
    if (!entry || run->preload.fresh || run->resume)
        return 0;
    return problem_set(why, STATUS_REFUSED,
                       "%s holds a program that can be resumed (generation %llu); "
                       "add --resume to go on with it, or --fresh to give it up",
                       run->state.path, (unsigned long long)entry->number);
}

/* Said at the start, not when the connections are lost. */
static int check_connections(const struct run *run, struct problem *why)
{
    int status = run->preload.tcp_established ? connections_possible() : 0;

    return status == 0
               ? 0
               : problem_set(why, STATUS_REFUSED,
                             "--tcp-established takes TCP_REPAIR, which is not to be had here: %s; "
                             "give CAP_NET_ADMIN, or run it without",
                             status_text(status));
}

/* Becomes the program; returns only on failure, or as process 1 when the program has ended (1). */
static int start(struct run *run, int *exit_status, struct problem *why)
{
    int status;

    if (getpid() == 1 && (status = first_process_stay(exit_status, why)) != 0)
        return status;
    if (run->preload.tcp_established) /* the guard of a program that is not gone on with */
        (void)guard_remove(run->state.super.uuid);
    run->preload.slot = run->state.super.slot;
    if ((status = preload_env_set(&run->preload, why)) < 0)
        return status;
    give_back_signals();
    if (!run->program.is_plain_script) {
        execv(run->program.path, run->argv);
    } else { /* /bin/sh PATH ARG...: POOL's place in argv is free for it */
        run->argv[-1] = (char *)(uintptr_t) "/bin/sh";
        run->argv[0] = run->program.path;
        execv("/bin/sh", run->argv - 1);
    }
    return problem_set(why, -errno, "cannot start %s: %s", run->program.path, strerror(errno));
}

static int run_program(struct run *run, const char *pool_path, int *exit_status,
                       struct problem *why)
{
    int status = check_connections(run, why);

    if (status < 0)
        return status;
    /* --resume does not look at COMMAND when the pool has a program of its own. */
    if (!run->resume || pool_state_read(pool_path, &run->state, NULL) < 0)
        status = program_check(run->argv[0], &run->program, why);
    if (status < 0 || (status = open_or_make_pool(run, pool_path, why)) < 0 ||
        (status = pool_state_wait_free(&run->state, why)) < 0 ||
        (status = refuse_to_lose(run, why)) < 0)
        return status;
    if (run->resume && (status = try_resume(run, exit_status, why)) != 0)
        return status;
    if (!run->program.path[0] && (status = program_check(run->argv[0], &run->program, why)) < 0)
        return status;
    status = start(run, exit_status, why);
    if (status < 0 && run->pool_is_new)
        unlink(run->state.path);
    return status;
}

/* An option without an argument. */
static bool set_switch(struct run *run, int option)
{
    bool *switches[] = {['r'] = &run->resume,
                        ['f'] = &run->preload.fresh,
                        ['x'] = &run->preload.at_exit,
                        ['c'] = &run->preload.no_crash,
                        ['s'] = &run->preload.self_contained,
                        ['e'] = &run->preload.tcp_established,
                        ['t'] = &run->preload.on_term};

    if ((size_t)option >= sizeof switches / sizeof *switches || switches[option] == NULL)
        return false;
    *switches[option] = true;
    return true;
}

/* One with an argument. NULL, or what is wrong with that. */
static const char *set_value(struct run *run, int option, const char *value)
{
    uint64_t keep, bytes;

    switch (option) {
    case 'i':
        return options_duration(value, NS_PER_S, &run->preload.interval_ns) < 0
                   ? "-i takes a time: 100ms, 1s, 5m, or 0"
                   : NULL;
    case 'd':
        return options_dirty(value, &run->preload.dirty_bytes) < 0
                   ? "--dirty takes a size from 1M: 64M, 1G, or 0"
                   : NULL;
    case 'k':
        if (parse_number(value, 1, OPTIONS_KEEP_MAX, &keep) < 0)
            return "-k takes a number of generations, 1 to 16";
        run->preload.keep = (uint32_t)keep;
        return NULL;
    case 'F':
        run->preload.files = value;
        return options_files(value, &bytes) < 0 ? "--files takes save, or save:SIZE: save:1G"
                                                : NULL;
    case 'C':
        if (strcmp(value, "ignore") != 0 && strcmp(value, "wait") != 0)
            return "--children takes ignore, or wait";
        run->preload.ignores_children = strcmp(value, "ignore") == 0;
        return NULL;
    default: /* 'D' */
        if (strcmp(value, "io_uring") != 0)
            return "--deny takes io_uring";
        run->preload.denies_io_uring = true;
        return NULL;
    }
}

static const struct option options[] = {{"interval", required_argument, NULL, 'i'},
                                        {"keep", required_argument, NULL, 'k'},
                                        {"resume", no_argument, NULL, 'r'},
                                        {"fresh", no_argument, NULL, 'f'},
                                        {"at-exit", no_argument, NULL, 'x'},
                                        {"dirty", required_argument, NULL, 'd'},
                                        {"no-crash", no_argument, NULL, 'c'},
                                        {"on-term", no_argument, NULL, 't'},
                                        {"tcp-established", no_argument, NULL, 'e'},
                                        {"self-contained", no_argument, NULL, 's'},
                                        {"help", no_argument, NULL, 'h'},
                                        {"version", no_argument, NULL, 'V'},
                                        {"children", required_argument, NULL, 'C'},
                                        {"files", required_argument, NULL, 'F'},
                                        {"deny", required_argument, NULL, 'D'},
                                        {0}};

static int parse_options(int argc, char **argv, struct run *run)
{
    const char *wrong;
    int option;

    /* '+': what follows COMMAND is COMMAND's. */
    while ((option = next_option("run", argc, argv, "+:i:k:h", options)) != -1) {
        if (option == 'h')
            return help();
        if (option == 'V') {
            print_version();
            return EXIT_FINE;
        }
        if (option == '?')
            return EXIT_USAGE;
        if (!set_switch(run, option) && (wrong = set_value(run, option, optarg)) != NULL)
            return report_usage("run", wrong);
    }
    if (run->resume && run->preload.fresh)
        return report_usage("run", "--resume and --fresh exclude each other");
    if (run->preload.tcp_established && !run->preload.on_term)
        return report_usage("run", "--tcp-established needs --on-term: a connection outlives no "
                                   "other end");
    if (argc - optind >= 2 && strcmp(argv[optind + 1], "--") == 0)
        run->argv++; /* POOL -- COMMAND, as other wrappers have it */
    run->argv += optind + 1;
    if (run->argv >= argv + argc)
        return report_usage("run", "expected a pool and a command");
    return -1; /* go on */
}

int command_run(int argc, char **argv)
{
    static struct run run;
    struct problem why = {0};
    int exit_status, status = run_environment_take(&run.preload, &why);

    run.argv = argv;
    exit_status = parse_options(argc, argv, &run);
    if (exit_status >= 0)
        return exit_status;
    if (status < 0)
        return report_problem("run", NULL, &why);
    if (run_program(&run, argv[optind], &exit_status, &why) >= 0)
        return exit_status;
    exit_status = report_problem("run", NULL, &why);
    if (run.resume)
        resume_offer_older("run", &(struct restore_options){.pool_path = run.state.path}, &why);
    return exit_status;
}
