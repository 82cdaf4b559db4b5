#!/usr/bin/python3
"""pheap restore is killed as soon as it has started one of its processes and threads, before that one
has run: nothing is left of the restore, and the pool can be resumed.

The test is the restorer's tracer: what is born stands still until the restorer is dead.
"""
import ctypes
import os
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, FINE, PHEAP, Skip, check, check_equal, children,  # noqa: E402
                        expect, main, reap, test, wait_until)

COUNTER = os.path.join(BUILT_PROGRAMS, "counter")
NOBODY = 65534
TRACEME, CONT, DETACH, SETOPTIONS, GETEVENTMSG = 0, 7, 17, 0x4200, 0x4201
FORK, VFORK, CLONE = 1, 2, 3  # events; as options 1 << event
WALL = 0x40000000
ptrace_call = ctypes.CDLL(None, use_errno=True).ptrace
ptrace_call.restype = ctypes.c_long
ptrace_call.argtypes = [ctypes.c_long] * 4


def ptrace(request, pid, data=0):
    if ptrace_call(request, pid, 0, data) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"ptrace {request} of {pid}: {os.strerror(error)}")


class Traced:
    """A restore that stops whenever it starts a process or a thread."""

    def __init__(self, place, *arguments):
        self.stderr_path, self.told = place.path("stderr"), False
        with open(self.stderr_path, "wb") as stderr:
            # pylint: disable=subprocess-popen-preexec-fn,consider-using-with
            self.popen = subprocess.Popen(
                [PHEAP, "restore", *arguments], stdin=subprocess.DEVNULL, stderr=stderr,
                stdout=subprocess.DEVNULL, user=place.uid, group=place.uid,
                preexec_fn=lambda: ptrace_call(TRACEME, 0, 0, 0))
        self.pid = self.popen.pid
        self.wait_for(self.pid)
        ptrace(SETOPTIONS, self.pid, 1 << FORK | 1 << VFORK | 1 << CLONE)

    def wait_for(self, pid):
        """Its status; when the command itself has ended, Popen is told."""
        status = os.waitpid(pid, WALL)[1]
        if pid == self.pid and not os.WIFSTOPPED(status):
            self.popen.returncode = os.waitstatus_to_exitcode(status)
        return status

    def stops(self):
        """Ended counts. What has been resumed is ended."""
        with open(self.stderr_path, encoding="ascii") as stderr:
            if not self.told and "pheap: resumed" in stderr.read():
                os.kill(self.pid, signal.SIGTERM)
                self.told = True
        return os.waitid(os.P_PID, self.pid,
                         os.WEXITED | os.WSTOPPED | os.WNOWAIT | os.WNOHANG | WALL)

    def next_birth(self):
        """The pid of what is born, which stands still; None when the command has ended."""
        number = 0
        while True:
            ptrace(CONT, self.pid, number)
            wait_until(self.stops, 60, "the restore")
            status = self.wait_for(self.pid)
            if not os.WIFSTOPPED(status):
                return None
            if status >> 16 in (FORK, VFORK, CLONE):
                born = ctypes.c_long()
                ptrace(GETEVENTMSG, self.pid, ctypes.addressof(born))
                self.wait_for(born.value)
                return born.value
            number = 0 if status >> 16 else os.WSTOPSIG(status)

    def die_before(self, born):
        """A thread dies with it, and must be waited for first."""
        is_thread = os.path.exists(f"/proc/{self.pid}/task/{born}")
        os.kill(self.pid, signal.SIGKILL)
        if is_thread:
            self.wait_for(born)
        check_equal(self.wait_for(self.pid), int(signal.SIGKILL), "the restorer's status")
        if not is_thread:
            ptrace(DETACH, born)


def all_ends(place, but):
    """But for what the test itself has started."""
    def ended():
        reap([p.popen for p in place.processes])
        return set(children()) <= but
    wait_until(ended, 20, "the end of all that the restore has started")


def kill_at_each_birth(place, prepare, *arguments):
    """Returns how often a restore was killed: once for each of what it starts. The last is not."""
    kills, but = 0, set(children())
    while True:
        prepare()
        restorer = Traced(place, *arguments)
        born = restorer.next_birth()
        for _ in range(kills):
            ptrace(DETACH, born)
            born = restorer.next_birth()
        if born is None:
            check(restorer.told, "the last one has resumed")
            return kills
        restorer.die_before(born)
        all_ends(place, but)
        kills += 1


def start_counter(place, pool):
    process = place.start(PHEAP, "run", "-i", "0", pool, COUNTER, "100000")
    wait_until(process.stdout, 20, "the counter's first line")
    expect(place.pheap("checkpoint", pool), FINE)
    return process


def check_restore(place):
    """Each time from the same state: resumes are counted, and the third would take another generation."""
    pool, saved = place.path("pool"), place.path("saved")
    start_counter(place, pool).kill()
    shutil.copyfile(pool, saved)
    kills = kill_at_each_birth(place, lambda: shutil.copyfile(saved, pool), pool)
    check(kills >= 2, f"only {kills} were born")


@test
def a_killed_restorer_leaves_nothing(place):
    check_restore(place)


@test
def nor_does_an_ordinary_users(place):
    """It may not choose ids: a first attempt to do without a namespace has counted the resume."""
    if os.geteuid() != 0:
        raise Skip("the test before was this one: needs root to become another user")
    place.uid = NOBODY
    place.give(place.directory)
    check_restore(place)


@test
def nor_does_one_that_makes_a_namespace(place):
    """Its program's ids are taken. The namespace's init process does not see its parent."""
    pool, copy = place.path("pool"), place.path("copy")
    counter = start_counter(place, pool)
    kills = kill_at_each_birth(place, lambda: os.path.exists(copy) and os.unlink(copy),
                               "--copy", copy, pool)
    check(kills >= 2, f"only {kills} were born")
    check(counter.running(), "the program beside it runs on")
    counter.kill()


main()
