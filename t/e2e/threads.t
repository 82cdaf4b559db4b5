#!/usr/bin/python3
"""Threads in the middle of something, held mutexes, clocks: the same after two kills and restores."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import BUILT_PROGRAMS, main  # noqa: E402
from state_program import add_both, same_after_two_restores  # noqa: E402


def threads_are_the_same_after_two_restores(place):
    same_after_two_restores(place, os.path.join(BUILT_PROGRAMS, "threads_state"))


add_both(threads_are_the_same_after_two_restores)
main()
