#!/usr/bin/python3
"""Generations pinned, unpinned and dropped by name, with a program on the pool and without."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, FINE, PHEAP, PYTHON, REFUSED, check, check_equal,  # noqa: E402
                        check_in, expect, main, test, wait_until)

COUNTER = os.path.join(BUILT_PROGRAMS, "counter")
# Writes all its memory anew for each line that it reads.
REWRITER = """
import sys
for line in sys.stdin:
    data = bytes([int(line)]) * (40 << 20)
    print(line.strip(), flush=True)"""


def start(place, pool, *command, options=("-i", "0"), **keywords):
    return place.start(PHEAP, "run", *options, pool, *command, **keywords)


def kept(place, pool, pinned=False):
    return [g["number"] for g in place.inspect(pool)["generations"]
            if g["kind"] == "process" and (g["pinned"] or not pinned)]


def checkpoint(place, pool, *options):
    done = place.pheap("checkpoint", *options, pool)
    expect(done, FINE)
    return int(done.stdout().split()[1].rstrip(":"))


def recover(place, what, number, pool, status=FINE, *parts):
    done = place.pheap("recover", "--" + what, number, pool)
    expect(done, status, *parts)
    if status == FINE:
        check_in(f"generation {number}: {what}", done.stdout(), "output")


@test
def a_pinned_generation_outlives_newer_ones_and_can_be_resumed(place):
    pool, out = place.path("pool"), place.path("out")
    process = start(place, pool, COUNTER, "60", options=("-i", "30ms", "-k", "2"), stdout=out)
    place.wait_generation(pool, 1, process)
    number = checkpoint(place, pool, "--pin")
    place.wait_generation(pool, number + 6, process)
    check_equal(kept(place, pool, pinned=True), [number], "pinned ones")
    check_equal(len(kept(place, pool)), 3, "generations")
    process.kill()
    check_in("pinned", place.pheap("inspect", pool, "generations").stdout(), "the list")
    process = place.start(PHEAP, "restore", "-g", number, pool)
    check_equal(process.resumed()["generation"], number, "generation")
    check_equal(process.wait(), 0, "exit status")
    with open(out, encoding="ascii") as f:
        check_equal(len(f.readlines()), 60, "lines")


@test
def generations_are_pinned_unpinned_and_dropped_beside_a_running_program_and_without(place):
    pool = place.path("pool")
    process = start(place, pool, COUNTER, "3000", options=("-i", "0", "-k", "4"))
    wait_until(process.stdout, 20, "output")
    for _ in range(4):
        checkpoint(place, pool)
    for running in (True, False):
        if not running:
            process.kill()
        first = kept(place, pool)[0]
        recover(place, "pin", first, pool)
        check_equal(kept(place, pool, pinned=True), [first], "pinned ones")
        recover(place, "drop", first, pool, REFUSED, "pinned", "unpin")
        recover(place, "unpin", first, pool)
        check_equal(kept(place, pool, pinned=True), [], "pinned ones")
        recover(place, "drop", first, pool)
        check(first not in kept(place, pool), "it is gone")
        recover(place, "drop", first, pool, REFUSED, f"no generation {first}")
        recover(place, "drop", 4, pool, REFUSED, "go on from")
    check_equal(kept(place, pool), [3, 4], "what is left")
    process = place.start(PHEAP, "restore", pool)
    check_equal(process.resumed()["generation"], 4, "generation")
    os.kill(process.resumed()["outer_pid"], signal.SIGKILL)
    process.wait()


@test
def a_full_list_of_pins_is_refused_and_says_what_to_do(place):
    pool = place.path("pool")
    process = start(place, pool, COUNTER, "3000")
    wait_until(process.stdout, 20, "output")
    for _ in range(4):
        checkpoint(place, pool, "--pin")
    done = place.pheap("checkpoint", "--pin", pool)
    expect(done, REFUSED, "generation 5 is taken, but not pinned", "4 pinned", "--unpin")
    recover(place, "pin", 5, pool, REFUSED, "4 pinned")
    recover(place, "unpin", 2, pool)
    recover(place, "pin", 5, pool)
    process.kill()
    check_equal(kept(place, pool, pinned=True), [1, 3, 4, 5], "pinned ones")


@test
def the_generation_that_a_program_went_on_from_is_not_dropped_under_it(place):
    pool = place.path("pool")
    process = start(place, pool, PYTHON, "-uc", "import time; data = [str(i) for i in range(200000)];"
                    "print(1); time.sleep(1000)")
    wait_until(process.stdout, 20, "output")
    for _ in range(2):
        checkpoint(place, pool)
    process.kill()
    process = place.start(PHEAP, "restore", "-g", "1", pool)
    resumed = process.resumed()
    checkpoint(place, pool)
    recover(place, "drop", 1, pool, REFUSED, "mapped")
    recover(place, "drop", 2, pool)
    os.kill(resumed["outer_pid"], signal.SIGKILL)
    process.wait()
    recover(place, "drop", 1, pool)
    process = place.start(PHEAP, "restore", pool)
    os.kill(process.resumed()["outer_pid"], signal.SIGKILL)
    process.wait()


@test
def space_of_dropped_generations_is_given_back_and_taken_again(place):
    pool, lines = place.path("pool"), place.path("lines")
    os.mkfifo(lines)
    keeper = os.open(lines, os.O_RDWR)
    process = start(place, pool, PYTHON, "-uc", REWRITER, stdin=lines)
    for i in range(1, 5):
        os.write(keeper, f"{i}\n".encode())
        wait_until(lambda: process.stdout().split()[-1:] == [str(i)], 20, f"line {i}")
        checkpoint(place, pool, *(("--pin",) if i < 4 else ()))
    checkpoint(place, pool)  # a small one: space for two such is kept
    full = place.inspect(pool)
    for number in (1, 2, 3):
        recover(place, "unpin", number, pool)
        recover(place, "drop", number, pool)
    after = place.inspect(pool)
    check_equal(after["frames"], full["frames"], "frames")
    check(after["disk_bytes"] < full["disk_bytes"] - (60 << 20),
          f"{full['disk_bytes']} bytes before, {after['disk_bytes']} after")
    for i in range(5, 9):
        os.write(keeper, f"{i}\n".encode())
        wait_until(lambda: process.stdout().split()[-1:] == [str(i)], 20, f"line {i}")
        checkpoint(place, pool)
    check(place.inspect(pool)["disk_bytes"] > after["disk_bytes"], "space taken again")
    process.kill()
    expect(place.pheap("restore", pool), FINE, "resumed generation 9")  # and reads no more lines
    os.close(keeper)


@test
def generations_dropped_between_busy_checkpoints_harm_none(place):
    pool, out = place.path("pool"), place.path("out")
    process = start(place, pool, COUNTER, "200", options=("-i", "10ms", "-k", "6"), stdout=out)
    place.wait_generation(pool, 6, process)
    dropped = 0
    while dropped < 10:
        older = wait_until(lambda: kept(place, pool)[:-1], 20, "two generations")
        done = place.pheap("recover", "--drop", place.random.choice(older), pool)
        dropped += done.status == FINE
        check(done.status in (FINE, REFUSED), done.stderr())
    process.kill()
    process = place.start(PHEAP, "restore", "-g", kept(place, pool)[0], pool)
    check_equal(process.wait(), 0, "exit status")
    with open(out, encoding="ascii") as f:
        check_equal(len(f.readlines()), 200, "lines")


if __name__ == "__main__":
    main()
