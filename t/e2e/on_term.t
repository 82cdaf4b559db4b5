#!/usr/bin/python3
"""pheap run --on-term: SIGTERM is a checkpoint and the end; where there is none, the program's own."""
import os
import random
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, LIBRARY, PHEAP, PYTHON, check, check_equal, check_in,  # noqa: E402
                        main, test, wait_until)

COUNTER = os.path.join(BUILT_PROGRAMS, "counter")

OWN_HANDLER = """
import os, signal, socket, sys, time
def own(number, frame):
    print("own handler", flush=True)
    os._exit(3)
signal.signal(signal.SIGTERM, own)
if sys.argv[1] == "refused":
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
if sys.argv[1] == "child":
    pid = os.fork()
    if pid == 0:
        print("child", flush=True)
        time.sleep(60)
        os._exit(0)
    os.kill(pid, signal.SIGTERM) if input() else None
    print("child ended with", os.waitpid(pid, 0)[1], flush=True)
count = 0
while True:
    count += 1
    print(count, flush=True)
    time.sleep(0.02)
"""

THREADS = """
import os, threading, time
def write(thread):
    number = 0
    while True:
        os.write(1, b"%d %d\\n" % (thread, number))
        number += 1
        time.sleep(0.0005)
for thread in range(3):
    threading.Thread(target=write, args=(thread,)).start()
write(3)
"""


def start(place, pool, *command, **keywords):
    process = place.start(PHEAP, "run", "-i", "0", "--on-term", pool, *command, **keywords)
    wait_until(lambda: process.stdout(), 20, "output")
    return process


@test
def sigterm_saves_and_ends_a_program(place):
    pool = place.path("pool")
    first = process = start(place, pool, COUNTER, "3000")
    for generation in (1, 2, 3):
        check_equal(process.kill(signal.SIGTERM), -signal.SIGTERM, "exit status")
        check_equal(place.newest(pool), generation, "the newest generation")
        process = place.start(PHEAP, "restore", pool)
        check_equal(process.resumed()["generation"], generation, "resumed")
        lines = len(first.stdout().splitlines())
        wait_until(lambda n=lines: len(first.stdout().splitlines()) > n, 20, "more output")
    numbers = [int(line.split()[0]) for line in first.stdout().splitlines()]
    check_equal(numbers, list(range(1, len(numbers) + 1)), "the counted numbers: none twice")
    process.kill(signal.SIGTERM)


class Reader:
    """What is written to a named pipe: unlike a file it is not cut back by a restore."""

    def __init__(self, path):
        os.mkfifo(path)
        self.fd, self.text, self.ended = os.open(path, os.O_RDWR), b"", False
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        while not self.ended:
            self.text += os.read(self.fd, 65536)

    def end(self):
        self.ended = True
        os.write(self.fd, b"\n")
        self.thread.join()
        os.close(self.fd)
        return self.text.decode().splitlines()


@test
def no_thread_does_anything_between_the_checkpoint_and_the_end(place):
    """Each writes numbers without a pause; what is written after the cut is written again."""
    script = place.write("threads.py", THREADS)
    for environment in ({}, {"PHEAP_FREEZE": "signal"}):
        pool, pipe = place.path("pool" + "".join(environment)), place.path("pipe" + "".join(environment))
        reader = Reader(pipe)
        process = place.start(PHEAP, "run", "-i", "0", "--on-term", pool, PYTHON, script, stdout=pipe,
                              environment=environment)
        for _ in range(5):
            before = len(reader.text)
            wait_until(lambda n=before: len(reader.text) > n + 40, 20, "output")
            time.sleep(random.random() * 0.1)
            check_equal(process.kill(signal.SIGTERM), -signal.SIGTERM, "exit status")
            process = place.start(PHEAP, "restore", pool, stdout=pipe)
            process.resumed()
        process.kill(signal.SIGTERM)
        lines = reader.end()
        for thread in "0123":
            numbers = [int(line[2:]) for line in lines if line.startswith(thread)]
            breaks = [pair for pair in zip(numbers, numbers[1:]) if pair[1] != pair[0] + 1]
            check_equal(breaks, [], f"{environment}: what thread {thread} wrote, where it is not one more")


@test
def a_programs_own_handler_waits_for_a_refusal(place):
    pool, script = place.path("pool"), place.write("own.py", OWN_HANDLER)
    process = start(place, pool, PYTHON, script, "plain")
    check_equal(process.kill(signal.SIGTERM), -signal.SIGTERM, "exit status")
    check("own handler" not in process.stdout(), "the program's handler was run")
    lines = len(process.stdout().splitlines())
    restore = place.start(PHEAP, "restore", pool)
    restore.resumed()
    wait_until(lambda: len(process.stdout().splitlines()) > lines + 3, 20, "more output")
    check_equal(restore.kill(signal.SIGTERM), -signal.SIGTERM, "exit status of the restore")
    check_equal(place.newest(pool), 2, "the newest generation")

    other = place.path("other")
    process = start(place, other, PYTHON, script, "refused")
    check_equal(process.kill(signal.SIGTERM), 3, "exit status of the program's own handler")
    check_in("own handler", process.stdout(), "output")
    check_in("no checkpoint: fd 3", process.stderr(), "the reason")


@test
def children_keep_what_the_program_wished(place):
    pool, script = place.path("pool"), place.write("own.py", OWN_HANDLER)
    fifo = place.path("fifo")
    os.mkfifo(fifo)
    keeper = os.open(fifo, os.O_RDWR)
    process = start(place, pool, PYTHON, script, "child", stdin=fifo)
    os.write(keeper, b"now\n")
    wait_until(lambda: "child ended" in process.stdout(), 20, "the child's end")
    check_in("own handler", process.stdout(), "the child's handler")
    check_in(f"child ended with {3 << 8}", process.stdout(), "its status")
    os.close(keeper)
    process.kill()


RESTART_FLAGS = """
import ctypes
libc = ctypes.CDLL(None)
handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: None)
found = ctypes.create_string_buffer(152)  # struct sigaction: the flags are at 136
for number, interrupts in ((14, 1), (12, 0)):
    libc.siginterrupt(number, interrupts)
    libc.signal(number, handler)
    libc.sigaction(number, None, found)
    print(number, bool(int.from_bytes(found.raw[136:140], "little") & 0x10000000))
"""


@test
def the_other_signals_are_the_c_librarys_own(place):
    """A call that the program wants interrupted must not be restarted."""
    done = place.run(PYTHON, "-c", RESTART_FLAGS, environment={"LD_PRELOAD": LIBRARY})
    check_equal(done.stdout(), "14 False\n12 True\n", "whether calls are restarted")


main()
