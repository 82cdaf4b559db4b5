/*
 * recover.c - pheap recover: the command line; generations pinned, unpinned, dropped.
 *
 * True always: while a program runs on the pool its agent makes the change, so that there is one
 * writer; else this process takes the writer's lock. What is reported as done is durable.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "core/base/arena.h"
#include "tools/command.h"
#include "tools/next_option.h"
#include "tools/pool_state.h"
#include "tools/recover.h"

#define ARENA_BYTES   (16ull << 30) /* reserved, not used: the frames of very large pools */
#define TIMEOUT_MSEC  60000         /* the agent may be in the middle of a checkpoint */
#define CHANGES_COUNT 3

/* In the order of enum action. */
static const struct change {
    uint32_t request;
    const char *done;
} changes[CHANGES_COUNT] = {
    {CONTROL_PIN, "pinned"},
    {CONTROL_UNPIN, "unpinned"},
    {CONTROL_DROP, "dropped"},
};

static int help(void)
{
    printf(
        "usage: pheap recover --check [--all] [--json] POOL\n"
        "       pheap recover --pin N|--unpin N|--drop N POOL\n"
        "       pheap recover --repair [--yes] POOL\n"
        "       pheap recover --rollback N [--drop-log] [--yes] POOL\n"
        "       pheap recover --collect [--dry-run] [--json] POOL\n"
        "       pheap recover --salvage DIR [-g N] POOL\n"
        "       pheap recover --compact [-o FILE] POOL\n"
        "       pheap recover --clone FILE [--slot N] POOL\n"
        "       pheap recover --resolve commit|abort POOL\n\n"
        "Says whether POOL is whole, changes which generations it keeps (pheap inspect POOL\n"
        "generations lists them), or copies them. The first two work while a program runs on it.\n"
        "\n"
        "      --check     look at every byte that a generation needs; exit status 0: fine,\n"
        "                  1: something harmless was found, 4: damaged. In a pool that is in use\n"
        "                  the newest generation alone\n"
        "      --all       with --check: look into the heap of every generation\n"
        "      --json      with --check and --collect: one object, for programs\n"
        "      --pin N     keep generation N until it is unpinned; at most %u are\n"
        "      --unpin N   let it go when newer ones have taken its place\n"
        "      --drop N    drop it now and give its space back; not the one that the program\n"
        "                  would be resumed from, or that a heap's log follows\n"
        "      --repair    say what would make POOL whole again; with --yes do it: generations\n"
        "                  that are not whole are given up, the superblocks saved in POOL.backup\n"
        "      --rollback N   make generation N the newest, so that its program goes on from it:\n"
        "                  newer ones are given up, after it was checked that N is whole\n"
        "      --drop-log  ... and the transactions in the log of an opened heap\n"
        "      --yes       give them up without asking\n"
        "      --collect   free what nothing leads to in a heap that programs open by themselves\n"
        "  -n, --dry-run   ... only say how much that is\n"
        "      --salvage DIR   write all that can still be read of POOL, whatever its damage, "
        "into\n"
        "                  files in DIR, which is made; -g N: of generation N alone\n"
        "      --compact   write what POOL keeps anew, without gaps, and put that in its place\n"
        "  -o, --output FILE   ... or into FILE, which must not exist\n"
        "      --clone FILE   copy POOL to FILE as a pool of its own, with another identity\n"
        "      --slot N    ... whose heap lies in slot N: refused while anything in it is an "
        "address\n                  that is not known to be a pointer\n"
        "      --resolve commit|abort   a heap in doubt, for the pool that decides about a\n"
        "                  transaction is gone for good: say what became of it\n"
        "      --help, --version\n",
        POOL_PINNED_MAX);
    return EXIT_FINE;
}

/* -ECONNREFUSED: no agent, or one that is about to end. */
static int ask_agent(const struct pool_state *state, const struct change *change, uint64_t number,
                     struct problem *why)
{
    const struct control_request request = {.kind = change->request, .start = number};
    struct control_answer answer;
    int status = control_ask(state->super.uuid, &request, &answer, TIMEOUT_MSEC);

    if (status == -ECONNRESET || status == -EPIPE || (status == 0 && answer.status == STATUS_ENDED))
        return -ECONNREFUSED;
    if (status == -ETIMEDOUT)
        return problem_set(why, STATUS_DEFERRED,
                           "%s: its program's agent does not answer; try again", state->path);
    if (status < 0)
        return problem_set(why, status, "%s: cannot ask its program's agent: %s", state->path,
                           status_text(status));
    return answer.status < 0 ? problem_set(why, answer.status, "%s", answer.text) : 0;
}

static int drop(struct pool *pool, uint64_t number, struct problem *why)
{
    struct arena arena;
    int status = arena_create(&arena, ARENA_BYTES);

    if (status < 0)
        return problem_set(why, status, "cannot reserve memory: %s", status_text(status));
    status = pool_load(pool, &arena, 0, why);
    if (status == 0 && why->status < 0) /* it has given up a damaged one, in memory */
        status = why->status;
    if (status == 0)
        status = pool_drop(pool, number, why);
    arena_destroy(&arena);
    return status;
}

static int change_pool(struct pool_state *state, const struct change *change, uint64_t number,
                       struct problem *why)
{
    static struct pool pool;
    int status = pool_state_wait_free(state, why);

    if (status == 0)
        status = pool_open(&pool, state->path, POOL_WRITE, why);
    if (status < 0)
        return status;
    if (change->request == CONTROL_DROP)
        status = drop(&pool, number, why);
    else
        status = pool_pin(&pool, number, change->request == CONTROL_PIN, why);
    pool_close(&pool);
    return status;
}

static int change(const struct recover_request *request, const struct change *change)
{
    static struct pool_state state;
    struct problem why = {0};
    int status = pool_state_read(request->path, &state, &why);

    if (status == 0)
        status = ask_agent(&state, change, request->number, &why);
    if (status == -ECONNREFUSED)
        status = change_pool(&state, change, request->number, &why);
    if (status < 0)
        return report_problem("recover", request->path, &why);
    printf("generation %" PRIu64 ": %s\n", request->number, change->done);
    return EXIT_FINE;
}

/* --- the command line --- */

enum action {
    PIN,
    UNPIN,
    DROP,
    ROLLBACK,
    CHECK,
    REPAIR,
    COMPACT,
    CLONE,
    SALVAGE,
    COLLECT,
    RESOLVE,
    NOTHING
};
#define ACTIONS_TEXT                                                                               \
    "--check, --pin, --unpin, --drop, --repair, --rollback, --compact, --clone, --salvage, "       \
    "--collect, --resolve"

static int run(const struct recover_request *request, enum action action)
{
    switch (action) {
    case CHECK:
        return recover_check(request);
    case ROLLBACK:
        return recover_rollback(request);
    case REPAIR:
        return recover_repair(request);
    case COLLECT:
        return recover_collect(request);
    case SALVAGE:
        return recover_salvage(request);
    case COMPACT:
    case CLONE:
        return recover_copy(request);
    case RESOLVE:
        return recover_resolve(request);
    case NOTHING:
        return report_usage("recover", "expected one of " ACTIONS_TEXT);
    default:
        return change(request, &changes[action]);
    }
}

/* An option that says what to do. 0, or an exit status. */
static int choose(struct recover_request *request, enum action *chosen, int option)
{
    if (*chosen != NOTHING)
        return report_usage("recover", "one at a time of " ACTIONS_TEXT);
    *chosen = (enum action)option;
    if (*chosen == CLONE)
        request->clone = optarg;
    if (*chosen == SALVAGE)
        request->directory = optarg;
    request->commits = *chosen == RESOLVE && strcmp(optarg, "commit") == 0;
    if (*chosen == RESOLVE && !request->commits && strcmp(optarg, "abort") != 0)
        return report_usage("recover", "expected --resolve commit or --resolve abort");
    if (*chosen <= ROLLBACK && parse_number(optarg, 1, UINT64_MAX - 1, &request->number) < 0)
        return report_usage("recover", "expected the number of a generation, from 1");
    return 0;
}

/* An option that says how. False: it is none. */
static bool set_option(struct recover_request *request, int option)
{
    switch (option) {
    case 'a':
        return request->all = true;
    case 'j':
        return request->as_json = true;
    case 'n':
        return request->dry_run = true;
    case 'y':
        return request->yes = true;
    case 'l':
        return request->drops_log = true;
    case 'o':
        request->output = optarg;
        return true;
    default:
        return false;
    }
}

/* What does not go with the action; NULL: nothing. */
static const char *misuse(const struct recover_request *request, enum action action)
{
    if (request->all && action != CHECK)
        return "--all goes with --check";
    if (request->as_json && action != CHECK && action != COLLECT)
        return "--json goes with --check and --collect";
    if (request->dry_run && action != COLLECT)
        return "--dry-run goes with --collect";
    if (request->output && action != COMPACT)
        return "-o goes with --compact";
    if (request->slot && action != CLONE)
        return "--slot goes with --clone";
    if (request->generation && action != SALVAGE)
        return "-g goes with --salvage";
    if (request->drops_log && action != ROLLBACK)
        return "--drop-log goes with --rollback";
    if (request->yes && action != ROLLBACK && action != REPAIR)
        return "--yes goes with --repair and --rollback";
    return NULL;
}

static const struct option options[] = {{"pin", required_argument, NULL, PIN},
                                        {"unpin", required_argument, NULL, UNPIN},
                                        {"drop", required_argument, NULL, DROP},
                                        {"rollback", required_argument, NULL, ROLLBACK},
                                        {"check", no_argument, NULL, CHECK},
                                        {"repair", no_argument, NULL, REPAIR},
                                        {"compact", no_argument, NULL, COMPACT},
                                        {"clone", required_argument, NULL, CLONE},
                                        {"salvage", required_argument, NULL, SALVAGE},
                                        {"collect", no_argument, NULL, COLLECT},
                                        {"resolve", required_argument, NULL, RESOLVE},
                                        {"dry-run", no_argument, NULL, 'n'},
                                        {"slot", required_argument, NULL, 's'},
                                        {"generation", required_argument, NULL, 'g'},
                                        {"all", no_argument, NULL, 'a'},
                                        {"json", no_argument, NULL, 'j'},
                                        {"yes", no_argument, NULL, 'y'},
                                        {"drop-log", no_argument, NULL, 'l'},
                                        {"output", required_argument, NULL, 'o'},
                                        {"help", no_argument, NULL, 'h'},
                                        {"version", no_argument, NULL, 'V'},
                                        {0}};

/* 0, or an exit status. */
static int take_option(struct recover_request *request, enum action *action, int option)
{
    if (option == '?')
        return EXIT_USAGE;
    if (option == 's')
        return parse_number(optarg, 1, 50, &request->slot) < 0
                   ? report_usage("recover", "--slot takes a number from 1 to 50")
                   : 0;
    if (option == 'g')
        return parse_number(optarg, 1, UINT64_MAX - 1, &request->generation) < 0
                   ? report_usage("recover", "-g takes the number of a generation, from 1")
                   : 0;
    return set_option(request, option) ? 0 : choose(request, action, option);
}

int command_recover(int argc, char **argv)
{
    struct recover_request request = {0};
    enum action action = NOTHING;
    int option, status;

    while ((option = next_option("recover", argc, argv, ":ho:g:n", options)) != -1) {
        if (option == 'h')
            return help();
        if (option == 'V') {
            print_version();
            return EXIT_FINE;
        }
        status = take_option(&request, &action, option);
        if (status != 0)
            return status;
    }
    if (misuse(&request, action))
        return report_usage("recover", misuse(&request, action));
    if (action != NOTHING && argc - optind != 1)
        return report_usage("recover", "expected one argument, the pool");
    request.path = argv[optind];
    return run(&request, action);
}
