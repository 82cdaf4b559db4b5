#!/usr/bin/python3
"""Memory and files that no name leads to: the same after two kills and restores."""
import os
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, FINE, PHEAP, PYTHON, REFUSED, check, check_equal,  # noqa: E402
                        check_in, main, wait_until)
from state_program import add_both, killed_and_restored, report, started  # noqa: E402

STATE = os.path.join(BUILT_PROGRAMS, "objects_state")


def objects_are_the_same_after_two_restores(place):
    pool = place.path("pool")
    first = process = started(place, pool, STATE)
    pid = process.pid
    expected = report(process, pid, first)
    place.note("\n".join(expected))
    for _ in range(2):
        process, pid = killed_and_restored(place, pool, process, pid)
        found = report(process, pid, first)
        for before, after in zip(expected, found):
            if before.startswith("temporary:"):  # named by its inode; O_TMPFILE shows no more
                before, after = (re.sub("#[0-9]*|flags [0-9a-f]*", "", line)
                                 for line in (before, after))
            check_equal(after, before, "what the program sees")
        check_equal(len(found), len(expected), "lines of a report")
    os.kill(pid, signal.SIGUSR2)
    check_equal(process.wait(), 0, "exit status")
    check("deleted" not in os.listdir(place.directory), "no file is left behind")


def too_much_without_a_name_is_refused(place):
    for size, status in ((60, FINE), (70, REFUSED)):
        pool = place.path(f"pool-{size}")
        program = place.start(PHEAP, "run", "-i", "0", pool, PYTHON, "-c", "import os, time\n"
                              "fd = os.memfd_create('big')\n"
                              f"for i in range({size}): os.write(fd, os.urandom(1 << 20))\n"
                              "print('ready', flush=True)\ntime.sleep(60)")
        wait_until(lambda p=program: "ready" in p.stdout() or not p.running(), 30, "the program")
        done = place.pheap("checkpoint", pool)
        check_equal(done.status, status, f"status of a checkpoint with {size} MiB: {done.stderr()}")
        if status == REFUSED:
            check_in("more than the 64 MiB", done.stderr(), "its message")
            check_in("big", done.stderr(), "its message")
        program.kill()


add_both(objects_are_the_same_after_two_restores, too_much_without_a_name_is_refused)
main()
