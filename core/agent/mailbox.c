/*
 * mailbox.c - how the program asks its agent for something: both sides, see struct agent_mailbox.
 *
 * Always true: `answered` grows by one for each answer, and an asker waits for it to differ from
 * what it was when it asked. An image may hold a thread that waits: whoever resumes it answers
 * (mailbox_resume).
 */
#include "core/agent/agent_state.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/wait.h>

#include "core/base/sys.h"

#define LOCK_RETRY_NS 1000000
#define WAIT_SLICE_NS 100000000ull

static bool lock_mailbox(struct agent_mailbox *box, uint64_t deadline_ns)
{
    const struct timespec retry = {0, LOCK_RETRY_NS};
    uint32_t free_word = 0;

    while (!__atomic_compare_exchange_n(&box->lock, &free_word, 1, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED)) {
        free_word = 0;
        if (sys_clock_ns(CLOCK_MONOTONIC) >= deadline_ns)
            return false;
        (void)sys_call(SYS_nanosleep, &retry, 0);
    }
    return true;
}

/* Has it ended, or been killed? Then it is our zombie, and goes here. */
static bool agent_is_gone(struct agent_link *link)
{
    int pid = __atomic_load_n(&link->agent_pid, __ATOMIC_ACQUIRE);

    if (pid > 0 && sys_call(SYS_wait4, pid, 0, WNOHANG | __WALL, 0) == pid)
        __atomic_compare_exchange_n(&link->agent_pid, &pid, 0, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_RELAXED);
    return __atomic_load_n(&link->agent_pid, __ATOMIC_ACQUIRE) <= 0;
}

/* *generation is that of the answer, if it is an answer to CONTROL_CHECKPOINT. */
static int ask(struct agent_link *link, uint32_t kind, uint64_t start, uint64_t end, int timeout_ms,
               uint64_t *generation)
{
    const struct timespec slice = {0, WAIT_SLICE_NS};
    struct agent_mailbox *box = &link->mailbox;
    uint64_t deadline_ns =
        sys_clock_ns(CLOCK_MONOTONIC) + (uint64_t)(timeout_ms < 0 ? 0 : timeout_ms) * 1000000;
    uint32_t before;
    int status = -ETIMEDOUT;

    if (agent_is_gone(link))
        return -ESRCH;
    if (!lock_mailbox(box, deadline_ns))
        return -ETIMEDOUT;
    before = __atomic_load_n(&box->answered, __ATOMIC_ACQUIRE);
    box->start = start;
    box->end = end;
    __atomic_store_n(&box->kind, kind, __ATOMIC_RELEASE);
    /* Refused after a change of user: then the agent sees it at its next tick. */
    (void)sys_call(SYS_kill, link->agent_pid, SIGURG);
    while (__atomic_load_n(&box->answered, __ATOMIC_ACQUIRE) == before &&
           sys_clock_ns(CLOCK_MONOTONIC) < deadline_ns && !agent_is_gone(link))
        (void)sys_call(SYS_futex, &box->answered, FUTEX_WAIT_PRIVATE, before, &slice, 0, 0);
    if (__atomic_load_n(&box->answered, __ATOMIC_ACQUIRE) != before)
        status = box->status;
    else if (agent_is_gone(link))
        status = -ESRCH;
    *generation = box->generation;
    __atomic_store_n(&box->kind, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&box->lock, 0, __ATOMIC_RELEASE);
    return status;
}

int agent_request(struct agent_link *link, uint32_t kind, uint64_t start, uint64_t end,
                  int timeout_ms)
{
    uint64_t ignored;

    return ask(link, kind, start, end, timeout_ms, &ignored);
}

int64_t agent_checkpoint(struct agent_link *link, int timeout_ms)
{
    uint64_t generation = 0;
    int status = ask(link, CONTROL_CHECKPOINT, 0, 0, timeout_ms, &generation);

    return status < 0 ? status : (int64_t)generation;
}

static void answer(struct agent_mailbox *box, int status, uint64_t generation)
{
    box->status = status;
    box->generation = generation;
    __atomic_store_n(&box->kind, 0, __ATOMIC_RELEASE);
    __atomic_add_fetch(&box->answered, 1, __ATOMIC_RELEASE);
    (void)sys_call(SYS_futex, &box->answered, FUTEX_WAKE_PRIVATE, INT32_MAX, 0, 0, 0);
}

void mailbox_answer(struct agent *agent, int status)
{
    agent->mailbox_waits = false;
    answer(&agent->link->mailbox, status, agent->link->committed_generation);
}

void mailbox_serve(struct agent *agent)
{
    struct agent_mailbox *box = &agent->link->mailbox;

    switch (__atomic_load_n(&box->kind, __ATOMIC_ACQUIRE)) {
    case 0:
        agent->mailbox_waits = false; /* gave up */
        break;
    case CONTROL_UNTRACK:
        image_writer_untrack(agent->writer, box->start, box->end);
        mailbox_answer(agent, 0);
        break;
    case CONTROL_CHECKPOINT:
        if (!agent->mailbox_waits)
            agent->mailbox_deadline_ns = sys_clock_ns(CLOCK_MONOTONIC) + CHECKPOINT_PATIENCE_NS;
        agent->mailbox_waits = agent->requested = true;
        break;
    default:
        mailbox_answer(agent, STATUS_USAGE);
    }
}

void mailbox_resume(struct agent_link *link)
{
    if (link->mailbox.kind != 0)
        /* nothing is tracked now; the checkpoint asked for is this one */
        answer(&link->mailbox, 0, link->resumed_generation);
}
