#!/usr/bin/python3
"""Sockets of every kind that is kept: a program sees the same of them after two kills and restores.
What cannot be kept is refused by number and kind."""
import os
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, PHEAP, PYTHON, REFUSED, check, check_equal,  # noqa: E402
                        check_in, main, wait_until)
from state_program import add_both, killed_and_restored, report, started  # noqa: E402

STATE = os.path.join(BUILT_PROGRAMS, "sockets_state")
REFUSED_KINDS = [  # (what the message says, how it is made, who may)
    ("a netlink socket", "s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)", "all"),
    ("a raw IPv4 socket", "s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", "root"),
    ("a packet socket", "s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)", "root"),
    ("(SCM_RIGHTS)", "a, b = socket.socketpair(); socket.send_fds(a, [b'x'], [0])", "all"),
    ("whose file name is gone", "s = socket.socket(socket.AF_UNIX); s.bind('name'); "
                                "os.unlink('name'); s.listen()", "all"),
]


def sockets_are_the_same_after_two_restores(place):
    pool = place.path("pool")
    start = process = started(place, pool, STATE)
    pid = process.pid
    first = report(process, pid, start)
    place.note("\n".join(first))
    for _ in range(2):
        process, pid = killed_and_restored(place, pool, process, pid)
        again = report(process, pid, start)
        for before, after in zip(first, again):
            # The one that had been reset says so once more.
            check_equal(after.replace("recv ECONNRESET", "recv 0 ").replace("events 201d", "events 2015"),
                        before, "what the program sees of a socket")
        check_equal(len(again), len(first), "lines of a report")
    before = start.stdout().count("\n")
    os.kill(pid, signal.SIGUSR2)
    check_equal(process.wait(), 0, "exit status")
    last = dict(line.split(":", 1) for line in start.stdout().splitlines()[before:])
    check_in("recv 90000 mmmm", last["stream b"], "what was unread in a stream")
    check_in("recv 0", last["stream b"], "its end of file")
    check_in("recv 3 one", last["datagram b"], "the first datagram")
    check_in("recv 7 and two", last["datagram b"], "the second")
    check_in("recv EAGAIN", last["datagram b"], "behind it")
    check_in("recv 10 last words", last["half"], "what a closed end has left")


def what_cannot_be_kept_is_refused(place):
    is_root = place.privileged()
    for number, (text, code, who) in enumerate(REFUSED_KINDS):
        if who == "root" and not is_root:
            continue
        pool = place.path(f"pool-{number}")
        program = place.start(PHEAP, "run", "-i", "0", pool, PYTHON, "-c", "import os, socket, time\n"
                              f"{code}\nprint('ready', flush=True)\ntime.sleep(60)")
        wait_until(lambda p=program: "ready" in p.stdout() or not p.running(), 30, "the program")
        check(program.running(), program.stderr())
        done = place.pheap("checkpoint", pool)
        check_equal(done.status, REFUSED, f"status of a checkpoint with {text}")
        check_in(text, done.stderr(), "its message")
        check_in("fd ", done.stderr(), "its message")
        program.kill()


def a_unix_path_that_is_in_use_by_another_is_refused(place):
    pool = place.path("pool")
    process = started(place, pool, STATE)
    place.wait_generation(pool, place.newest(pool) + 2, process)
    process.kill()
    os.unlink(place.path("listening"))
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(place.path("listening"))
        os.chmod(place.path("listening"), 0o777)
        other.listen()
        done = place.pheap("restore", pool)
        check_equal(done.status, REFUSED, "status of a restore over another's socket")
        check_in("listening, where the program had a Unix socket, is now in use", done.stderr(),
                 "its message")
    os.unlink(place.path("listening"))
    place.write("listening", "precious")
    done = place.pheap("restore", pool)
    check_equal(done.status, REFUSED, "status of a restore over a file")
    check_in("is now something else", done.stderr(), "its message")


add_both(sockets_are_the_same_after_two_restores, what_cannot_be_kept_is_refused,
         a_unix_path_that_is_in_use_by_another_is_refused)
main()
