#!/usr/bin/python3
"""Threads in the middle of something, held mutexes, clocks: the same after two kills and restores."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, PHEAP, PYTHON, Skip, check, check_equal, check_in,  # noqa: E402
                        main, wait_until)
from state_program import (add_both, killed_and_restored, report,  # noqa: E402
                           same_after_two_restores)


DENY = os.path.join(BUILT_PROGRAMS, "deny_call")


def threads_are_the_same_after_two_restores(place):
    same_after_two_restores(place, os.path.join(BUILT_PROGRAMS, "threads_state"))


CLOCKS = """
import os, signal, time
def show(*_):
    print(time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME), 'end', flush=True)
signal.signal(signal.SIGUSR1, show)
signal.signal(signal.SIGUSR2, lambda *_: os._exit(0))
print('ready', flush=True)
while True:
    time.sleep(1)
"""


def shown(process, pid, first):
    [line] = report(process, pid, first)
    return [float(word) for word in line.split()]


def started_a_day_ahead(place, pool):
    """In a time namespace, out of which it is restored: as on a machine that has just booted."""
    uid, place.uid = place.uid, None
    ahead = ("unshare", "-T", "--monotonic", "86400", "--boottime", "90000")
    user = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups") if uid else ()
    process = place.start(*ahead, *user, PHEAP, "run", "-i", "50ms", pool, PYTHON, "-c", CLOCKS)
    place.uid = uid
    if uid is not None:
        place.give(process.stdout_path)
        place.give(process.stderr_path)
    wait_until(lambda: "ready" in process.stdout() or not process.running(), 30, "the program")
    if "unshare failed" in process.stderr():
        raise Skip("no time namespaces here")
    return process


def clocks_since_boot_go_on_after_a_reboot(place):
    pool = place.path("pool")
    first = process = started_a_day_ahead(place, pool)
    pid = process.pid
    last = shown(process, pid, first)
    for _ in range(2):
        process, pid = killed_and_restored(place, pool, process, pid)
        now = shown(process, pid, first)
        for clock in range(2):
            check(last[clock] <= now[clock] < last[clock] + 60, f"clocks {last}, then {now}")
        last = now
    os.kill(pid, signal.SIGUSR2)
    check_equal(process.wait(), 0, "exit status")


def clocks_that_run_backwards_are_told_of(place):
    pool = place.path("pool")
    process = started_a_day_ahead(place, pool)
    place.wait_generation(pool, 2, process)
    process.kill()
    restore = place.start(DENY, "unshare", PHEAP, "restore", pool)
    pid = restore.resumed()["outer_pid"]
    check_in("behind the checkpoint's", restore.stderr(), "what the restore says")
    check(shown(restore, pid, process)[0] < 86400, "its clock is the machine's")
    os.kill(pid, signal.SIGUSR2)
    restore.wait()


add_both(threads_are_the_same_after_two_restores,
         clocks_since_boot_go_on_after_a_reboot, clocks_that_run_backwards_are_told_of)
main()
