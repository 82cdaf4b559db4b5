/*
 * inspect.c - pheap inspect: shows what a pool holds, to a person or (--json) to a program.
 * True always: the pool is only read, so this works beside a running program.
 */
#include "tools/inspect.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "tools/command.h"

static const struct choice {
    const char *name;
    inspect_view *show;
    const char *summary;
} views[] = {
    {"summary", inspect_summary, "the pool, its program, its newest generation"},
    {"generations", inspect_generations, "one line each: size, pause, time"},
    {"heap", inspect_heap, "blocks and occupancy by size class"},
    {"mappings", inspect_mappings, "the address space, and how much of it is saved"},
    {"files", inspect_files, "descriptors, pipes, epoll watches, locks"},
    {"threads", inspect_threads, "what each thread did: registers, backtrace"},
};
#define VIEW_COUNT (sizeof views / sizeof views[0])

static int help(void)
{
    printf("usage: pheap inspect [-g GENERATION] [--json] POOL [VIEW]\n\n"
           "Shows what POOL holds; it is only read. Views (summary unless said):\n\n");
    for (size_t i = 0; i < VIEW_COUNT; i++)
        printf("  %-14s %s\n", views[i].name, views[i].summary);
    printf("\n  -g, --generation N   look at generation N, not at the newest\n"
           "      --json           one object, for programs; has summary and generations always\n"
           "      --help, --version\n");
    return EXIT_FINE;
}

void inspect_heading(const struct inspection *inspection, const char *text)
{
    if (inspection->in_colour)
        printf("\033[1m%s\033[0m\n", text);
    else
        printf("%s\n", text);
}

const char *inspect_time(char buffer[32], uint64_t realtime_ns)
{
    time_t seconds = (time_t)(realtime_ns / 1000000000);
    struct tm local;

    localtime_r(&seconds, &local);
    strftime(buffer, 32, "%Y-%m-%d %H:%M:%S", &local);
    return buffer;
}

int inspect_with(struct inspection *inspection, inspect_body *body, struct problem *why)
{
    static struct view view;
    int status = view_open(&view, inspection->state.path, inspection->generation, why);

    if (status == 0)
        status = body(inspection, &view, why);
    if (status == 0 && view.damaged_pages) {
        inspection->left_out = view.damaged_pages;
        report("inspect", EXIT_FOUND,
               "%s: %" PRIu64 " damaged pages of generation %" PRIu64
               " were left out; an older one may have them whole",
               inspection->state.path, view.damaged_pages, view.generation.number);
    }
    view_close(&view);
    return status;
}

static const struct choice *choice_named(const char *name)
{
    for (size_t i = 0; i < VIEW_COUNT; i++)
        if (strcmp(views[i].name, name) == 0)
            return &views[i];
    return NULL;
}

static int show(struct inspection *inspection, const struct choice *choice, struct problem *why)
{
    int status;

    if (!inspection->json)
        return choice->show(inspection, why);
    status = inspect_summary(inspection, why);
    if (status == 0)
        status = inspect_generations(inspection, why);
    if (status == 0 && choice->show != inspect_summary && choice->show != inspect_generations)
        status = choice->show(inspection, why);
    if (status == 0) {
        json_dumpf(inspection->json, stdout, JSON_INDENT(2));
        putchar('\n');
    }
    return status;
}

static int inspect(const char *path, const struct choice *choice, struct inspection *inspection,
                   bool as_json)
{
    struct problem why = {0};
    int status = pool_state_read(path, &inspection->state, &why);

    inspection->in_colour = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
    inspection->json = as_json ? json_object() : NULL;
    if (status == 0)
        status = show(inspection, choice, &why);
    json_decref(inspection->json);
    if (status < 0)
        return report_problem("inspect", path, &why);
    return inspection->state.super_fell_back || inspection->left_out ? EXIT_FOUND : EXIT_FINE;
}

int command_inspect(int argc, char **argv)
{
    static const struct option options[] = {{"generation", required_argument, NULL, 'g'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'V'},
                                            {0}};
    static struct inspection inspection;
    const struct choice *choice = &views[0];
    bool as_json = false;
    int option;

    while ((option = getopt_long(argc, argv, "g:h", options, NULL)) != -1) {
        switch (option) {
        case 'g':
            if (parse_number(optarg, 1, UINT64_MAX - 1, &inspection.generation) < 0)
                return report_usage("inspect", "-g takes the number of a generation, from 1");
            break;
        case 'j':
            as_json = true;
            break;
        case 'h':
            return help();
        case 'V':
            print_version();
            return EXIT_FINE;
        default:
            return report_usage("inspect", NULL);
        }
    }
    if (argc - optind < 1 || argc - optind > 2)
        return report_usage("inspect", "expected a pool, and at most one view");
    if (argc - optind == 2 && !(choice = choice_named(argv[optind + 1])))
        return report_usage("inspect", "no such view; --help lists them");
    return inspect(argv[optind], choice, &inspection, as_json);
}
