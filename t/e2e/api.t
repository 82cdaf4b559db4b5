#!/usr/bin/python3
"""core/pheap.h, used by a program that runs with pheap and without."""
import os
import re
import shutil
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, FINE, LIBRARY, PHEAP, PROGRAMS, Skip, check,  # noqa: E402
                        check_equal, check_in, expect, main, test, wait_until)

PROGRAM = os.path.join(BUILT_PROGRAMS, "knows_pheap")


def start(place, *arguments, options=("-i", "0"), stdout=None):
    return place.start(PHEAP, "run", *options, place.path("pool"), PROGRAM, *arguments,
                       stdout=stdout)


def output(process):
    check_equal(process.wait(), 0, "exit status")
    return process.stdout().splitlines()


@test
def the_program_runs_without_pheap(place):
    done = place.run(PROGRAM, 1, 0)
    expect(done, FINE)
    check_equal(done.stdout(), "absent\n", "output")


@test
def each_call_takes_a_durable_generation_and_returns_its_number(place):
    process = start(place, 3, 100)
    wait_until(lambda: "line 0" in process.stdout(), 20, "three checkpoints")
    generations = [g["number"] for g in place.inspect(place.path("pool"))["generations"]]
    process.kill()
    check_equal(process.stdout().splitlines()[:3], [f"generation {n}" for n in (1, 2, 3)], "output")
    check_equal(generations, [1, 2, 3], "generations in the pool")


@test
def a_resumed_program_comes_back_from_the_call_with_the_same_number(place):
    out = place.path("out")
    process = start(place, 2, 30, stdout=out)
    wait_until(lambda: "line 5" in process.stdout(), 20, "some lines")
    process.kill()
    process = place.pheap("restore", place.path("pool"))
    expect(process, FINE, "resumed generation 2")
    with open(out, encoding="ascii") as f:
        check_equal(f.read().splitlines(),
                    ["generation 1", "generation 2"] + [f"line {i}" for i in range(30)], "output")


@test
def several_threads_may_ask_at_once(place):
    lines = output(start(place, 0, 0, "threads"))
    check_equal(len(lines), 4, "lines")
    check(all(line.startswith("generation ") for line in lines), f"{lines}")


@test
def what_cannot_be_done_is_a_negative_error_with_a_text(place):
    lines = output(start(place, 1, 0, "socket"))
    check_equal(lines, ["error -5007: cannot be checkpointed"], "output")


@test
def a_child_and_a_preload_without_a_pool_have_no_pool(place):
    lines = output(start(place, 1, 0, "child"))
    check_equal(lines, ["error -5100: this process has no pool", "generation 1"], "output")
    done = place.run(PROGRAM, 1, 0, environment={"LD_PRELOAD": LIBRARY})
    check_equal(done.stdout(), "error -5100: this process has no pool\n", "output")


@test
def every_build_of_it_starts_without_pheap(place):
    source = os.path.join(PROGRAMS, "knows_pheap.c")
    built = 0
    for compiler in ("gcc", "clang", "g++"):
        for options in (("-O0",), ("-O2",), ("-O2", "-fno-plt"), ("-O2", "-no-pie")):
            if not shutil.which(compiler):
                continue
            binary = place.path("program")
            done = place.run(compiler, *options, "-x", "c++" if "++" in compiler else "c", source,
                             "-o", binary, "-lpthread")
            expect(done, FINE)
            check_equal(place.run(binary, 1, 0).stdout(), "absent\n", f"{compiler} {options}")
            done = place.run(binary, 1, 0, environment={"LD_PRELOAD": LIBRARY})
            if "-no-pie" not in options:
                check_in("no pool", done.stdout(), f"preloaded: {compiler} {options}")
            built += 1
    if not built:
        raise Skip("no compiler")


OWN_HEAP = os.path.join(BUILT_PROGRAMS, "own_heap")
REFUSED, LIMIT, EINVAL = -5011, -5012, -22


@test
def the_process_s_own_heap_has_names_that_a_resumed_process_and_inspect_find(place):
    out = place.path("out")
    process = place.start(PHEAP, "run", "-i", "0", place.path("pool"), OWN_HEAP, 30, stdout=out)

    def lines():
        with open(out, encoding="ascii") as f:
            return f.read().splitlines()

    wait_until(lambda: len(lines()) > 5, 20, "some lines")
    process.kill()
    named = [r for r in place.inspect(place.path("pool"), "roots")["roots"] if r["kind"] == "name"]
    check_equal([(r["name"], r["type"]) for r in named], [("list", 7)], "named roots")
    process = place.pheap("restore", place.path("pool"))
    expect(process, FINE, "resumed generation 1")
    check_equal(lines(), ["generation 1"] + ["55 of type 7"] * 30, "output")


@test
def what_only_opened_heaps_can_is_refused_by_the_process_s_own(place):
    wanted = {"begin": REFUSED, "optimistic": REFUSED, "close": REFUSED, "sync": REFUSED, "bytes": 1,
              "bytes of none": 0, "type": 0, "next": 0, "ref": 0, "stack": EINVAL, "no name": EINVAL,
              "names": 32, "then": LIMIT, "taken away": 0, "gone": 1, "another": 0}
    pooled = output(place.start(PHEAP, "run", "-i", "0", place.path("pool"), OWN_HEAP, "refused"))
    volatile = place.run(OWN_HEAP, "refused", environment={"LD_PRELOAD": LIBRARY})
    for lines, checkpoint in ((pooled, 1), (volatile.stdout().splitlines(), 0)):
        found = {line.rsplit(" ", 1)[0]: int(line.rsplit(" ", 1)[1]) for line in lines}
        check_equal(found, dict(wanted, checkpoint=checkpoint), "what it says")


@test
def what_must_not_repeat_is_made_anew_after_a_resume(place):
    out = place.path("out")
    process = place.start(PHEAP, "run", "-i", "50ms", place.path("pool"),
                          os.path.join(BUILT_PROGRAMS, "secrets"), stdout=out)
    keys, line = set(), re.compile(r"key (\w+) of (\d+), signals (\d+), child (\d+)")

    def last():
        with open(out, encoding="ascii") as f:
            found = [m.groups() for m in map(line.fullmatch, f.read().splitlines()) if m]
        return found[-1] if found else None

    place.wait_generation(place.path("pool"), 2, process)
    check_equal(last()[1:], ("0", "0", "0"), "before any resume")
    pid = process.pid
    for resumes in (1, 2):
        keys.add(last()[0])
        os.kill(pid, signal.SIGKILL)
        process.wait()
        process = place.start(PHEAP, "restore", place.path("pool"))
        resumed = process.resumed()
        number, pid = resumed["generation"], resumed["outer_pid"]
        wait_until(lambda n=number, r=resumes: last()[1:] == (str(n), str(r), str(n)), 20,
                   f"the number, signal and variable of resume {resumes}")
        place.wait_generation(place.path("pool"), number + 2, process)
    check(last()[0] not in keys and len(keys) == 2, "three keys")
    process.kill(signal.SIGTERM)


if __name__ == "__main__":
    main()
