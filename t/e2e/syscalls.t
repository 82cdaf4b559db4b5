#!/usr/bin/python3
"""No system call of the program sees EINTR or a short count because of a checkpoint."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, FINE, LONG, NOBODY, PHEAP, REFUSED, add_test,  # noqa: E402
                        check_equal, check_in, main, wait_until)

SURVIVOR = os.path.join(BUILT_PROGRAMS, "syscalls_survivor")
CHECKPOINTS = 36000 if LONG else 100
SECONDS = 600 if LONG else 8


def stop_until_it_ends(place, pool, process):
    """Checkpoints, the next as soon as the one before is done; how many."""
    count = 0
    while process.running():
        done = place.pheap("checkpoint", pool)
        place.processes.remove(done)
        if done.status == FINE:
            count += 1
        else:  # put off by a thread that would not stop in time, or it has just ended
            check_in(done.status, (REFUSED,), f"status of {done.stderr()!r}")
    return count


def survives(place, environment=None):
    """One thread in each call, for some seconds, again until there were enough checkpoints."""
    pool, count = place.path("pool"), 0
    while count < CHECKPOINTS:
        process = place.start(PHEAP, "run", "-i", "0", pool, SURVIVOR, SECONDS, 2000,
                              environment=environment)
        wait_until(lambda: os.path.exists(pool) and place.inspect(pool)["program"], 20, "the agent")
        count += stop_until_it_ends(place, pool, process)
        check_equal(process.wait(SECONDS + 60), 0, f"status ({process.stdout()!r})")
        check_in("OK", process.stdout(), "what it says")
        place.note(f"{count} checkpoints so far")


def add(name, uid=None, environment=None):
    def body(place):
        survives(place, environment)

    body.uid = uid
    add_test(name, body)


add("blocking system calls go through closely spaced checkpoints unharmed")
add("so they do without privilege", uid=NOBODY)
add("so they do when written pages are found by checksums",
    environment={"PHEAP_TRACK": "checksum"})
main()
