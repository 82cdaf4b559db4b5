/*
 * inspect_options.c - see inspect_options.h.
 */
#include "tools/inspect_options.h"

#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/options.h"
#include "tools/command.h"
#include "tools/next_option.h"

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

/* Options that say something to one view alone; others would not look at them. */
static const struct {
    int key;
    const char *name, *view;
} only_of[] = {
    {KEY_FOCUS, "--focus", "profile"},    {KEY_IGNORE, "--ignore", "profile"},
    {KEY_FOLDED, "--folded", "profile"},  {KEY_PPROF, "--pprof", "profile"},
    {KEY_ADDRESS, "--address", "blocks"}, {KEY_SIZE, "--size", "blocks"},
    {KEY_TYPE, "--type", "blocks"},       {KEY_SINCE, "--since", "blocks"},
    {KEY_OLDER, "--older", "blocks"},     {KEY_AGE, "--age", "blocks"},
    {KEY_MIN, "--min", "strings"},        {KEY_HEX, "--hex", "grep"},
    {KEY_POINTER, "--pointer", "grep"},   {'i', "-i", "top"},
    {KEY_SORT, "--sort", "top"},          {KEY_ONCE, "--once", "top"},
};
#define ONLY_OF_COUNT (sizeof only_of / sizeof only_of[0])

static bool given[ONLY_OF_COUNT];

int inspect_check_options(const char *view)
{
    for (size_t i = 0; i < ONLY_OF_COUNT; i++)
        if (given[i] && strcmp(only_of[i].view, view) != 0)
            return report("inspect", EXIT_USAGE,
                          "%s goes with the view %s; pheap inspect --help "
                          "says more",
                          only_of[i].name, only_of[i].view);
    return 0;
}

static void note_option(int key)
{
    for (size_t i = 0; i < ONLY_OF_COUNT; i++)
        given[i] |= only_of[i].key == key;
}

/* --- options whose argument is a word or a number --- */

static const struct word_option {
    int key;
    size_t offset; /* of the const char * in struct inspection */
} word_options[] = {
    {KEY_CORE, offsetof(struct inspection, core_path)},
    {KEY_HTML, offsetof(struct inspection, html_path)},
    {KEY_FOCUS, offsetof(struct inspection, focus)},
    {KEY_IGNORE, offsetof(struct inspection, ignore)},
    {KEY_FOLDED, offsetof(struct inspection, folded_path)},
    {KEY_PPROF, offsetof(struct inspection, pprof_path)},
};
#define WORD_OPTION_COUNT (sizeof word_options / sizeof word_options[0])

static const struct number_option {
    int key;
    size_t offset; /* of the uint64_t in struct inspection */
    uint64_t low, high;
    const char *takes;
} number_options[] = {
    {'g', offsetof(struct inspection, generation), 1, UINT64_MAX - 1,
     "-g takes the number of a generation, from 1"},
    {KEY_TYPE, offsetof(struct inspection, type), 0, UINT32_MAX,
     "--type takes a number, 0 to 4294967295"},
    {KEY_SINCE, offsetof(struct inspection, since), 1, UINT64_MAX - 1,
     "--since takes the number of a generation, from 1"},
    {KEY_OLDER, offsetof(struct inspection, older), 1, UINT64_MAX - 1,
     "--older takes the number of a generation, from 1"},
    {KEY_LIMIT, offsetof(struct inspection, limit), 1, UINT32_MAX,
     "--limit takes a number, from 1"},
    {KEY_MIN, offsetof(struct inspection, least), 1, 4096,
     "--min takes a number of characters, 1 to 4096"},
};
#define NUMBER_OPTION_COUNT (sizeof number_options / sizeof number_options[0])

static void take_word(struct inspection *inspection, int key, const char *argument)
{
    for (size_t i = 0; i < WORD_OPTION_COUNT; i++)
        if (word_options[i].key == key)
            *(const char **)((char *)inspection + word_options[i].offset) = argument;
}

/* NULL, or what is wrong with the option's argument. */
static const char *take_number(struct inspection *inspection, int key, const char *argument)
{
    for (size_t i = 0; i < NUMBER_OPTION_COUNT; i++) {
        const struct number_option *option = &number_options[i];
        uint64_t *out = (uint64_t *)((char *)inspection + option->offset);

        if (option->key == key)
            return parse_number(argument, option->low, option->high, out) < 0 ? option->takes
                                                                              : NULL;
    }
    return NULL;
}

/* --- the others --- */

/* The same of what is neither a word nor a number. */
static const char *take_other(struct inspection *inspection, int key, const char *argument)
{
    switch (key) {
    case KEY_ADDRESS:
        return parse_address(argument, inspection) < 0
                   ? "--address takes an address, as 0x7f0012345678, or two with a dash in between"
                   : NULL;
    case KEY_SIZE:
        return parse_sizes(argument, inspection) < 0 ? "--size takes bytes, as 48 or 32-64" : NULL;
    case KEY_AGE:
        inspection->shows_ages = true;
        break;
    case KEY_HEX:
        inspection->pattern = PATTERN_HEX;
        break;
    case KEY_POINTER:
        inspection->pattern = PATTERN_POINTER;
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

int inspect_take_options(int argc, char **argv, struct inspection *inspection,
                         struct top_options *top)
{
    const char *wrong;
    int option;

    while ((option = next_option("inspect", argc, argv, ":g:i:h", options)) != -1) {
        if (option == 'h')
            return INSPECT_HELP;
        if (option == KEY_VERSION) {
            print_version();
            return EXIT_FINE;
        }
        if (option == '?')
            return EXIT_USAGE;
        note_option(option);
        top->as_json = top->as_json || option == KEY_JSON;
        take_word(inspection, option, optarg);
        wrong = take_number(inspection, option, optarg);
        if (!wrong)
            wrong = take_other(inspection, option, optarg);
        if (!wrong)
            wrong = take_top_option(top, option, optarg);
        if (wrong)
            return report_usage("inspect", wrong);
    }
    return INSPECT_GO_ON;
}
