#!/usr/bin/python3
"""make bench-checkpoint: what checkpoints cost a program with a large heap, and how fast it is
running again after many of them. docs/benchmarks.md says how to read the tables.

Every figure stands beside one of the same run: the gaps that a program sees of itself beside those
of the same program without checkpoints, a pause beside the time that fork() takes. Compare columns,
not runs on different days.
"""
import argparse
import json
import math
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
PAGE = 4096
MIB_PAGES = 256


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0


def ms(ns):
    return f"{ns / 1e6:.2f}"


def distinct(pages, draws):
    """How many of so many pages are hit by that many random writes."""
    return pages * (1 - math.exp(-draws / pages))


class Case:
    """A heap, how much of it is written a second, by how many threads."""

    def __init__(self, mb, percent, threads):
        self.mb, self.percent, self.threads = mb, percent, threads
        self.pages = mb * MIB_PAGES
        self.pages_per_second = max(1, int(self.pages * percent / 100))

    def __str__(self):
        return f"{self.mb:>6} MB {self.percent:>4} % {self.threads:>2} thr"

    def arguments(self, place, seconds):
        return [PROGRAM, str(self.mb), str(self.pages_per_second), str(seconds),
                str(self.threads), os.path.join(place, "gaps")]


def result_of(text):
    gap = re.search(r"^gap (\d+) (\d+)$", text, re.M)
    looks = re.search(r"^looks (\d+)$", text, re.M)
    if not gap or not looks:
        sys.exit(f"bench: the program did not come to its end: {text!r}")
    return {"gap_p99": int(gap[1]), "gap_max": int(gap[2]), "looks": int(looks[1])}


def plain(place, case, seconds):
    done = subprocess.run(case.arguments(place, seconds), check=True, capture_output=True, text=True)
    return result_of(done.stdout)


def forked(place, case, seconds):
    """Times of fork() and the program's gaps, with a snapshot a second as Redis makes it."""
    path = os.path.join(place, "snapshot")
    done = subprocess.run(case.arguments(place, seconds) + ["fork", "1000", path], check=True,
                          capture_output=True, text=True)
    os.unlink(path)
    times = [int(n) for n in re.findall(r"^fork (\d+)$", done.stdout, re.M)]
    return times, result_of(done.stdout)


class Watched:
    """The program under pheap."""

    def __init__(self, place, case, seconds, interval="0"):
        self.place, self.case = place, case
        self.pool = os.path.join(place, "pool")
        self.out = open(os.path.join(place, "out"), "w+", encoding="ascii")
        self.process = subprocess.Popen(
            [PHEAP, "run", "-i", interval, self.pool] + case.arguments(place, seconds),
            stdout=self.out, cwd=place)
        while os.path.getsize(self.out.name) == 0:  # until its heap is there
            if self.process.poll() is not None:
                sys.exit(f"bench: exit status {self.process.returncode}")
            time.sleep(0.02)

    def checkpoint(self):
        begin = time.monotonic()
        done = subprocess.run([PHEAP, "checkpoint", "--json", self.pool], capture_output=True,
                              text=True, check=False)
        if done.returncode != 0:
            return None
        return {**json.loads(done.stdout), "seconds": time.monotonic() - begin,
                "at": time.monotonic()}

    def newest(self):
        done = subprocess.run([PHEAP, "inspect", "--json", self.pool], capture_output=True,
                              text=True, check=False)
        found = json.loads(done.stdout)["generations"] if done.returncode == 0 else []
        return max((g["number"] for g in found), default=0)

    def end(self):
        if self.process.wait() != 0:
            sys.exit(f"bench: exit status {self.process.returncode}")
        self.out.seek(0)
        os.unlink(self.pool)
        return result_of(self.out.read())


def checkpointed(place, case, seconds):
    """A checkpoint a second; all but the first, which holds the whole heap."""
    watched = Watched(place, case, seconds)
    watched.checkpoint()
    found, begin, last = [], time.monotonic(), time.monotonic()
    while watched.process.poll() is None:
        time.sleep(max(0, last + 1 - time.monotonic()))
        last = time.monotonic()
        done = watched.checkpoint()
        if done:
            found.append(done)
    took = time.monotonic() - begin
    return found, took, watched.end()


def ratio(above, below):
    return above / below if below else 0


def cost_row(place, case, seconds):
    base = plain(place, case, seconds)
    found, took, result = checkpointed(place, case, seconds)
    forks, with_fork = forked(place, case, seconds)
    pauses = [c["pause_ns"] for c in found]
    dirty = sum(distinct(case.pages, case.pages_per_second * took / max(1, len(found))) * PAGE
                for _ in found)
    pages = sum(c["page_bytes"] for c in found)
    index = sum(c["written_bytes"] - c["page_bytes"] for c in found)
    rewritten = sum(c["rewritten_bytes"] for c in found)
    row = {
        "case": str(case), "checkpoints": len(found), "pauses": pauses,
        "pause_p50": percentile(pauses, .5), "pause_p99": percentile(pauses, .99),
        "pause_max": max(pauses, default=0),
        "gap_plain": base["gap_max"], "gap": result["gap_max"],
        "throughput": ratio(result["looks"], base["looks"]),
        "durable_p50": percentile([c["seconds"] * 1e9 for c in found], .5),
        "pages_per_dirty": ratio(pages, dirty), "index_per_pages": ratio(index, pages),
        "rewritten_per_pages": ratio(rewritten, pages),
        "fork_p50": percentile(forks, .5), "fork_max": max(forks, default=0),
        "fork_gap": with_fork["gap_max"],
    }
    print(f"{row['case']} {row['checkpoints']:>4} "
          f"{ms(row['pause_p50']):>7} {ms(row['pause_p99']):>7} {ms(row['pause_max']):>7} "
          f"{ms(row['gap_plain']):>8} {ms(row['gap']):>8} {row['throughput']:>7.3f} "
          f"{ms(row['durable_p50']):>8} {row['pages_per_dirty']:>6.2f} "
          f"{row['index_per_pages']:>6.3f} {row['rewritten_per_pages']:>6.2f} "
          f"{ms(row['fork_p50']):>8} {ms(row['fork_gap']):>9}", flush=True)
    return row


COST_HEAD = (f"{'':24} {'':>4} {'pause':>7} {'':>7} {'':>7} {'gap, max':>8} {'':>8} {'through':>7} "
             f"{'durable':>8} {'pages/':>6} {'index/':>6} {'rewr./':>6} {'fork()':>8} {'fork gap':>9}\n"
             f"{'heap, written a second':24} {'n':>4} {'p50':>7} {'p99':>7} {'max':>7} "
             f"{'without':>8} {'with':>8} {'put':>7} {'p50':>8} {'dirty':>6} {'pages':>6} "
             f"{'pages':>6} {'p50':>8} {'max':>9}")


def resume(watched):
    """(ns from exec of pheap restore to the program's first action, the restored process's pid)."""
    gaps_file = os.path.join(watched.place, "gaps")
    if os.path.exists(gaps_file):
        os.unlink(gaps_file)
    begin = time.monotonic_ns()
    restore = subprocess.Popen([PHEAP, "restore", watched.pool], stderr=subprocess.PIPE, text=True,
                               stdout=watched.out, cwd=watched.place)
    line = restore.stderr.readline()
    match = re.search(r"resumed generation \d+ as pid (\d+)(?: \(outer pid (\d+)\))?", line)
    if not match:
        sys.exit(f"bench: pheap restore said {line!r} {restore.stderr.read()!r}")
    end = time.monotonic() + 30
    while not os.path.exists(gaps_file) or not os.path.getsize(gaps_file):
        if time.monotonic() > end:
            sys.exit("bench: the restored program does nothing")
        time.sleep(0.001)
    with open(gaps_file, encoding="ascii") as f:
        return int(f.read().split()[0]) - begin, restore, int(match[2] or match[1])


def touch(watched, pid):
    """ns to read all of the heap, as the restored program says."""
    before = open(watched.out.name, encoding="ascii").read().count("touched")
    os.kill(pid, signal.SIGUSR1)
    for _ in range(3000):
        found = re.findall(r"^touched (\d+)", open(watched.out.name, encoding="ascii").read(), re.M)
        if len(found) > before:
            return int(found[-1])
        time.sleep(0.02)
    sys.exit("bench: the restored program does not read its heap")


def restore_row(place, case, generations, repeats=5):
    interval_ms = 50 if case.mb <= 1024 else 250
    per_second = Case(case.mb, case.percent, case.threads)
    if generations > 1:  # so much between two checkpoints, as fast as they come
        per_second.pages_per_second = int(case.pages_per_second * 1000 / interval_ms)
    watched = Watched(place, per_second, 1000000, f"{interval_ms}ms" if generations > 1 else "0")
    watched.checkpoint()
    while generations > 1 and watched.newest() < generations:
        time.sleep(0.2)
    watched.process.kill()
    watched.process.wait()
    times, touches = [], []
    for _ in range(repeats):
        time.sleep(0.5)
        took, restore, pid = resume(watched)
        times.append(took)
        touches.append(touch(watched, pid))
        watched.checkpoint()  # a newer one, or the third resume takes an older one
        os.kill(pid, signal.SIGKILL)
        restore.wait()
        restore.stderr.close()
    begin = time.monotonic_ns()
    with open(watched.pool, "rb") as pool:
        while pool.read(1 << 20):
            pass
    read_ns = (time.monotonic_ns() - begin) * case.mb * 1e6 / os.path.getsize(watched.pool)
    os.unlink(watched.pool)
    row = {"case": str(case), "generations": generations, "times": times,
           "p50": percentile(times, .5), "max": max(times), "touch": percentile(touches, .5),
           "read": read_ns}
    print(f"{row['case']} {generations:>6} {ms(row['p50']):>9} {ms(row['max']):>9} "
          f"{ms(row['touch']):>9} {ms(read_ns):>9}", flush=True)
    return row


RESTORE_HEAD = (f"{'':24} {'after':>6} {'restore':>9} {'':>9} {'touch':>9} {'read the':>9}\n"
                f"{'heap, written between':24} {'gen.':>6} {'p50':>9} {'max':>9} {'all':>9} "
                f"{'file':>9}")


def numbers(kind):
    return lambda text: [kind(n) for n in text.split(",") if n]


def arguments():
    parser = argparse.ArgumentParser(prog="bench/checkpoint.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=numbers(int), default=[64, 500, 4096, 12288])
    parser.add_argument("--percent", type=numbers(float), default=[0.1, 1, 10],
                        help="of the heap, written a second")
    parser.add_argument("--threads", type=numbers(int), default=[1, 8])
    parser.add_argument("--seconds", type=int, default=20, help="of each run")
    parser.add_argument("--restore-mb", type=numbers(int), default=[500, 4096, 12288])
    parser.add_argument("--generations", type=numbers(int), default=[1, 100, 1000])
    parser.add_argument("--json", help="all figures, into this file")
    return parser.parse_args()


def restore_percent(mb):
    return 0.1 if mb > 8192 else 1.0


def fits(mb):
    """Heap, its pool in the page cache and a fork's copies want about twice its size."""
    with open("/proc/meminfo", encoding="ascii") as f:
        available = int(re.search(r"MemAvailable: +(\d+) kB", f.read())[1]) >> 10
    if mb * 1.5 < available:
        return True
    print(f"{mb:>6} MB: left out, {available} MB of memory are free", flush=True)
    return False


def main():
    options = arguments()
    load = os.getloadavg()[0]
    place = tempfile.mkdtemp(prefix="pheap-bench-", dir=os.environ.get("TMPDIR", "/tmp"))
    rows = {"cost": [], "restore": [], "load": load}
    print(f"one checkpoint a second, {options.seconds} s a run; times in ms; load average {load}"
          + ("" if load < 0.5 else ": the machine is busy, gaps and maxima say little") + "\n")
    print(COST_HEAD, flush=True)
    try:
        for mb in filter(fits, options.mb):
            for percent in options.percent:
                for threads in options.threads:
                    rows["cost"].append(cost_row(place, Case(mb, percent, threads),
                                                 options.seconds))
        print("\n" + RESTORE_HEAD, flush=True)
        for mb in filter(fits, options.restore_mb):
            for generations in options.generations:
                rows["restore"].append(restore_row(place, Case(mb, restore_percent(mb), 1),
                                                   generations))
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if options.json:
            with open(options.json, "w", encoding="ascii") as f:
                json.dump(rows, f, indent=1)


main()
