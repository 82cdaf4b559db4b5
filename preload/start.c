/*
 * start.c - libpheap's constructor: whose is the pool, and the agent's start; and the same after a
 * restore.
 *
 * Always true: whatever fails here costs one line on stderr, and the program runs on with a
 * volatile heap. A process that is not the pool's owner says nothing at all. With raised
 * privileges (AT_SECURE) the environment is not listened to.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/agent/control.h"
#include "core/base/format_text.h"
#include "core/base/limits.h"
#include "core/base/options.h"
#include "core/base/sys.h"
#include "core/heap/heap.h"
#include "core/pool/pool.h"
#include "core/process/capture.h"
#include "core/process/seccomp_filter.h"
#include "core/process/proc_text.h"
#include "preload/program.h"

#define RSEQ_SIGNATURE       0x53053053u /* glibc's, on x86 */
#define RSEQ_BYTES_MIN       32u         /* as it registers at least */
#define START_TIME_FIELD     22          /* of /proc/self/stat */
#define STATUS_BYTES         4096
#define STAT_BYTES           1024
#define ASK_TIMEOUT_MS       500
#define TAKE_OVER_TIMEOUT_MS 2000

/* Defined by pheap's own tools: they look at pools, and own none. */
extern const int pheap_is_tool __attribute__((weak, visibility("default")));

long pheap_resume_entry(const struct resume_arguments *arguments);

struct program program;

/* What is put into the environment lives here, so that a resume can correct it in place. */
static char owner_text[64], generation_text[64], slot_text[32], pool_text[AGENT_PATH_BYTES + 16];

void program_say(const char *text)
{
    char line[PROBLEM_TEXT_BYTES + 16];
    size_t length = format_text(line, sizeof line, "pheap: %s\n", text);

    (void)sys_write(2, line, length);
}

bool program_owns_pool(void)
{
    return program.owner_pid != 0 && program.owner_pid == sys_getpid();
}

/* ---- who owns the pool ------------------------------------------------------------------- */

static uint64_t start_time(void)
{
    char stat[STAT_BYTES];
    const char *at;
    uint64_t value = 0;

    if (sys_read_file("/proc/self/stat", stat, sizeof stat) <= 0)
        return 0;
    at = strrchr(stat, ')'); /* field 2, the name, may hold anything */
    for (int field = 2; at && field < START_TIME_FIELD; field++)
        at = strchr(at + 1, ' ');
    for (at = at ? at + 1 : ""; *at >= '0' && *at <= '9'; at++)
        value = value * 10 + (uint64_t)(*at - '0');
    return value;
}

static uint32_t seccomp_filters(void)
{
    char status[STATUS_BYTES];

    return sys_read_file("/proc/self/status", status, sizeof status) > 0
               ? proc_seccomp_filters(status)
               : 0;
}

static void write_owner(void)
{
    format_text(owner_text, sizeof owner_text, "PHEAP_OWNER=%d:%lu:%u", sys_getpid(), start_time(),
                program.link.inherited_filters);
}

static void write_generation(uint64_t number)
{
    format_text(generation_text, sizeof generation_text, "PHEAP_GENERATION=%lu", number);
}

static bool ask(const uint8_t uuid[16], uint32_t kind, struct control_answer *answer)
{
    const struct control_request request = {.kind = kind};
    int timeout_ms = kind == CONTROL_TAKE_OVER ? TAKE_OVER_TIMEOUT_MS : ASK_TIMEOUT_MS;

    return control_ask(uuid, &request, answer, timeout_ms) == 0;
}

/* A process that was restored keeps its pid but not its start time: what it execs is known to the
 * agent of its pool. */
static bool agent_knows_us(const char *path)
{
    struct control_answer answer;
    struct problem ignored;
    struct pool pool;
    bool known;

    if (pool_open(&pool, path, POOL_READ, &ignored) < 0)
        return false;
    known = ask(pool.super.uuid, CONTROL_STATUS, &answer) && answer.pid == sys_getpid();
    pool_close(&pool);
    return known;
}

enum ownership { OWNER_OTHER, OWNER_US, OWNER_CLAIMED };

static enum ownership whose_pool(const struct environment_options *options, const char *path)
{
    struct options_owner owner;

    if (!options->owner || !*options->owner) {
        program.link.inherited_filters = seccomp_filters();
        return OWNER_CLAIMED;
    }
    if (options_owner(options->owner, &owner) < 0 || owner.pid != sys_getpid())
        return OWNER_OTHER;
    if (owner.start_time != start_time() && !agent_knows_us(path))
        return OWNER_OTHER;
    program.link.inherited_filters = (uint32_t)owner.filters;
    return OWNER_US;
}

/* Children find an owner that is not them; a program that this one execs finds itself. */
static void mark_environment(bool relative, bool slot_unset)
{
    write_owner();
    environment_put(owner_text);
    write_generation(0);
    environment_put(generation_text);
    environment_remove("PHEAP_FRESH");
    if (relative) {
        format_text(pool_text, sizeof pool_text, "PHEAP_POOL=%s", program.link.pool_path);
        environment_put(pool_text);
    }
    if (slot_unset) {
        format_text(slot_text, sizeof slot_text, "PHEAP_SLOT=%u", heap_slot());
        environment_put(slot_text);
    }
}

/* ---- the pool ---------------------------------------------------------------------------- */

static int absolute_path(char path[AGENT_PATH_BYTES], const char *given, struct problem *why)
{
    char directory[AGENT_PATH_BYTES];
    size_t length;

    directory[0] = 0;
    if (given[0] != '/' && sys_call(SYS_getcwd, directory, sizeof directory) < 0)
        return problem_set(why, -ENOENT,
                           "%s: the current directory has no path; give PHEAP_POOL "
                           "as an absolute one",
                           given);
    length =
        format_text(path, AGENT_PATH_BYTES, "%s%s%s", directory, directory[0] ? "/" : "", given);
    if (length >= AGENT_PATH_BYTES - 1)
        return problem_set(why, -ENAMETOOLONG, "PHEAP_POOL is longer than %u bytes",
                           AGENT_PATH_BYTES - 2);
    return 0;
}

/* The newest process generation of a run that did not end, or NULL. */
static const struct generation_entry *resumable(const struct superblock *super)
{
    for (uint32_t i = super->generation_count; i-- > 0;) {
        const struct generation_entry *entry = &super->generations[i];

        if (super->run_state == RUN_STARTED && entry->kind == GENERATION_PROCESS &&
            entry->number >= super->run_first_generation)
            return entry;
    }
    return NULL;
}

static int check_resumable(const struct pool *pool, struct problem *why)
{
    const struct generation_entry *entry = resumable(&pool->super);
    struct control_answer answer;

    if (!entry)
        return 0;
    if (ask(pool->super.uuid, CONTROL_STATUS, &answer) && answer.status == 0 &&
        answer.pid != sys_getpid())
        return problem_set(why, STATUS_IN_USE,
                           "%s is in use by process %d; this program's heap is volatile",
                           pool->path, answer.pid);
    return problem_set(why, STATUS_REFUSED,
                       "%s has a program to resume (generation %lu): pheap run --resume, or "
                       "--fresh to drop it; this program's heap is volatile",
                       pool->path, entry->number);
}

/* The agent of the program that was here before exec. It is our child and would stay a zombie. */
static void take_over(const struct pool *pool)
{
    struct control_answer answer;

    if (ask(pool->super.uuid, CONTROL_TAKE_OVER, &answer) && answer.status == 0)
        (void)sys_call(SYS_wait4, answer.agent_pid, 0, __WALL, 0);
}

/* A limit on the size of files is an error of the write: its signal, which would end the program,
 * is taken back. */
static int make_pool(const char *path, uint32_t keep, struct problem *why)
{
    const uint64_t too_large = 1ull << (SIGXFSZ - 1);
    const struct timespec at_once = {0, 0};
    uint64_t before = too_large;
    int status;

    (void)sys_call(SYS_rt_sigprocmask, SIG_BLOCK, &too_large, &before, sizeof before);
    status = pool_create(path, heap_slot(), keep, why);
    if (status < 0)
        limit_explain(why);
    if (status == -EFBIG && !(before & too_large))
        (void)sys_call(SYS_rt_sigtimedwait, &too_large, 0, &at_once, sizeof too_large);
    (void)sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &before, 0, sizeof before);
    return status;
}

/* Makes the pool if there is none, and sees whether it is ours to use. */
static int look_at_pool(const struct environment_options *options, enum ownership ownership,
                        struct problem *why)
{
    const char *path = program.link.pool_path;
    struct pool pool;
    int status = pool_open(&pool, path, POOL_READ, why);

    if (status == -ENOENT) {
        status = make_pool(path, options->keep ? options->keep : OPTIONS_KEEP_DEFAULT, why);
        return status == -EEXIST ? 0 : status; /* the agent will find whose it is */
    }
    if (status < 0)
        return status;
    if (ownership == OWNER_CLAIMED && !options->fresh)
        status = check_resumable(&pool, why);
    else if (ownership == OWNER_US)
        take_over(&pool);
    pool_close(&pool);
    return status;
}

/* Since glibc 2.35; a program that registers sequences of its own has switched libc's off. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned __rseq_size __attribute__((weak));

static struct capture_rseq libc_rseq(void)
{
    struct capture_rseq rseq = {0, 0, RSEQ_SIGNATURE};

    if (&__rseq_offset && &__rseq_size && __rseq_size) {
        rseq.offset = __rseq_offset;
        rseq.bytes = __rseq_size > RSEQ_BYTES_MIN ? __rseq_size : RSEQ_BYTES_MIN;
    }
    return rseq;
}

/* A program that this one has execed finds the filter there. */
static void deny_io_uring(void)
{
    bool is_there = seccomp_filters() > program.link.inherited_filters;
    int status = is_there ? 0 : filter_install();
    char line[160];

    program.link.denies_io_uring = status == 0;
    if (status == 0)
        return;
    format_text(line, sizeof line, "--deny io_uring: seccomp: %s; the program may use it",
                status_text(status));
    program_say(line);
}

static int start_owner(const struct environment_options *options, enum ownership ownership,
                       struct problem *why)
{
    struct agent_link *link = &program.link;
    int status = look_at_pool(options, ownership, why);

    if (status < 0)
        return status;
    if (!pool_slot_is_valid(heap_slot()))
        return problem_set(why, STATUS_LIMIT,
                           "the heap could not be placed in a slot of its own (address space "
                           "limited?); it is volatile");
    link->interval_ns = options->interval_ns;
    link->dirty_bytes = options->dirty_bytes;
    link->keep = options->keep;
    link->slot = heap_slot();
    link->track = options->track;
    link->checks_cuts = options->checks_cuts;
    link->by_signal = options->by_signal;
    link->rseq = libc_rseq();
    link->at_exit = options->at_exit;
    link->omits_crash = options->omits_crash;
    link->files_bytes = options->files_bytes;
    link->self_contained = options->self_contained;
    link->keeps_connections = options->tcp_established;
    link->ignores_children = options->ignores_children;
    link->run_goes_on = ownership == OWNER_US && !options->fresh;
    link->resume_entry = (uintptr_t)pheap_resume_entry;
    why->text[0] = 0;
    if (options->denies_io_uring)
        deny_io_uring();
    program_find_pmem(link->pool_path, &link->pmem);
    status = agent_start(link, why);
    if (status < 0) {
        limit_explain(why);
        return status;
    }
    program.owner_pid = sys_getpid();
    program_watch_exit();
    if (options->on_term)
        program_watch_term();
    return 0;
}

__attribute__((constructor)) static void start(void)
{
    struct environment_options options;
    struct problem why = {0, ""};
    enum ownership ownership;

    program_watch_forks();
    if (getauxval(AT_SECURE) || (&pheap_is_tool && pheap_is_tool))
        return;
    if (options_from_environment(&options, environ, &why) < 0 && options.pool)
        program_say(why.text);
    if (options.deepbind)
        program_keep_deepbind();
    if (options.harden && program_start_heap())
        program_explain_faults();
    if (options.profile_bytes)
        program_profile(options.profile_bytes);
    if (options.stats)
        program_print_statistics_at_exit();
    if (!options.pool)
        return;
    (void)program_start_heap(); /* the program may have a malloc of its own */
    if (absolute_path(program.link.pool_path, options.pool, &why) < 0) {
        program_say(why.text);
        return;
    }
    ownership = whose_pool(&options, program.link.pool_path);
    if (ownership == OWNER_OTHER)
        return;
    mark_environment(options.pool[0] != '/', !options_variable(environ, "PHEAP_SLOT"));
    if (start_owner(&options, ownership, &why) < 0 || why.text[0])
        program_say(why.text);
}

/* ---- after a restore --------------------------------------------------------------------- */

/* The signal waits until the program goes on: all are blocked now. */
static void tell_resumed(uint64_t generation)
{
    siginfo_t info = {0};

    if (program.resume_signal == 0)
        return;
    info.si_code = SI_QUEUE;
    info.si_pid = sys_getpid();
    info.si_uid = (uid_t)sys_call(SYS_getuid);
    info.si_value.sival_int = (int)generation;
    (void)sys_call(SYS_rt_sigqueueinfo, sys_getpid(), program.resume_signal, &info);
}

/*
 * Called by pheap-restore in the leader, while every thread is stopped and registers are not yet
 * the program's: raw system calls only.
 */
long pheap_resume_entry(const struct resume_arguments *arguments)
{
    struct agent_link *link = &program.link;
    struct problem why = {0, ""};
    int status;

    heap_note_restored();
    program.restored = true;
    program.owner_pid = sys_getpid();
    link->inherited_filters = seccomp_filters() - (link->denies_io_uring ? 1 : 0);
    write_owner();
    program_note_stderr();
    format_text(link->pool_path, sizeof link->pool_path, "%s", arguments->pool_path);
    link->resumed_generation = arguments->generation;
    write_generation(arguments->generation);
    tell_resumed(arguments->generation);
    link->run_goes_on = 1;
    status = agent_start(link, &why);
    if (status < 0)
        limit_explain(&why);
    if (why.text[0])
        program_say(why.text);
    return status;
}
