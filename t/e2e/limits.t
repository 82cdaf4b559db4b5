#!/usr/bin/python3
"""Resource limits (ulimit), which the agent inherits: what is needed is raised as far as that takes no
privilege; where it is too little one line says so, and the program runs as if nothing were. An agent
neither runs in circles nor outlives its program."""
import os
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, FINE, LIBRARY, NOBODY, PHEAP, PYTHON, REFUSED, SYSTEM, Skip,  # noqa: E402
                        add_test, check, check_equal, check_in, describe_process, expect, main, test, wait_until)

DESCRIPTORS = 10  # what checkpoints take
RESTORE_DESCRIPTORS = 13
# Ends when the file is there, and says what is left of its limits.
WAITER = """
import os, resource, time
%s
print("ready", flush=True)
while not os.path.exists("stop"):
    time.sleep(0.02)
print(*[resource.getrlimit(r) for r in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)])
"""
# A heap that it opens by itself, with an agent that looks every 20 ms.
HEAP = """
import ctypes, sys
class Options(ctypes.Structure):
    _fields_ = [("slot", ctypes.c_uint32), ("keep", ctypes.c_uint32), ("problem", ctypes.c_char_p),
                ("problem_bytes", ctypes.c_size_t), ("interval_ms", ctypes.c_uint32)]
options, heap = Options(interval_ms=20), ctypes.c_void_p()
library = ctypes.CDLL(os.environ["LD_PRELOAD"])
status = library.pheap_open(sys.argv[1].encode(), 1, ctypes.byref(options), ctypes.byref(heap))
assert status == 0, status
"""
DIRTY = os.path.join(BUILT_PROGRAMS, "dirty_pages")


def agents(pid, name="pheap-agent"):
    """Children of the process that are agents."""
    found = []
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        for child in f.read().split():
            with open(f"/proc/{child}/comm", encoding="ascii") as comm:
                if comm.read().strip() == name:
                    found.append(int(child))
    return found


def processor_ticks(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def rests(pids):
    """In half a second none of them has used a fourth of it: what runs in circles uses all it can get."""
    before = [processor_ticks(pid) for pid in pids]
    time.sleep(0.5)
    used = [processor_ticks(pid) - ticks for pid, ticks in zip(pids, before)]
    check(all(ticks < 12 for ticks in used), f"hundredths of a second of a processor used: {used}")


def is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def limited(place, option, pool, *words, interval="20ms", prefix=(), script="", **keywords):
    command = words or (PYTHON, "-c", WAITER % script)
    return place.start(*prefix, "prlimit", option, "--", PHEAP, "run", "-i", interval, pool, *command,
                       **keywords)


def one_line(process):
    """What was said, but for pauses: a machine may be busy."""
    said = [line for line in process.stderr().splitlines() if "was stopped for" not in line]
    check(len(said) == 1, f"expected one line: {said}")
    return said[0]


def end(place, *processes):
    place.write("stop", "")
    for process in processes:
        check_equal(process.wait(), 0, "exit status of the program")
    os.unlink(place.path("stop"))


def with_descriptors(place, count, hard):
    pool = place.path(f"pool-{count}-{hard}")
    process = limited(place, f"--nofile={count}:{count if hard else ''}", pool)
    if hard and count < DESCRIPTORS:
        said = wait_until(process.stderr, 30, "a line")
        check_equal(said, f"pheap: no checkpoints: they take {DESCRIPTORS} descriptors, and the hard limit, "
                          f"RLIMIT_NOFILE, is {count}; raise it (ulimit -Hn)\n", "what it says")
        done = place.run("prlimit", f"--nofile={count}:{count}", "--", PHEAP, "checkpoint", pool)
        expect(done, REFUSED, "no program runs on it")
        one_line(done)
    else:
        place.wait_generation(pool, 2, process)
        expect(place.run("prlimit", f"--nofile={count}:{count}", "--", PHEAP, "checkpoint", pool), FINE)
        check_equal(process.stderr(), "", f"what it says with {count} descriptors")
    expect(place.run("prlimit", f"--nofile={count}:{count}", "--", PHEAP, "inspect", pool), FINE)
    return process


def any_number_of_descriptors(hard):
    def runs(place):
        started = [with_descriptors(place, count, hard) for count in (5, 8, 9, 10, 12, 20)]
        left = [agent for process in started for agent in agents(process.pid)]
        check_equal(len(left), 3 if hard else 6, "agents")
        rests(left)
        for process in started[::2]:
            process.kill()
        end(place, *started[1::2])
        wait_until(lambda: all(map(is_gone, left)), 30, "the end of the agents")
    return runs


add_test("with few descriptors, which it may raise, a program has checkpoints", any_number_of_descriptors(False))
add_test("with few descriptors, and no more to have, a program has checkpoints or is told why not",
         any_number_of_descriptors(True))


def a_restore_with_descriptors(place):
    """Of a program that has its three streams, and not one file more as while it starts."""
    pool = place.path("pool")
    process = limited(place, "--nofile=9:", pool)
    wait_until(lambda: "ready" in process.stdout(), 30, "the program")
    expect(place.pheap("checkpoint", pool), FINE)
    process.kill()
    for count in (5, 9, RESTORE_DESCRIPTORS - 1):
        refused = place.run("prlimit", f"--nofile={count}:{count}", "--", PHEAP, "restore", pool)
        expect(refused, REFUSED, f"takes {RESTORE_DESCRIPTORS} descriptors", f"RLIMIT_NOFILE, is {count};")
        one_line(refused)
    for limit in (RESTORE_DESCRIPTORS, 16, 30):
        resumed = place.start("prlimit", f"--nofile={limit}:{limit}", "--", PHEAP, "restore", pool)
        resumed.resumed()
        place.wait_generation(pool, place.newest(pool) + 1, resumed)
        resumed.kill(signal.SIGTERM)
    resumed = place.start("prlimit", "--nofile=6:", "--", PHEAP, "restore", pool)
    resumed.resumed()
    end(place, resumed)
    check_in("(9, ", process.stdout(), "the limit on descriptors of the resumed program")


def restored_with_descriptors_as_nobody(place):
    a_restore_with_descriptors(place)


restored_with_descriptors_as_nobody.uid = NOBODY
add_test("a restore makes do with few descriptors, or says how many it takes", a_restore_with_descriptors)
add_test("so does one without privilege", restored_with_descriptors_as_nobody)


def limits_of_its_own(place):
    """The agent was there before; after a restore it is there before the limits are."""
    pool = place.path("pool")
    process = limited(place, "--core=0:0", pool, script="""
kept = bytearray(8 << 20)
for what, limit in ((resource.RLIMIT_NOFILE, 0), (resource.RLIMIT_FSIZE, 1 << 20)):
    resource.setrlimit(what, (limit, limit))
print("lowered", flush=True)
""")
    for start in (lambda: process, lambda: place.start(PHEAP, "restore", pool)):
        running = start()
        if running is process:
            wait_until(lambda: "lowered" in process.stdout(), 30, "the program's limits")
        else:
            running.resumed()
        place.wait_generation(pool, place.newest(pool) + 2, running)
        expect(place.pheap("checkpoint", pool), FINE)
        running.kill(signal.SIGTERM)
    resumed = place.start(PHEAP, "restore", pool)
    resumed.resumed()
    end(place, resumed)
    check_in(f"(0, 0) ({1 << 20}, {1 << 20})", process.stdout(), "limits of the resumed program")
    check_equal(process.stderr(), "", "what the program says")


def limits_of_its_own_as_nobody(place):
    limits_of_its_own(place)


limits_of_its_own_as_nobody.uid = NOBODY
add_test("limits that a program sets itself are not its agent's, before and after a restore", limits_of_its_own)
add_test("nor are they without privilege", limits_of_its_own_as_nobody)


def prlimit(pid, option):
    subprocess.run(["prlimit", f"--pid={pid}", option], check=True)


def lowered_from_outside(place, kill):
    pool = place.path("pool")
    process = limited(place, "--core=0:0", pool)
    place.wait_generation(pool, 1, process)
    agent, = agents(process.pid)
    prlimit(agent, "--nofile=1:")
    rests([agent])
    if kill:
        process.kill()
    else:
        end(place, process)
    wait_until(lambda: is_gone(agent), 30, f"the end of its agent: {describe_process(agent)}")


@test
def an_agent_that_may_not_wait_for_descriptors_ends_with_a_killed_program(place):
    lowered_from_outside(place, True)


@test
def an_agent_that_may_not_wait_for_descriptors_ends_with_a_program_that_ends(place):
    lowered_from_outside(place, False)


@test
def a_restorer_that_may_not_wait_for_descriptors_ends_with_its_program(place):
    pool = place.path("pool")
    process = limited(place, "--core=0:0", pool)
    place.wait_generation(pool, 1, process)
    process.kill()
    resumed = place.start(PHEAP, "restore", pool)
    resumed.resumed()
    prlimit(resumed.pid, "--nofile=0:")
    os.kill(resumed.pid, signal.SIGCONT)  # it waits already: by a signal that it passes on it comes to wait anew
    rests([resumed.pid])
    end(place, resumed)


@test
def a_heaps_agent_that_may_not_wait_for_descriptors_ends_with_its_program(place):
    process = place.start(PYTHON, "-c", WAITER % HEAP, place.path("heap"),
                          environment={"LD_PRELOAD": LIBRARY})
    agent, = wait_until(lambda: agents(process.pid, "pheap-heap"), 30, "the heap's agent")
    prlimit(agent, "--nofile=0:")
    rests([agent])
    end(place, process)
    wait_until(lambda: is_gone(agent), 30, f"the end of its agent: {describe_process(agent)}")


@test
def clients_that_only_connect_do_not_take_the_descriptors_of_checkpoints(place):
    pool = place.path("pool")
    process = limited(place, f"--nofile={DESCRIPTORS + 1}:{DESCRIPTORS + 1}", pool)
    place.wait_generation(pool, 1, process)
    name = "\0pheap/" + place.inspect(pool)["uuid"]
    clients = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(7)]
    for client in clients:
        client.connect(name)
        place.wait_generation(pool, place.newest(pool) + 1, process)
    rests(agents(process.pid))
    expect(place.pheap("checkpoint", pool), FINE)
    end(place, process)
    for client in clients:
        client.close()


@test
def a_limit_on_the_size_of_files_that_may_be_raised_is(place):
    pool = place.path("pool")
    process = limited(place, "--fsize=100000:", pool)
    place.wait_generation(pool, 2, process)
    end(place, process)
    check_equal(process.stderr(), "", "what it says")
    check_in(") (100000, ", process.stdout(), "the program's own limit")


@test
def a_limit_on_the_size_of_files_ends_no_program(place):
    pool = place.path("pool")
    process = limited(place, "--fsize=100000:100000", pool)
    wait_until(process.stderr, 30, "a line")
    expect(place.pheap("checkpoint", pool), SYSTEM, "file size limit", "RLIMIT_FSIZE is 100000 bytes")
    end(place, process)
    check_in("RLIMIT_FSIZE is 100000 bytes); the program goes on", one_line(process), "what it says")


@test
def a_pool_that_a_limit_on_the_size_of_files_forbids_is_not_made(place):
    pool = place.path("pool")
    done = limited(place, "--fsize=5000:", pool)
    check_equal(done.wait(), SYSTEM, "exit status of pheap run")
    check_in("file size limit reached (RLIMIT_FSIZE is 5000 bytes)", one_line(done), "what it says")
    process = place.start("prlimit", "--fsize=5000:", "--", "env", f"LD_PRELOAD={LIBRARY}", f"PHEAP_POOL={pool}",
                          PYTHON, "-c", WAITER % "")
    end(place, process)
    check_in("file size limit reached (RLIMIT_FSIZE is 5000 bytes)", one_line(process), "what it says")
    check(not os.path.exists(pool), "there is a pool")


@test
def a_program_finds_the_signals_of_limits_as_they_were(place):
    script = "import signal; print(signal.getsignal(signal.SIGXFSZ), signal.getsignal(signal.SIGXCPU))"
    for prefix in ((), ("env", "--ignore-signal=XFSZ")):
        plain = place.run(*prefix, PYTHON, "-Ic", script)
        done = place.run(*prefix, PHEAP, "run", "--fresh", place.path("pool"), PYTHON, "-Ic", script)
        check_equal((done.status, done.stdout()), (0, plain.stdout()), "what the program finds")


@test
def other_limits_do_not_matter(place):
    prefix = ("prlimit", *[f"--{name}=0:0" for name in ("core", "memlock", "locks", "msgqueue", "rtprio", "nice",
                                                         "sigpending")])
    pool = place.path("pool")
    process = limited(place, "--stack=262144:262144", pool, prefix=prefix)
    place.wait_generation(pool, 2, process)
    process.kill()
    resumed = place.start(*prefix, "prlimit", "--stack=262144:262144", "--", PHEAP, "restore", pool)
    resumed.resumed()
    place.wait_generation(pool, place.newest(pool) + 2, resumed)
    end(place, resumed)
    check_equal(process.stderr(), "", "what it says")


def of_memory(option, enough, little):
    def runs(place):
        process = limited(place, f"--{option}={enough}:{enough}", place.path("enough"))
        place.wait_generation(place.path("enough"), 2, process)
        poor = limited(place, f"--{option}={little}:{little}", place.path("little"), "sleep", "0.1")
        check_equal(poor.wait(), 0, "exit status of the program with little")
        end(place, process)
        check_equal(process.stderr(), "", "what it says")
        check_in(f"(RLIMIT_{option.upper()} is {little} bytes)", one_line(poor), "what it says")
    return runs


add_test("a program with little data of its own has checkpoints or is told why not",
         of_memory("data", 200 << 20, 40 << 20))
add_test("a program with little address space has checkpoints or is told why not",
         of_memory("as", 400 << 20, 150 << 20))


def start_large(place, option, pool, mebibytes):
    """Checksums of all its memory are compared at each checkpoint: much work for an agent."""
    os.mkfifo(place.path("input"))
    place.give(place.path("input"))
    writer = os.open(place.path("input"), os.O_RDWR)
    process = limited(place, option, pool, DIRTY, str(mebibytes), interval="0", stdin=place.path("input"),
                      environment={"PHEAP_TRACK": "checksum"})
    wait_until(lambda: "ready" in process.stdout(), 60, "the program")
    return process, agents(process.pid)[0], writer


def end_large(process, writer):
    os.write(writer, b"end\n")
    check_equal(process.wait(), 0, "exit status of the program")
    os.close(writer)


@test
def an_agent_without_processor_time_says_so_and_marks_the_end(place):
    """It counts for each process by itself: the program has used little."""
    pool = place.path("pool")
    process, agent, writer = start_large(place, "--cpu=2:2", pool, 100)
    expect(place.pheap("checkpoint", pool), FINE)
    while (done := place.pheap("checkpoint", pool)).status == FINE:
        check(processor_ticks(agent) < 200, "the agent has all of its processor time")
    expect(done, REFUSED, "its agent has used up its processor time (RLIMIT_CPU is 2 s")
    check_in("no checkpoint: its agent has used up its processor time (RLIMIT_CPU is 2 s", one_line(process),
             "what it says")
    check(not is_gone(agent), "the agent has ended")
    end_large(process, writer)
    expect(place.pheap("restore", pool), REFUSED, "ended by itself")


@test
def a_soft_limit_on_processor_time_is_not_the_agents(place):
    pool = place.path("pool")
    process, agent, writer = start_large(place, "--cpu=1:", pool, 100)
    while processor_ticks(agent) < 120:
        expect(place.pheap("checkpoint", pool), FINE)
    end_large(process, writer)


@test
def a_limit_on_real_time_does_not_end_an_agent_in_a_long_freeze(place):
    if not place.privileged():
        raise Skip("needs root: others have no real-time priority")
    pool = place.path("pool")
    process, _, writer = start_large(place, "--rttime=1000:1000", pool, 200)
    for _ in range(2):
        expect(place.pheap("checkpoint", pool), FINE)
    end_large(process, writer)


def without_processes(place):
    process = place.start("prlimit", "--nproc=1:1", "--", PHEAP, "run", place.path("pool"), PYTHON, "-c", WAITER % "")
    wait_until(process.stderr, 30, "a line")
    end(place, process)
    check_equal(one_line(process), "pheap: no checkpoints: cannot start the agent: resource temporarily unavailable "
                "(RLIMIT_NPROC is 1)", "what it says")


without_processes.uid = NOBODY
add_test("a program that may have no more processes is told so", without_processes)


@test
def a_program_that_may_queue_no_signals_is_not_disturbed_by_them(place):
    pool = place.path("pool")
    process = limited(place, "--sigpending=0:0", pool, environment={"PHEAP_FREEZE": "signal"},
                      script="before = time.monotonic(); time.sleep(0.3)")
    wait_until(process.stderr, 30, "a line")
    expect(place.pheap("checkpoint", pool), REFUSED, "RLIMIT_SIGPENDING")
    end(place, process)
    check_in("RLIMIT_SIGPENDING", one_line(process), "what it says")


if __name__ == "__main__":
    main()
