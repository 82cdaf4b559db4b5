/*
 * restore.c - pheap restore: resumes the program that a pool holds.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include "tools/command.h"
#include "tools/pool_state.h"
#include "tools/resume.h"

static int help(void)
{
    printf("usage: pheap restore [-g GENERATION] [-v] POOL\n\n"
           "Resumes the program in POOL from its newest checkpoint, stays as its parent, forwards\n"
           "signals to it and ends with its exit status.\n\n"
           "  -g, --generation N   from generation N (see pheap inspect POOL generations)\n"
           "  -v, --verbose        say what is done and how long it takes\n"
           "      --help, --version\n\n"
           "Restoring a pool runs the code in it: another user's pool is refused.\n");
    return EXIT_FINE;
}

static int restore(const struct restore_options *wanted)
{
    static struct pool_state state;
    struct problem why = {0};
    struct restored restored;
    int status;

    if (pool_state_read(wanted->pool_path, &state, &why) < 0 ||
        pool_state_wait_free(&state, &why) < 0 || resume_program(wanted, &restored, &why) < 0) {
        status = report_problem("restore", wanted->pool_path, &why);
        resume_offer_older("restore", wanted, &why);
        return status;
    }
    return resume_wait(&restored);
}

int command_restore(int argc, char **argv)
{
    static const struct option options[] = {{"generation", required_argument, NULL, 'g'},
                                            {"verbose", no_argument, NULL, 'v'},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'V'},
                                            {0}};
    struct restore_options wanted = {0};
    int option;

    while ((option = getopt_long(argc, argv, "g:vh", options, NULL)) != -1) {
        switch (option) {
        case 'g':
            if (parse_number(optarg, 1, UINT64_MAX - 1, &wanted.generation) < 0)
                return report_usage("restore", "-g takes the number of a generation, from 1");
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
            return report_usage("restore", NULL);
        }
    }
    if (argc - optind != 1)
        return report_usage("restore", "expected one argument, the pool");
    wanted.pool_path = argv[optind];
    return restore(&wanted);
}
