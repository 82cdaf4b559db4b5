#!/usr/bin/python3
"""pheap recover --repair: a damaged pool becomes whole, and its program goes on from it."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import pool_bytes  # noqa: E402
from pheap_test import (BUILT_PROGRAMS, DAMAGED, FINE, PHEAP, PYTHON, REFUSED, USAGE, check,  # noqa: E402
                        check_equal, check_in, expect, main, test, wait_until)

COUNTER = os.path.join(BUILT_PROGRAMS, "counter")


def killed(place):
    pool, out = place.path("pool"), place.path("out")
    process = place.start(PHEAP, "run", "-i", "40ms", "--no-crash", pool, COUNTER, 60, stdout=out)
    place.wait_generation(pool, 4, process)
    check_equal(process.kill(), -signal.SIGKILL, "status")
    expect(place.pheap("recover", "--check", pool), FINE)
    return pool, out


def spoil(pool, *places):
    content = pool_bytes.read(pool)
    for at in places:
        pool_bytes.flip(content, at)
    pool_bytes.write(pool, content)


def records(pool):
    return [g["record_frame"] * pool_bytes.FRAME + 64 for g in pool_bytes.newest(pool_bytes.read(pool)).generations]


def repair(place, pool):
    """First without --yes, which changes nothing."""
    before, status = pool_bytes.digest(pool), place.pheap("recover", "--check", pool).status
    done = place.pheap("recover", "--repair", pool)
    expect(done, status)
    check_in("nothing is changed; --yes does it", done.stdout(), "plan")
    check_equal(pool_bytes.digest(pool), before, "content of the pool")
    check(not os.path.exists(pool + ".backup"), "no backup")
    expect(place.pheap("recover", "--repair", "--yes", pool), FINE)
    expect(place.pheap("recover", "--check", pool), FINE)
    return done.stdout()


def resume_to_the_end(place, pool, out):
    process = place.start(PHEAP, "run", "--resume", pool, COUNTER, 60)
    check_equal(process.wait(), 0, "exit status")
    with open(out, encoding="ascii") as f:
        check_equal(len(f.readlines()), 60, "lines")


@test
def a_damaged_newest_generation_is_given_up_and_the_program_goes_on_before_it(place):
    pool, out = killed(place)
    numbers = [g["number"] for g in place.inspect(pool)["generations"]]
    spoil(pool, records(pool)[-1])
    plan = repair(place, pool)
    check_in(f"give up generation {numbers[-1]}", plan, "plan")
    check_in(f"keep generation {numbers[-2]} as the newest, from which its program goes on", plan, "plan")
    check_equal([g["number"] for g in place.inspect(pool)["generations"]], numbers[:-1], "generations")
    resume_to_the_end(place, pool, out)


@test
def a_torn_superblock_is_repaired_and_nothing_is_lost(place):
    pool, out = killed(place)
    numbers = [g["number"] for g in place.inspect(pool)["generations"]]
    torn = 1 - pool_bytes.newest(pool_bytes.read(pool)).at // pool_bytes.FRAME
    spoil(pool, torn * pool_bytes.FRAME + 500)
    check_in(f"over the one at offset {torn * pool_bytes.FRAME}", repair(place, pool), "plan")
    check_equal([g["number"] for g in place.inspect(pool)["generations"]], numbers, "generations")
    resume_to_the_end(place, pool, out)


SCRIBBLING = """
import ctypes, sys
block = bytearray(500000)
address = ctypes.addressof((ctypes.c_char * len(block)).from_buffer(block))
slot = address >> 40 << 40
slices = ctypes.c_uint32.from_address(slot + 65536 + 128 * (address - slot >> 16) + 84)
right = slices.value
for value in (right, 0x7654321, right):
    slices.value = value
    print("ready", flush=True)
    sys.stdin.readline()
"""


@test
def it_is_not_called_repaired_when_the_heap_that_is_left_makes_no_sense(place):
    pool = place.path("pool")
    os.mkfifo(place.path("fifo"))
    keeper = os.open(place.path("fifo"), os.O_RDWR)
    process = place.start(PHEAP, "run", "-i", "0", "--no-crash", pool, PYTHON, "-c", SCRIBBLING, stdin=place.path("fifo"))
    for round_ in range(3):
        wait_until(lambda n=round_: process.stdout().count("ready\n") > n, 60, "the program")
        expect(place.pheap("checkpoint", pool), FINE)
        if round_ < 2:
            os.write(keeper, b"\n")
    check_equal(process.kill(), -signal.SIGKILL, "status")
    os.close(keeper)
    expect(place.pheap("recover", "--check", pool), FINE)
    spoil(pool, records(pool)[2])
    done = place.pheap("recover", "--repair", "--yes", pool)
    expect(done, DAMAGED, pool, "the heap of its newest generation, 2, makes no sense", "HP-4", "--rollback")
    check("repaired" not in done.stdout(), done.stdout())
    expect(place.pheap("recover", "--rollback", "1", "--yes", pool), FINE)
    expect(place.pheap("recover", "--check", pool), FINE)


@test
def a_whole_pool_is_left_alone(place):
    pool, _ = killed(place)
    before = pool_bytes.digest(pool)
    for options in ([], ["--yes"]):
        done = place.pheap("recover", "--repair", *options, pool)
        expect(done, FINE)
        check_in("nothing to repair", done.stdout(), "output")
    check_equal(pool_bytes.digest(pool), before, "content of the pool")


@test
def what_cannot_be_repaired_is_not_touched(place):
    pool, _ = killed(place)
    spoil(pool, *records(pool))
    before = pool_bytes.digest(pool)
    expect(place.pheap("recover", "--repair", "--yes", pool), DAMAGED, "no generation is whole")
    spoil(pool, 500, 4096 + 500)
    expect(place.pheap("recover", "--repair", "--yes", pool), DAMAGED, "neither superblock")
    spoil(pool, 500, 4096 + 500)
    check_equal(pool_bytes.digest(pool), before, "content of the pool")
    expect(place.pheap("recover", "--repair", "--yes", place.write("file", "text\n" * 3000)), REFUSED, "not a pool")
    expect(place.pheap("recover", "--repair"), USAGE)


@test
def a_pool_in_use_is_refused(place):
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "40ms", pool, COUNTER, 6000, stdout=place.path("out"))
    place.wait_generation(pool, 2, process)
    expect(place.pheap("recover", "--repair", "--yes", pool), REFUSED, "in use by pid")
    process.kill()


if __name__ == "__main__":
    main()
