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
from killed_editor import EDITORS, run_editor  # noqa: E402
from killed_server import run_server  # noqa: E402
from killed_twice import ALL, Program, run_program  # noqa: E402
from pheap_test import NOBODY, Skip, add_test, check_equal, main  # noqa: E402
from servers import (NGINX, REDIS_WITH_MANY_KEYS, SERVERS,  # noqa: E402
                     nginx_serves_after_two_restores)

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
# Of those that are not called by their own name, or know no --version: what tells the version.
VERSION = {"OpenJDK": ["javac", "-version"], "Go (external linking)": ["go", "version"],
           "Rust": ["rustc", "--version"], "lua5.4": ["lua5.4", "-v"], "ffmpeg": ["ffmpeg", "-version"],
           "threads_conditions": None, "Redis": ["redis-server", "--version"],
           "Redis with a million keys": ["redis-server", "--version"], "nginx": [NGINX, "-v"]}


def version_of(name, command):
    command = VERSION.get(name, [command, "--version"])
    if command is None:
        return "of this tree"
    if not shutil.which(command[0]):
        _results.append((name, "", "not installed", 0))
        raise Skip(f"{command[0]} is not installed: see scripts/packages-programs")
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    lines = [line for line in (done.stdout or done.stderr).splitlines() if line.strip()]
    return lines[0].strip()[:60] if lines else "?"


def add(name, command, behaviour, function, uid=None):
    """A test, and a line of the table. function(place) is the test; uid: as this user, if root."""
    def body(place):
        version, begin = version_of(name, command), time.monotonic()
        outcome = "FAILS"
        try:
            function(place)
            outcome = "works"
        except Skip as skip:
            outcome = str(skip)
            raise
        finally:
            _results.append((name, version, outcome, time.monotonic() - begin))

    body.uid = uid if os.geteuid() == 0 else None
    add_test(f"{name} {behaviour}", body)


for one in PROGRAMS:
    add(one.name, one.arguments[0], "killed and resumed twice ends as if nothing had been",
        functools.partial(run_program, program=one, environment={}))
for one in SERVERS + [REDIS_WITH_MANY_KEYS]:
    add(one.name, one.name.lower(), "killed twice under load has all that was acknowledged",
        functools.partial(run_server, server=one), NOBODY)  # memcached does not run as root
add("nginx", NGINX, "serves after two restores", nginx_serves_after_two_restores)
for one in EDITORS:
    for tmux in (False, True):
        add(one.name + (" in tmux" if tmux else ""), one.command[0],
            "killed and restored twice in its terminal saves all that was typed",
            functools.partial(run_editor, editor=one, in_tmux=tmux))
try:
    main()
finally:
    for row in _results:
        print("# %-25s %-62s %-14s %6.1f s" % row, flush=True)
