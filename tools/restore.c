/*
 * restore.c - pheap restore: resumes the program that a pool holds.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>
#include "recovery/copy/copy.h"
#include "tools/command.h"
#include "tools/next_option.h"
#include "tools/pool_state.h"
#include "tools/resume.h"

static int help(void)
{
    printf(
        "usage: pheap restore [-g GENERATION] [--copy FILE] [-v] POOL\n\n"
        "Resumes the program in POOL from its newest checkpoint, stays as its parent, forwards\n"
        "signals to it and ends with its exit status.\n\n"
        "  -g, --generation N   from generation N (see pheap inspect POOL generations)\n"
        "      --copy FILE      from a copy of the generation, a new pool of its own in FILE:\n"
        "                       POOL stays as it is, and may be in use\n"
        "      --tcp-established  go on with the TCP connections that pheap run --on-term\n"
        "                       --tcp-established has kept (CAP_NET_ADMIN); else they are reset\n"
        "  -v, --verbose        say what is done and how long it takes\n"
        "      --help, --version\n\n"
        "Restoring a pool runs the code in it: another user's pool is refused.\n");
    return EXIT_FINE;
}

/* The wanted generation, or the one that would be resumed, as a pool of its own, which
 * takes the other's place in what is wanted. */
static int copy_generation(struct restore_options *wanted, const char *file, struct problem *why)
{
    static struct pool_state state;
    static struct pool pool;
    static char to[4096];
    const struct generation_entry *entry;
    struct copy_request request = {
        .pool = &pool, .to = to, .only = wanted->generation, .new_identity = true};
    struct control_answer answer;
    uint64_t bytes;
    int status = pool_state_read(wanted->pool_path, &state, why), lock = -1;

    if (status < 0)
        return status;
    entry = pool_state_resumable(&state);
    if (request.only == 0 && entry == NULL)
        return restore_nothing(&state.super, why);
    if (request.only == 0)
        request.only = entry->number;
    if (parse_path(file, to, sizeof to) < 0)
        return problem_set(why, -ENAMETOOLONG, "'%s': the path is too long", file);
    if ((status = pool_open(&pool, wanted->pool_path, POOL_READ, why)) < 0)
        return status;
    lock = pool_lock_generation(&pool, request.only, why);
    status = lock < 0 ? lock : pool_copy(&request, &bytes, why);
    if (lock >= 0)
        close(lock);
    pool_close(&pool);
    wanted->generation = request.only;
    wanted->keeps_files = pool_state_agent(&state, &answer);
    return status;
}

static int restore(struct restore_options *wanted, const char *copy)
{
    static struct pool_state state;
    struct problem why = {0};
    struct restored restored;
    int status;

    if (copy) {
        if (copy_generation(wanted, copy, &why) < 0)
            return report_problem("restore", wanted->pool_path, &why);
        wanted->pool_path = copy;
    }
    if (pool_state_read(wanted->pool_path, &state, &why) < 0 ||
        pool_state_wait_free(&state, &why) < 0 || resume_program(wanted, &restored, &why) < 0) {
        status = report_problem("restore", wanted->pool_path, &why);
        if (copy)
            unlink(copy); /* nobody has gone on from it */
        else
            resume_offer_older("restore", wanted, &why);
        return status;
    }
    return resume_wait(&restored);
}

int command_restore(int argc, char **argv)
{
    static const struct option options[] = {{"generation", required_argument, NULL, 'g'},
                                            {"copy", required_argument, NULL, 'c'},
                                            {"verbose", no_argument, NULL, 'v'},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'V'},
                                            {"tcp-established", no_argument, NULL, 'e'},
                                            {0}};
    struct restore_options wanted = {0};
    const char *copy = NULL;
    int option;

    while ((option = next_option("restore", argc, argv, ":g:vh", options)) != -1) {
        switch (option) {
        case 'g':
            if (parse_number(optarg, 1, UINT64_MAX - 1, &wanted.generation) < 0)
                return report_usage("restore", "-g takes the number of a generation, from 1");
            break;
        case 'c':
            copy = optarg;
            break;
        case 'e':
            wanted.tcp_established = true;
            break;
        case 'v':
            wanted.verbose = true;
            break;
        case 'h':
            return help();
        case 'V':
            print_version();
            return EXIT_FINE;
        default:
            return EXIT_USAGE;
        }
    }
    if (argc - optind != 1)
        return report_usage("restore", "expected one argument, the pool");
    if (copy && wanted.tcp_established)
        return report_usage("restore", "--copy and --tcp-established exclude each other: a "
                                       "connection has one end");
    wanted.pool_path = argv[optind];
    return restore(&wanted, copy);
}
