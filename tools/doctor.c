/*
 * doctor.c - pheap doctor: what this machine, a place for pools and a program allow, and what to do
 * about what they do not. True always: each line was found by trying, and nothing is left behind.
 */
#include "tools/doctor.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tools/command.h"
#include "tools/next_option.h"

static const char *const verdict_names[] = {"ok", "limited", "no"};

static int help(void)
{
    printf("usage: pheap doctor [OPTION...] [COMMAND]\n\n"
           "Says what this machine allows, what COMMAND (a program's name or path) is like, and\n"
           "what to change. Ends by running, killing and resuming a small program.\n\n"
           "  -d, --directory DIR   where pools are to be (the current directory)\n"
           "      --no-trial        look only, run nothing\n"
           "      --json            one object, for programs\n"
           "      --help, --version\n\n"
           "Exit status: 0 all is fine, 1 something is limited, 3 something will not work.\n");
    return EXIT_FINE;
}

long doctor_number(const char *path, long fallback)
{
    FILE *file = fopen(path, "re");
    long number;

    if (!file)
        return fallback;
    if (fscanf(file, "%ld", &number) != 1)
        number = fallback;
    fclose(file);
    return number;
}

void doctor_find(struct doctor *doctor, const char *check, enum doctor_verdict verdict,
                 const char *advice, const char *format, ...)
{
    char found[1024];
    va_list args;
    json_t *row;

    va_start(args, format);
    vsnprintf(found, sizeof found, format, args);
    va_end(args);
    row = json_pack("{s:s, s:s, s:s, s:s?}", "check", check, "verdict", verdict_names[verdict],
                    "found", found, "advice", advice);
    if (!row) /* what was found is not UTF-8: a path can be anything */
        row = json_pack("{s:s, s:s, s:s, s:s?}", "check", check, "verdict", verdict_names[verdict],
                        "found", "(not printable)", "advice", advice);
    json_array_append_new(doctor->findings, row);
    if (verdict > doctor->worst)
        doctor->worst = verdict;
}

/* Breaks text at spaces so that no line is longer than the width; later lines are indented. */
static void print_wrapped(const char *text, size_t indent, size_t width)
{
    size_t column = indent;

    while (*text) {
        size_t length = strcspn(text, " ");

        if (column > indent && column + 1 + length > width) {
            printf("\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            putchar(' ');
            column++;
        }
        printf("%.*s", (int)length, text);
        column += length;
        text += length;
        text += strspn(text, " ");
    }
    putchar('\n');
}

/* NULL where it is null. */
static const char *text_of(const json_t *row, const char *key)
{
    return json_string_value(json_object_get(row, key));
}

static void print_text(const struct doctor *doctor)
{
    static const char *const colours[] = {"\33[32m", "\33[33m", "\33[31m"};
    bool colour = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
    const char *verdict, *advice;
    json_t *row;
    size_t i, kind;

    json_array_foreach(doctor->findings, i, row)
    {
        verdict = text_of(row, "verdict");
        advice = text_of(row, "advice");
        for (kind = DOCTOR_OK; strcmp(verdict, verdict_names[kind]) != 0; kind++)
            ;
        printf("%s%-8s%s %-16s ", colour ? colours[kind] : "", verdict, colour ? "\33[0m" : "",
               text_of(row, "check"));
        print_wrapped(text_of(row, "found"), 26, 100);
        if (advice) {
            printf("%*s-> ", 26, "");
            print_wrapped(advice, 29, 100);
        }
    }
}

static int show(struct doctor *doctor, bool as_json)
{
    static const int exits[] = {EXIT_FINE, EXIT_FOUND, EXIT_REFUSED};

    if (as_json) {
        json_t *all = json_pack("{s:s, s:O}", "verdict", verdict_names[doctor->worst], "findings",
                                doctor->findings);
        json_dumpf(all, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(all);
    } else {
        print_text(doctor);
    }
    json_decref(doctor->findings);
    if (fflush(stdout) != 0 || ferror(stdout))
        return report("doctor", EXIT_SYSTEM, "cannot write the output: %s", strerror(errno));
    return exits[doctor->worst];
}

int command_doctor(int argc, char **argv)
{
    static const struct option options[] = {{"directory", required_argument, NULL, 'd'},
                                            {"no-trial", no_argument, NULL, 't'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'V'},
                                            {0}};
    struct doctor doctor = {.findings = json_array()};
    const char *directory = ".";
    bool as_json = false, trial = true;
    int option;

    while ((option = next_option("doctor", argc, argv, "+:d:h", options)) != -1) {
        switch (option) {
        case 'd':
            directory = optarg;
            break;
        case 't':
            trial = false;
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
            return EXIT_USAGE;
        }
    }
    doctor_machine(&doctor);
    doctor_ids(&doctor);
    doctor_place(&doctor, directory);
    if (argv[optind])
        doctor_program(&doctor, argv[optind]);
    if (trial)
        doctor_trial(&doctor, directory);
    return show(&doctor, as_json);
}
