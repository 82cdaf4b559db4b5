#!/usr/bin/python3
"""The instructions of malloc and free, against the table that is kept: bench/instructions.txt."""
import os
import shutil
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../lib"), os.path.join(HERE, "../../bench")]
import instructions  # noqa: E402
from pheap_test import LIBRARY, Skip, add_test, check, main, test  # noqa: E402

TOLERANCE = 2
PROFILED = 12  # a malloc of a program with PHEAP_PROFILE that is not sampled: so many more at most


def compare(pattern, size):
    if not shutil.which("valgrind"):
        raise Skip("no valgrind here: instructions cannot be counted")
    compiler, kept = instructions.read_table()
    built_by = instructions.compiler_of(LIBRARY)
    if built_by != compiler:
        raise Skip(f"compiled by {built_by}, and the table's counts are those of {compiler}")
    counted = instructions.count(LIBRARY, pattern, size)
    expected = kept[pattern, size]
    check(abs(counted - expected) <= TOLERANCE,
          f"{pattern} {size}: {counted:.1f} instructions, bench/instructions.txt says {expected:.1f}"
          f" and allows {TOLERANCE} more or less: if this is meant, make bench-instructions and"
          " commit the table")


for each in instructions.PATTERNS:
    add_test("%s of %d bytes takes the instructions of the table" % each,
             lambda place, each=each: compare(*each))


@test
def a_profiled_heap_counts_bytes_in_a_dozen_instructions(place):
    del place
    if not shutil.which("valgrind"):
        raise Skip("no valgrind here: instructions cannot be counted")
    for size in (64, 16384):
        plain = instructions.count(LIBRARY, "pair", size)
        profiled = instructions.count(LIBRARY, "pair", size, PHEAP_PROFILE="1T")
        check(0 < profiled - plain <= PROFILED, f"pair {size}: {plain:.1f}, with PHEAP_PROFILE {profiled:.1f}")


if __name__ == "__main__":
    main()
