#!/usr/bin/python3
"""PHEAP_FREEZE=signal: threads stop themselves in a signal handler, nobody is traced. A program goes
on from such a generation as from any other; what stands in the way is said by name. With
PHEAP_TEST_FREEZE=signal every end-to-end test works that way."""
import ctypes
import os
import signal
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, FINE, PHEAP, PYTHON, REFUSED, check, check_equal,  # noqa: E402
                        check_in, expect, main, test, wait_until)

DENY = os.path.join(BUILT_PROGRAMS, "deny_call")
COUNTER = os.path.join(BUILT_PROGRAMS, "counter")
BLOCKS = os.path.join(BUILT_PROGRAMS, "churned_blocks")
BY_SIGNAL = {"PHEAP_FREEZE": "signal"}
CHECKED = dict(BY_SIGNAL, PHEAP_CHECK="cut")


def killed_and_resumed(place, *command, times=2):
    """Started, killed after some generations, resumed; what it has printed at its end."""
    pool = place.path("pool")
    first = process = place.start(PHEAP, "run", "-i", "20ms", pool, *command,
                                  environment=CHECKED)
    place.wait_generation(pool, 3, process)
    process.kill()
    for _ in range(times):
        before = place.newest(pool)
        process = place.start(PHEAP, "restore", pool)
        resumed = process.resumed()
        wait_until(lambda: place.newest(pool) >= before + 2 or not process.running(), 60,
                   "two more generations")
        if not process.running():
            break
        os.kill(resumed["outer_pid"], signal.SIGKILL)
        process.wait()
    else:
        process = place.start(PHEAP, "restore", pool)
    check_equal(process.wait(), 0, "its exit status: " + process.stderr())
    return first.stdout()


@test
def a_program_is_killed_twice_and_resumed(place):
    said = killed_and_resumed(place, COUNTER, "100", "0", "20")
    check_equal(said.splitlines(), [f"{i} {i * (i + 1) // 2}" for i in range(1, 101)], "its output")


@test
def one_with_threads_that_allocate_likewise(place):
    check_equal(killed_and_resumed(place, BLOCKS, "3", "150000"), "450000\n", "blocks that were right")


@test
def where_everything_that_is_tracing_is_denied_too(place):
    pool = place.path("pool")
    first = place.start(DENY, "tracing", PHEAP, "run", "-i", "20ms", pool, COUNTER, "100", "0", "20",
                        environment=CHECKED)
    place.wait_generation(pool, 3, first)
    first.kill()
    check_equal(place.pheap("restore", pool).status, 0, "exit status, where tracing is allowed")
    check_equal(first.stdout().splitlines()[-1:], ["100 5050"], "its last line")


SLEEPERS = """
import os, select, signal, sys, threading, time
r, w = os.pipe()
epoll = select.epoll()
epoll.register(r)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
os.kill(os.getpid(), signal.SIGUSR2)
def sleep():
    while True:
        time.sleep(1000)
threading.Thread(target=sleep, daemon=True).start()
threading.Thread(target=lambda: epoll.poll(), daemon=True).start()
print("ready", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
print(signal.sigpending() == {signal.SIGUSR2}, threading.active_count(), flush=True)
"""


@test
def sleepers_pollers_and_pending_signals_are_as_they_were(place):
    pool, go = place.path("pool"), place.path("go")
    first = place.start(PHEAP, "run", "-i", "20ms", pool, PYTHON, "-c", SLEEPERS, go,
                        environment=CHECKED)
    wait_until(lambda: "ready" in first.stdout(), 60, "its start")
    place.wait_generation(pool, place.newest(pool) + 2, first)
    first.kill()
    process = place.start(PHEAP, "restore", pool)
    process.resumed()
    place.write("go", "")
    check_equal(process.wait(), 0, "its exit status")
    check_equal(first.stdout(), "ready\nTrue 3\n", "what it found")


def sleeping_python(place, text):
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "0", pool, PYTHON, "-uc",
                          text + "\nprint('ready')\nimport time\nwhile True:\n    time.sleep(0.1)\n"
                          "    print('on')\n", environment=BY_SIGNAL)
    wait_until(lambda: "ready" in process.stdout(), 60, "its start")
    return pool, process


def refused(place, text, *parts):
    pool, process = sleeping_python(place, text)
    expect(place.pheap("checkpoint", pool), REFUSED, *parts)
    said = len(process.stdout())
    wait_until(lambda: len(process.stdout()) > said, 30, "the program goes on")
    process.kill()


@test
def a_thread_that_blocks_the_signal_is_named(place):
    # Past libc: what goes through it is seen to (below).
    refused(place, "import ctypes\nmask = ctypes.c_uint64(1 << 22)\n"
            "ctypes.CDLL(None).syscall(14, 0, ctypes.byref(mask), None, 8)",
            "blocks signal 23")


@test
def threads_that_block_all_signals_are_stopped_all_the_same(place):
    pool, process = sleeping_python(place, '''
import signal, threading, time
def sleep():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(1000)
threading.Thread(target=sleep, daemon=True).start()
while not signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()):
    time.sleep(0.01)
assert signal.SIGURG not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
''')
    expect(place.pheap("checkpoint", pool), FINE)
    process.kill()


@test
def a_program_that_sets_all_signals_back_lives_and_is_told(place):
    refused(place, "import signal\nfor s in signal.valid_signals() - {9, 19, 32, 33}:\n"
            "    signal.signal(s, signal.SIG_DFL)", "PHEAP_FREEZE=signal")


@test
def when_the_agent_dies_the_program_goes_on(place):
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "1ms", pool, BLOCKS, "3", "100000",
                          environment=BY_SIGNAL)
    place.wait_generation(pool, 2, process)
    agents = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and is_agent_of(pid, process.pid)]
    check_equal(len(agents), 1, "its agents")
    os.kill(agents[0], signal.SIGKILL)
    check_equal(process.wait(), 0, "its exit status")
    check_equal(process.stdout(), "300000\n", "blocks that were right")


def is_agent_of(pid, parent):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            text = stat.read()
    except OSError:
        return False
    return "(pheap-agent)" in text and int(text.rsplit(")", 1)[1].split()[1]) == parent


class Debugger:
    """Attached to a program: passes its signals on."""
    SEIZE, CONT, DETACH, INTERRUPT = 0x4206, 7, 17, 0x4207

    def __init__(self, pid):
        self.pid, self.ends = pid, False
        self.seized = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        check(self.seized.wait(10), "the debugger is attached")

    def run(self):
        trace = ctypes.CDLL(None, use_errno=True).ptrace
        trace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        if trace(self.SEIZE, self.pid, None, None) != 0:
            return
        self.seized.set()
        while True:
            pid, status = os.waitpid(self.pid, 0x40000000 | os.WNOHANG)
            if pid == 0:
                threading.Event().wait(0.002)
                if self.ends:
                    trace(self.INTERRUPT, self.pid, None, None)
                continue
            if not os.WIFSTOPPED(status):
                return
            if self.ends and status >> 16:
                trace(self.DETACH, self.pid, None, None)
                return
            trace(self.CONT, self.pid, None, 0 if status >> 16 else os.WSTOPSIG(status))

    def detach(self):
        self.ends = True
        self.thread.join()


@test
def the_signal_that_halts_is_not_kept_as_the_programs(place):
    """It is pending in a halted thread when it was sent again, after an attempt that came too late
    or by anybody; a resume that brought it back would be interrupted by it."""
    pool = place.path("pool")
    first = place.start(PHEAP, "run", "-i", "0", pool, COUNTER, "100", "0", "20",
                        environment=CHECKED)
    wait_until(lambda: first.stdout(), 20, "output of the counter")
    over = threading.Event()

    def send():
        while not over.wait(0.0002):
            os.kill(first.pid, signal.SIGURG)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(5):
            expect(place.pheap("checkpoint", pool), FINE)
    finally:
        over.set()
        sender.join()
    first.kill()
    check_equal(place.pheap("restore", pool).status, 0, "exit status of the resumed program")
    check_equal(first.stdout().splitlines()[-1:], ["100 5050"], "its last line")


@test
def a_debugger_that_is_attached_is_no_hindrance(place):
    pool = place.path("pool")
    first = place.start(PHEAP, "run", "-i", "0", pool, COUNTER, "300", "0", "10",
                        environment=CHECKED)
    wait_until(lambda: first.stdout(), 20, "output of the counter")
    debugger = Debugger(first.pid)
    done = place.pheap("checkpoint", pool)
    debugger.detach()
    expect(done, FINE)
    first.kill()
    check_equal(place.pheap("restore", pool).status, 0, "exit status of the resumed program")
    check_equal(first.stdout().splitlines(), [f"{i} {i * (i + 1) // 2}" for i in range(1, 301)],
                "its output")


main()
