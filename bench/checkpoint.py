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

import checkpoint_redis

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("PHEAP_BUILD") or os.path.join(ROOT, "build")
PHEAP = os.path.join(BUILD, "bin/pheap")
LIBRARY = os.path.join(BUILD, "lib/libpheap.so")
PROGRAM = os.path.join(BUILD, "bench/checkpoint")
PAGE = 4096
MIB_PAGES = 256
RESTORE_GOAL_NS = 50000000
PATIENCE_SECONDS = 120  # with a checkpoint that is put off


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
    """Times of fork() and the program's gaps, with a snapshot a second as Redis makes it. While a
    child writes, the program's stores make copies: at worst a second heap."""
    if case.mb * 2.2 > free_mb():
        return [], {"gap_max": 0}
    path = os.path.join(place, "snapshot")
    done = subprocess.run(case.arguments(place, seconds) + ["fork", "1000", path], check=True,
                          capture_output=True, text=True)
    os.unlink(path)
    times = [int(n) for n in re.findall(r"^fork (\d+)$", done.stdout, re.M)]
    return times, result_of(done.stdout)


class Watched:
    """The program under pheap."""

    def __init__(self, place, case, seconds, how=(), interval="0"):
        self.place, self.case = place, case
        self.pool = os.path.join(place, "pool")
        self.out = open(os.path.join(place, "out"), "w+", encoding="ascii")
        self.process = subprocess.Popen(
            [PHEAP, "run", "-i", interval, self.pool] + case.arguments(place, seconds) + list(how),
            stdin=subprocess.DEVNULL, stdout=self.out, stderr=subprocess.DEVNULL, cwd=place)
        while os.path.getsize(self.out.name) == 0:  # until its heap is there
            if self.process.poll() is not None:
                sys.exit(f"bench: exit status {self.process.returncode}")
            time.sleep(0.02)

    def checkpoint(self):
        """None when the program has ended. An agent refuses what it had to put off for 5 s, as on a
        machine that is too busy to run the program so that it can stop: then it is asked again."""
        begin = time.monotonic()
        while True:
            done = subprocess.run([PHEAP, "checkpoint", "-t", "600", "--json", self.pool],
                                  capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return {**json.loads(done.stdout), "seconds": time.monotonic() - begin}
            if self.process.poll() is not None or time.monotonic() - begin > PATIENCE_SECONDS:
                return None
            print(f"bench: pheap checkpoint, asked again: {done.stderr.strip()}", file=sys.stderr)
            time.sleep(0.1)

    def said(self, word):
        """How often the program printed a line that begins with the word."""
        with open(self.out.name, encoding="ascii") as out:
            return sum(line.startswith(word) for line in out)

    def burst(self):
        """The program writes the row's share of its heap, once."""
        before = self.said("burst")
        os.kill(self.process.pid, signal.SIGUSR2)
        while self.said("burst") == before:
            time.sleep(0.002)

    def end(self):
        if self.process.wait() != 0:
            sys.exit(f"bench: exit status {self.process.returncode}")
        self.out.seek(0)
        os.unlink(self.pool)
        return result_of(self.out.read())


def checkpointed(place, case, seconds):
    """A checkpoint a second, after a first one that holds the whole heap."""
    watched = Watched(place, case, seconds, ["wait"])
    watched.checkpoint()
    os.kill(watched.process.pid, signal.SIGUSR2)
    found, begin, last = [], time.monotonic(), time.monotonic()
    while watched.process.poll() is None:
        time.sleep(max(0, last + 1 - time.monotonic()))
        last = time.monotonic()
        done = watched.checkpoint()
        if done:
            found.append(done)
    took = time.monotonic() - begin
    return found, took, watched.end()


def by_the_clock(place, case, seconds):
    """A checkpoint a second by the agent's clock: no other process runs beside the program. (How many
    there were, the program's result)."""
    watched = Watched(place, case, seconds, ["wait"], "1s")
    first = watched.checkpoint()["generation"]
    os.kill(watched.process.pid, signal.SIGUSR2)
    watched.process.wait()
    found = json.loads(subprocess.run([PHEAP, "inspect", "--json", watched.pool, "generations"],
                                      check=True, capture_output=True, text=True).stdout)
    return max(g["number"] for g in found["generations"]) - first, watched.end()


def ratio(above, below):
    return above / below if below else 0


def cost_row(place, case, seconds):
    base = plain(place, case, seconds)
    found, took, result = checkpointed(place, case, seconds)
    taken, alone = by_the_clock(place, case, seconds)
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
        "alone": ratio(alone["looks"], base["looks"]), "alone_checkpoints": taken,
        "durable_p50": percentile([c["seconds"] * 1e9 for c in found], .5),
        "pages_per_dirty": ratio(pages, dirty), "index_per_pages": ratio(index, pages),
        "rewritten_per_pages": ratio(rewritten, pages),
        "fork_p50": percentile(forks, .5), "fork_max": max(forks, default=0),
        "fork_gap": with_fork["gap_max"],
    }
    print(f"{row['case']} {row['checkpoints']:>4} "
          f"{ms(row['pause_p50']):>7} {ms(row['pause_p99']):>7} {ms(row['pause_max']):>7} "
          f"{ms(row['gap_plain']):>8} {ms(row['gap']):>8} {row['throughput']:>7.3f} "
          f"{row['alone']:>6.3f} {row['alone_checkpoints']:>3} "
          f"{ms(row['durable_p50']):>8} {row['pages_per_dirty']:>6.2f} "
          f"{row['index_per_pages']:>6.3f} {row['rewritten_per_pages']:>6.2f} "
          f"{ms(row['fork_p50']):>8} {ms(row['fork_gap']):>9}", flush=True)
    return row


COST_HEAD = (f"{'':24} {'':>4} {'pause':>7} {'':>7} {'':>7} {'gap, max':>8} {'':>8} {'through':>7} "
             f"{'alone':>6} {'':>3} {'durable':>8} {'pages/':>6} {'index/':>6} {'rewr./':>6} {'fork()':>8} {'fork gap':>9}\n"
             f"{'heap, written a second':24} {'n':>4} {'p50':>7} {'p99':>7} {'max':>7} "
             f"{'without':>8} {'with':>8} {'put':>7} {'':>6} {'n':>3} {'p50':>8} {'dirty':>6} {'pages':>6} "
             f"{'pages':>6} {'p50':>8} {'max':>9}")


def read_resumed(restore):
    """(The restored process's pid, what pheap restore -v says of its steps before.)"""
    steps = []
    for line in restore.stderr:
        match = re.search(r"resumed generation \d+ as pid (\d+)(?: \(outer pid (\d+)\))?", line)
        if match:
            return int(match[2] or match[1]), steps
        steps.append(line.replace("pheap restore:", "").strip())
    sys.exit(f"bench: pheap restore said {steps!r}")


def resume(watched):
    """(ns from exec of pheap restore to the program's first action, the restore, the restored
    process's pid, steps)."""
    gaps_file = os.path.join(watched.place, "gaps")
    if os.path.exists(gaps_file):
        os.unlink(gaps_file)
    begin = time.monotonic_ns()
    restore = subprocess.Popen([PHEAP, "restore", "-v", watched.pool], stderr=subprocess.PIPE,
                               text=True, stdout=watched.out, cwd=watched.place)
    pid, steps = read_resumed(restore)
    end = time.monotonic() + 30
    while not os.path.exists(gaps_file) or not os.path.getsize(gaps_file):
        if time.monotonic() > end:
            sys.exit("bench: the restored program does nothing")
        time.sleep(0.001)
    with open(gaps_file, encoding="ascii") as f:
        return int(f.read().split()[0]) - begin, restore, pid, steps


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


def make_generations(place, case, generations):
    """A killed program's pool; between two generations exactly the row's share is written."""
    watched = Watched(place, case, 1000000, ["burst"])
    made = []
    while len(made) < generations:
        if made:
            watched.burst()
        done = watched.checkpoint()
        if done is None:
            sys.exit("bench: no checkpoint")
        made.append(done)
    watched.process.kill()
    watched.process.wait()
    return watched, made


def restore_row(place, case, generations, repeats):
    watched, made = make_generations(place, case, generations)
    times, touches, slowest = [], [], []
    for _ in range(repeats):
        time.sleep(0.5)
        took, restore, pid, steps = resume(watched)
        times.append(took)
        slowest = steps if took == max(times) else slowest
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
           "p50": percentile(times, .5), "max": max(times), "slowest": slowest, "touch": percentile(touches, .5),
           "read": read_ns, **bytes_of(case, made[1:])}
    print(f"{row['case']} {generations:>6} {ms(row['p50']):>9} {ms(row['max']):>9} "
          f"{ms(row['touch']):>9} {ms(read_ns):>9} {row['pages_per_dirty']:>7.3f} "
          f"{row['index_per_pages']:>7.3f} {row['rewritten_per_pages']:>7.3f} "
          f"{ms(row['pause_p50']):>8} {ms(row['pause_max']):>8}", flush=True)
    if row["max"] > RESTORE_GOAL_NS:
        print("       the slowest: " + "; ".join(slowest), flush=True)
    return row


def bytes_of(case, made):
    """What generations wrote between which exactly the row's share of the heap was written, and
    their pauses."""
    dirty = len(made) * distinct(case.pages, case.pages_per_second) * PAGE
    pages = sum(c["page_bytes"] for c in made)
    pauses = [c["pause_ns"] for c in made]
    return {"pages_per_dirty": ratio(pages, dirty),
            "index_per_pages": ratio(sum(c["written_bytes"] - c["page_bytes"] for c in made), pages),
            "rewritten_per_pages": ratio(sum(c["rewritten_bytes"] for c in made), pages),
            "pause_p50": percentile(pauses, .5), "pause_max": max(pauses, default=0)}


REDIS_HEAD = (f"{'Redis, 1 M keys,':24} {'':>4} {'pause':>7} {'':>7} {'':>7} {'slowest request':>17} "
              f"{'through':>8} {'durable':>8} {'MB/s':>6} {'its own':>8} {'fork()':>8} {'BGSAVE':>8} "
              f"{'slowest':>9}\n"
              f"{'random SET and GET':24} {'n':>4} {'p50':>7} {'p99':>7} {'max':>7} {'without':>8} "
              f"{'with':>8} {'put':>8} {'p50':>8} {'written':>6} {'malloc':>8} {'p50':>8} "
              f"{'through.':>8} {'request':>9}")


def redis_row(place, requests):
    found = checkpoint_redis.one_round(place, requests, PHEAP, LIBRARY)
    events = found["with"]["events"]
    pauses = [e["pause_ns"] for e in events]
    rate = found["without"]["rate"]
    seconds = 2 * requests / found["with"]["rate"]
    row = {"runs": found, "checkpoints": len(events), "pause_p50": percentile(pauses, .5),
           "pause_p99": percentile(pauses, .99), "pause_max": max(pauses, default=0),
           "throughput": ratio(found["with"]["rate"], rate),
           "durable_p50": percentile([e["seconds"] * 1e9 for e in events], .5),
           "written_per_second": sum(e["written_bytes"] for e in events) / seconds}
    print(f"{int(rate):>17} a second {row['checkpoints']:>2} "
          f"{ms(row['pause_p50']):>7} {ms(row['pause_p99']):>7} {ms(row['pause_max']):>7} "
          f"{ms(found['without']['latency_max']):>8} {ms(found['with']['latency_max']):>8} "
          f"{row['throughput']:>8.3f} {ms(row['durable_p50']):>8} "
          f"{row['written_per_second'] / 1e6:>6.0f} {ratio(found['own malloc']['rate'], rate):>8.3f} "
          f"{ms(percentile(found['bgsave']['events'], .5)):>8} "
          f"{ratio(found['bgsave']['rate'], rate):>8.3f} {ms(found['bgsave']['latency_max']):>9}",
          flush=True)
    return row


RESTORE_HEAD = (f"{'':24} {'after':>6} {'restore':>9} {'':>9} {'touch':>9} {'read the':>9} "
                f"{'pages/':>7} {'index/':>7} {'rewr./':>7} {'pause':>8}\n"
                f"{'heap, written between':24} {'gen.':>6} {'p50':>9} {'max':>9} {'all':>9} "
                f"{'file':>9} {'dirty':>7} {'pages':>7} {'pages':>7} {'p50':>8} {'max':>8}")


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
    parser.add_argument("--restore-percent", type=numbers(float), default=[],
                        help="of the heap, written between two generations (1; of 12 GB 0.1)")
    parser.add_argument("--restores", type=int, default=5, help="of each row")
    parser.add_argument("--generations", type=numbers(int), default=[1, 100, 1000])
    parser.add_argument("--redis-rounds", type=int, default=3)
    parser.add_argument("--redis-requests", type=int, default=1500000, help="of each kind")
    parser.add_argument("--json", help="all figures, into this file")
    return parser.parse_args()


def restore_percent(mb):
    return 0.1 if mb > 8192 else 1.0


def free_mb():
    with open("/proc/meminfo", encoding="ascii") as f:
        return int(re.search(r"MemAvailable: +(\d+) kB", f.read())[1]) >> 10


def that_fit(sizes, place):
    """The heap and what of its pool is about to be written must fit into memory (the rest of the pool
    is page cache), the pool or a snapshot on the disk. Looked at row by row."""
    for mb in sizes:
        free, disk = free_mb(), shutil.disk_usage(place).free >> 20
        if mb * 1.5 >= free:
            print(f"{mb:>6} MB: left out, {free} MB of memory are free of {int(mb * 1.5)}", flush=True)
        elif mb * 1.5 >= disk:
            print(f"{mb:>6} MB: left out, {disk} MB are free in {place} of {int(mb * 1.5)}", flush=True)
        else:
            yield mb


def main():
    options = arguments()
    load = os.getloadavg()[0]
    place = tempfile.mkdtemp(prefix="pheap-bench-", dir=os.environ.get("TMPDIR", "/tmp"))
    rows = {"cost": [], "redis": [], "restore": [], "load": load}
    print(f"one checkpoint a second, {options.seconds} s a run; times in ms; load average {load}"
          + ("" if load < 0.5 else ": the machine is busy, gaps and maxima say little") + "\n")
    print(COST_HEAD, flush=True)
    try:
        for mb in that_fit(options.mb, place):
            for percent in options.percent:
                for threads in options.threads:
                    rows["cost"].append(cost_row(place, Case(mb, percent, threads),
                                                 options.seconds))
        if options.redis_rounds and not checkpoint_redis.available():
            print("Redis: left out, scripts/install-packages bench has not installed it")
        elif options.redis_rounds:
            print("\n" + REDIS_HEAD, flush=True)
            for _ in range(options.redis_rounds):
                rows["redis"].append(redis_row(place, options.redis_requests))
        print("\n" + RESTORE_HEAD, flush=True)
        for mb in that_fit(options.restore_mb, place):
            for percent in options.restore_percent or [restore_percent(mb)]:
                for generations in options.generations:
                    rows["restore"].append(restore_row(place, Case(mb, percent, 1), generations,
                                                       options.restores))
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if options.json:
            with open(options.json, "w", encoding="ascii") as f:
                json.dump(rows, f, indent=1)


main()
