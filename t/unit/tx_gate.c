/*
 * tx_gate.c - who closes the gate waits for those inside, and for a process that was killed with a
 * thread inside no longer than it takes to see that.
 */
#include "core/tx/gate.h"

#include <sys/wait.h>
#include <unistd.h>
#include "core/base/lock.h"
#include "t/lib/tap.h"

#define LONG_NS  60000000000ull
#define SHORT_NS 5000000ull

static void who_is_inside_is_waited_for(void)
{
    struct gate gate = {GATE_OPEN, 0, NULL};
    struct gate_pass pass = {NULL, GATE_FREE};

    gate_add(&gate, &pass);
    CHECK(gate_take_and_enter(&gate, &pass));
    CHECK_EQ(gate_close(&gate, SHORT_NS), STATUS_DEFERRED);
    CHECK_EQ(gate.state, GATE_OPEN);
    gate_leave(&gate, &pass, GATE_FREE);
    CHECK_EQ(gate_close(&gate, SHORT_NS), 0);
    CHECK_EQ(gate.state, GATE_CLOSED);
    gate_open(&gate);
    CHECK_EQ(gate.state, GATE_OPEN);
}

static void end_as_an_agent_does(void *context)
{
    _exit(*(const int *)context);
}

static void its_process_is_looked_for_meanwhile(void)
{
    int status = 0, code = 7, child = fork();

    if (child == 0) {
        struct gate gate = {GATE_OPEN, 0, NULL};
        struct gate_pass pass = {NULL, GATE_INSIDE};

        gate_add(&gate, &pass);
        lock_watch = (struct lock_watch){end_as_an_agent_does, &code};
        alarm(20);
        _exit(gate_close(&gate, LONG_NS) == 0 ? 1 : 2);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == code);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(who_is_inside_is_waited_for);
    RUN(its_process_is_looked_for_meanwhile);
    return tap_done();
}
