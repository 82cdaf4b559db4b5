/*
 * recover_check.c - pheap recover --check: what the checker finds, told to a person or a program.
 * True always: the pool is only read.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "core/base/sys.h"
#include "recovery/check/check.h"
#include "tools/command.h"
#include "tools/progress.h"
#include "tools/recover.h"

struct telling {
    bool in_colour;
    json_t *findings; /* NULL: print for a person */
    struct progress progress;
};

static const char *severity_name(enum severity severity)
{
    return severity == SEVERITY_DAMAGE ? "damage" : "harmless";
}

/* --- findings --- */

static void print_finding(struct telling *telling, const struct finding *finding)
{
    const struct place *place = &finding->place;
    const char *colour = finding->severity == SEVERITY_DAMAGE ? "\033[31m" : "\033[33m";

    progress_end(&telling->progress);
    printf("%s%-8s%s %-5s", telling->in_colour ? colour : "", severity_name(finding->severity),
           telling->in_colour ? "\033[0m" : "", finding_id(finding->kind));
    printf(" %s:", finding_meaning(finding->kind));
    if (place->offset != PLACE_UNKNOWN)
        printf(" at offset %" PRIu64, place->offset);
    if (place->generation)
        printf(", generation %" PRIu64, place->generation);
    if (place->address)
        printf(", address 0x%" PRIx64, place->address);
    printf("; expected %s, found %s\n", finding->expected, finding->found);
}

static void add_finding(json_t *findings, const struct finding *finding)
{
    const struct place *place = &finding->place;
    json_t *object =
        json_pack("{s:s, s:s, s:s, s:s, s:s}", "id", finding_id(finding->kind), "severity",
                  severity_name(finding->severity), "meaning", finding_meaning(finding->kind),
                  "expected", finding->expected, "found", finding->found);

    if (place->offset != PLACE_UNKNOWN)
        json_object_set_new(object, "offset", json_integer((json_int_t)place->offset));
    if (place->generation)
        json_object_set_new(object, "generation", json_integer((json_int_t)place->generation));
    if (place->address)
        json_object_set_new(object, "address", json_integer((json_int_t)place->address));
    json_array_append_new(findings, object);
}

static void tell_finding(void *context, const struct finding *finding)
{
    struct telling *telling = context;

    if (telling->findings)
        add_finding(telling->findings, finding);
    else
        print_finding(telling, finding);
}

static void show_progress(void *context, uint64_t done, uint64_t total)
{
    struct telling *telling = context;

    progress_show(&telling->progress, done, total);
}

/* --- the verdict --- */

static uint64_t newest_whole(const struct check_result *result)
{
    for (uint32_t i = result->super.generation_count; i-- > 0;)
        if (!(result->damaged >> i & 1) && result->super.generations[i].kind == GENERATION_PROCESS)
            return result->super.generations[i].number;
    return 0;
}

static void print_untold(const struct check_result *result)
{
    for (int kind = 0; kind < FINDING_KINDS; kind++)
        if (result->counts[kind] > FINDING_TELL_MAX)
            printf("... and %" PRIu64 " more of %s\n", result->counts[kind] - FINDING_TELL_MAX,
                   finding_id((enum finding_kind)kind));
}

static void print_verdict(const char *path, const struct check_result *result, uint64_t ns)
{
    char size[32], time[32];
    uint64_t whole = newest_whole(result);
    int damaged = __builtin_popcount(result->damaged);

    print_untold(result);
    printf("%s: %" PRIu32 " generation%s%s, %s checked in %s: ", path, result->generation_count,
           result->generation_count == 1 ? "" : "s",
           result->is_in_use ? " (in use: the newest alone)" : "",
           show_bytes(size, result->checked_bytes), show_ns(time, ns));
    if (result->worst == SEVERITY_NONE)
        printf("fine\n");
    else if (result->worst == SEVERITY_HARMLESS)
        printf("whole; what was found is harmless\n");
    else if (result->super.generation_count == 0)
        printf("damaged: neither superblock is valid\n");
    else if (damaged)
        printf("damaged: %d of them not whole\n", damaged);
    else
        printf("damaged\n");
    if (result->log_is_damaged)
        printf("the log is whole up to record %" PRIu64
               ": what was committed later is lost, unless "
               "a copy of the file has it\n",
               result->log_records);
    if (result->worst == SEVERITY_DAMAGE && whole)
        printf("generation %" PRIu64 " is whole: pheap restore -g %" PRIu64 " %s goes on from it\n",
               whole, whole, path);
    if (result->worst == SEVERITY_DAMAGE && (result->damaged || result->log_is_damaged))
        printf("pheap recover --repair %s says what would make the pool whole\n", path);
}

static void print_json(json_t *findings, const char *path, const struct check_result *result,
                       uint64_t ns)
{
    static const char *const verdicts[] = {"fine", "harmless", "damaged"};
    json_t *generations = json_array(), *counts = json_object(), *object;

    for (uint32_t i = 0; i < result->super.generation_count; i++)
        json_array_append_new(generations,
                              json_pack("{s:I, s:b}", "number",
                                        (json_int_t)result->super.generations[i].number, "whole",
                                        !(result->damaged >> i & 1)));
    for (int kind = 0; kind < FINDING_KINDS; kind++)
        if (result->counts[kind])
            json_object_set_new(counts, finding_id((enum finding_kind)kind),
                                json_integer((json_int_t)result->counts[kind]));
    object = json_pack("{s:s, s:s, s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:O}", "pool", path,
                       "verdict", verdicts[result->worst], "in_use", result->is_in_use, "log_whole",
                       !result->log_is_damaged, "log_records", (json_int_t)result->log_records,
                       "file_bytes", (json_int_t)result->file_bytes, "checked_bytes",
                       (json_int_t)result->checked_bytes, "checked_generations",
                       (json_int_t)result->generation_count, "ns", (json_int_t)ns, "generations",
                       generations, "counts", counts, "findings", findings);
    json_dumpf(object, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(object);
}

int recover_check(const struct recover_request *request)
{
    struct telling telling = {.in_colour = isatty(STDOUT_FILENO) && !getenv("NO_COLOR"),
                              .findings = request->as_json ? json_array() : NULL};
    const struct check_request check = {.path = request->path,
                                        .heaps = request->all ? HEAPS_OF_ALL : HEAP_OF_NEWEST,
                                        .found = tell_finding,
                                        .progress = show_progress,
                                        .context = &telling};
    static struct check_result result;
    struct problem why = {0};
    uint64_t begin_ns = sys_clock_ns(CLOCK_MONOTONIC);
    int status;

    progress_begin(&telling.progress, "checking");
    status = check_pool(&check, &result, &why);
    progress_end(&telling.progress);
    if (status < 0) {
        json_decref(telling.findings);
        return report_problem("recover", request->path, &why);
    }
    if (request->as_json)
        print_json(telling.findings, request->path, &result,
                   sys_clock_ns(CLOCK_MONOTONIC) - begin_ns);
    else
        print_verdict(request->path, &result, sys_clock_ns(CLOCK_MONOTONIC) - begin_ns);
    json_decref(telling.findings);
    return result.worst == SEVERITY_NONE       ? EXIT_FINE
           : result.worst == SEVERITY_HARMLESS ? EXIT_FOUND
                                               : EXIT_DAMAGED;
}

static void keep_quiet(void *context, const struct finding *finding)
{
    (void)context, (void)finding;
}

int recover_check_quietly(const char *path, struct check_result *result, struct problem *why)
{
    struct telling telling = {0};
    const struct check_request check = {.path = path,
                                        .heaps = HEAPS_OF_NONE,
                                        .found = keep_quiet,
                                        .progress = show_progress,
                                        .context = &telling};
    int status;

    progress_begin(&telling.progress, "checking");
    status = check_pool(&check, result, why);
    progress_end(&telling.progress);
    return status;
}
