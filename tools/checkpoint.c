/*
 * checkpoint.c - pheap checkpoint: asks the agent of a running program for a generation now.
 * True always: a number on stdout is the number of a generation that is durable.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tools/command.h"
#include "tools/next_option.h"
#include "tools/pool_state.h"

#define DEFAULT_TIMEOUT_SEC 60

static int help(void)
{
    printf("usage: pheap checkpoint [-t SECONDS] [--pin] [--self-contained] [--json] POOL|PID\n\n"
           "Takes a checkpoint of the program that runs on POOL (or that is PID) now, waits until\n"
           "it is durable and prints its number.\n\n"
           "  -t, --timeout SECONDS   give up waiting after this long (%d)\n"
           "      --pin               keep it until pheap recover --unpin\n"
           "      --self-contained    this generation and all later ones have the pages of mapped\n"
           "                          files: a restore needs none of them\n"
           "      --json              one object, for programs\n"
           "      --help, --version\n",
           DEFAULT_TIMEOUT_SEC);
    return EXIT_FINE;
}

static void print_answer(const struct control_answer *answer, bool as_json)
{
    char size[32], pause[32];

    if (as_json) {
        json_t *object = json_pack(
            "{s:I, s:I, s:I, s:I, s:I, s:i}", "generation", (json_int_t)answer->generation,
            "written_bytes", (json_int_t)answer->written_bytes, "page_bytes",
            (json_int_t)answer->page_bytes, "rewritten_bytes", (json_int_t)answer->rewritten_bytes,
            "pause_ns", (json_int_t)answer->pause_ns, "pid", pool_state_outer_pid(answer));

        json_dumpf(object, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(object);
        return;
    }
    printf("generation %" PRIu64 ": %s written, paused %s\n", answer->generation,
           show_bytes(size, answer->written_bytes), show_ns(pause, answer->pause_ns));
}

static int ask(const struct pool_state *state, uint64_t pid, int timeout_ms, uint32_t flags,
               struct control_answer *answer, struct problem *why)
{
    const struct control_request request = {.kind = CONTROL_CHECKPOINT, .flags = flags};
    struct control_answer who;
    int status;

    if (pid && pool_state_agent(state, &who) && (uint64_t)pool_state_outer_pid(&who) != pid)
        return problem_set(why, STATUS_REFUSED,
                           "process %llu has no pool of its own: %s belongs to pid %d",
                           (unsigned long long)pid, state->path, pool_state_outer_pid(&who));
    if (pool_state_is_opened(state))
        return problem_set(why, STATUS_REFUSED,
                           "%s: a heap that programs open by themselves; the one that has it open "
                           "takes its checkpoints (pheap_heap_checkpoint)",
                           state->path);
    status = control_ask(state->super.uuid, &request, answer, timeout_ms);
    if (status == -ECONNREFUSED)
        return problem_set(why, STATUS_REFUSED,
                           "%s: no program runs on it; start one with pheap run", state->path);
    if (status == -ETIMEDOUT)
        return problem_set(why, STATUS_DEFERRED, "%s: no answer within %d s; try again, or see -t",
                           state->path, timeout_ms / 1000);
    if (status == -ECONNRESET || status == -EPIPE)
        return problem_set(why, STATUS_REFUSED,
                           "%s: the program ended before the checkpoint was taken", state->path);
    if (status < 0)
        return problem_set(why, status, "%s: cannot ask its agent: %s", state->path,
                           status_text(status));
    if (answer->status < 0) {
        answer->text[sizeof answer->text - 1] = 0;
        return problem_set(why, answer->status, "%s: %s", state->path,
                           answer->text[0] ? answer->text : status_text(answer->status));
    }
    return 0;
}

static int checkpoint(const char *target, int timeout_ms, uint32_t flags, bool as_json)
{
    struct control_answer answer;
    struct pool_state state;
    struct problem why = {0};
    char path[4096];
    uint64_t pid = 0;

    if (pool_state_target(target, path, &pid, &why) < 0 ||
        pool_state_read(path, &state, &why) < 0 ||
        ask(&state, pid, timeout_ms, flags, &answer, &why) < 0)
        return report_problem("checkpoint", NULL, &why);
    print_answer(&answer, as_json);
    return EXIT_FINE;
}

int command_checkpoint(int argc, char **argv)
{
    static const struct option options[] = {{"timeout", required_argument, NULL, 't'},
                                            {"pin", no_argument, NULL, 'p'},
                                            {"self-contained", no_argument, NULL, 's'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'V'},
                                            {0}};
    uint64_t timeout_sec = DEFAULT_TIMEOUT_SEC;
    bool as_json = false;
    uint32_t flags = 0;
    int option;

    while ((option = next_option("checkpoint", argc, argv, ":t:h", options)) != -1) {
        switch (option) {
        case 't':
            if (parse_number(optarg, 1, 1000000, &timeout_sec) < 0)
                return report_usage("checkpoint", "-t takes a number of seconds, from 1");
            break;
        case 'p':
            flags |= CONTROL_PIN_IT;
            break;
        case 's':
            flags |= CONTROL_CARRY_FILES;
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
    if (argc - optind != 1)
        return report_usage("checkpoint", "expected one argument, the pool or the program's pid");
    return checkpoint(argv[optind], (int)timeout_sec * 1000, flags, as_json);
}
