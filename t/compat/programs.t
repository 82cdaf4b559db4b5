#!/usr/bin/python3
"""Programs that are too large to be installed for make check: each is killed at random moments and
resumed, twice, with a checkpoint every 100 ms, and ends as if nothing had been. At the end a table.

`make check-programs` installs what scripts/packages-programs lists and runs this; what is missing is
skipped by name.
"""
import functools
import os
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from killed_twice import ALL, Program, run_program  # noqa: E402
from pheap_test import Skip, add_test, check_equal, main  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
_results = []


def source(name):
    return os.path.join(HERE, name)


def built(*command):
    """A prepare() that builds a program once, beside the directories that it is run in."""
    def prepare(place, directory):
        del directory
        if not os.path.exists(place.path("built")):
            made = place.make_directory("built")
            done = place.run(*[part.format(built=made) for part in command], timeout=300,
                             environment={"HOME": os.environ.get("HOME", made), "GOCACHE": made + "/cache", "GO111MODULE": "off"})
            check_equal(done.status, 0, f"{command[0]}: {done.stderr()}")
    return prepare


def lines_to_sort(place, directory):
    del place
    with open(os.path.join(directory, "lines"), "w", encoding="ascii") as f:
        state = 42
        for _ in range(1500000):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            f.write(f"{state:020}\n")


PROGRAMS = [
    Program("Node.js", "node", source("table.js")),
    Program("OpenJDK", "java", "-Xmx512m", "-cp", "../built", "Table",
            prepare=built("javac", "-d", "{built}", source("Table.java"))),
    Program("Go (external linking)", "../built/table",
            prepare=built("go", "build", "-ldflags", "-linkmode external", "-o", "{built}/table",
                          source("table.go"))),
    Program("Rust", "../built/table",
            prepare=built("rustc", "-O", "-o", "{built}/table", source("table.rs"))),
    Program("PHP", "php", source("table.php")),
    Program("Guile", "guile", "--no-auto-compile", source("table.scm")),
    Program("bash", "bash", source("table.sh")),
    Program("sort", "sort", "-S", "10M", "-T", ".", "--parallel=2", "-o", "sorted", "lines",
            prepare=lines_to_sort),
    Program("ffmpeg", "ffmpeg", "-v", "error", "-nostdin", "-f", "lavfi", "-i",
            "testsrc2=duration=40:size=640x360:rate=25", "-c:v", "libx264", "-threads", "2",
            "-flags", "+bitexact", "-fflags", "+bitexact", "-map_metadata", "-1", "-f", "matroska",
            "out.mkv"),
] + list(ALL.values())
NEEDS = {"OpenJDK": "javac", "Go (external linking)": "go", "Rust": "rustc"}
VERSION = {"OpenJDK": ["java", "-version"], "Go (external linking)": ["go", "version"],
           "Rust": ["rustc", "--version"], "lua5.4": ["lua5.4", "-v"], "ffmpeg": ["ffmpeg", "-version"],
           "threads_conditions": None, "xz": ["xz", "--version"], "gawk": ["gawk", "--version"]}


def version_of(program):
    command = VERSION.get(program.name, [program.arguments[0], "--version"])
    if command is None:
        return "of this tree"
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    lines = [line for line in (done.stdout or done.stderr).splitlines() if line.strip()]
    return lines[0].strip()[:60] if lines else "?"


def run(place, program):
    need = NEEDS.get(program.name, program.arguments[0])
    if not shutil.which(need):
        _results.append((program.name, "", "not installed", 0))
        raise Skip(f"{need} is not installed: see scripts/packages-programs")
    version, begin = version_of(program), time.monotonic()
    outcome = "FAILS"
    try:
        run_program(place, program, {})
        outcome = "works"
    finally:
        _results.append((program.name, version, outcome, time.monotonic() - begin))


for one in PROGRAMS:
    add_test(f"{one.name} killed and resumed twice ends as if nothing had been",
             functools.partial(run, program=one))
try:
    main()
finally:
    for row in _results:
        print("# %-22s %-62s %-14s %6.1f s" % row, flush=True)
