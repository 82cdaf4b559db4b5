#!/usr/bin/python3
"""make bench-instructions: the instructions of one malloc and free, by pattern and allocator.

callgrind counts a run and a run of twice the length: the difference is the loop alone, without
start-up and first touches, and is the same on every machine and under any load. About 12 of each
count are the loop's and the linkage table's.

    instructions.py [--write]     print the table; --write: into bench/instructions.txt too

t/e2e/malloc_instructions.t compares a build with the file.
"""
import os
import re
import subprocess
import sys

import rows

PROGRAM = os.path.join(rows.BUILD, "bench", "instructions")
TABLE = os.path.join(rows.ROOT, "bench", "instructions.txt")
PATTERNS = [("pair", 16), ("pair", 64), ("pair", 256), ("pair", 1024), ("pair", 16384),
            ("lifo", 64), ("random", 64)]
GOALS = {("pair", 64): 50, ("lifo", 64): 46, ("random", 64): 85, ("pair", 16384): 79}
PAIRS = 20000
HEADING = """\
# Instructions of one malloc and free, the loop's own 12 included, counted by callgrind.
# `make bench-instructions` writes this file; t/e2e/malloc_instructions.t compares with it.
"""


def collected(library, pattern, size, pairs, **variables):
    environment = {k: v for k, v in os.environ.items()
                   if not k.startswith(("LD_", "PHEAP_", "MALLOC_"))}
    environment.update(variables)
    if library:
        environment["LD_PRELOAD"] = library
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", PROGRAM, pattern,
         str(size), str(pairs)], env=environment, capture_output=True, text=True, check=False)
    match = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or not match:
        raise RuntimeError(f"callgrind of {pattern} {size} with {library or 'glibc'}: exit status "
                           f"{done.returncode}: {done.stderr[-500:].strip()}")
    return int(match[1])


def count(library, pattern, size, **variables):
    """variables: of the environment."""
    longer = collected(library, pattern, size, 2 * PAIRS, **variables)
    return (longer - collected(library, pattern, size, PAIRS, **variables)) / PAIRS


def compiler_of(library):
    """What the objects of a library were compiled with, as they say themselves."""
    text = subprocess.run(["readelf", "-p", ".comment", library], capture_output=True, text=True,
                          check=True).stdout
    return ", ".join(re.findall(r"\]\s+(.*\S)", text))


def read_table():
    """The compiler of the table, and {(pattern, size): instructions} of pheap."""
    with open(TABLE, encoding="ascii") as f:
        text = f.read()
    compiler = re.search(r"^# pheap compiled by (.*)$", text, re.M)
    found = re.findall(r"^(\w+) +(\d+) +\S+ +([\d.]+)", text, re.M)
    return compiler[1], {(pattern, int(size)): float(value) for pattern, size, value in found}


def table(allocators):
    lines = [HEADING, f"# pheap compiled by {compiler_of(allocators[0].library)}\n\n",
             f"{'# pattern':10}{'bytes':>7}{'goal':>7}"
             + "".join(f"{a.name:>10}" for a in allocators) + "\n"]
    for pattern, size in PATTERNS:
        goal = GOALS.get((pattern, size), "-")
        lines.append(f"{pattern:10}{size:7}{goal:>7}" + "".join(
            f"{count(a.library, pattern, size):10.1f}" for a in allocators) + "\n")
    return "".join(lines)


def main():
    if sys.argv[1:] not in ([], ["--write"]):
        sys.exit("usage: instructions.py [--write]")
    text = table(rows.allocators()[0])
    print(text, end="")
    if sys.argv[1:]:
        with open(TABLE, "w", encoding="ascii") as f:
            f.write(text)


if __name__ == "__main__":
    main()
