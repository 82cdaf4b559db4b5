#!/usr/bin/python3
"""make bench-checkpoint: what checkpoints cost a program with a 500 MB heap that writes 1 % of it
between two, and how fast it is running again after 1, 100 and 1,000 of them.

The pause is the agent's: first thread seized to last thread let go. The gap is the program's own:
the longest time between two looks at the clock, with checkpoints, without, and with a fork-based
snapshot of the same program. All in one run: compare columns, not runs on different days.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("PHEAP_BUILD") or os.path.join(ROOT, "build")
PHEAP = os.path.join(BUILD, "bin/pheap")
PROGRAM = os.path.join(BUILD, "bench/checkpoint")
MB = int(os.environ.get("BENCH_MB", "500"))
SECONDS = int(os.environ.get("BENCH_SECONDS", "30"))
GENERATIONS = [int(n) for n in os.environ.get("BENCH_GENERATIONS", "1 100 1000").split()]
PAGES = MB * 256 // 100  # 1 % of the heap


def milliseconds(ns):
    return f"{ns / 1e6:8.2f}"


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0


def arguments(place, pages_per_second, seconds):
    return [PROGRAM, str(MB), str(pages_per_second), str(seconds), os.path.join(place, "gaps")]


def gaps_of(text):
    match = re.search(r"^gap (\d+) (\d+)$", text, re.M)
    if not match:
        sys.exit(f"bench: the program did not come to its end: {text!r}")
    return int(match[1]), int(match[2])


def generations(pool):
    done = subprocess.run([PHEAP, "inspect", "--json", pool], capture_output=True, text=True,
                          check=False)
    return json.loads(done.stdout)["generations"] if done.returncode == 0 else []


def checkpoint(pool):
    subprocess.run([PHEAP, "checkpoint", pool], check=True, stdout=subprocess.DEVNULL)


class Watched:
    """A program under pheap and the generations that were seen of it."""

    def __init__(self, place, interval_ms, pages_per_second, seconds, keep=3):
        self.pool = os.path.join(place, "pool")
        self.seen = {}
        self.out = open(os.path.join(place, "out"), "w+", encoding="ascii")
        self.process = subprocess.Popen(
            [PHEAP, "run", "-i", f"{interval_ms}ms", "-k", str(keep), self.pool] +
            arguments(place, pages_per_second, seconds), stdout=self.out, cwd=place)

    def look(self):
        for entry in generations(self.pool):
            self.seen[entry["number"]] = entry

    def newest(self):
        return max(self.seen, default=0)

    def end(self):
        if self.process.wait() != 0:
            sys.exit(f"bench: exit status {self.process.returncode}")
        self.look()
        self.out.seek(0)
        return self.out.read()


def undisturbed(place):
    out = subprocess.run(arguments(place, PAGES, SECONDS), check=True, capture_output=True, text=True)
    return gaps_of(out.stdout)


def with_fork(place):
    out = subprocess.run(arguments(place, PAGES, SECONDS) +
                         ["fork", "1000", os.path.join(place, "snapshot")], check=True,
                         capture_output=True, text=True)
    os.unlink(os.path.join(place, "snapshot"))
    return [int(n) for n in re.findall(r"^fork (\d+)$", out.stdout, re.M)], gaps_of(out.stdout)


def with_checkpoints(place):
    """One checkpoint a second; the pauses of all but the first, which holds the whole heap."""
    watched = Watched(place, 1000, PAGES, SECONDS, keep=16)  # each is looked at before it goes
    while watched.process.poll() is None:
        watched.look()
        time.sleep(2)
    text = watched.end()
    later = [e for n, e in sorted(watched.seen.items()) if n > 1]
    os.unlink(watched.pool)
    return [e["pause_ns"] for e in later], [e["written_bytes"] for e in later], gaps_of(text)


def restore_times(place, count, repeats=5):
    """[ns] from exec of pheap restore to the program's first action, after `count` generations."""
    interval_ms = 50 if count > 1 else 0  # 0: on request
    watched = Watched(place, interval_ms, PAGES * 1000 // (interval_ms or 1000), 1000000)
    while os.path.getsize(watched.out.name) == 0:  # until its heap is there
        time.sleep(0.05)
    if count == 1:
        checkpoint(watched.pool)
        watched.look()
    while watched.newest() < count and watched.process.poll() is None:
        watched.look()
        time.sleep(0.2)
    watched.process.kill()
    watched.process.wait()
    found, gaps_file = [], os.path.join(place, "gaps")
    for _ in range(repeats):
        time.sleep(0.5)
        if os.path.exists(gaps_file):
            os.unlink(gaps_file)
        begin = time.monotonic_ns()
        restore = subprocess.Popen([PHEAP, "restore", watched.pool], stderr=subprocess.PIPE,
                                   text=True, cwd=place)
        line = restore.stderr.readline()
        match = re.search(r"resumed generation \d+ as pid (\d+)(?: \(outer pid (\d+)\))?", line)
        if not match:
            sys.exit(f"bench: pheap restore said {line!r} {restore.stderr.read()!r}")
        end = time.monotonic() + 20
        while not os.path.exists(gaps_file) or not os.path.getsize(gaps_file):
            if time.monotonic() > end:
                sys.exit("bench: the restored program does nothing")
            time.sleep(0.001)
        with open(gaps_file, encoding="ascii") as f:
            found.append(int(f.read().split()[0]) - begin)
        checkpoint(watched.pool)  # a newer one, or the third resume takes an older one
        os.kill(int(match[2] or match[1]), signal.SIGKILL)
        restore.wait()
        restore.stderr.close()
    os.unlink(watched.pool)
    return found


def main():
    place = tempfile.mkdtemp(prefix="pheap-bench-", dir=os.environ.get("TMPDIR", "/tmp"))
    try:
        print(f"heap {MB} MB, {PAGES} pages (1 %) written between checkpoints, one checkpoint a "
              f"second, {SECONDS} s each; times in ms\n", flush=True)
        print(f"{'':34} {'p50':>8} {'p99':>8} {'max':>8}")
        p99, plain_max = undisturbed(place)
        print(f"{'gap, without checkpoints':34} {'':8} {milliseconds(p99)} {milliseconds(plain_max)}",
              flush=True)
        pauses, written, (p99, gap_max) = with_checkpoints(place)
        print(f"{'gap, with checkpoints':34} {'':8} {milliseconds(p99)} {milliseconds(gap_max)}")
        print(f"{'pause (' + str(len(pauses)) + ' checkpoints)':34} "
              f"{milliseconds(percentile(pauses, .5))} {milliseconds(percentile(pauses, .99))} "
              f"{milliseconds(max(pauses, default=0))}", flush=True)
        forks, (p99, fork_max) = with_fork(place)
        print(f"{'fork snapshot: fork()':34} {milliseconds(percentile(forks, .5))} "
              f"{milliseconds(percentile(forks, .99))} {milliseconds(max(forks))}")
        print(f"{'fork snapshot: gap':34} {'':8} {milliseconds(p99)} {milliseconds(fork_max)}",
              flush=True)
        for count in GENERATIONS:
            times = restore_times(place, count)
            print(f"{f'restore after {count} generations':34} {milliseconds(percentile(times, .5))} "
                  f"{milliseconds(percentile(times, .99))} {milliseconds(max(times))}", flush=True)
        print(f"\nthe longest gap with checkpoints is {milliseconds(gap_max - plain_max).strip()} ms "
              f"above that without; a generation wrote {percentile(written, .5) / 1e6:.1f} MB (p50)")
    finally:
        shutil.rmtree(place, ignore_errors=True)


main()
