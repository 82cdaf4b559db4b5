"""rows.py - what make bench measures: the rows of its table and how one of them is run once.

A row is run by build/bench/measure, so what counts is the program alone: time from its fork to its
end, CPU time (the agent's included), and peak RSS. Redis is a server: the load is redis-benchmark's
and is not measured; its time is the CPU time that the server took for a fixed number of requests.
"""
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("PHEAP_BUILD") or os.path.join(ROOT, "build")
PHEAP = os.path.join(BUILD, "bin", "pheap")
MEASURE = os.path.join(BUILD, "bench", "measure")
PROGRAMS = os.path.join(ROOT, "bench", "programs")
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
GLIBC = os.path.join(LIBRARIES, "libc.so.6")
REDIS_SERVER = "/usr/bin/redis-check-rdb"  # the same program: it looks at its own name
PEERS = ("glibc", "mimalloc", "jemalloc", "tcmalloc")
TIMEOUT_SECONDS = 300

WORKLOADS = [  # name, thread counts (producer_consumer: pairs of threads)
    ("lifo", [1]), ("fifo", [1]), ("random_order", [1, 2, 8]),
    ("mixed_sizes", [1, 2, 8]), ("mixed_shared", [1, 2, 8]),
    ("server", [1, 2, 8]), ("producer_consumer", [1, 4]), ("exchange", [1, 2, 8]),
    ("short_threads", [1, 2, 8]), ("scratch", [2, 8]), ("thrash", [2, 8]),
    ("realloc_growth", [1, 2]), ("calloc_large", [1, 2]),
    ("medium", [1, 2, 8]), ("large", [1, 2]), ("phases", [1, 2]),
    ("binary_trees", [1, 2, 8]), ("strings", [1, 2]),
]


class RunFailed(Exception):
    """A program did not end as it should; the text says how."""


@dataclass
class Allocator:
    name: str
    library: str = ""  # to preload; none for glibc
    pool: bool = False
    environment: dict = field(default_factory=dict)


@dataclass
class Row:
    name: str
    group: str  # "workload" or "program"
    command: object  # percent -> argument list
    environment: dict = field(default_factory=dict)
    is_server: bool = False

    def run_once(self, allocator, percent, place):
        """{"wall": s, "cpu": s, "time": s, "rss": MiB} of one run."""
        if self.is_server:
            return serve_once(self, allocator, percent, place)
        process = start(self, allocator, self.command(percent), place)
        try:
            return result_of(process, place, f"{self.name} with {allocator.name}")
        finally:
            kill(process)


def allocators():
    """pheap without and with a pool, and the peers that are installed, glibc first."""
    found = [Allocator("pheap", os.path.join(BUILD, "lib", "libpheap.so")), Allocator("glibc")]
    for name, library, package in [("mimalloc", "libmimalloc.so.2", "libmimalloc2.0"),
                                   ("jemalloc", "libjemalloc.so.2", "libjemalloc2"),
                                   ("tcmalloc", "libtcmalloc_minimal.so.4",
                                    "libtcmalloc-minimal4")]:
        path = os.path.join(LIBRARIES, library)
        if os.path.exists(path):
            found.append(Allocator(name, path))
        else:
            print(f"bench: {path} is not there: apt-get install {package}", file=sys.stderr)
    return found, Allocator("pheap+pool", found[0].library, pool=True)


def another(text):
    """The allocator that NAME=LIBRARY[,VARIABLE=VALUE...] describes; "pheap" is the one built."""
    (name, library), *variables = [part.partition("=")[::2] for part in text.split(",")]
    if library == "pheap":
        library = os.path.join(BUILD, "lib", "libpheap.so")
    if not name or not os.path.exists(library):
        sys.exit(f"bench: {text!r} is not NAME=LIBRARY[,VARIABLE=VALUE...] with a library's path")
    return Allocator(name, os.path.abspath(library), environment=dict(variables))


def start(row, allocator, command, place):
    """The measured process; its stderr is kept for the case that it fails."""
    variables = {**row.environment, **allocator.environment}
    if allocator.pool:
        pool = os.path.join(place, "pool")
        if os.path.exists(pool):
            os.unlink(pool)
        command = [PHEAP, "run", "-i", "1s", pool] + command
    elif allocator.library:
        variables["LD_PRELOAD"] = allocator.library
    elif row.is_server:
        variables["LD_PRELOAD"] = GLIBC  # Debian's Redis is linked with jemalloc
    inherited = {k: v for k, v in os.environ.items()
                 if not k.startswith(("LD_", "PHEAP_", "MALLOC_", "MIMALLOC_"))}
    with open(os.path.join(place, "stderr"), "w", encoding="utf-8") as stderr:
        return subprocess.Popen(
            [MEASURE, os.path.join(place, "measured")] + [f"{k}={v}" for k, v in variables.items()]
            + ["--"] + command, env=inherited, cwd=place, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True)


def kill(process):
    """What still runs of it: after a time-out, or Ctrl-C."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def result_of(process, place, what):
    try:
        process.wait(TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        raise RunFailed(f"{what}: not at its end after {TIMEOUT_SECONDS} s") from None
    words = []
    if process.returncode == 0:
        with open(os.path.join(place, "measured"), encoding="ascii") as f:
            words = [int(word) for word in f.read().split()]
    if len(words) != 4 or words[3] != 0:
        with open(os.path.join(place, "stderr"), encoding="utf-8", errors="replace") as f:
            raise RunFailed(f"{what}: exit status {words[3:] or process.returncode}: "
                            f"{f.read()[-500:].strip()}")
    wall, cpu = words[0] / 1e9, words[1] / 1e9
    return {"wall": wall, "cpu": cpu, "time": wall, "rss": words[2] / 1024}


def redis_cli(socket, *words):
    return subprocess.run(["redis-cli", "-s", socket, *words], capture_output=True, text=True,
                          check=False).stdout.strip()


def serve_once(row, allocator, percent, place):
    socket = os.path.join(place, "socket")
    server = os.path.join(place, "redis-server")
    what = f"{row.name} with {allocator.name}"
    if not os.path.exists(server):
        os.symlink(REDIS_SERVER, server)
    process = start(row, allocator, [server, "--port", "0", "--unixsocket", socket, "--save", "",
                                     "--jemalloc-bg-thread", "no", "--dir", place], place)
    try:
        return serve(row, percent, process, socket, place, what)
    finally:
        kill(process)


def serve(row, percent, process, socket, place, what):
    end = time.monotonic() + 10
    while redis_cli(socket, "ping") != "PONG":
        if process.poll() is not None:
            return result_of(process, place, what)
        if time.monotonic() > end:
            raise RunFailed(f"{what}: no answer after 10 s")
        time.sleep(0.02)
    begin = time.monotonic()
    load = subprocess.run(["redis-benchmark", "-s", socket, "-q"] + row.command(percent),
                          capture_output=True, text=True, check=False)
    wall = time.monotonic() - begin
    redis_cli(socket, "shutdown", "nosave")
    result = result_of(process, place, what)
    if load.returncode != 0:
        raise RunFailed(f"{what}: redis-benchmark: {load.stderr.strip()}")
    return {"wall": wall, "cpu": result["cpu"], "time": result["cpu"], "rss": result["rss"]}


def compile_command():
    compiler = subprocess.run(["g++", "-print-prog-name=cc1plus"], capture_output=True, text=True,
                              check=True).stdout.strip()
    return lambda percent: [compiler, "-quiet", "-imultiarch", "x86_64-linux-gnu", "-D_GNU_SOURCE",
                            "-std=c++17", "-O1", f"-DPERCENT={percent}",
                            os.path.join(PROGRAMS, "templates.cc"), "-o", "/dev/null"]


def workload_row(name, threads):
    program = os.path.join(BUILD, "bench", "workloads", name)
    return Row(f"{name} {threads}", "workload", lambda p: [program, str(threads), str(p)])


def script_row(name, interpreter, script, **environment):
    path = os.path.join(PROGRAMS, script)
    return Row(name, "program", lambda p: [interpreter, path, str(p)], environment)


def all_rows():
    sql = os.path.join(PROGRAMS, "orders.sql")
    return [workload_row(name, n) for name, counts in WORKLOADS for n in counts] + [
        script_row("python", "/usr/bin/python3", "objects.py", PYTHONMALLOC="malloc"),
        script_row("lua", "lua5.4", "trees.lua"),
        script_row("perl", "perl", "words.pl"),
        Row("sqlite", "program", lambda p: [
            "sqlite3", "-batch", "-cmd", ".parameter init",
            "-cmd", f".parameter set :orders {2000 * p}", ":memory:", f".read {sql}"]),
        Row("g++", "program", compile_command()),
        Row("redis (CPU)", "program", lambda p: [
            "-n", str(1000 * p), "-c", "20", "-P", "16", "-d", "200", "-r", "50000",
            "-t", "set,get,lpush,lpop,sadd,hset"], is_server=True),
    ]
