#!/usr/bin/python3
"""pheap recover --compact and --clone: the same generations in a new file."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import pool_bytes  # noqa: E402
from pheap_test import (BUILT_PROGRAMS, DAMAGED, FINE, PHEAP, PROGRAMS, PYTHON, REFUSED, SYSTEM,  # noqa: E402
                        USAGE, Failure, check, check_equal, expect, main, test)

COUNTER = os.path.join(BUILT_PROGRAMS, "counter")
GROWING_LISTS = os.path.join(PROGRAMS, "growing_lists.py")


def generations(place, pool):
    return [(g["number"], g["kind"], g["pinned"])
            for g in place.inspect(pool)["generations"]]


def killed(place, *command, count=4):
    pool, out = place.path("pool"), place.path("out")
    process = place.start(PHEAP, "run", "-i", "40ms", pool, *(command or (COUNTER, 60)), stdout=out)
    place.wait_generation(pool, count, process)
    check_equal(process.kill(), -signal.SIGKILL, "status")
    expect(place.pheap("recover", "--check", pool), FINE)
    return pool, out


def resume_to_the_end(place, pool, out):
    process = place.start(PHEAP, "run", "--resume", pool, COUNTER, 60)
    check_equal(process.wait(), 0, "exit status")
    with open(out, encoding="ascii") as f:
        check_equal(len(f.readlines()), 60, "lines")


def files(place):
    return sorted(n for n in os.listdir(os.path.dirname(place.path("pool"))) if n[0] != ".")


@test
def a_program_goes_on_from_a_pool_that_was_compacted(place):
    pool, out = killed(place)
    before, size, names = generations(place, pool), os.stat(pool).st_size, files(place)
    expect(place.pheap("recover", "--compact", pool), FINE)
    check_equal(generations(place, pool), before, "generations")
    check(os.stat(pool).st_size < size, "smaller")
    check_equal(os.stat(pool).st_mode & 0o7777, 0o600, "mode")
    check_equal(files(place), names, "files")
    expect(place.pheap("recover", "--check", "--all", pool), FINE)
    resume_to_the_end(place, pool, out)


@test
def a_heap_of_many_generations_is_the_same_in_the_copy(place):
    pool, _ = killed(place, PYTHON, GROWING_LISTS, count=15)
    copy, before = place.path("copy"), pool_bytes.digest(pool)
    expect(place.pheap("recover", "--compact", "-o", copy, pool), FINE)
    check_equal(pool_bytes.digest(pool), before, "content of the pool")
    check_equal(generations(place, copy), generations(place, pool), "generations")
    expect(place.pheap("recover", "--check", "--all", copy), FINE)
    for number, _, _ in generations(place, pool):
        heaps = [place.pheap("inspect", "-g", number, path, "heap").stdout() for path in (pool, copy)]
        check_equal(heaps[1], heaps[0], f"heap of generation {number}")


@test
def a_clone_and_its_pool_are_resumed_each_for_itself(place):
    pool, out = killed(place)
    clone = place.path("clone")
    expect(place.pheap("recover", "--clone", clone, pool), FINE)
    check(pool_bytes.read(pool)[24:40] != pool_bytes.read(clone)[24:40], "another uuid")
    resume_to_the_end(place, clone, out)
    resume_to_the_end(place, pool, out)


@test
def what_cannot_be_copied_is_refused_and_nothing_changes(place):
    pool, _ = killed(place)
    before, taken = pool_bytes.digest(pool), place.write("taken", "precious")
    expect(place.pheap("recover", "--compact", "-o", taken, pool), REFUSED, taken, "exists")
    expect(place.pheap("recover", "--clone", taken, pool), REFUSED, taken, "exists")
    expect(place.pheap("recover", "--clone", pool, pool), REFUSED, "exists")
    expect(place.pheap("recover", "--clone", place.path("no/where"), pool), SYSTEM, "no/where")
    for how in (["--check"], ["--clone", place.path("clone")]):
        expect(place.pheap("recover", "-o", taken, *how, pool), USAGE, "-o goes with --compact")
    check_equal(pool_bytes.digest(pool), before, "content of the pool")
    generation = pool_bytes.newest(pool_bytes.read(pool)).generations[0]
    content = pool_bytes.read(pool)
    pool_bytes.flip(content, generation["record_frame"] * pool_bytes.FRAME + 64)
    pool_bytes.write(pool, content)
    before, names = pool_bytes.digest(pool), files(place)
    expect(place.pheap("recover", "--compact", pool), DAMAGED, f"generation {generation['number']} is not whole")
    check_equal((pool_bytes.digest(pool), files(place)), (before, names), "content of the pool, files")


def ended_half_way(place, pool, *arguments):
    """Ends the tool by SIGTERM as soon as it has made a file, and looks what it has left."""
    names = files(place)
    for _ in range(50):
        tool = place.start(PHEAP, *arguments, pool)
        while tool.running() and files(place) == names:
            pass
        tool.popen.terminate()
        if tool.wait() == -signal.SIGTERM:
            check_equal(files(place), names, f"files after a signal to pheap {' '.join(arguments)}")
            return
        for name in set(files(place)) - set(names):  # it was faster
            os.unlink(place.path(name))
    raise Failure("the tool was never half-way")


@test
def what_a_signal_ends_half_way_leaves_no_file(place):
    pool, _ = killed(place, PYTHON, "-c", "import os\nkept = os.urandom(30 << 20)\nwhile True: pass", count=2)
    before = pool_bytes.digest(pool)
    ended_half_way(place, pool, "recover", "--clone", place.path("clone"))
    ended_half_way(place, pool, "recover", "--compact", "-o", place.path("clone"))
    ended_half_way(place, pool, "inspect", "--core", place.path("core"))
    check_equal(pool_bytes.digest(pool), before, "content of the pool")
    ended_half_way(place, pool, "recover", "--compact")
    expect(place.pheap("recover", "--check", pool), FINE)


@test
def a_pool_in_use_is_not_copied(place):
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "40ms", pool, COUNTER, 6000, stdout=place.path("out"))
    place.wait_generation(pool, 2, process)
    expect(place.pheap("recover", "--compact", pool), REFUSED, "in use by pid")
    expect(place.pheap("recover", "--clone", place.path("clone"), pool), REFUSED, "in use by pid")
    process.kill()


if __name__ == "__main__":
    main()
