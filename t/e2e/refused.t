#!/usr/bin/python3
"""What cannot be restored is refused at the checkpoint, by name and with what to do; and a program
that is denied io_uring."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, PHEAP, PYTHON, REFUSED, Skip, add_test, check,  # noqa: E402
                        check_equal, check_in, main, wait_until)
from state_program import add_both, killed_and_restored, report  # noqa: E402

URING = os.path.join(BUILT_PROGRAMS, "uring_state")
DENY = os.path.join(BUILT_PROGRAMS, "deny_call")

BEGIN = """if True:
    import ctypes, fcntl, mmap, os, socket, sys, time
    libc = ctypes.CDLL(None, use_errno=True)
    def call(*arguments):
        result = libc.syscall(*arguments)
        if result < 0:
            print("not here", flush=True)
            sys.exit(0)
        return result
    def pages(flags=0):
        libc.mmap.restype = ctypes.c_void_p
        address = libc.mmap(None, 2 << 20, 3, 0x22 | flags, -1, 0)
        if address == ctypes.c_void_p(-1).value:
            call(-1)
        return ctypes.c_void_p(address)
"""
END = """
    print("ready", flush=True)
    time.sleep(60)
"""

# {what: (what the program does, what the message says)}
CASES = {
    "sealed memory": ("call(462, pages(), 2 << 20, 0)", ("memory at", "sealed memory (mseal)")),
    "memory with a protection key": (
        "k = call(330, 0, 0); call(329, pages(), 2 << 20, 3, k)", ("protection key",)),
    "memory of huge pages": ("pages(0x40000)", ("huge pages",)),
    "a userfaultfd": ("fd = call(323, 1)", ("fd 3", "userfaultfd")),
    "a performance counter": (
        "a = ctypes.create_string_buffer(128); a[0] = 1; a[4] = 128; a[40] = b'\\x60'; "
        "fd = call(298, a, 0, -1, -1, 0)", ("fd 3", "perf_event")),
    "a netlink socket": ("s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)",
                         ("fd 3", "netlink")),
    "the master side of a pseudo-terminal": ("fds = os.openpty()", ("fd 3", "ptmx")),
    "a descriptor under way in a socket": (
        "a, b = socket.socketpair(); socket.send_fds(a, [b'x'], [0])", ("descriptor",)),
    "a changed root": ("os.chroot('.') if os.geteuid() == 0 else call(-1)", ("root directory",)),
    "changed groups": ("os.setgroups([5, 7]) if os.geteuid() == 0 else call(-1)",
                       ("supplementary groups", "before pheap run")),
    "a changed user namespace": (
        "call(272, 0x10000000)", ("user namespace",)),
    "a changed mount namespace": ("call(272, 0x20000)", ("mnt namespace",)),
    "a changed network namespace": ("call(272, 0x40000000)", ("net namespace",)),
    "a changed IPC namespace": ("call(272, 0x08000000)", ("ipc namespace",)),
    "a changed UTS namespace": ("call(272, 0x04000000)", ("uts namespace",)),
    "a capability given up for good": (
        "libc.prctl(24, 25, 0, 0, 0) == 0 or call(-1)", ("capabilities (CapBnd)",)),
    "capabilities given up": (
        "os.geteuid() == 0 or call(-1); call(126, (ctypes.c_uint * 2)(0x20080522, 0), "
        "(ctypes.c_uint * 6)(1, 1, 0, 0, 0, 0))", ("capabilities (CapPrm)",)),
    "a changed user": ("os.setuid(65533) if os.geteuid() == 0 else call(-1)", ("",)),
}


def refused(what):
    def run(place):
        does, said = CASES[what]
        pool = place.path("pool")
        process = place.start(PHEAP, "run", "-i", "0", pool, PYTHON, "-c",
                              BEGIN + f"    {does}" + END)
        wait_until(lambda: "\n" in process.stdout() or not process.running(), 30, "the program")
        if "not here" in process.stdout():
            raise Skip("this machine or this user has no such thing")
        check(process.running(), f"the program has ended: {process.stderr()}")
        done = place.pheap("checkpoint", pool)
        check_equal(done.status, REFUSED, f"status of a checkpoint ({done.stderr()})")
        for part in said:
            check_in(part, done.stderr(), "its message")
        check(process.running(), "the program goes on")
        process.kill()
    return run


def a_seccomp_filter_is_refused(place):
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "0", pool, DENY, "unshare", PYTHON, "-c",
                          BEGIN + END)
    wait_until(lambda: "ready" in process.stdout() or not process.running(), 30, "the program")
    done = place.pheap("checkpoint", pool)
    check_equal(done.status, REFUSED, f"status of a checkpoint ({done.stderr()})")
    check_in("seccomp filter", done.stderr(), "its message")
    process.kill()


def io_uring_is_refused_and_the_message_says_what_to_do(place):
    pool = place.path("pool")
    process = place.start("env", "KEEP=1", PHEAP, "run", "-i", "0", pool, URING)
    wait_until(lambda: "ready" in process.stdout() or not process.running(), 30, "the program")
    if "io_uring" not in "".join(os.readlink(f"/proc/{process.pid}/fd/{n}")
                                 for n in os.listdir(f"/proc/{process.pid}/fd")):
        process.kill()
        raise Skip("io_uring is switched off here")
    done = place.pheap("checkpoint", pool)
    check_equal(done.status, REFUSED, f"status of a checkpoint ({done.stderr()})")
    check_in("fd 3: anon_inode:[io_uring]", done.stderr(), "its message")
    check_in("pheap run --deny io_uring", done.stderr(), "its message")
    process.kill()


def a_program_that_is_denied_io_uring_is_so_after_two_restores(place):
    pool = place.path("pool")
    first = process = place.start(PHEAP, "run", "-i", "50ms", "--deny", "io_uring", pool, URING)
    wait_until(lambda: "ready" in process.stdout() or not process.running(), 30, "the program")
    pid = process.pid
    expected = report(process, pid, first)
    check_equal(expected[0], "io_uring_setup -38 -38, register -38, the next call -22", "calls")
    for _ in range(2):
        process, pid = killed_and_restored(place, pool, process, pid)
        check_equal(report(process, pid, first), expected, "report")
    os.kill(pid, signal.SIGUSR2)
    check_equal(process.wait(), 0, "exit status")


def a_program_that_it_execs_is_denied_it_too(place):
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "50ms", "--deny", "io_uring", pool, "sh", "-c",
                          f"exec {URING}")
    wait_until(lambda: "ready" in process.stdout() or not process.running(), 30, "the program")
    check_in("Seccomp_filters:\t1", "\n".join(report(process, process.pid, process)), "report")
    place.wait_generation(pool, 2, process)
    os.kill(process.pid, signal.SIGUSR2)
    check_equal(process.wait(), 0, "exit status")


for case in CASES:
    add_test(f"{case} is refused", refused(case))
add_test("a seccomp filter is refused", a_seccomp_filter_is_refused)
add_both(io_uring_is_refused_and_the_message_says_what_to_do,
         a_program_that_is_denied_io_uring_is_so_after_two_restores,
         a_program_that_it_execs_is_denied_it_too)
main()
