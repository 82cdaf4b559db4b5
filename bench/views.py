#!/usr/bin/python3
"""make bench-views: how long each view of pheap inspect, and the marking of
pheap recover --collect, takes on heaps of 10 million blocks: a list, and a tree in random order. Whole commands, the pool in
the page cache; the least of three, in seconds, and the most memory.
"""
import argparse
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("PHEAP_BUILD") or os.path.join(ROOT, "build")
PHEAP = os.path.join(BUILD, "bin/pheap")
PROGRAM = os.path.join(BUILD, "bench/many_blocks")
VIEWS = ("summary", "generations", "mappings", "files", "threads", "heap", "slabs", "blocks", "leaks",
         "roots", "retained", "diff 1 1", "strings", "grep needle")


def make_pool(directory, shape, blocks):
    pool = os.path.join(directory, shape)
    with subprocess.Popen([PHEAP, "run", "-i", "0", pool, PROGRAM, shape, str(blocks)],
                          stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        subprocess.run([PHEAP, "checkpoint", pool], check=True, stdout=subprocess.DEVNULL)
        process.send_signal(signal.SIGKILL)
    return pool


def measure(command):
    """Seconds of the fastest of three, and its memory in MiB."""
    best = None
    for _ in range(3):
        begin = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        found = (time.monotonic() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024)
        if process.returncode not in (0, 1):
            raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
        best = min(best, found) if best else found
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=10_000_000)
    parser.add_argument("--directory", default=None, help="where the pools lie (removed afterwards)")
    arguments = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="pheap-views-", dir=arguments.directory)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        print(f"{'view':14}" + "".join(f"{s + ' s':>10}{'cpu s':>8}{'MiB':>7}" for s in ("list", "tree")))
        pools = [make_pool(directory, shape, arguments.blocks) for shape in ("list", "tree")]
        for view in VIEWS:
            row = [measure([PHEAP, "inspect", pool, *view.split()]) for pool in pools]
            print(f"{view:14}" + "".join(f"{s:10.2f}{c:8.2f}{m:7}" for s, c, m in row), flush=True)
        row = [measure([PHEAP, "recover", "--collect", "--free", "--now", "--dry-run", pool]) for pool in pools]
        print(f"{'--collect':14}" + "".join(f"{s:10.2f}{c:8.2f}{m:7}" for s, c, m in row), flush=True)
        page = os.path.join(directory, "page.html")
        row = []
        for pool in pools:
            row.append(min(measure_page(pool, page) for _ in range(2)))
        print(f"{'--html':14}" + "".join(f"{s:10.2f}{c:8.2f}{m:7}" for s, c, m in row))
    finally:
        shutil.rmtree(directory)


def measure_page(pool, page):
    if os.path.exists(page):
        os.unlink(page)
    begin = time.monotonic()
    with subprocess.Popen([PHEAP, "inspect", "--html", page, pool], stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return time.monotonic() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024


if __name__ == "__main__":
    main()
