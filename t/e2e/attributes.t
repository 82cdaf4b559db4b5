#!/usr/bin/python3
"""What the kernel keeps for a process beside its memory: the same after two kills and restores."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import BUILT_PROGRAMS, Skip, main  # noqa: E402
from state_program import add_both, same_after_two_restores  # noqa: E402


def program(name):
    return os.path.join(BUILT_PROGRAMS, name)


def attributes_are_the_same_after_two_restores(place):
    if os.nice(0) > 3:
        raise Skip("runs with a nice value that an ordinary user could not lower to the program's")
    same_after_two_restores(place, program("attributes_state"))


def inotify_has_the_same_watches_after_two_restores(place):
    same_after_two_restores(place, program("inotify_state"))


def settings_of_memory_are_the_same_after_two_restores(place):
    same_after_two_restores(place, program("memory_state"))


def signals_timers_and_limits_are_the_same_after_two_restores(place):
    same_after_two_restores(place, program("signals_state"))


def open_files_are_the_same_after_two_restores(place):
    same_after_two_restores(place, program("files_state"))


add_both(signals_timers_and_limits_are_the_same_after_two_restores,
         open_files_are_the_same_after_two_restores, settings_of_memory_are_the_same_after_two_restores, attributes_are_the_same_after_two_restores,
         inotify_has_the_same_watches_after_two_restores)
main()
