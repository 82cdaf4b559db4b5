"""Programs that print, when SIGUSR1 asks them, what they see of themselves: the same before and after
two kills and restores."""
import os
import signal

from pheap_test import NOBODY, PHEAP, Skip, add_test, check, check_equal, wait_until


def started(place, pool, program, interval="50ms"):
    process = place.start(PHEAP, "run", "-i", interval, pool, program)
    wait_until(lambda: "ready" in process.stdout() or not process.running(), 30, "the program")
    check(process.running(), f"the program has ended: {process.stderr()}")
    return process


def report(process, pid, out):
    """The lines of the program's next report; `out` is the process that was started first."""
    before = out.stdout().count("end\n")
    os.kill(pid, signal.SIGUSR1)
    wait_until(lambda: out.stdout().count("end\n") > before or not process.running(), 30, "a report")
    check(process.running(), f"the program has ended: {process.stderr()}")
    return out.stdout().split("end\n")[before].replace("ready\n", "").splitlines()


def killed_and_restored(place, pool, process, pid):
    """After two more generations; (the restorer, the program's outer pid)."""
    place.wait_generation(pool, place.newest(pool) + 2, process)
    os.kill(pid, signal.SIGKILL)
    process.wait()
    restored = place.start(PHEAP, "restore", pool)
    return restored, restored.resumed()["outer_pid"]


def same_after_two_restores(place, program):
    pool = place.path("pool")
    first = process = started(place, pool, program)
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


def as_user(function):
    def run(place):
        if os.geteuid() != 0:
            raise Skip("runs as this user already: needs root to become another one")
        place.uid = NOBODY
        place.give(place.directory)
        function(place)
    return run


def add_both(*behaviours):
    """Each as whoever runs the tests and as an ordinary user."""
    for behaviour in behaviours:
        title = behaviour.__name__.replace("_", " ")
        add_test(title, behaviour)
        add_test(title + ", unprivileged", as_user(behaviour))
