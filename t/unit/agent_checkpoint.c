/*
 * agent_checkpoint.c - a program and its agent: checkpoints are taken, asked for, deferred.
 */
#include "t/lib/agent_fixture.h"

/* ---- taken --------------------------------------------------------------------------------- */

static int take_three(void)
{
    struct problem why = {0, ""};

    if (start(20 * MS, &why) < 0) {
        printf("# %s\n", why.text);
        return 1;
    }
    return reaches(3) ? 0 : 2;
}

static void generations_are_committed_at_the_interval(void)
{
    struct superblock super;

    make_pool();
    CHECK_EQ(run(take_three), 0);
    super = after_the_end();
    CHECK(super.next_generation >= 4);
    CHECK_EQ(super.run_state, RUN_STARTED);
    CHECK_EQ(super.run_first_generation, 1);
    CHECK_EQ(super.slot, SLOT);
    CHECK_EQ(super.generations[0].kind, GENERATION_PROCESS);
    CHECK(super.generations[0].pause_ns > 0);
}

static int ask_for_two(void)
{
    struct problem why;

    if (start(0, &why) < 0)
        return 1;
    if (agent_request(&program_link, CONTROL_CHECKPOINT, 0, 0, PATIENCE_MS) != 0)
        return 2;
    if (program_link.committed_generation != 1)
        return 3;
    if (agent_request(&program_link, CONTROL_CHECKPOINT, 0, 0, PATIENCE_MS) != 0)
        return 4;
    return program_link.committed_generation == 2 ? 0 : 5;
}

static void the_program_can_ask_for_one(void)
{
    make_pool();
    CHECK_EQ(run(ask_for_two), 0);
    CHECK_EQ(after_the_end().next_generation, 3);
}

static int end_by_itself(void)
{
    struct problem why;

    if (start(0, &why) < 0)
        return 1;
    program_link.exit_status = 42;
    program_link.exit_noted = 1;
    return 42;
}

static void a_noted_exit_marks_the_run_as_ended(void)
{
    struct superblock super;

    make_pool();
    CHECK_EQ(run(end_by_itself), 42);
    super = after_the_end();
    CHECK_EQ(super.run_state, RUN_ENDED);
    CHECK_EQ(super.end_status, 42 << 8);
}

static int be_killed(void)
{
    struct problem why;

    if (start(20 * MS, &why) < 0 || !reaches(1))
        return 1;
    kill(getpid(), SIGKILL);
    return 2;
}

static void a_kill_leaves_the_run_resumable(void)
{
    make_pool();
    CHECK_EQ(run(be_killed), 128 + SIGKILL);
    CHECK_EQ(after_the_end().run_state, RUN_STARTED);
}

/* ---- asked from outside --------------------------------------------------------------------- */

static int wait_to_be_killed(void)
{
    struct problem why;

    if (start(0, &why) < 0)
        return 1;
    for (;;)
        pause();
}

static void tools_can_ask_over_the_socket(void)
{
    struct control_request request = {.kind = CONTROL_STATUS};
    struct control_answer answer = {0};
    struct problem why;
    static struct pool pool;
    int pid, status = -1;

    make_pool();
    CHECK_OK(pool_open(&pool, pool_path, POOL_READ, &why));
    CHECK_EQ(control_ask(pool.super.uuid, &request, &answer, 100), -ECONNREFUSED);
    pid = fork();
    if (pid == 0)
        _exit(wait_to_be_killed());
    for (int i = 0; i < PATIENCE_MS && status < 0; i++, sleep_ms(1))
        status = control_ask(pool.super.uuid, &request, &answer, 1000);
    CHECK_EQ(status, 0);
    CHECK_EQ(answer.pid, pid);
    CHECK_EQ(answer.generation, 0);
    CHECK(answer.tracking[0] != 0);
    request.kind = CONTROL_CHECKPOINT;
    CHECK_OK(control_ask(pool.super.uuid, &request, &answer, PATIENCE_MS));
    CHECK_EQ(answer.status, 0);
    CHECK_EQ(answer.generation, 1);
    CHECK_EQ(answer.checkpoints, 1);
    request.kind = CONTROL_TAKE_OVER;
    CHECK_OK(control_ask(pool.super.uuid, &request, &answer, 1000));
    CHECK_EQ(answer.status, STATUS_REFUSED);
    pool_close(&pool);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    after_the_end();
}

static int be_second(void)
{
    struct problem why;
    int status = start(0, &why);

    return status == STATUS_IN_USE && program_link.agent_pid == 0 ? 0 : 1;
}

static void a_pool_in_use_is_refused(void)
{
    int pid;

    make_pool();
    pid = fork();
    if (pid == 0)
        _exit(wait_to_be_killed());
    sleep_ms(200);
    CHECK_EQ(run(be_second), 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    after_the_end();
}

/* ---- deferred ------------------------------------------------------------------------------- */

static int have_a_child(void)
{
    struct problem why;
    int child, refused;

    if (start(0, &why) < 0)
        return 1;
    child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    refused = agent_request(&program_link, CONTROL_CHECKPOINT, 0, 0, 200);
    if (refused != -ETIMEDOUT || program_link.committed_generation != 0)
        return 2;
    kill(child, SIGKILL);
    if (agent_request(&program_link, CONTROL_CHECKPOINT, 0, 0, PATIENCE_MS) != 0)
        return 3; /* it has not been waited for: its end is in the record */
    waitpid(child, NULL, 0);
    return agent_request(&program_link, CONTROL_CHECKPOINT, 0, 0, PATIENCE_MS) == 0 ? 0 : 4;
}

static int have_a_child_and_ignore_it(void)
{
    struct problem why;
    int child, status;

    if (start(0, &why) < 0)
        return 1;
    program_link.ignores_children = 1;
    child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    status = agent_request(&program_link, CONTROL_CHECKPOINT, 0, 0, PATIENCE_MS);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return status == 0 ? 0 : 2;
}

static void a_child_defers_it_as_long_as_it_lives(void)
{
    make_pool();
    CHECK_EQ(run(have_a_child), 0);
    after_the_end();
}

static void a_child_does_not_defer_it_if_it_is_to_be_ignored(void)
{
    make_pool();
    CHECK_EQ(run(have_a_child_and_ignore_it), 0);
    after_the_end();
}

/* What an agent that was slow to let go leaves behind after an exec. */
static int have_an_old_agent(void)
{
    struct problem why;
    int child = fork();

    if (child == 0) {
        prctl(PR_SET_NAME, "pheap-agent");
        _exit(0);
    }
    sleep_ms(50);
    if (start(0, &why) < 0)
        return 1;
    return agent_request(&program_link, CONTROL_CHECKPOINT, 0, 0, PATIENCE_MS) == 0 ? 0 : 2;
}

static void an_agent_of_before_an_exec_is_no_child(void)
{
    make_pool();
    CHECK_EQ(run(have_an_old_agent), 0);
    after_the_end();
}

static int wait_sees_no_agent(void)
{
    struct problem why;

    if (start(5 * MS, &why) < 0 || !reaches(1))
        return 1;
    return waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD ? 0 : 2;
}

static void the_program_has_no_child_to_wait_for(void)
{
    make_pool();
    CHECK_EQ(run(wait_sees_no_agent), 0);
    after_the_end();
}

/* ---- its number ---------------------------------------------------------------------------- */

static int ask_and_compare(void)
{
    struct problem why;

    if (start(0, &why) < 0)
        return 1;
    for (int64_t i = 1; i <= 3; i++)
        if (agent_checkpoint(&program_link, PATIENCE_MS) != i)
            return 2;
    return 0;
}

static void a_checkpoint_that_is_asked_for_has_a_number(void)
{
    make_pool();
    CHECK_EQ(run(ask_and_compare), 0);
}

int main(int argc, char **argv)
{
    if (fixture_begin(argc, argv) != 0)
        return 1;
    RUN(generations_are_committed_at_the_interval);
    RUN(the_program_can_ask_for_one);
    RUN(a_noted_exit_marks_the_run_as_ended);
    RUN(a_kill_leaves_the_run_resumable);
    RUN(tools_can_ask_over_the_socket);
    RUN(a_pool_in_use_is_refused);
    RUN(a_child_defers_it_as_long_as_it_lives);
    RUN(a_child_does_not_defer_it_if_it_is_to_be_ignored);
    RUN(an_agent_of_before_an_exec_is_no_child);
    RUN(the_program_has_no_child_to_wait_for);
    RUN(a_checkpoint_that_is_asked_for_has_a_number);
    return fixture_end();
}
