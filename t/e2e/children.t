#!/usr/bin/python3
"""Child processes: those that have ended come back as that; a living one puts a checkpoint off, or is
lost if that was said."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, FINE, PHEAP, PYTHON, check, check_equal,  # noqa: E402
                        check_in, main, wait_until)
from state_program import add_both, killed_and_restored, report, same_after_two_restores, started  # noqa: E402

STATE = os.path.join(BUILT_PROGRAMS, "children_state")


def children_that_have_ended_are_there_after_two_restores(place):
    same_after_two_restores(place, STATE)


def started_with_a_child(place, pool, *options):
    process = place.start(PHEAP, "run", *options, pool, STATE, "living")
    wait_until(lambda: "ready" in process.stdout() or not process.running(), 30, "the program")
    return process, int(process.stdout().split()[1])


def a_living_child_is_lost_if_that_was_said(place):
    pool = place.path("pool")
    first, child = started_with_a_child(place, pool, "-i", "50ms", "--children=ignore")
    check_equal(report(first, first.pid, first), [f"child {child}", "living: lives"], "report")
    process, pid = first, first.pid
    for _ in range(2):
        process, pid = killed_and_restored(place, pool, process, pid)
        check_equal(report(process, pid, first), ["living: No child processes"], "report")
    os.kill(pid, signal.SIGUSR2)
    check_equal(process.wait(), 0, "exit status")
    os.kill(child, signal.SIGKILL)


def waiting_for_a_child_is_said_soon_and_once(place):
    pool = place.path("pool")
    process, child = started_with_a_child(place, pool, "-i", "50ms")
    wait_until(lambda: "no checkpoint for 1 s" in process.stderr(), 20, "a message")
    check_in(f"child process {child} (children_state) lives", process.stderr(), "the message")
    check_in("--children=ignore", process.stderr(), "the message")
    check_equal(place.newest(pool), 0, "generations")
    os.kill(child, signal.SIGKILL)
    place.wait_generation(pool, 2, process)
    check_equal(process.stderr().count("no checkpoint"), 1, "messages")
    os.kill(process.pid, signal.SIGUSR2)
    process.wait()


def a_child_that_shares_the_memory_puts_it_off_whatever_was_said(place):
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "0", "--children=ignore", pool, PYTHON, "-c", """if True:
        import ctypes, os, time
        libc = ctypes.CDLL(None)
        stack = ctypes.create_string_buffer(1 << 16)
        sleeper = ctypes.cast(libc.pause, ctypes.c_void_p)
        top = ctypes.c_void_p((ctypes.addressof(stack) + (1 << 16)) & ~15)
        child = libc.clone(sleeper, top, 0x100 | 17, None)  # CLONE_VM, SIGCHLD
        print(child, flush=True)
        time.sleep(60)""")
    child = int(wait_until(process.stdout, 30, "the child"))
    done = place.pheap("checkpoint", "-t", "30", pool)
    check(done.status != FINE, "a checkpoint is refused")
    check_in(f"child process {child}", done.stderr(), "its message")
    check_in("shares the program's memory", done.stderr(), "its message")
    os.kill(child, signal.SIGKILL)
    process.kill()


def the_window_of_vfork_is_waited_out(place):
    """With --children=ignore too: the child writes to the program's memory."""
    for options in ((), ("--children=ignore",)):
        pool = place.path("pool" + "".join(options))
        first = place.start(PHEAP, "run", "-i", "5ms", *options, pool, STATE, "vfork")
        place.wait_generation(pool, 2, first)
        first.kill()
        process = place.start(PHEAP, "restore", pool)
        check_equal(process.wait(), 0, "exit status")


add_both(the_window_of_vfork_is_waited_out, children_that_have_ended_are_there_after_two_restores,
         a_living_child_is_lost_if_that_was_said, waiting_for_a_child_is_said_soon_and_once,
         a_child_that_shares_the_memory_puts_it_off_whatever_was_said)
main()
