#!/usr/bin/python3
"""No system call of the program sees EINTR or a short count because of a checkpoint."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, LONG, NOBODY, PHEAP, Failure, add_test, check,  # noqa: E402
                        main, time)

SURVIVOR = os.path.join(BUILT_PROGRAMS, "syscalls_survivor")
CHECKPOINTS = 36000 if LONG else 100


def survives(place, environment=None):
    """One thread in each call; checkpoints as fast as they go, until there were enough."""
    pool, needed, seconds = place.path("pool"), CHECKPOINTS, CHECKPOINTS // 15 + 5
    process = place.start(PHEAP, "run", "-i", "10ms", pool, SURVIVOR, seconds, 2000,
                          environment=environment)
    place.wait_generation(pool, 1, process)
    end = time.monotonic() + seconds * 3 + 60
    while process.running() and time.monotonic() < end:
        newest = place.newest(pool)
        time.sleep(0.2)
    check(not process.running(), "the survivor did not come to its end")
    text = process.stdout()
    if process.popen.returncode != 0:
        raise Failure(f"status {process.popen.returncode} after {newest} checkpoints: {text!r}")
    check("OK" in text, text)
    newest = place.newest(pool)
    place.note(f"{newest} checkpoints in {seconds} s")
    check(newest >= needed, f"{newest} checkpoints in {seconds} s, wanted {needed}")


def add(name, uid=None, environment=None):
    def body(place):
        survives(place, environment)

    body.uid = uid if os.geteuid() == 0 else None
    add_test(name, body)


add("blocking system calls go through closely spaced checkpoints unharmed")
add("so they do without privilege", uid=NOBODY)
add("so they do when written pages are found by checksums",
    environment={"PHEAP_TRACK": "checksum"})
main()
