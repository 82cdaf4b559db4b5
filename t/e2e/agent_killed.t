#!/usr/bin/python3
"""The agent is killed at random moments between two freezes: the program goes on, the pool stays whole.

(In a freeze a thread may be running for the agent, and then nobody puts its registers back:
docs/checkpoint.md.)
"""
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, FINE, PHEAP, REFUSED, ROUNDS, check_equal,  # noqa: E402
                        check_in, main, test, wait_until)

COUNTER = os.path.join(BUILT_PROGRAMS, "counter")
KILLS = 12 * ROUNDS
COUNT = 3000


def agents(pid):
    """Children of the process that are agents, as /proc shows them."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as f:
            for child in f.read().split():
                with open(f"/proc/{child}/comm", encoding="ascii") as comm:
                    if comm.read().strip() == "pheap-agent":
                        found.append(int(child))
    return found


def is_traced(pid):
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status", encoding="ascii") as f:
            if "TracerPid:\t0\n" not in f.read():
                return True
    return False


def kill_between_freezes(agent, pid):
    """Wherever it is then: in a pre-copy, in a commit, or idle."""
    while True:
        time.sleep(random.uniform(0, 0.02))
        os.kill(agent, signal.SIGSTOP)
        wait_until(lambda: state_of(agent) == "T", 20, "the agent to stop")
        if not is_traced(pid):
            os.kill(agent, signal.SIGKILL)
            return
        os.kill(agent, signal.SIGCONT)


def state_of(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        return f.read().rsplit(")", 1)[1].split()[0]


def goes_on(process, what):
    lines = len(process.stdout().splitlines())
    wait_until(lambda: len(process.stdout().splitlines()) > lines + 3, 20, f"more output {what}")


def is_whole(place, pool):
    done = place.pheap("recover", "--check", pool)
    check_in(done.status, (FINE, 1), f"status of the check, which said {done.stdout()!r}")


@test
def whenever_the_agent_is_killed_the_program_goes_on(place):
    for kill in range(KILLS):
        pool = place.path(f"pool{kill}")
        process = place.start(PHEAP, "run", "-i", "3ms", pool, COUNTER, str(COUNT))
        place.wait_generation(pool, 1, process)
        agent, = agents(process.pid)
        kill_between_freezes(agent, process.pid)
        goes_on(process, "after the agent was killed")
        is_whole(place, pool)
        refused = place.pheap("checkpoint", pool)
        check_equal(refused.status, REFUSED, "status of a checkpoint without an agent")
        process.kill()
        resumed = place.start(PHEAP, "restore", pool)
        resumed.resumed()
        goes_on(process, "of the resumed program")  # to the same file
        resumed.kill(signal.SIGTERM)
        lines = [line.split()[0] for line in process.stdout().splitlines()]
        check_equal(lines, [str(n) for n in range(1, len(lines) + 1)], "its lines")
        is_whole(place, pool)
        os.unlink(pool)


if __name__ == "__main__":
    main()
