#!/usr/bin/python3
"""The agent is killed at random moments, between two freezes and inside them: the program goes on as if
nothing had been, and the pool stays whole."""
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, PHEAP, REFUSED, ROUNDS, check, check_equal,  # noqa: E402
                        expect_whole, main, test, wait_until)

COUNTER = os.path.join(BUILT_PROGRAMS, "counter")
KILLS = 12 * ROUNDS
COUNT = 3000
UNDISTURBED = os.path.join(BUILT_PROGRAMS, "undisturbed")
KILLS_INSIDE = 20 * ROUNDS  # the signal way: half as many
RUN_MS = 150


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


def agents_or_end(process):
    """As soon as it has one; [None] when the program ended before one was seen, on a busy machine."""
    try:
        return agents(process.pid) if process.running() else [None]
    except FileNotFoundError:
        return [None] if not process.running() else []


def any_status(pid, is_so):
    """Of the threads; one may end meanwhile."""
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/status", encoding="ascii") as f:
                if is_so(f.read()):
                    return True
        except (FileNotFoundError, ProcessLookupError):
            pass
    return False


def is_traced(pid):
    return any_status(pid, lambda status: "TracerPid:\t0\n" not in status)


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


@test
def whenever_the_agent_is_killed_the_program_goes_on(place):
    for kill in range(KILLS):
        pool = place.path(f"pool{kill}")
        process = place.start(PHEAP, "run", "-i", "3ms", pool, COUNTER, str(COUNT))
        place.wait_generation(pool, 1, process)
        agent, = agents(process.pid)
        kill_between_freezes(agent, process.pid)
        goes_on(process, "after the agent was killed")
        expect_whole(place, pool)
        refused = place.pheap("checkpoint", pool)
        check_equal(refused.status, REFUSED, "status of a checkpoint without an agent")
        process.kill()
        resumed = place.start(PHEAP, "restore", pool)
        resumed.resumed()
        goes_on(process, "of the resumed program")  # to the same file
        resumed.kill(signal.SIGTERM)
        lines = [line.split()[0] for line in process.stdout().splitlines()]
        check_equal(lines, [str(n) for n in range(1, len(lines) + 1)], "its lines")
        expect_whole(place, pool)
        os.unlink(pool)


def kill_inside_a_freeze(agent, process, is_inside, stop):
    """Stops the agent again and again until it is. The end of the program may come first: False."""
    while process.running() and state_of(process.pid) != "Z":
        time.sleep(random.uniform(0, 0.004))
        os.kill(agent, signal.SIGSTOP)
        while state_of(agent) not in ("T", "Z"):
            pass
        if is_inside(process.pid):
            if stop:
                os.kill(process.pid, signal.SIGSTOP)
            os.kill(agent, signal.SIGKILL)
            return True
        os.kill(agent, signal.SIGCONT)
    return False


def is_halted(pid):
    """A thread is in the handler that stops it: all of its signals are blocked."""
    return any_status(pid, lambda status: "SigBlk:\tfffffffffffbfeff\n" in status)


def nobody_notices(place, kills, is_inside, by_signal=False, stop=False):
    environment = {"PHEAP_FREEZE": "signal"} if by_signal else {}
    inside = 0
    for _ in range(kills):
        pool = place.path("pool")
        process = place.start(PHEAP, "run", "--fresh", "-i", "3ms", pool, UNDISTURBED, str(RUN_MS),
                              *["signals"] * by_signal, environment=environment)
        agent = wait_until(lambda: agents_or_end(process), 20, "an agent")[0]
        inside += agent is not None and kill_inside_a_freeze(agent, process, is_inside, stop)
        if stop and process.running():
            wait_until(lambda: state_of(process.pid) == "T", 20, "the program to stop")
            os.kill(process.pid, signal.SIGCONT)
        check_equal((process.wait(20), process.stdout()), (0, "undisturbed\n"),
                    f"status and output of the program, after {inside} kills inside a freeze")
        expect_whole(place, pool)
        place.processes.clear()
    place.note(f"{inside} of {kills} agents were killed inside a freeze")
    check(inside > kills // 2, f"{inside} of {kills} agents were killed inside a freeze")


@test
def an_agent_that_is_killed_inside_a_freeze_is_not_missed(place):
    nobody_notices(place, KILLS_INSIDE, is_traced)


@test
def an_agent_that_is_killed_inside_a_freeze_by_signals_is_not_missed(place):
    nobody_notices(place, KILLS_INSIDE // 2, is_halted, by_signal=True)


@test
def a_program_that_was_stopped_inside_that_freeze_stays_so_until_it_is_continued(place):
    nobody_notices(place, KILLS_INSIDE // 4, is_traced, stop=True)


@test
def a_signal_that_is_sent_to_it_does_not_end_an_agent(place):
    """Who signals all processes of a name, or of a service, reaches the agent too. A restored program has another
    one, and memory of the first."""
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "20ms", pool, COUNTER, str(COUNT))
    place.wait_generation(pool, 1, process)
    agent, = agents(process.pid)
    signal_in_vain(place, agent, pool, process)
    process.kill()
    resumed = place.start(PHEAP, "restore", pool)
    pid = resumed.resumed()["outer_pid"]
    agent = wait_until(lambda: agents(pid), 20, "the agent of the resumed program")[0]
    signal_in_vain(place, agent, pool, resumed)
    resumed.kill(signal.SIGTERM)


def signal_in_vain(place, agent, pool, process):
    for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGTERM, signal.SIGUSR1):
        os.kill(agent, number)
    place.wait_generation(pool, place.newest(pool) + 2, process)
    check(state_of(agent) not in ("Z", "X"), "the agent lives")


if __name__ == "__main__":
    main()
