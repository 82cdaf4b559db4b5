#!/usr/bin/python3
"""What a killed program leaves beside its checkpoints: a crash image, which is in nobody's way."""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, FINE, NOBODY, PHEAP, PYTHON, REFUSED, Skip, check,  # noqa: E402
                        check_equal, check_in, descendants, expect, main, test, wait_until)

COUNTER = os.path.join(BUILT_PROGRAMS, "counter")
# Tells when it has memory that no checkpoint has seen.
LARGE = """
import sys, time
blocks = [bytes([i & 255]) * (1 << 20) for i in range(int(sys.argv[1]))]
print("ready", flush=True)
time.sleep(1000)"""


def start(place, pool, *command, options=("-i", "0"), **keywords):
    return place.start(PHEAP, "run", *options, pool, *command, **keywords)


def generations(place, pool, kind):
    return [g for g in place.inspect(pool)["generations"] if g["kind"] == kind]


def wait_crash(place, pool):
    return wait_until(lambda: generations(place, pool, "crash"), 20, "a crash image")[-1]


def start_counter(place, pool, count=3000, **keywords):
    process = start(place, pool, COUNTER, count, "0", options=("-i", "50ms"), **keywords)
    place.wait_generation(pool, 2, process)
    return process


def start_large(place, pool, megabytes, options=("-i", "0"), checkpoint=True):
    """A program with a checkpoint and, at the prompt, megabytes that it does not hold."""
    process = start(place, pool, PYTHON, "-c", "import time; print(1, flush=True); time.sleep(0.5)" +
                    LARGE, megabytes, options=options)
    wait_until(process.stdout, 20, "output")
    if checkpoint:
        expect(place.pheap("checkpoint", pool), FINE)
    wait_until(lambda: "ready" in process.stdout(), 60, "the memory")
    return process


def agent_of(process):
    for pid in descendants(process.pid):
        with open(f"/proc/{pid}/comm", encoding="utf-8") as f:
            if f.read() == "pheap-agent\n":
                return pid
    return None


@test
def a_killed_program_leaves_a_crash_image_with_its_signal_and_its_last_memory(place):
    for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM):
        pool = place.path(f"pool-{number}")
        process = start(place, pool, COUNTER, "3000", "0", "1", options=("-i", "0"))
        wait_until(process.stdout, 20, "output")
        expect(place.pheap("checkpoint", pool), FINE)
        lines = len(process.stdout().splitlines())
        wait_until(lambda: len(process.stdout().splitlines()) > lines + 250, 20, "250 blocks more")
        process.kill(number)
        crash = wait_crash(place, pool)
        check_equal((crash["signal"], crash["pid"]), (number, process.pid), "signal and pid")
        text = place.pheap("inspect", pool)
        expect(text, FINE)
        check_in(f"killed by {number.name}", text.stdout(), "summary")
        check_in(f"killed by {number.name}",
                 place.pheap("inspect", pool, "generations").stdout(), "generations")
        before = place.inspect(pool, "heap")["heap"]["live_blocks"]
        after = place.pheap("inspect", "-g", crash["number"], pool, "heap")
        expect(after, FINE)
        blocks = int(after.stdout().split(" live in ")[1].split()[0])
        check(blocks >= before + 200, f"{before} blocks at the checkpoint, {blocks} in the image")


@test
def a_crash_image_is_not_resumed_and_the_generation_before_it_is(place):
    pool, out = place.path("pool"), place.path("out")
    start_counter(place, pool, 60, stdout=out).kill()
    crash = wait_crash(place, pool)["number"]
    expect(place.pheap("restore", "-g", crash, pool), REFUSED, f"generation {crash}",
           "cannot be resumed", "pheap inspect")
    check(place.inspect(pool)["resume_generation"] < crash, "what can be resumed is older")
    done = place.pheap("run", "--resume", pool, COUNTER)
    expect(done, FINE, "resumed generation")
    check_equal(len(open(out, encoding="ascii").readlines()), 60, "lines")


@test
def one_crash_image_is_kept_beside_the_n_newest_generations(place):
    pool = place.path("pool")
    start_counter(place, pool).kill()
    first = wait_crash(place, pool)["number"]
    process = place.start(PHEAP, "restore", pool)
    resumed = process.resumed()
    place.wait_generation(pool, first + 4, process)
    check_equal(len(generations(place, pool, "process")), 3, "process generations")
    check_equal(generations(place, pool, "crash")[0]["number"], first, "the crash image")
    os.kill(resumed["outer_pid"], signal.SIGKILL)
    process.wait()
    wait_until(lambda: wait_crash(place, pool)["number"] > first, 20, "another crash image")
    check_equal(len(generations(place, pool, "crash")), 1, "crash images")
    check_equal(len(generations(place, pool, "process")), 3, "process generations")


@test
def it_can_be_switched_off(place):
    for name, options, environment in (("option", ("-i", "50ms", "--no-crash"), {}),
                                       ("variable", ("-i", "50ms"), {"PHEAP_CRASH": "0"})):
        pool = place.path("pool-" + name)
        process = start(place, pool, COUNTER, "3000", options=options, environment=environment)
        place.wait_generation(pool, 2, process)
        agent = agent_of(process)
        process.kill()
        wait_until(lambda: not os.path.exists(f"/proc/{agent}"), 20, "the agent's end")
        check_equal(generations(place, pool, "crash"), [], f"crash images, by {name}")


@test
def a_program_that_ends_by_itself_leaves_none(place):
    for name, end in (("exit", "sys.exit(3)"),
                      ("exit_group", "ctypes.CDLL(None).syscall(231, 3)")):
        pool = place.path("pool-" + name)
        process = start(place, pool, PYTHON, "-c", "import ctypes, sys, time; time.sleep(0.3); " + end,
                        options=("-i", "50ms"))
        check_equal(process.wait(), 3, "exit status")
        time.sleep(0.2)
        check_equal(generations(place, pool, "crash"), [], f"crash images after {name}")


@test
def a_kill_before_the_first_checkpoint_leaves_an_image_and_nothing_to_resume(place):
    pool = place.path("pool")
    process = start(place, pool, COUNTER, "3000")
    wait_until(process.stdout, 10, "output")
    process.kill()
    wait_crash(place, pool)
    check_equal(place.inspect(pool)["resume_generation"], None, "something to resume")
    expect(place.pheap("run", pool, COUNTER, "2"), FINE)


ONLY = "holds crash images only"
VIEWS = (["heap"], ["slabs"], ["blocks"], ["leaks"], ["roots"], ["retained"], ["mappings"], ["strings"], ["grep", "x"])


@test
def where_crash_images_are_all_that_is_said_by_whoever_takes_the_newest(place):
    pool = place.path("pool")
    process = start(place, pool, COUNTER, "3000")
    wait_until(process.stdout, 10, "output")
    process.kill()
    number = wait_crash(place, pool)["number"]
    for view in VIEWS + (["--html", place.path("page")],):
        for options in ([], ["--json"]):
            if os.path.exists(place.path("page")):
                os.unlink(place.path("page"))
            expect(place.pheap("inspect", *options, pool, *view), FINE, pool, ONLY, f"generation {number},", "-g N")
    named = place.pheap("inspect", "-g", number, pool, "heap")
    expect(named, FINE)
    check_equal(named.stderr(), "", "what is said of one that was asked for")
    for view in (["files"], ["threads"], ["--core", place.path("core")]):
        expect(place.pheap("inspect", pool, *view), REFUSED, f"generation {number} is a crash image", "nor has any other")
    for command in (["restore", pool], ["restore", "--copy", place.path("copy"), pool]):
        done = place.pheap(*command)
        expect(done, REFUSED, ONLY, f"the newest is generation {number}", f"pheap inspect -g {number}")
        check_equal(len(done.stderr().splitlines()), 1, "lines")
    check(not os.path.exists(place.path("copy")), "no copy is left")
    done = place.pheap("run", "--resume", pool, COUNTER, "2")
    expect(done, FINE, pool, ONLY, f"generation {number}", f"{COUNTER} starts afresh")
    ended = place.pheap("run", "--resume", pool, COUNTER, "2")
    expect(ended, FINE)
    check_equal(ended.stderr(), "", "what is said after a program that has ended by itself")


@test
def where_no_generation_is_that_is_said(place):
    pool = place.path("pool")
    done = place.pheap("run", "--resume", pool, COUNTER, "2")
    expect(done, FINE)
    check_equal(done.stderr(), "", "what is said of a new pool")
    for view in VIEWS + (["files"], ["threads"], ["--core", place.path("core")], ["--html", place.path("page")]):
        expect(place.pheap("inspect", pool, *view), REFUSED, pool, "holds no generation", "no checkpoint was completed")
    expect(place.pheap("inspect", "-g", "7", pool, "heap"), REFUSED, pool, "no generation 7")
    expect(place.pheap("restore", pool), REFUSED, "the program ended by itself: there is nothing to resume")


@test
def an_earlier_runs_generation_is_named_where_this_run_has_none(place):
    pool = place.path("pool")
    start_counter(place, pool).kill()
    wait_crash(place, pool)
    kept = generations(place, pool, "process")[-1]["number"]
    process = start(place, pool, COUNTER, "3000", options=("-i", "0", "--fresh"))
    wait_until(process.stdout, 10, "output")
    process.kill()
    wait_until(lambda: place.inspect(pool)["program"] is None, 20, "the agent's end")
    expect(place.pheap("restore", pool), REFUSED, "no checkpoint was completed in this run",
           f"-g {kept} takes the newest generation of a process")


@test
def a_restore_right_after_the_kill_is_neither_refused_nor_held_up(place):
    pool = place.path("pool")
    longest = 0
    for delay in (0, 0.02, 0.1):
        if os.path.exists(pool):
            os.unlink(pool)
        process = start_large(place, pool, 400)
        os.kill(process.pid, signal.SIGKILL)
        process.popen.wait(30)
        time.sleep(delay)
        began = time.monotonic()
        restorer = place.start(PHEAP, "restore", pool)
        resumed = restorer.resumed()
        longest = max(longest, time.monotonic() - began)
        check_equal(resumed["generation"], 1, "generation")
        if os.geteuid() == 0:
            check_equal(resumed["outer_pid"], process.pid, "its pid is free: the agent holds nothing")
        os.kill(resumed["outer_pid"], signal.SIGKILL)
        restorer.wait()
    place.note(f"at most {longest * 1000:.0f} ms")
    check(longest < 1.5, f"{longest:.2f} s until the program runs again")


@test
def looking_at_the_pool_does_not_keep_the_image_from_being_written(place):
    pool = place.path("pool")
    process = start_large(place, pool, 200)
    os.kill(process.pid, signal.SIGKILL)
    process.popen.wait(30)
    time.sleep(0.02)
    for _ in range(10):
        check_equal(place.inspect(pool)["program"], None, "a program that runs")
    process.wait()
    check(wait_crash(place, pool)["pages"] > 200 * 256, "it has the memory")


@test
def an_agent_killed_while_it_writes_the_image_leaves_a_whole_pool(place):
    for delay in (0.001, 0.02, 0.06, 0.15):
        pool = place.path(f"pool-{delay}")
        process = start_large(place, pool, 300)
        agent = agent_of(process)
        os.kill(process.pid, signal.SIGKILL)
        time.sleep(delay * (0.5 + place.random.random()))
        try:
            os.kill(agent, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        check_equal(place.inspect(pool)["resume_generation"], 1, "what can be resumed")
        expect(place.pheap("inspect", pool, "heap"), FINE)
        restorer = place.start(PHEAP, "restore", pool)
        os.kill(restorer.resumed()["outer_pid"], signal.SIGKILL)
        restorer.wait()
        os.unlink(pool)


def an_ordinary_users_resumed_program_leaves_one_too(place):
    if os.geteuid() != 0:
        raise Skip("as root only: otherwise all tests are those of an ordinary user")
    pool = place.path("pool")
    start_counter(place, pool).kill()
    first = wait_crash(place, pool)["number"]
    process = place.start(PHEAP, "restore", pool)
    resumed = process.resumed()
    place.wait_generation(pool, first + 1, process)
    os.kill(resumed["outer_pid"], signal.SIGSEGV)
    check_equal(process.wait(), -signal.SIGSEGV, "status")
    wait_until(lambda: wait_crash(place, pool)["number"] > first, 20, "another crash image")
    check_equal(wait_crash(place, pool)["signal"], signal.SIGSEGV, "signal")


an_ordinary_users_resumed_program_leaves_one_too.uid = NOBODY
test(an_ordinary_users_resumed_program_leaves_one_too)

if __name__ == "__main__":
    main()
