#!/usr/bin/python3
"""Memory and files that no name leads to: the same after two kills and restores."""
import ctypes
import os
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from killed_server import newest_generation  # noqa: E402
from pheap_test import (BUILT_PROGRAMS, FINE, PHEAP, PYTHON, REFUSED, SYSTEM, check, check_equal,  # noqa: E402
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


def write_to_segment(number):
    """As another program that has it attached would."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    address = libc.shmat(number, None, 0)
    check(address not in (None, ctypes.c_void_p(-1).value), "shmat")
    ctypes.memset(address, 0x55, 8192)
    libc.shmdt(ctypes.c_void_p(address))


def remove_segment(key):
    libc = ctypes.CDLL(None)
    number = libc.shmget(key, 0, 0)
    if number >= 0:
        libc.shmctl(number, 0, None)


def system_v_shared_memory_is_the_same_after_two_restores(place):
    key = []
    try:
        system_v_shared_memory(place, key)
    finally:
        for number in key:
            remove_segment(number)


def system_v_shared_memory(place, key):
    """The segment with a key survives the program: it is written to, then it is removed, as a reboot
    does."""
    pool = place.path("pool")
    first = process = started(place, pool, os.path.join(BUILT_PROGRAMS, "sysv_state"))
    pid = process.pid
    key.append(0x70000000 + pid)
    number = int(first.stdout().split()[1])
    expected = report(process, pid, first)[1:]
    place.note("\n".join(expected))
    for change in (write_to_segment, lambda number: ctypes.CDLL(None).shmctl(number, 0, None)):
        place.wait_generation(pool, place.newest(pool) + 2, process)
        os.kill(pid, signal.SIGKILL)
        process.wait()
        change(number)
        process = place.start(PHEAP, "restore", pool)
        pid = process.resumed()["outer_pid"]
        if change is not write_to_segment and not place.privileged():
            expected[1] = None  # its id is the kernel's choice
        for before, after in zip(expected, report(process, pid, first)):
            check(before is None or before == after, f"found {after!r}, expected {before!r}")
    os.kill(pid, signal.SIGUSR2)
    status = process.wait()
    check_equal(status, 0 if place.privileged() else 98, "exit status")


BIG = """
import hashlib, os, signal, time
fd = os.memfd_create('big')
for i in range(%d):
    os.write(fd, os.urandom(1 << 20))
def digest(*_):
    os.lseek(fd, 0, 0)
    print(hashlib.sha256(os.read(fd, 1 << 30)).hexdigest(), flush=True)
signal.signal(signal.SIGUSR1, digest)
print('ready', flush=True)
while True:
    time.sleep(1)
"""


def big_program(place, pool, mebibytes):
    program = place.start(PHEAP, "run", "-i", "0", pool, PYTHON, "-c", BIG % mebibytes)
    wait_until(lambda: "ready" in program.stdout() or not program.running(), 30, "the program")
    return program


def digest(pid, program, count):
    os.kill(pid, signal.SIGUSR1)
    return wait_until(lambda: program.stdout().splitlines()[count:count + 1], 30, "a digest")


def much_without_a_name_comes_back(place):
    pool = place.path("pool")
    program = big_program(place, pool, 150)
    expected = digest(program.pid, program, 1)
    done = place.pheap("checkpoint", pool)
    check_equal(done.status, FINE, done.stderr())
    program.kill()
    newest = newest_generation(place, pool)
    print(f"# 150 MiB without a name: pause {newest['pause_ns'] / 1e6:.1f} ms", flush=True)
    restore = place.start(PHEAP, "restore", pool)
    pid = restore.resumed()["outer_pid"]
    check_equal(digest(pid, program, 2), expected, "digest of the content")
    os.kill(pid, signal.SIGTERM)
    restore.wait()


def too_much_without_a_name_is_refused(place):
    pool = place.path("pool")
    program = place.start(PHEAP, "run", "-i", "0", pool, PYTHON, "-c", "import os, time\n"
                          "fd = os.memfd_create('big')\nos.posix_fallocate(fd, 0, 1025 << 20)\n"
                          "print('ready', flush=True)\ntime.sleep(60)")
    wait_until(lambda: "ready" in program.stdout() or not program.running(), 30, "the program")
    done = place.pheap("checkpoint", pool)
    check_equal(done.status, REFUSED, "status of a checkpoint")
    check_in("more than the 1024 MiB", done.stderr(), "its message")
    check_in("big", done.stderr(), "its message")
    program.kill()


def started_log(place, pool):
    program = place.start(PHEAP, "run", "-i", "50ms", pool, PYTHON, "-c", "import time\n"
                          "log = open('log', 'a', buffering=1)\n"
                          "for i in range(100000):\n"
                          "    log.write(f'{i}\\n')\n    time.sleep(0.005)")
    wait_until(lambda: os.path.exists(place.path("log")), 30, "the log")
    place.wait_generation(pool, place.newest(pool) + 2, program)
    program.kill()


def a_file_that_was_renamed_is_found(place):
    pool = place.path("pool")
    started_log(place, pool)
    os.rename(place.path("log"), place.path("log.1"))
    place.write("log", "another\n")
    restore = place.start(PHEAP, "restore", pool)
    pid = restore.resumed()["outer_pid"]
    size = os.stat(place.path("log.1")).st_size
    wait_until(lambda: os.stat(place.path("log.1")).st_size > size + 100, 30, "lines in log.1")
    os.kill(pid, signal.SIGTERM)
    restore.wait()
    with open(place.path("log.1"), encoding="ascii") as f:
        lines = f.read().splitlines()
    check_equal(lines, [str(i) for i in range(len(lines))], "lines of the renamed file")
    with open(place.path("log"), encoding="ascii") as f:
        check_equal(f.read(), "another\n", "the file that took its name")


def a_file_that_is_nowhere_is_named(place):
    pool = place.path("pool")
    started_log(place, pool)
    os.unlink(place.path("log"))
    done = place.pheap("restore", pool)
    check_equal(done.status, REFUSED, "status of the restore")
    check_in("log, which the program had open", done.stderr(), "its message")
    check_in("put it back", done.stderr(), "what to do")


def a_working_directory_that_is_gone_is_named(place):
    pool, directory = place.path("pool"), place.make_directory("work")
    process = place.start(PHEAP, "run", "-i", "0", pool, "sleep", "1000", cwd=directory)
    wait_until(lambda: place.pheap("checkpoint", pool).status == FINE, 30, "a checkpoint")
    process.kill()
    os.rmdir(directory)
    done = place.pheap("restore", pool)
    check_equal(done.status, SYSTEM, "status of the restore")
    check_in(f"its working directory {directory} must be there: no such file or directory", done.stderr(), "its message")


add_both(objects_are_the_same_after_two_restores,
         system_v_shared_memory_is_the_same_after_two_restores,
         much_without_a_name_comes_back, too_much_without_a_name_is_refused,
         a_file_that_was_renamed_is_found, a_file_that_is_nowhere_is_named,
         a_working_directory_that_is_gone_is_named)
main()
