#!/usr/bin/python3
"""What a resumed program finds different, as docs/compatibility.md says under "Different": each is what is
written there, and the program goes on."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (PHEAP, PROGRAMS, PYTHON, check, check_equal, main, wait_until)  # noqa: E402
from state_program import add_both  # noqa: E402

STATE = os.path.join(PROGRAMS, "differences_state.py")
# What a new process has, by which the program's own was replaced where it could be set at all.
LOST = {"policy": ("1", "0"), "securebits": ("1", "0"), "execute-gain": ("1", "0"), "merge": ("1", "0"),
        "machine-check": ("1", "2"), "dumped": ("0000007f", None), "segments": ("64", "0"),
        "keyring": ("mine", None)}


def reports(process):
    parts = process.stdout().split("end\n")[:-1]
    return [dict(line.split(" ", 1) for line in part.splitlines()) for part in parts]


def what_is_different_is_as_it_is_written(place):
    pool = place.path("pool")
    first = place.start(PHEAP, "run", "-i", "0", pool, PYTHON, STATE)
    wait_until(lambda: reports(first) or not first.running(), 30, "the first report")
    check(first.running(), first.stderr())
    check_equal(place.pheap("checkpoint", pool).status, 0, "status of the checkpoint")
    first.kill()
    process = place.start(PHEAP, "restore", pool)
    resumed = process.resumed()
    os.kill(resumed["outer_pid"], signal.SIGUSR1)
    check_equal(process.wait(), 0, "exit status: " + process.stderr())
    before, after = reports(first)
    place.note(f"{before}\n{after}")
    check_equal(after["pid"], before["pid"], "pid")
    check_equal(before["group"], before["pid"], "the group that it led")
    check(after["group"] != after["pid"] and after["session"] != after["pid"],
          "it leads a group or a session: these are the restorer's")
    check(int(after["start"]) >= int(before["start"]), "its start time")
    check_equal(after["barrier"], "0", "an expedited membarrier, which is registered for all")
    for name, (set_to, lost) in LOST.items():
        if before[name] == set_to:  # this machine and user have it
            check(after[name] == lost or (lost is None and after[name] != set_to),
                  f"{name}: {after[name]} after {set_to}")
    if os.geteuid() == 0 and place.uid is None:
        check_equal(before["securebits"], "1", "securebits, which root can set")


add_both(what_is_different_is_as_it_is_written)
main()
