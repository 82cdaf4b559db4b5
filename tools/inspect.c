/*
 * inspect.c - pheap inspect: shows what a pool holds, to a person or (--json) to a program.
 * True always: the pool is only read, so this works beside a running program.
 */
#include "tools/inspect.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "core/base/options.h"
#include "tools/command.h"
#include "tools/nearest.h"
#include "tools/next_option.h"
#include "tools/top.h"

static const struct choice {
    const char *name;
    inspect_view *show;
    int least, most; /* arguments behind its name */
    const char *usage, *summary;
} views[] = {
    {"summary", inspect_summary, 0, 0, "summary", "the pool, its program, its newest generation"},
    {"generations", inspect_generations, 0, 0, "generations", "one line each: size, pause, time"},
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

static bool take_address(const char *text, char **behind, uint64_t *out)
{
    *out = strtoull(text, behind, 0);
    return isdigit((unsigned char)text[0]) && *out != 0;
}

/* "ADDRESS", or "LOW-HIGH". */
static int parse_address(const char *text, struct inspection *inspection)
{
    char *behind;

    if (!take_address(text, &behind, &inspection->address))
        return STATUS_USAGE;
    if (*behind == '\0')
        return 0;
    inspection->low = inspection->address;
    inspection->address = 0;
    return *behind == '-' && take_address(behind + 1, &behind, &inspection->high) &&
                   *behind == '\0' && inspection->high >= inspection->low
               ? 0
               : STATUS_USAGE;
}

/* "LOW-HIGH", or "SIZE". */
static int parse_sizes(const char *text, struct inspection *inspection)
{
    const char *dash = strchr(text, '-');
    char low[32];

    snprintf(low, sizeof low, "%.*s", dash ? (int)(dash - text) : 31, text);
    if (parse_number(low, 0, UINT64_MAX - 1, &inspection->size_low) < 0)
        return STATUS_USAGE;
    inspection->size_high = inspection->size_low;
    return dash ? parse_number(dash + 1, inspection->size_low, UINT64_MAX - 1,
                               &inspection->size_high)
                : 0;
}

enum option_key {
    KEY_JSON = 256,
    KEY_CORE,
    KEY_HTML,
    KEY_FOCUS,
    KEY_IGNORE,
    KEY_FOLDED,
    KEY_PPROF,
    KEY_ADDRESS,
    KEY_SIZE,
    KEY_TYPE,
    KEY_SINCE,
    KEY_OLDER,
    KEY_AGE,
    KEY_LIMIT,
    KEY_MIN,
    KEY_HEX,
    KEY_POINTER,
    KEY_SORT,
    KEY_ONCE,
    KEY_VERSION,
};

static const struct option options[] = {{"generation", required_argument, NULL, 'g'},
                                        {"json", no_argument, NULL, KEY_JSON},
                                        {"core", required_argument, NULL, KEY_CORE},
                                        {"html", required_argument, NULL, KEY_HTML},
                                        {"focus", required_argument, NULL, KEY_FOCUS},
                                        {"ignore", required_argument, NULL, KEY_IGNORE},
                                        {"folded", required_argument, NULL, KEY_FOLDED},
                                        {"pprof", required_argument, NULL, KEY_PPROF},
                                        {"address", required_argument, NULL, KEY_ADDRESS},
                                        {"size", required_argument, NULL, KEY_SIZE},
                                        {"type", required_argument, NULL, KEY_TYPE},
                                        {"since", required_argument, NULL, KEY_SINCE},
                                        {"older", required_argument, NULL, KEY_OLDER},
                                        {"age", no_argument, NULL, KEY_AGE},
                                        {"limit", required_argument, NULL, KEY_LIMIT},
                                        {"min", required_argument, NULL, KEY_MIN},
                                        {"hex", no_argument, NULL, KEY_HEX},
                                        {"pointer", no_argument, NULL, KEY_POINTER},
                                        {"interval", required_argument, NULL, 'i'},
                                        {"sort", required_argument, NULL, KEY_SORT},
                                        {"once", no_argument, NULL, KEY_ONCE},
                                        {"help", no_argument, NULL, 'h'},
                                        {"version", no_argument, NULL, KEY_VERSION},
                                        {0}};

/* NULL, or what is wrong with the option's argument. */
static const char *take_option(struct inspection *inspection, int option, const char *argument)
{
    switch (option) {
    case 'g':
        return parse_number(argument, 1, UINT64_MAX - 1, &inspection->generation) < 0
                   ? "-g takes the number of a generation, from 1"
                   : NULL;
    case KEY_CORE:
        inspection->core_path = argument;
        return NULL;
    case KEY_HTML:
        inspection->html_path = argument;
        return NULL;
    case KEY_FOCUS:
        inspection->focus = argument;
        return NULL;
    case KEY_IGNORE:
        inspection->ignore = argument;
        return NULL;
    case KEY_FOLDED:
        inspection->folded_path = argument;
        return NULL;
    case KEY_PPROF:
        inspection->pprof_path = argument;
        return NULL;
    case KEY_ADDRESS:
        return parse_address(argument, inspection) < 0
                   ? "--address takes an address, as 0x7f0012345678, or two with a dash in between"
                   : NULL;
    case KEY_SIZE:
        return parse_sizes(argument, inspection) < 0 ? "--size takes bytes, as 48 or 32-64" : NULL;
    case KEY_TYPE:
        return parse_number(argument, 0, UINT32_MAX, &inspection->type) < 0
                   ? "--type takes a number, 0 to 4294967295"
                   : NULL;
    case KEY_SINCE:
        return parse_number(argument, 1, UINT64_MAX - 1, &inspection->since) < 0
                   ? "--since takes the number of a generation, from 1"
                   : NULL;
    case KEY_OLDER:
        return parse_number(argument, 1, UINT64_MAX - 1, &inspection->older) < 0
                   ? "--older takes the number of a generation, from 1"
                   : NULL;
    case KEY_AGE:
        inspection->shows_ages = true;
        return NULL;
    case KEY_LIMIT:
        return parse_number(argument, 1, UINT32_MAX, &inspection->limit) < 0
                   ? "--limit takes a number, from 1"
                   : NULL;
    case KEY_MIN:
        return parse_number(argument, 1, 4096, &inspection->least) < 0
                   ? "--min takes a number of characters, 1 to 4096"
                   : NULL;
    case KEY_HEX:
        inspection->pattern = PATTERN_HEX;
        return NULL;
    case KEY_POINTER:
        inspection->pattern = PATTERN_POINTER;
        return NULL;
    }
    return NULL;
}

/* The same of top's options. */
static const char *take_top_option(struct top_options *top, int option, const char *argument)
{
    switch (option) {
    case 'i':
        return options_duration(argument, 1000000000, &top->interval_ns) < 0 ||
                       top->interval_ns < TOP_INTERVAL_MIN_NS ||
                       top->interval_ns > TOP_INTERVAL_MAX_NS
                   ? "-i takes a time from 100ms to 1h"
                   : NULL;
    case KEY_SORT:
        for (top->sort = 0; top->sort < TOP_SORTS; top->sort++)
            if (strcmp(argument, top_sort_names[top->sort]) == 0)
                return NULL;
        return "--sort takes bytes, change, growth, blocks or size";
    case KEY_ONCE:
        top->once = true;
    }
    return NULL;
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
        return report_usage("inspect", (*choice)->most ? "the view needs other arguments"
                                                       : "the view takes no arguments");
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
    const char *wrong;
    int option, status;

    while ((option = next_option("inspect", argc, argv, ":g:i:h", options)) != -1) {
        if (option == 'h')
            return help();
        if (option == KEY_VERSION) {
            print_version();
            return EXIT_FINE;
        }
        if (option == '?')
            return EXIT_USAGE;
        top.as_json = top.as_json || option == KEY_JSON;
        wrong = take_option(&inspection, option, optarg);
        if (!wrong)
            wrong = take_top_option(&top, option, optarg);
        if (wrong)
            return report_usage("inspect", wrong);
    }
    top.target = top_target(argc - optind, argv + optind);
    if (top.target && inspection.generation)
        return report_usage("inspect", "-g goes with views of one generation, not with top");
    if (top.target)
        return top_run(&top);
    status = choose(argc - optind, argv + optind, &inspection, &choice);
    return status ? status : inspect(argv[optind], choice, &inspection, top.as_json);
}
