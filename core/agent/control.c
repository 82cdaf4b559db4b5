/*
 * control.c - the agent's side of the control socket, see control.h.
 *
 * Always true: nothing here waits. A client that sends nothing, or does not read, costs a slot
 * until the next one needs it. A request from another user is dropped unread.
 */
#include "core/agent/agent_state.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "core/agent/control_name.h"
#include "core/agent/tasks.h"
#include "core/base/format_text.h"
#include "core/base/sys.h"

void control_listen(struct agent *agent)
{
    struct sockaddr_un address;
    uint32_t bytes = control_address(&address, agent->pool.super.uuid);
    int fd = (int)sys_call(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    for (int i = 0; i < AGENT_CLIENTS; i++)
        agent->clients[i].fd = -1;
    if (fd >= 0 && (sys_call(SYS_bind, fd, &address, bytes) < 0 ||
                    sys_call(SYS_listen, fd, AGENT_CLIENTS) < 0)) {
        sys_close(fd);
        fd = -1; /* somebody has taken the name: checkpoints go on, only nobody can ask */
    }
    agent->listen_fd = fd;
}

static void drop_client(struct agent_client *client)
{
    sys_close(client->fd);
    client->fd = -1;
    client->wants_checkpoint = client->wants_pin = client->wants_pool = false;
}

static bool peer_of(int fd, struct ucred *peer)
{
    uint32_t bytes = sizeof *peer;

    return sys_call(SYS_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, peer, &bytes) == 0 &&
           (peer->uid == 0 || peer->uid == (uint32_t)sys_call(SYS_geteuid));
}

/* A free slot; else one whose client has not asked for anything yet. */
static struct agent_client *client_slot(struct agent *agent)
{
    int most = allowance_clients(&agent->allowance, AGENT_CLIENTS);

    for (int i = 0; i < most; i++)
        if (agent->clients[i].fd < 0)
            return &agent->clients[i];
    for (int i = 0; i < most; i++)
        if (!agent->clients[i].wants_checkpoint) {
            drop_client(&agent->clients[i]);
            return &agent->clients[i];
        }
    return NULL;
}

static void take_client(struct agent *agent, int fd)
{
    struct agent_client *slot = NULL;
    struct ucred peer;

    if (peer_of(fd, &peer))
        slot = client_slot(agent);
    if (slot)
        slot->fd = fd;
    else
        sys_close(fd);
}

/* One that cannot be accepted (no descriptor is free in the system, no memory) stays, and would
 * have the loop run in circles: it is looked at again after a while. */
static void accept_all(struct agent *agent)
{
    long fd = -EAGAIN;

    while (agent->listen_fd >= 0 &&
           (fd = sys_call(SYS_accept4, agent->listen_fd, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
        take_client(agent, (int)fd);
    agent->listener_rests = fd != -EAGAIN && fd != -EINTR && fd != -ECONNABORTED;
}

/* How dirty pages are found; and, where the kernel lacks something, what. */
static void describe_tracking(const struct agent *agent, char *text, size_t size)
{
    const struct kernel_features *features = &agent->features;
    const char *tracking = image_writer_tracking(agent->writer);

    if (agent->link->track != TRACKING_BEST ||
        (features->userfaultfd_wp_async && features->pagemap_scan))
        format_text(text, size, "%s", tracking);
    else if (features->pagemap_scan)
        format_text(text, size, "%s (no userfaultfd: %s)", tracking,
                    status_text(features->userfaultfd_error));
    else
        format_text(text, size, "%s (no PAGEMAP_SCAN: %s)", tracking,
                    status_text(features->pagemap_scan_error));
}

static void answer(struct agent *agent, struct agent_client *client, int status, const char *text)
{
    struct control_answer reply = {
        .status = status,
        .pid = agent->program_pid,
        .generation = agent->link->committed_generation,
        .pause_ns = agent->last_pause_ns,
        .written_bytes = agent->last_written_bytes,
        .page_bytes = agent->last_page_bytes,
        .rewritten_bytes = agent->last_rewritten_bytes,
        .checkpoints = agent->checkpoints,
        .deferred = agent->deferred_total,
        .agent_pid = agent->self_pid,
    };

    describe_tracking(agent, reply.tracking, sizeof reply.tracking);
    format_text(reply.storage, sizeof reply.storage, "%s", agent->storage);
    format_text(reply.text, sizeof reply.text, "%s", text);
    (void)sys_call(SYS_sendto, client->fd, &reply, sizeof reply, MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0);
    drop_client(client);
}

void control_close(struct agent *agent)
{
    for (int i = 0; i < AGENT_CLIENTS; i++) {
        struct agent_client *client = &agent->clients[i];

        if (client->fd >= 0 && client->wants_pool)
            answer(agent, client, 0, "");
        else if (client->fd >= 0)
            drop_client(client);
    }
    if (agent->listen_fd >= 0)
        sys_close(agent->listen_fd);
    agent->listen_fd = -1;
}

/* The new program of an exec asks from the same pid, with another memory. The pool is let go
 * before the answer, so that the lock is free when it arrives. */
static void take_over(struct agent *agent, struct agent_client *client)
{
    struct ucred peer;

    if (!peer_of(client->fd, &peer) || peer.pid != agent->program_pid ||
        !task_has_exec_ed(agent->program_pid)) {
        answer(agent, client, STATUS_REFUSED,
               "only the program itself can take over, after an exec");
        return;
    }
    pool_close(&agent->pool);
    agent->let_go = true;
    answer(agent, client, 0, "");
}

/* Between checkpoints, never in the middle of one; and not while a crash image is written. */
static void change_generation(struct agent *agent, struct agent_client *client,
                              const struct control_request *request)
{
    struct problem why = {STATUS_ENDED, "the program has ended"};
    int status = STATUS_ENDED;

    if (!agent->ended && request->kind == CONTROL_DROP)
        status = pool_drop(&agent->pool, request->start, &why);
    else if (!agent->ended)
        status = pool_pin(&agent->pool, request->start, request->kind == CONTROL_PIN, &why);
    answer(agent, client, status, status ? why.text : "");
}

static void ask_for_checkpoint(struct agent *agent, struct agent_client *client,
                               const struct control_request *request)
{
    if (agent->ended) {
        answer(agent, client, STATUS_ENDED, "the program has ended");
        return;
    }
    if (request->flags & CONTROL_CARRY_FILES)
        agent->link->self_contained = 1; /* the program's memory: after a resume too */
    if (agent_save_files(agent) != 0) {
        agent->link->self_contained = 0;
        answer(agent, client, -ENOMEM, "no memory to save files in");
        return;
    }
    client->wants_checkpoint = true;
    client->wants_pin = (request->flags & CONTROL_PIN_IT) != 0;
    client->deadline_ns = sys_clock_ns(CLOCK_MONOTONIC) + CHECKPOINT_PATIENCE_NS;
    agent->requested = true;
}

static void handle(struct agent *agent, struct agent_client *client,
                   const struct control_request *request)
{
    switch (request->kind) {
    case CONTROL_STATUS:
        answer(agent, client, agent->ended ? STATUS_ENDED : 0, "");
        break;
    case CONTROL_CHECKPOINT:
        ask_for_checkpoint(agent, client, request);
        break;
    case CONTROL_TAKE_OVER:
        take_over(agent, client);
        break;
    case CONTROL_YIELD:
        client->wants_pool = agent->pool_wanted = agent->ended;
        if (!agent->ended)
            answer(agent, client, STATUS_IN_USE, "");
        break;
    case CONTROL_PIN:
    case CONTROL_UNPIN:
    case CONTROL_DROP:
        change_generation(agent, client, request);
        break;
    default:
        answer(agent, client, STATUS_USAGE, "not a request that this agent knows");
    }
}

void control_serve(struct agent *agent)
{
    accept_all(agent);
    for (int i = 0; i < AGENT_CLIENTS && !agent->let_go; i++) {
        struct agent_client *client = &agent->clients[i];
        struct control_request request;
        long got;

        if (client->fd < 0)
            continue;
        got = sys_call(SYS_recvfrom, client->fd, &request, sizeof request, MSG_DONTWAIT, 0, 0);
        if (got == (long)sizeof request && !client->wants_checkpoint)
            handle(agent, client, &request);
        else if (got != -EAGAIN)
            drop_client(client); /* gone, or talks nonsense */
    }
}

/* The client's checkpoint has been taken. */
static void answer_taken(struct agent *agent, struct agent_client *client)
{
    struct problem why = {0, ""}, note = {0, ""};
    uint64_t number = agent->link->committed_generation;
    int status = client->wants_pin ? pool_pin(&agent->pool, number, true, &why) : 0;

    if (status < 0)
        (void)problem_set(&note, status, "generation %lu is taken, but not pinned: %s",
                          (unsigned long)number, why.text);
    answer(agent, client, status, note.text);
}

/* status: 0 or why there is none; STATUS_DEFERRED is passed on only to who has waited enough. */
void control_checkpoint_done(struct agent *agent, int status, const struct problem *why)
{
    uint64_t now_ns = sys_clock_ns(CLOCK_MONOTONIC);
    bool waiting = false;

    for (int i = 0; i < AGENT_CLIENTS; i++) {
        struct agent_client *client = &agent->clients[i];

        if (client->fd < 0 || !client->wants_checkpoint)
            continue;
        if (status == STATUS_DEFERRED && now_ns < client->deadline_ns)
            waiting = true;
        else if (status == 0)
            answer_taken(agent, client);
        else
            answer(agent, client, status, why->text);
    }
    if (agent->mailbox_waits && (status != STATUS_DEFERRED || now_ns >= agent->mailbox_deadline_ns))
        mailbox_answer(agent, status);
    agent->requested = waiting || agent->mailbox_waits;
}
