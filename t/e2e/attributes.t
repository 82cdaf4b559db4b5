#!/usr/bin/python3
"""What the kernel keeps for a process beside its memory: the same after two kills and restores."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import BUILT_PROGRAMS, Skip, check_equal, main  # noqa: E402
from state_program import add_both, killed_and_restored, report, started  # noqa: E402

def same_after_two_restores(place, program):
    pool = place.path("pool")
    first = process = started(place, pool, os.path.join(BUILT_PROGRAMS, program))
    pid = process.pid
    expected = report(process, pid, first)
    place.note("\n".join(expected))
    for _ in range(2):
        process, pid = killed_and_restored(place, pool, process, pid)
        found = report(process, pid, first)
        for before, after in zip(expected, found):
            check_equal(after, before, "what the program sees")
        check_equal(len(found), len(expected), "lines of a report")
    os.kill(pid, signal.SIGUSR2)
    check_equal(process.wait(), 0, "exit status")


def attributes_are_the_same_after_two_restores(place):
    if os.nice(0) > 3:
        raise Skip("runs with a nice value that an ordinary user could not lower to the program's")
    same_after_two_restores(place, "attributes_state")


def inotify_has_the_same_watches_after_two_restores(place):
    same_after_two_restores(place, "inotify_state")


def settings_of_memory_are_the_same_after_two_restores(place):
    same_after_two_restores(place, "memory_state")


add_both(settings_of_memory_are_the_same_after_two_restores, attributes_are_the_same_after_two_restores,
         inotify_has_the_same_watches_after_two_restores)
main()
