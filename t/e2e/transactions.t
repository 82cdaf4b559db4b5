#!/usr/bin/python3
"""Heaps that programs open by themselves: killed at random, every transaction that was said to be
durable is there, whole; and pools of one sort are not taken for the other."""
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, FINE, LIBRARY, PYTHON, REFUSED, ROOT, ROUNDS,  # noqa: E402
                        check, check_equal, check_in, expect, main, test, wait_until)

PROGRAM = os.path.join(BUILT_PROGRAMS, "transfers")
PRELOADED = {"LD_PRELOAD": LIBRARY}
KILLS = 20


def start(place, pool, threads, **keywords):
    return place.start(PROGRAM, pool, "run", threads, environment=PRELOADED, **keywords)


def said(text):
    """The last transfer that each thread has said, whole lines only."""
    last = {}
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):
            thread, number = line.split()
            last[thread] = int(number)
    return last


def found(place, pool):
    done = place.run(PROGRAM, pool, "check", environment=PRELOADED)
    expect(done, FINE)
    for line in done.stdout().splitlines():
        check(len(line.split()) == 2, f"the heap does not make sense: {line}")
    return said(done.stdout())


@test
def every_transfer_that_was_said_is_there_after_kill_9(place):
    pool = place.path("pool")
    total = before = 0
    for round_number in range(KILLS * ROUNDS):
        process = start(place, pool, 1 + round_number % 8)
        wait_until(lambda: "\n" in process.stdout(), 20, "a transfer")
        time.sleep(random.random() * 0.2)
        process.kill()
        there = found(place, pool)
        for thread, number in said(process.stdout()).items():
            check(there[thread] >= number, f"round {round_number}: thread {thread} has said "
                                           f"{number}, the heap has {there[thread]}")
        total = sum(there.values())
        check(total >= before, f"{before} transfers before, {total} now")
        before = total
    place.note(f"{KILLS * ROUNDS} kills, {total} transfers")


@test
def a_reader_finds_it_making_sense_while_it_is_written(place):
    pool = place.path("pool")
    process = start(place, pool, 4)
    wait_until(lambda: "\n" in process.stdout(), 20, "a transfer")
    for _ in range(20):
        before = said(process.stdout())
        there = found(place, pool)
        check(all(there[thread] >= number for thread, number in before.items()),
              f"said {before}, found {there}")
    process.kill()


@test
def a_second_writer_is_refused(place):
    pool = place.path("pool")
    process = start(place, pool, 1)
    wait_until(lambda: "\n" in process.stdout(), 20, "a transfer")
    second = place.run(PROGRAM, pool, "run", 1, environment=PRELOADED)
    check_equal(second.status, 1, "exit status")
    check_in("in use", second.stdout(), "output")
    process.kill()


@test
def a_heap_is_not_run_on_and_a_program_is_not_opened(place):
    heap, pool = place.path("heap"), place.path("pool")
    process = start(place, heap, 1)
    wait_until(lambda: "\n" in process.stdout(), 20, "a transfer")
    process.kill()
    before = found(place, heap)
    for options in ((), ("--fresh",), ("--resume",)):
        expect(place.pheap("run", *options, heap, "/bin/true"), REFUSED, "heap")
    done = place.run("/bin/true", environment=dict(PRELOADED, PHEAP_POOL=heap))
    expect(done, FINE)
    check_in("heap", done.stderr(), "stderr")
    check_equal(found(place, heap), before, "transfers")
    expect(place.pheap("run", pool, "/bin/true"), FINE)
    done = place.run(PROGRAM, pool, "run", 1, environment=PRELOADED)
    check_equal(done.status, 1, "exit status")
    check_in("program's checkpoints", done.stdout(), "output")


@test
def a_program_that_is_checkpointed_opens_heaps_for_reading_only(place):
    heap, pool = place.path("heap"), place.path("pool")
    process = start(place, heap, 1)
    wait_until(lambda: "\n" in process.stdout(), 20, "a transfer")
    process.kill()
    done = place.pheap("run", "--fresh", pool, PROGRAM, heap, "run", 1)
    check_in("for reading only", done.stdout(), "output")
    done = place.pheap("run", "--fresh", pool, PROGRAM, heap, "check")
    expect(done, FINE)
    check_equal(said(done.stdout()), found(place, heap), "transfers")


@test
def the_tools_look_at_a_heap_without_harm(place):
    pool = place.path("pool")
    process = start(place, pool, 2)
    wait_until(lambda: "\n" in process.stdout(), 20, "a transfer")
    process.kill()
    before = found(place, pool)
    summary = place.inspect(pool)
    check_equal(summary["format_version"], 3, "format")
    check_equal({g["kind"] for g in summary["generations"]}, {"heap"}, "kinds")
    check(place.pheap("restore", pool).status != FINE, "restored")
    live = place.inspect(pool, "heap")["heap"]["live_blocks"]
    check(live > 0, f"{live} blocks")
    listed = place.run(PYTHON, os.path.join(ROOT, "t/lib/second_reader.py"), "list", pool)
    expect(listed, FINE)
    check_equal(listed.stdout().count("\ngeneration "), len(summary["generations"]),
                "generations that the second reader finds")
    check_equal(found(place, pool), before, "transfers")


@test
def the_example_keeps_accounts(place):
    binary, heap = place.path("accounts"), place.path("heap")
    place.run("cp", os.path.join(ROOT, "core/pheap.h"), place.path("pheap.h"))
    library = os.path.dirname(LIBRARY)
    done = place.run("cc", "-DPHEAP_LINKED", "-Wall", "-Wextra", "-Werror", "-I", place.path(),
                     os.path.join(ROOT, "docs/examples/accounts.c"), "-o", binary,
                     "-L" + library, "-lpheap", "-Wl,-rpath," + library)
    expect(done, FINE)
    for words in ("open ann", "open bob", "pay ann 100", "move ann bob 30", "move ann bob 71",
                  "open cid", "drop cid"):
        expect(place.run(binary, heap, *words.split()), FINE)
    listed = place.run(binary, heap, "list").stdout()
    check_equal([line.split() for line in listed.splitlines()], [["ann", "70"], ["bob", "30"]],
                "accounts")
    expect(place.pheap("recover", "--check", heap), FINE)
    expect(place.pheap("recover", "--rollback", 1, "--yes", heap), REFUSED, "--drop-log")
    for words in ("--compact", "--repair --yes", "--clone " + place.path("copy")):
        expect(place.pheap("recover", *words.split(), heap), FINE)
    check_equal(place.run(binary, place.path("copy"), "list").stdout(), listed, "in the copy")
    check_equal(place.run(binary, heap, "list").stdout(), listed, "accounts after that")


@test
def optimistic_blocks_in_c_and_in_cpp(place):
    """The sums hold in every block, every way out of one does what it should."""
    source = os.path.join(ROOT, "t/programs/optimistic.c")
    for compiler, options in (("gcc", "-std=c11 -O2"), ("clang", "-std=c17 -O1"), ("g++", "-x c++ -std=c++17 -O2"),
                              ("g++", "-x c++ -O2 -fno-exceptions")):
        binary = place.path("optimistic")
        done = place.run(compiler, "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", *options.split(),
                         source, "-o", binary, "-lpthread")
        expect(done, FINE)
        for threads in (1, 4):
            pool = place.path(f"pool-{compiler}-{len(options)}-{threads}")
            done = place.run(binary, pool, threads, 2000 * ROUNDS, environment=PRELOADED)
            check_equal(done.stdout(), "fine\n", f"{compiler} {options}, {threads} threads")


if __name__ == "__main__":
    main()
