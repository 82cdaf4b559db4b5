/*
 * inspect.c - pheap inspect: shows what a pool holds, to a person or (--json) to a program.
 * True always: the pool is only read, so this works beside a running program.
 */
#include "tools/inspect.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "tools/command.h"
#include "tools/inspect_options.h"
#include "tools/nearest.h"

static const struct choice {
    const char *name;
    inspect_view *show;
    int least, most; /* arguments behind its name */
    const char *usage, *summary;
} views[] = {
    {"summary", inspect_summary, 0, 0, "summary", "the pool, its program, its newest generation"},
    {"generations", inspect_generations, 0, 0, "generations",
     "one line each: time, sizes, pause, what changed"},
    {"heap", inspect_heap, 0, 0, "heap", "size classes, free runs by order, fragmentation"},
    {"slabs", inspect_slabs, 0, 0, "slabs",
     "the same with free blocks, unused bytes and addresses"},
    {"blocks", inspect_blocks, 0, 0, "blocks",
     "blocks in use, or (--address) one, and its pointers"},
    {"leaks", inspect_leaks, 0, 0, "leaks", "blocks that nothing points to, by size class"},
    {"profile", inspect_profile, 0, 0, "profile", "live bytes by the stack that allocated them"},
    {"roots", inspect_roots, 0, 0, "roots", "where reachability starts"},
    {"retained", inspect_retained, 0, 1, "retained [ROOT]", "what keeps how much alive"},
    {"log", inspect_log, 0, 0, "log", "transactions of an opened heap since its generation"},
    {"diff", inspect_diff, 2, 2, "diff G1 G2", "what changed from generation G1 to G2"},
    {"mappings", inspect_mappings, 0, 0, "mappings", "the address space, how much of it is saved"},
    {"files", inspect_files, 0, 0, "files", "descriptors, pipes, epoll watches, locks"},
    {"threads", inspect_threads, 0, 0, "threads", "what each thread did: backtrace, registers"},
    {"strings", inspect_strings, 0, 0, "strings", "texts in memory"},
    {"grep", inspect_grep, 1, 1, "grep PATTERN", "where a text, bytes or a pointer is in memory"},
};
#define VIEW_COUNT (sizeof views / sizeof views[0])

static const struct choice core_choice = {"", inspect_core, 0, 0, "", ""};
static const struct choice html_choice = {"", inspect_html, 0, 0, "", ""};

static int help(void)
{
    printf("usage: pheap inspect [OPTION...] POOL [VIEW [ARGUMENT...]]\n"
           "       pheap inspect [OPTION...] top POOL|PID\n\n"
           "Shows what POOL holds; it is only read. Views (summary unless said):\n\n");
    for (size_t i = 0; i < VIEW_COUNT; i++)
        printf("  %-14s %s\n", views[i].usage, views[i].summary);
    printf("  %-14s what a program's heap and its pool are like now, and now, on a terminal\n",
           "top");
    printf("\n  -g, --generation N   look at generation N, not at the newest\n"
           "      --json           one object, for programs; has summary and generations always\n"
           "      --core FILE      write a core file of the generation, for gdb\n"
           "      --html FILE      write a page with a map of the heap and tables\n"
           "      --focus REGEX    profile: stacks with a function that matches\n"
           "      --ignore REGEX   profile: no stacks with a function that matches\n"
           "      --folded FILE    profile: write it for flame graphs, a line a stack\n"
           "      --pprof FILE     profile: write it for pprof\n"
           "      --address A      blocks: the one that holds address A, or with LOW-HIGH those "
           "there\n"
           "      --size LOW-HIGH  blocks: those of LOW to HIGH usable bytes\n"
           "      --type T         blocks: those of type T (opened heaps)\n"
           "      --since N        blocks: those that were not there yet in generation N\n"
           "      --older N        blocks: those that were there in generation N already\n"
           "      --age            blocks: since which of the kept generations each is there\n"
           "      --limit N        blocks, stacks, retained, log, strings, grep: show at most N\n"
           "      --min N          strings: of at least N characters (8)\n"
           "      --hex            grep: PATTERN is bytes, as in \"de ad be ef\"\n"
           "      --pointer        grep: PATTERN is the value of an aligned word\n"
           "  -i, --interval TIME  top: how often to look, 100ms to 1h (1s)\n"
           "      --sort KEY       top: by bytes, change, growth, blocks or size\n"
           "      --once           top: one text, as when the output is no terminal\n"
           "      --help, --version\n");
    return EXIT_FINE;
}

void inspect_heading(const struct inspection *inspection, const char *text)
{
    char line[8192];

    show_line(line, sizeof line, text);
    if (inspection->in_colour)
        printf("\033[1m%s\033[0m\n", line);
    else
        printf("%s\n", line);
}

const char *inspect_time(char buffer[32], uint64_t realtime_ns)
{
    time_t seconds = (time_t)(realtime_ns / 1000000000);
    struct tm local;

    localtime_r(&seconds, &local);
    strftime(buffer, 32, "%Y-%m-%d %H:%M:%S", &local);
    return buffer;
}

void inspect_note_damage(struct inspection *inspection, const struct view *view)
{
    uint64_t number = view->generation.number;

    inspection->left_out += view->damaged_heap_pages + view->damaged_pages + view->log_is_damaged;
    if (inspection->damage_said == number)
        return;
    if (view->damaged_heap_pages)
        report("inspect", EXIT_FOUND,
               "%s: %" PRIu64 " pages of the heap of generation %" PRIu64
               " are damaged: what is shown of them may be wrong; an older one may have them whole",
               inspection->state.path, view->damaged_heap_pages, number);
    else if (view->damaged_pages)
        report("inspect", EXIT_FOUND,
               "%s: %" PRIu64 " damaged pages of generation %" PRIu64
               " were left out; an older one may have them whole",
               inspection->state.path, view->damaged_pages, number);
    if (view->log_is_damaged)
        report("inspect", EXIT_FOUND,
               "%s: the log of generation %" PRIu64 " is damaged behind record %" PRIu64
               ": what was committed later is not shown",
               inspection->state.path, number, view->log_records);
    if (view->damaged_heap_pages || view->damaged_pages || view->log_is_damaged)
        inspection->damage_said = number;
}

/* That nobody has asked for by its number. */
static void note_crash_image(const struct inspection *inspection, const struct view *view)
{
    if (view->generation.kind == GENERATION_CRASH)
        report("inspect", EXIT_FINE,
               "%s holds crash images only: this is the newest, generation %" PRIu64
               ", the memory of a killed program without its registers; -g N takes another",
               inspection->state.path, view->generation.number);
}

int inspect_with(struct inspection *inspection, inspect_body *body, struct problem *why)
{
    static struct view view;
    bool is_asked_for = inspection->generation != 0;
    int status = view_open(&view, inspection->state.path, inspection->generation, why);

    if (status == 0)
        status = body(inspection, &view, why);
    if (status == 0 && !is_asked_for)
        note_crash_image(inspection, &view);
    if (status == 0)
        inspect_note_damage(inspection, &view);
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
        inspect_list_generations(inspection);
    if (status == 0 && choice->show != inspect_summary)
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
    return inspection->state.super_fell_back || inspection->left_out || inspection->state.is_short
               ? EXIT_FOUND
               : EXIT_FINE;
}

/* `top POOL`, or as a view: `POOL top`. Not a pool called top, with a view behind it. */
static const char *top_target(int count, char **arguments)
{
    if (count != 2)
        return NULL;
    if (strcmp(arguments[0], "top") == 0 &&
        !(choice_named(arguments[1]) && access("top", F_OK) == 0))
        return arguments[1];
    return strcmp(arguments[1], "top") == 0 ? arguments[0] : NULL;
}

static int no_view(const char *name)
{
    char hint[NEAREST_HINT_BYTES];

    return report("inspect", EXIT_USAGE, "no view '%.64s'%s; pheap inspect --help lists all", name,
                  nearest_hint(hint, "", name, views, sizeof views[0], VIEW_COUNT));
}

static bool shows_all_generations(const struct choice *choice)
{
    return choice->show == inspect_summary || choice->show == inspect_generations ||
           choice->show == inspect_diff;
}

/* 0, or an exit status. */
static int choose(int count, char **arguments, struct inspection *inspection,
                  const struct choice **choice)
{
    if (count < 1)
        return report_usage("inspect", "expected a pool, and perhaps a view");
    if (choice_named(arguments[0]) && access(arguments[0], F_OK) != 0)
        return report_usage("inspect", "the pool comes first: pheap inspect POOL VIEW");
    if (count >= 2 && !(*choice = choice_named(arguments[1])))
        return no_view(arguments[1]);
    if (count > 1 && (count < 2 + (*choice)->least || count > 2 + (*choice)->most))
        return report("inspect", EXIT_USAGE,
                      "expected pheap inspect POOL %s; pheap inspect --help says more",
                      (*choice)->usage);
    if (inspection->generation && count > 1 && shows_all_generations(*choice))
        return report_usage("inspect", "-g goes with views of one generation");
    if ((inspection->core_path || inspection->html_path) && count != 1)
        return report_usage("inspect", "--core and --html take no view");
    if (inspection->core_path || inspection->html_path)
        *choice = inspection->core_path ? &core_choice : &html_choice;
    inspection->arguments = arguments + 2;
    inspection->argument_count = count > 2 ? count - 2 : 0;
    return 0;
}

int command_inspect(int argc, char **argv)
{
    static struct inspection inspection = {
        .size_high = UINT64_MAX, .type = UINT64_MAX, .high = UINT64_MAX};
    struct top_options top = {.interval_ns = 1000000000};
    const struct choice *choice = &views[0];
    int status = inspect_take_options(argc, argv, &inspection, &top);

    if (status == INSPECT_HELP)
        return help();
    if (status != INSPECT_GO_ON)
        return status;
    top.target = top_target(argc - optind, argv + optind);
    if (top.target && inspection.generation)
        return report_usage("inspect", "-g goes with views of one generation, not with top");
    if (top.target)
        return (status = inspect_check_options("top")) ? status : top_run(&top);
    status = choose(argc - optind, argv + optind, &inspection, &choice);
    if (!status && inspection.generation && choice == &views[0] && !top.as_json)
        return report_usage("inspect", "-g goes with a view: pheap inspect -g N POOL VIEW");
    if (status == 0)
        status = inspect_check_options(choice->name);
    return status ? status : inspect(argv[optind], choice, &inspection, top.as_json);
}
