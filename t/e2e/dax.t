#!/usr/bin/python3
"""The DAX back end: in use where PMEM_IS_PMEM_FORCE=1 stands for persistent memory (on tmpfs), or
where there is some (PHEAP_TEST_DAX names a directory on it); given up, unseen, where there is none;
libpmem in no program that has no use for it. As a user too."""
import os
import random
import shutil
import signal
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILD, BUILT_PROGRAMS, FINE, LIBRARY, NOBODY, PHEAP, PYTHON, ROOT, Skip, add_test, check,  # noqa: E402
                        check_equal, check_in, expect, main, wait_until)
from transfers import TRANSFERS, check_all_there, said  # noqa: E402

COUNTER = os.path.join(BUILT_PROGRAMS, "counter")
FORCED = {"PMEM_IS_PMEM_FORCE": "1"}
REAL = os.environ.get("PHEAP_TEST_DAX")
STORAGE = "dax" if REAL else "dax (forced)"
COUNT = 150
STEP_MS = "50" if REAL else "10"  # an emulated processor takes its time


def needs_libpmem():
    if not any(os.path.exists(os.path.join(directory, "libpmem.so.1"))
               for directory in ("/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib64",
                                 "/usr/lib")):
        raise Skip("libpmem.so.1 is not installed")
    if not REAL and not os.access("/dev/shm", os.W_OK):
        raise Skip("no tmpfs at /dev/shm")


class Dax:
    """A directory where the DAX back end can be had, gone at the end."""

    def __init__(self, place):
        needs_libpmem()
        self.place = place

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="pheap-dax-", dir=REAL or "/dev/shm")
        self.place.give(self.path)
        return os.path.join(self.path, "pool")

    def __exit__(self, *_):
        shutil.rmtree(self.path)


def start(place, pool, *options, environment=None, count=COUNT):
    variables = dict({} if REAL else FORCED, **(environment or {}))
    return place.start(PHEAP, "run", "-i", "50ms", *options, pool, COUNTER, str(count), "0",
                       STEP_MS, environment=variables)


def program(place, pool):
    return place.inspect(pool)["program"]


def storage(place, pool):
    return wait_until(lambda: program(place, pool), 30, "an agent that answers")["storage"]


def kill_resumed(restore, resumed):
    os.kill(resumed["outer_pid"], signal.SIGKILL)
    restore.wait()


def move(place, source, target):
    shutil.move(source, target)
    place.give(target)


def check_counted(process, count=COUNT):
    expected = [f"{i} {i * (i + 1) // 2}" for i in range(1, count + 1)]
    check_equal(process.stdout().splitlines(), expected, "the program's output")


def libraries(pid):
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        return {os.path.basename(line.split()[5]) for line in maps
                if len(line.split()) > 5 and ".so" in line}


def a_program_is_killed_twice_and_resumed_with_its_pool_on_dax(place):
    with Dax(place) as pool:
        run = start(place, pool)
        place.wait_generation(pool, 3, run)
        check_equal(storage(place, pool), STORAGE, "storage of the first run")
        if REAL and os.uname().release.startswith("6.1."):
            check_in("soft-dirty bits", program(place, pool)["tracking"], "tracking on a 6.1 kernel")
        run.kill()
        restore = place.start(PHEAP, "restore", pool)
        resumed = restore.resumed()
        first = resumed["generation"]
        check_equal(storage(place, pool), STORAGE, "storage after a restore")
        place.wait_generation(pool, first + 3, restore)
        kill_resumed(restore, resumed)
        restore = place.start(PHEAP, "restore", pool)
        check(restore.resumed()["generation"] > first, "no progress between the restores")
        check_equal(restore.wait(), 0, "exit status")
        check_counted(run)
        check_equal(place.pheap("inspect", pool).status, 0, "inspect afterwards")


def a_pool_moved_off_dax_goes_on_as_an_ordinary_file_and_back(place):
    with Dax(place) as pool:
        run = start(place, pool)
        place.wait_generation(pool, 2, run)
        run.kill()
        moved = place.path("pool")
        move(place, pool, moved)
        restore = place.start(PHEAP, "restore", moved)
        resumed = restore.resumed()
        check_equal(storage(place, moved), "file", "storage off DAX")
        place.wait_generation(moved, resumed["generation"] + 2, restore)
        kill_resumed(restore, resumed)
        move(place, moved, pool)
        restore = place.start(PHEAP, "restore", pool)
        restore.resumed()
        check_equal(storage(place, pool), STORAGE, "storage back on DAX")
        check_equal(restore.wait(), 0, "exit status")
        check_counted(run)


def a_pool_moved_onto_dax_without_libpmem_in_the_program_goes_on(place):
    with Dax(place) as pool:
        born = place.path("pool")
        run = place.start(PHEAP, "run", "-i", "50ms", born, COUNTER, str(COUNT), "0", STEP_MS)
        place.wait_generation(born, 2, run)
        check_equal(storage(place, born), "file", "storage on an ordinary file system")
        check("libpmem.so.1.0.0" not in libraries(run.pid), "libpmem is in a program without DAX")
        run.kill()
        move(place, born, pool)
        restore = place.start(PHEAP, "restore", pool)
        restore.resumed()
        found = storage(place, pool)
        check(found.startswith("file"), f"storage: {found}")
        check_equal(restore.wait(), 0, "exit status")
        check_counted(run)


def a_program_with_little_address_space_runs_on_dax(place):
    with Dax(place) as pool:
        limit = 3 << 30
        variables = {} if REAL else FORCED
        run = place.start(PHEAP, "run", "-i", "50ms", pool, COUNTER, str(COUNT), "0", STEP_MS,
                          environment=variables, prefix=["prlimit", f"--as={limit}:{limit}", "--"])
        place.wait_generation(pool, 2, run)
        check_equal(storage(place, pool), STORAGE, "storage")
        run.kill()
        restore = place.start(PHEAP, "restore", pool)
        restore.resumed()
        check_equal(restore.wait(), 0, "exit status")
        check_counted(run)


def an_exec_hands_the_pool_on(place):
    with Dax(place) as pool:
        variables = {} if REAL else FORCED
        run = place.start(PHEAP, "run", "-i", "50ms", pool, "sh", "-c",
                          f"sleep 0.3; exec {COUNTER} {COUNT} 0 {STEP_MS}", environment=variables)
        wait_until(lambda: run.stdout(), 30, "the second program's output")
        newest = place.newest(pool)
        place.wait_generation(pool, newest + 2, run)
        check_equal(storage(place, pool), STORAGE, "storage")
        run.kill()
        restore = place.start(PHEAP, "restore", pool)
        restore.resumed()
        check_equal(restore.wait(), 0, "exit status")
        check_counted(run)


def an_ordinary_pool_stays_ordinary_when_dax_is_forced(place):
    needs_libpmem()
    if REAL:
        raise Skip("nothing is forced here")
    pool = place.path("pool")
    if os.statvfs(place.directory).f_fsid == os.statvfs("/dev/shm").f_fsid:
        raise Skip("the tests run on tmpfs")
    run = start(place, pool, count=60)
    place.wait_generation(pool, 1, run)
    check_equal(storage(place, pool), "file", "storage")
    check("libpmem.so.1.0.0" not in libraries(run.pid), "libpmem was loaded for nothing")
    check_equal(run.wait(), 0, "exit status")


def a_pool_that_is_truncated_ends_checkpoints_and_not_the_program(place):
    with Dax(place) as pool:
        run = start(place, pool)
        place.wait_generation(pool, 2, run)
        with open(pool, "r+b") as file:
            file.truncate(8192)
        wait_until(lambda: "input/output error" in run.stderr().lower(), 30, "the agent's message")
        check_equal(run.wait(), 0, "exit status")
        check_counted(run)


# Sixteen megabytes that are looked at when a file appears, half of them written to then.
BLOCKS = """
import os, sys, time
blocks = [bytearray([i + 1]) * (1 << 20) for i in range(16)]
for stage in range(2):
    while not os.path.exists(f"{sys.argv[1]}/go-{stage}"):
        time.sleep(0.02)
    for i, block in enumerate(blocks):
        wanted = i + 1 + (100 if stage and i % 2 else 0)
        if block.count(wanted) != 1 << 20:
            sys.exit(f"block {i} is damaged in stage {stage}")
        if i % 2:
            block[:] = bytes([i + 101]) * (1 << 20)
print("whole")
"""


def mapped_in_place(pid, pool):
    """Bytes of the process that are private mappings of the pool."""
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        lines = [line.split() for line in maps]
    spans = [line[0].split("-") for line in lines if line[1].endswith("p") and pool in line]
    return sum(int(end, 16) - int(start, 16) for start, end in spans)


def restored_memory_is_read_in_place_until_it_is_written(place):
    with Dax(place) as pool:
        place.write("blocks.py", BLOCKS)
        process = run = place.start(PHEAP, "run", "-i", "50ms", pool, PYTHON,
                                    place.path("blocks.py"), place.path(),
                                    environment={} if REAL else FORCED)
        last = wait_until(lambda: place.newest(pool), 60, "a generation")
        pid = process.pid
        for stage in range(2):
            last += 3
            place.wait_generation(pool, last, process)
            os.kill(pid, signal.SIGKILL)
            process.wait()
            process = place.start(PHEAP, "restore", pool)
            pid, last = (process.resumed()[key] for key in ("outer_pid", "generation"))
            check(mapped_in_place(pid, pool) >= 12 << 20, f"mapped: {mapped_in_place(pid, pool)}")
            check_equal(storage(place, pool), STORAGE, "storage")
            place.write(f"go-{stage}", "")
        check_equal(process.wait(), 0, f"exit status: {process.stderr()}")
        check_equal(run.stdout(), "whole\n", "the program's word")


def the_pool_s_own_tests_pass_with_the_dax_back_end(place):
    with Dax(place) as pool:
        variables = dict({} if REAL else FORCED, PHEAP_TEST_STORAGE="dax",
                         TMPDIR=os.path.dirname(pool))
        for name in ("pool_generations", "pool_damage", "pool_example"):
            done = place.run(os.path.join(BUILD, "t", "unit", name), environment=variables)
            check_equal(done.status, 0, f"status of {name}: {done.stdout()}")


def what_threads_with_lanes_have_said_is_there_after_kill_9(place):
    """Transactions of an opened heap; three readers of its log say the same of it."""
    variables = dict({} if REAL else FORCED, LD_PRELOAD=LIBRARY)
    rounds = lanes = 0
    with Dax(place) as pool:
        while rounds < 6 or (lanes == 0 and rounds < 40):
            process = place.start(TRANSFERS, pool, "run", 2 + rounds % 7, environment=variables)
            wait_until(lambda: "\n" in process.stdout(), 20, "a transfer")
            time.sleep(random.random() * 0.2)
            process.kill()
            totals = place.inspect(pool, "log")["log_totals"]
            lanes += totals["in_lanes"]
            checked = place.run(PHEAP, "recover", "--check", pool)  # a record may be torn
            check(checked.status == FINE or "whole; what was found is harmless" in checked.stdout(),
                  checked.stdout())
            second = place.run(PYTHON, os.path.join(ROOT, "t/lib/second_reader.py"), "log", pool)
            expect(second, FINE)
            check_equal(len(second.stdout().splitlines()), totals["records"], "records")
            done = place.run(TRANSFERS, pool, "check", environment=variables)
            expect(done, FINE)
            check_all_there(process, said(done.stdout()), f"round {rounds}")
            rounds += 1
        check(lanes > 0, "no thread had a lane")
        place.note(f"{rounds} kills, {lanes} records in lanes")


TESTS = (a_program_is_killed_twice_and_resumed_with_its_pool_on_dax,
         a_pool_moved_off_dax_goes_on_as_an_ordinary_file_and_back,
         a_pool_moved_onto_dax_without_libpmem_in_the_program_goes_on,
         a_program_with_little_address_space_runs_on_dax,
         an_exec_hands_the_pool_on,
         a_pool_that_is_truncated_ends_checkpoints_and_not_the_program,
         restored_memory_is_read_in_place_until_it_is_written,
         an_ordinary_pool_stays_ordinary_when_dax_is_forced)


def as_user(function):
    def run(place):
        if os.geteuid() != 0:
            raise Skip("takes root to become another user")
        function(place)
    run.uid = NOBODY
    return run


for one in TESTS:
    add_test(one.__name__.replace("_", " "), one)
    add_test(one.__name__.replace("_", " ") + ", as a user", as_user(one))
add_test("what threads with lanes have said is there after kill -9",
         what_threads_with_lanes_have_said_is_there_after_kill_9)
add_test("the pool's own tests pass with the dax back end",
         the_pool_s_own_tests_pass_with_the_dax_back_end)

if __name__ == "__main__":
    main()
