#!/usr/bin/python3
"""Written pages found by soft-dirty bits: named, right by PHEAP_CHECK=cut, and in what a restore
finds. On a kernel without them (CONFIG_MEM_SOFT_DIRTY) PHEAP_TRACK=soft-dirty is refused by name;
the guest of make check-dax has such a kernel as Debian's 6.1."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, FINE, PHEAP, check, check_equal, check_in, expect,  # noqa: E402
                        main, test, wait_until)

COUNTER = os.path.join(BUILT_PROGRAMS, "counter")
DIRTY_PAGES = os.path.join(BUILT_PROGRAMS, "dirty_pages")
CHECKED = {"PHEAP_TRACK": "soft-dirty", "PHEAP_CHECK": "cut"}
MUST_BE_THERE = os.environ.get("PHEAP_TEST_TRACK") == "soft-dirty"
STEP_MS = "100" if MUST_BE_THERE else "20"  # an emulated processor takes its time


def kernel_has_them():
    """A page that was just written has the bit."""
    page = bytearray(8192)
    page[4096] = 1
    address = (id(page) & ~4095) // 4096
    try:
        with open("/proc/self/pagemap", "rb") as pagemap:
            pagemap.seek(address * 8)
            return bool(int.from_bytes(pagemap.read(8), sys.byteorder) >> 55 & 1)
    except OSError:
        return False


def start_writer(place, pool, environment):
    path = pool + ".lines"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR)
    process = place.start(PHEAP, "run", "-i", "0", pool, DIRTY_PAGES, "64", stdin=path,
                          environment=environment)
    wait_until(lambda: "ready" in process.stdout(), 120, "its start")
    return process, fd


def found_by_bits(place):
    pool = place.path("pool")
    process, fd = start_writer(place, pool, CHECKED)
    for round_number in range(1, 6):
        os.write(fd, b"160\n")
        wait_until(lambda: process.stdout().count("160\n") == round_number, 60, "its writes")
        expect(place.pheap("checkpoint", pool), FINE)
    check_in("soft-dirty bits", place.inspect(pool)["program"]["tracking"], "how pages are found")
    last = place.inspect(pool)["generations"][-1]
    check(last["written_bytes"] < 8 << 20, f"{last['written_bytes']} bytes for 160 pages of 64 MiB")
    process.kill()
    os.close(fd)


def killed_twice(place):
    pool, count = place.path("counted"), 200
    first = process = place.start(PHEAP, "run", "-i", "50ms", pool, COUNTER, str(count), "0", STEP_MS,
                          environment=CHECKED)
    place.wait_generation(pool, 2, process)
    process.kill()
    for _ in range(2):
        before = place.newest(pool)
        process = place.start(PHEAP, "restore", pool)
        resumed = process.resumed()
        wait_until(lambda: place.newest(pool) >= before + 1 or not process.running(), 60,
                   "one more generation")
        if process.running():
            os.kill(resumed["outer_pid"], signal.SIGKILL)
            process.wait()
    process = place.start(PHEAP, "restore", pool)
    check_equal(process.wait(), 0, "its exit status")
    check_equal(first.stdout().splitlines()[-1:], [f"{count} {count * (count + 1) // 2}"],
                "its last line")


def refused_by_name(place):
    process = place.run(PHEAP, "run", place.path("pool"), "/bin/echo", "went on",
                        environment=CHECKED)
    check_in("CONFIG_MEM_SOFT_DIRTY", process.stderr(), "what is said")
    check_equal(process.stdout(), "went on\n", "the program's output")


@test
def pages_are_found_by_soft_dirty_bits_or_it_is_said_that_there_are_none(place):
    if kernel_has_them() or MUST_BE_THERE:
        found_by_bits(place)
        killed_twice(place)
    else:
        place.note("this kernel has no soft-dirty bits")
        refused_by_name(place)


main()
