"""The program t/programs/transfers: what its threads have said, and what its heap must have then."""
import os

from pheap_test import BUILT_PROGRAMS, check

TRANSFERS = os.path.join(BUILT_PROGRAMS, "transfers")


def said(text):
    """The last transfer that each thread has said, whole lines only."""
    last = {}
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):
            thread, number = line.split()
            last[thread] = int(number)
    return last


def check_all_there(process, there, when):
    """Each transfer that the process has said is in what was found in the heap."""
    for thread, number in said(process.stdout()).items():
        check(there[thread] >= number, f"{when}: thread {thread} has said {number}, the heap has {there[thread]}")
