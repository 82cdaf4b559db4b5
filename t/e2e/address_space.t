#!/usr/bin/python3
"""A limit on address space is shared out: the heap leaves room for threads and mappings, and for an
agent that can take checkpoints. (On a busy machine a pause may be long, and is said to be.)"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import PHEAP, PYTHON, add_test, check, check_equal, main  # noqa: E402

MIB = 1 << 20
PROGRAM = """
import mmap, sys, threading, time
blocks = [bytes(1000) for _ in range(100000)]
threads = [threading.Thread(target=time.sleep, args=(1.5,)) for _ in range(4)]
for thread in threads:
    thread.start()
area = mmap.mmap(-1, int(sys.argv[1]), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for thread in threads:
    thread.join()
print(len(blocks))
"""


def with_limit(limit):
    def runs(place):
        pool = place.path("pool")
        done = place.run("prlimit", f"--as={limit}", PHEAP, "run", "-i", "50ms", pool, PYTHON, "-c",
                         PROGRAM, str(limit // 32))
        said = [line for line in done.stderr().splitlines() if "was stopped for" not in line]
        check_equal((done.status, done.stdout(), said), (0, "100000\n", []),
                    f"status, output and stderr with a limit of {limit} bytes")
        check(place.newest(pool) > 0, "no generation")
    return runs


# Between and beside powers of two: what is reserved by halving alone fits some of them too well.
for mebibytes in (600, 1000, 1100, 2100, 4200):
    add_test(f"a program with threads has checkpoints under a limit of {mebibytes} MiB",
             with_limit(mebibytes * MIB))

if __name__ == "__main__":
    main()
