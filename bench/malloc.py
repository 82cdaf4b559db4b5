#!/usr/bin/python3
"""malloc.py - malloc and free under libpheap.so, glibc and Debian's mimalloc, interleaved.

Each round runs every allocator once on every pattern; the least of all rounds counts, so a
disturbance of the machine hits all alike. The last line is the bound of the project: 64 bytes,
at most 1.3 times mimalloc's time; the exit status is 1 where it does not hold.

Usage: malloc.py LIBPHEAP MALLOC_PAIR [ROUNDS]
"""
import os
import subprocess
import sys

MIMALLOC = "/usr/lib/x86_64-linux-gnu/libmimalloc.so.2"
PATTERNS = [("pair", 64), ("lifo", 64), ("random", 64), ("pair", 1024), ("random", 1024),
            ("pair", 16384), ("pair", 262144)]
BOUND = 1.3


def measure(program, preload, pattern, size):
    environment = {k: v for k, v in os.environ.items()
                   if k != "LD_PRELOAD" and not k.startswith("PHEAP_")}
    if preload:
        environment["LD_PRELOAD"] = preload
    pairs = "2000000" if size <= 1024 else "200000"
    out = subprocess.run([program, pattern, str(size), pairs], env=environment, check=True,
                         capture_output=True, text=True).stdout
    return float(out)


def main():
    libpheap, program = (os.path.abspath(a) for a in sys.argv[1:3])
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    allocators = [("pheap", libpheap), ("glibc", None)]
    if os.path.exists(MIMALLOC):
        allocators.append(("mimalloc", MIMALLOC))
    else:
        print(f"# {MIMALLOC} is not there: apt-get install libmimalloc2.0")
    best = {}
    for _ in range(rounds):
        for pattern, size in PATTERNS:
            for name, preload in allocators:
                key = (pattern, size, name)
                took = measure(program, preload, pattern, size)
                best[key] = min(best.get(key, took), took)
    names = [name for name, _ in allocators]
    print("ns a pair        " + "".join(f"{n:>10}" for n in names)
          + "".join(f"{'pheap/' + n:>16}" for n in names[1:]))
    for pattern, size in PATTERNS:
        times = [best[pattern, size, n] for n in names]
        print(f"{pattern:7}{size:8}  " + "".join(f"{t:10.2f}" for t in times)
              + "".join(f"{times[0] / t:16.2f}" for t in times[1:]))
    if "mimalloc" not in names:
        return 0
    worst = max(best[p, 64, "pheap"] / best[p, 64, "mimalloc"] for p in ("pair", "lifo", "random"))
    print(f"64 bytes, worst pattern: {worst:.2f} times mimalloc's time (bound {BOUND})")
    return worst > BOUND


if __name__ == "__main__":
    sys.exit(main())
