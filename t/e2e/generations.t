#!/usr/bin/python3
"""The size of a generation is in proportion to what was written since the one before."""
import json
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, FINE, PHEAP, PROGRAMS, PYTHON, check,  # noqa: E402
                        check_equal, expect, main, test, wait_until)

PAGE = 4096
HEAP_MB = 64
# Each written page costs a frame, and its index path: one leaf a MiB of heap and the few nodes
# above it. The program's own pages (stack, stdio, record) come on top.
FIXED_BYTES = (HEAP_MB + 40) * PAGE + 512 * 1024


def sizes(place, environment):
    pool, fifo = place.path("pool"), place.path("fifo")
    os.mkfifo(fifo)
    keeper = os.open(fifo, os.O_RDWR)
    process = place.start(PHEAP, "run", "-i", "0", pool, os.path.join(BUILT_PROGRAMS, "dirty_pages"),
                          HEAP_MB, stdin=fifo, environment=environment)
    wait_until(lambda: "ready" in process.stdout(), 60, "the program's heap")
    found = []
    for number, pages in enumerate((0, 0, 0, 100, 1000, 4000, 0)):
        os.write(keeper, b"%d\n" % pages)
        wait_until(lambda n=number: len(process.stdout().splitlines()) == n + 2, 60, "the writes")
        done = place.pheap("checkpoint", "--json", pool)
        expect(done, FINE)
        found.append((pages, json.loads(done.stdout())["written_bytes"]))
    os.close(keeper)
    process.wait()
    place.note(f"pages, bytes of each generation: {found}")
    return found


def check_sizes(place, environment):
    found = sizes(place, environment)
    check(found[0][1] >= HEAP_MB << 20, f"the first generation holds the heap: {found}")
    for pages, size in found[1:]:
        check(size <= pages * PAGE + FIXED_BYTES, f"{pages} pages written: {size} bytes: {found}")
        check(size >= pages * PAGE * 0.8, f"{pages} pages written, some twice: {size} bytes")
    check(found[-1][1] < 1 << 20, f"nothing written: {found}")


@test
def a_generation_after_the_first_costs_what_was_written(place):
    check_sizes(place, {})


@test
def a_generation_found_by_checksums_costs_what_was_written(place):
    check_sizes(place, {"PHEAP_TRACK": "checksum"})


def forget_page_cache(path):
    """False where the file system is the page cache."""
    with open(path, "rb") as pool:
        os.fsync(pool.fileno())
        os.posix_fadvise(pool.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    kind = subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True,
                          check=True).stdout.strip()
    return kind in ("ext2/ext3", "xfs", "btrfs")


@test
def scattered_pages_that_are_not_in_the_page_cache_are_read_ahead(place):
    pool, fifo = place.path("pool"), place.path("fifo")
    os.mkfifo(fifo)
    keeper = os.open(fifo, os.O_RDWR)
    process = place.start(PHEAP, "run", "-i", "0", pool, os.path.join(BUILT_PROGRAMS, "dirty_pages"),
                          HEAP_MB, stdin=fifo)
    wait_until(lambda: "ready" in process.stdout(), 60, "the program's heap")
    for number in range(3):
        os.write(keeper, b"300\n")
        wait_until(lambda n=number: len(process.stdout().splitlines()) == n + 2, 60, "the writes")
        expect(place.pheap("checkpoint", pool), FINE)
    process.kill()
    cold = forget_page_cache(pool)
    restored = place.start(PHEAP, "restore", "-v", pool, stdin=fifo)
    restored.resumed()
    check(not cold or "read ahead" in restored.stderr(), restored.stderr())
    os.close(keeper)
    check_equal(restored.wait(60), 0, "exit status")


@test
def no_cut_misses_a_page_of_a_busy_program(place):
    pool = place.path("pool")
    directory = place.make_directory("run")
    process = place.start(PHEAP, "run", "-i", "50ms", pool, PYTHON,
                          os.path.join(PROGRAMS, "threads_objects.py"), 12, cwd=directory,
                          environment={"PHEAP_CHECK": "cut"})
    check_equal(process.wait(120), 0, "exit status")
    check("missed" not in process.stderr(), process.stderr())
    generation = place.newest(pool)
    check(generation >= 2, f"only {generation} generations were looked at")


@test
def what_lies_below_the_stack_pointer_is_not_saved(place):
    pool, out = place.path("pool"), place.path("out")
    process = place.start(PHEAP, "run", "-i", "0", pool, os.path.join(BUILT_PROGRAMS, "deep_stack"), 6,
                          stdout=out)
    wait_until(lambda: len(open(out, encoding="ascii").readlines()) > 3, 20, "lines")
    done = place.pheap("checkpoint", "--json", pool)
    expect(done, FINE)
    pages = next(g for g in place.inspect(pool)["generations"])["pages"]
    check(pages < 300, f"{pages} pages for a program with 1,536 dead ones on its stack")
    process.kill()
    before = len(open(out, encoding="ascii").readlines())
    restored = place.start(PHEAP, "restore", pool, stdout=out + ".more")
    pid = restored.resumed()["outer_pid"]
    wait_until(lambda: len(open(out, encoding="ascii").readlines()) > before, 20, "lines")
    lines = open(out, encoding="ascii").readlines()
    check(len({line.split()[-1] for line in lines[1:]}) == 1, f"what a later call computes: {lines}")
    check(all(" wrong 0 " in line for line in lines[1:]), f"what the stack holds: {lines}")
    os.kill(pid, signal.SIGKILL)
    restored.wait()


@test
def a_pool_does_not_grow_with_the_number_of_generations(place):
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "30ms", pool, os.path.join(BUILT_PROGRAMS, "counter"),
                          "3000")
    place.wait_generation(pool, 10, process)
    early = place.inspect(pool)["frames"]
    place.wait_generation(pool, 60, process)
    late = place.inspect(pool)["frames"]
    check(late <= early * 1.5 + 1024, f"{early} frames after 10 generations, {late} after 60")
    process.kill()


@test
def inspect_lists_the_same_generations_in_text_and_in_json(place):
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "50ms", pool,
                          os.path.join(BUILT_PROGRAMS, "counter"), 3000)
    place.wait_generation(pool, 3, process)
    process.kill()
    text = place.pheap("inspect", pool, "generations")
    expect(text, FINE)
    check_equal([int(line.split()[0]) for line in text.stdout().splitlines()[1:]],
                [g["number"] for g in place.inspect(pool)["generations"]], "numbers")
    for generation in place.inspect(pool)["generations"]:
        check(generation["pages"] > 0, f"{generation}")
        check(generation["pause_ns"] > 0 or generation["kind"] == "crash", f"{generation}")


@test
def inspect_counts_the_blocks_of_a_running_program(place):
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "0", pool, os.path.join(BUILT_PROGRAMS, "counter"), 3000,
                          0, 1)
    wait_until(lambda: process.stdout(), 10, "output")
    wait_until(lambda: len(process.stdout().splitlines()) > 500, 20, "500 blocks")
    expect(place.pheap("checkpoint", pool), FINE)
    low = len(process.stdout().splitlines())
    heap = place.inspect(pool, "heap")["heap"]
    small = [c for c in heap["classes"] if c["block_bytes"] == 16]
    check_equal(len(small), 1, "classes of 16 bytes")
    check(500 <= small[0]["blocks_used"] <= low + 100, f"{small[0]} after about {low} blocks")
    check(0 < small[0]["occupancy_percent"] <= 100, f"{small[0]}")
    text = place.pheap("inspect", pool, "heap")
    expect(text, FINE)
    check("16 B" in text.stdout() and "\033" not in text.stdout(), text.stdout())
    process.kill()


if __name__ == "__main__":
    main()
