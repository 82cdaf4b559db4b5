#!/usr/bin/python3
"""pheap recover --rollback: what is newer is given up, and the program goes on from the older one."""
import os
import pty
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import pool_bytes  # noqa: E402
from pheap_test import (BUILT_PROGRAMS, DAMAGED, FINE, PHEAP, REFUSED, USAGE, check_equal,  # noqa: E402
                        check_in, expect, main, test)

COUNTER = os.path.join(BUILT_PROGRAMS, "counter")


def numbers(place, pool):
    return [g["number"] for g in place.inspect(pool)["generations"]]


def counted(place, generations=5):
    pool, out = place.path("pool"), place.path("out")
    process = place.start(PHEAP, "run", "-i", "40ms", "-k", "8", "--no-crash", pool, COUNTER, 60, stdout=out)
    place.wait_generation(pool, generations, process)
    return pool, out, process


def killed(place):
    pool, out, process = counted(place)
    check_equal(process.kill(), -signal.SIGKILL, "status")
    expect(place.pheap("recover", "--check", pool), FINE)
    return pool, out


def check_output(out):
    with open(out, encoding="ascii") as f:
        check_equal(len(f.readlines()), 60, "lines")


@test
def the_program_goes_on_from_the_older_generation(place):
    pool, out = killed(place)
    before = numbers(place, pool)
    done = place.pheap("recover", "--rollback", before[1], "--yes", pool)
    expect(done, FINE)
    check_in(f"generation {before[1]}: the newest now; given up: {before[2]}", done.stdout(), "output")
    check_equal(numbers(place, pool), before[:2], "generations")
    expect(place.pheap("recover", "--check", "--all", pool), FINE)
    process = place.start(PHEAP, "run", "--resume", pool, COUNTER, 60)
    check_equal(process.resumed()["generation"], before[1], "generation")
    check_equal(process.wait(), 0, "exit status")
    check_output(out)


@test
def a_run_that_has_ended_can_be_resumed_again(place):
    pool, out, process = counted(place)
    check_equal(process.wait(), 0, "exit status")
    before = numbers(place, pool)
    expect(place.pheap("recover", "--rollback", before[0], "--yes", pool), FINE)
    process = place.start(PHEAP, "restore", pool)
    check_equal(process.resumed()["generation"], before[0], "generation")
    check_equal(process.wait(), 0, "exit status")
    check_output(out)


@test
def without_a_terminal_nothing_is_given_up_unasked(place):
    pool, _ = killed(place)
    before, number = pool_bytes.digest(pool), numbers(place, pool)[0]
    newer = ", ".join(str(n) for n in numbers(place, pool)[1:])
    expect(place.pheap("recover", "--rollback", number, pool), REFUSED, f" {newer} would be lost", "--yes")
    check_equal(pool_bytes.digest(pool), before, "content of the file")


@test
def at_a_terminal_it_asks(place):
    pool, _ = killed(place)
    kept = numbers(place, pool)
    for answer, left in (("n", kept), ("", kept), ("y", kept[:1])):
        master, slave = pty.openpty()
        with subprocess.Popen([PHEAP, "recover", "--rollback", str(kept[0]), pool], stdin=slave, stdout=slave,
                              stderr=slave) as asked:
            os.write(master, (answer + "\n").encode())
            check_equal(asked.wait(timeout=20), FINE if answer == "y" else REFUSED, "status")
        check_in("for ever?", os.read(master, 4096).decode(), "question")
        os.close(master)
        os.close(slave)
        check_equal(numbers(place, pool), left, "generations")


@test
def a_pool_in_use_is_refused(place):
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "40ms", pool, COUNTER, 6000, stdout=place.path("out"))
    place.wait_generation(pool, 2, process)
    expect(place.pheap("recover", "--rollback", 1, "--yes", pool), REFUSED, "in use by pid")
    process.kill()


@test
def a_generation_that_is_not_whole_is_refused(place):
    pool, _ = killed(place)
    generation = pool_bytes.newest(pool_bytes.read(pool)).generations[1]
    content = pool_bytes.read(pool)
    pool_bytes.flip(content, generation["record_frame"] * pool_bytes.FRAME + 64)
    pool_bytes.write(pool, content)
    before = pool_bytes.digest(pool)
    expect(place.pheap("recover", "--rollback", generation["number"], "--yes", pool), DAMAGED, "not whole")
    expect(place.pheap("recover", "--rollback", 999, "--yes", pool), REFUSED, "no generation 999")
    expect(place.pheap("recover", "--rollback", "none", pool), USAGE)
    check_equal(pool_bytes.digest(pool), before, "content of the file")


if __name__ == "__main__":
    main()
