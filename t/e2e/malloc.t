#!/usr/bin/python3
"""The malloc family under libpheap.so: the corners programs rely on, threads, forks, the slot."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import BUILT_PROGRAMS, LIBRARY, PYTHON, add_test, check, check_equal, main, test  # noqa: E402

PRELOAD = {"LD_PRELOAD": LIBRARY}
SLOT_BASE = 0x200000000000
SLOT_BYTES = 1 << 40


def tap_is_fine(done, what):
    failed = [line for line in done.stdout().splitlines() if line.startswith(("not ok", "#"))]
    check_equal((done.status, failed), (0, []), what)


# Programs that know nothing of pheap; what they ask for is what glibc does.
for program in ("malloc_conformance", "malloc_names", "malloc_moments", "malloc_limits"):
    add_test(f"{program} holds glibc to its word",
             lambda place, program=program: tap_is_fine(
                 place.run(os.path.join(BUILT_PROGRAMS, program), environment={"MALLOC_IS_GLIBC": "1"}), program))
    add_test(f"{program} passes under pheap",
             lambda place, program=program: tap_is_fine(
                 place.run(os.path.join(BUILT_PROGRAMS, program), environment=PRELOAD), program))


@test
def thousands_of_threads_and_forks_among_them(place):
    done = place.run(os.path.join(BUILT_PROGRAMS, "malloc_threads"), environment=PRELOAD)
    tap_is_fine(done, "malloc_threads")


def slot_under(place, **environment):
    done = place.run("cat", "/proc/self/maps", environment={**PRELOAD, **environment})
    starts = [int(line.split("-")[0], 16) for line in done.stdout().splitlines()]
    slots = {(start - SLOT_BASE) // SLOT_BYTES for start in starts
             if SLOT_BASE <= start < SLOT_BASE + 51 * SLOT_BYTES}
    check_equal((done.status, len(slots)), (0, 1), f"status and slots in use with {environment}")
    return slots.pop()


@test
def the_slot_is_the_one_asked_for(place):
    check_equal(slot_under(place, PHEAP_SLOT="0"), 0, "slot")
    check_equal(slot_under(place, PHEAP_SLOT="7"), 7, "slot")
    check_equal(slot_under(place, PHEAP_SLOT="50"), 50, "slot")


@test
def a_slot_that_is_none_is_ignored(place):
    for wrong in ("10", "11", "51", "4294967297", "x", "1x", "-1", ""):
        check_equal(slot_under(place, PHEAP_SLOT=wrong), 0, f"slot with PHEAP_SLOT={wrong}")


@test
def memory_comes_back_after_a_while(place):
    script = """
import time
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
x = [bytes(3000) for i in range(50000)]
full = resident()
del x
for i in range(4):
    time.sleep(0.3)
    y = [bytes(100000) for i in range(40)]
    del y
print(full > 150_000_000, resident() < 80_000_000)
"""
    done = place.run(PYTHON, "-c", script, environment={**PRELOAD, "PYTHONMALLOC": "malloc"})
    check_equal((done.status, done.stdout(), done.stderr()), (0, "True True\n", ""), "resident")


@test
def misuse_is_reported_and_aborts(place):
    script = "import ctypes; c = ctypes.CDLL(None); c.malloc.restype = ctypes.c_void_p; " \
             "p = ctypes.c_void_p(c.malloc(64)); c.free(p); c.free(p)"
    done = place.run(PYTHON, "-c", script, environment=PRELOAD)
    check_equal(done.status, -6, "status")
    check("pheap: double free of 0x" in done.stderr(), done.stderr())


if __name__ == "__main__":
    main()
