#!/usr/bin/python3
"""make bench: time and peak memory of workloads and real programs under pheap and its peers.

Row by row, every allocator runs once in turn, several times round; the median of each counts. The
tables show each allocator's ratio to the best of the four peers (below 1: better than all of them),
geometric means last. "pool" is the ratio of pheap with a pool and a checkpoint every second to
pheap without, at several times the amount of work, so that there are checkpoints in it.
docs/benchmarks.md says how to read the rest.
"""
import argparse
import datetime
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile

import chart
import rows

FIELDS = ("time", "cpu", "rss")
UNITS = {"time": ("time", "s"), "cpu": ("CPU time", "s"), "rss": ("peak RSS", "MiB")}
WORST_RATIO = 1.15


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="TEXT,...", help="rows whose name contains a text")
    parser.add_argument("--quick", action="store_true",
                        help="a quarter of the work, three rounds: for a look, not for a claim")
    parser.add_argument("--runs", type=int, help="rounds (5)")
    parser.add_argument("--percent", type=int, help="amount of work (100)")
    parser.add_argument("--pool-runs", type=int, help="rounds of the pool column, 0: none (3)")
    parser.add_argument("--pool-percent", type=int, help="amount of work for it (400)")
    parser.add_argument("--also", metavar="NAME=LIBRARY[,VARIABLE=VALUE...]", action="append",
                        default=[], help="another column: an older build, an option of pheap's")
    parser.add_argument("--json", metavar="FILE", help="write the medians to FILE")
    parser.add_argument("--html", metavar="FILE", help="write a chart to FILE (build/bench.html)")
    arguments = parser.parse_args()
    defaults = (3, 25, 1, 200) if arguments.quick else (5, 100, 3, 400)
    for name, value in zip(("runs", "percent", "pool_runs", "pool_percent"), defaults):
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    if arguments.runs < 1 or arguments.percent < 1 or arguments.pool_percent < 1:
        parser.error("--runs, --percent and --pool-percent are at least 1")
    return arguments


def medians(row, allocators, runs, percent, place, failures):
    """{allocator name: {"time": ..., "cpu": ..., "rss": ...}}, those that failed left out."""
    found = {a.name: [] for a in allocators}
    for turn in range(runs):
        for i in range(len(allocators)):
            allocator = allocators[(i + turn) % len(allocators)]
            try:
                found[allocator.name].append(row.run_once(allocator, percent, place))
            except rows.RunFailed as failure:
                failures.append(str(failure))
                print(f"bench: {failure}", file=sys.stderr)
    return {name: {f: statistics.median(r[f] for r in results) for f in FIELDS}
            for name, results in found.items() if runs and len(results) == runs}


def geometric_mean(values):
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def ratio(row, field, name, other):
    """Of one allocator to another or to the best peer, or None where one of them failed."""
    measured = row["measured"]
    base = measured.get(other) if other != "best" else best_peer(row, field)[1]
    return measured[name][field] / base[field] if name in measured and base else None


def best_peer(row, field):
    found = [(n, row["measured"][n]) for n in rows.PEERS if n in row["measured"]]
    return min(found, key=lambda entry: entry[1][field], default=("-", None))


def pool_ratio(row, field):
    pair = row["pool"]
    return pair["pheap+pool"][field] / pair["pheap"][field] if len(pair) == 2 else None


def mean_ratio(table, field, name, other):
    return geometric_mean(r for r in (ratio(row, field, name, other) for row in table) if r)


def mean_pool_ratio(table, field):
    return geometric_mean(r for r in (pool_ratio(row, field) for row in table) if r)


def cell(value):
    return f"{value:9.2f}" if value is not None and not math.isnan(value) else f"{'-':>9}"


def print_table(table, field, names):
    title, unit = UNITS[field]
    print(f"\n{title}: ratio to the best peer\n")
    print(f"{'':22}{'best peer':>9} {unit:>8} "
          + "".join(f"{n[:8]:>9}" for n in names) + f"{'pool':>9}")
    for row in table:
        peer, best = best_peer(row, field)
        print(f"{row['name']:22}{peer:>9} {best[field] if best else math.nan:8.2f} "
              + "".join(cell(ratio(row, field, n, "best")) for n in names)
              + cell(pool_ratio(row, field)))
    print(f"{'geometric mean':41}" + "".join(
        cell(mean_ratio(table, field, n, "best")) for n in names)
        + cell(mean_pool_ratio(table, field)))


def goals(table, time="time"):
    """[(text, value, bound)]: what the project wants of these tables."""
    programs = [row for row in table if row["group"] == "program"]
    return [
        ("time, mimalloc's = 1", mean_ratio(table, time, "pheap", "mimalloc"), 0.78),
        ("time of the real programs, mimalloc's = 1",
         mean_ratio(programs, time, "pheap", "mimalloc"), 0.90),
        ("worst row's time, best peer's = 1",
         max((r for row in table if (r := ratio(row, time, "pheap", "best"))), default=math.nan),
         WORST_RATIO),
        ("peak RSS, jemalloc's = 1", mean_ratio(table, "rss", "pheap", "jemalloc"), 0.90),
        ("time with a pool, without = 1", mean_pool_ratio(table, time), 1.03),
    ]


def print_goals(table):
    print("\nGoals (geometric means but for the worst row)\n")
    print(f"{'':55}  (by CPU time)")
    for (text, value, bound), (_, by_cpu, _) in zip(goals(table), goals(table, "cpu")):
        verdict = "not measured" if math.isnan(value) else "held" if value <= bound else "not held"
        print(f"  {text:44}{cell(value)}{cell(by_cpu)}       at most {bound:.2f}: {verdict}")
    slow = [f"{row['name']} {r:.2f}" for row in table
            if (r := ratio(row, "time", "pheap", "best") or 0) > WORST_RATIO]
    if slow:
        print(f"\n  rows above {WORST_RATIO}: {', '.join(slow)}")


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        model = next((line.split(":")[1].strip() for line in f if line.startswith("model name")),
                     "?")
    commit = subprocess.run(["git", "-C", rows.ROOT, "describe", "--always", "--dirty"],
                            capture_output=True, text=True, check=False).stdout.strip()
    return {"cpu": model, "cpus": os.cpu_count(), "kernel": platform.release(),
            "libc": " ".join(platform.libc_ver()), "commit": commit or "?",
            "load": os.getloadavg()[0], "date": datetime.datetime.now().isoformat("T", "minutes")}


def show_progress(text):
    if sys.stderr.isatty():
        print(f"\r{text:40}\r", end="", file=sys.stderr, flush=True)


def measure_all(arguments, wanted, peers, with_pool, place):
    """Interrupted, it returns what there is."""
    table, failures = [], []
    try:
        for number, row in enumerate(wanted, 1):
            show_progress(f"{number}/{len(wanted)} {row.name}")
            measured = medians(row, peers, arguments.runs, arguments.percent, place, failures)
            pool = medians(row, [peers[0], with_pool], arguments.pool_runs, arguments.pool_percent,
                           place, failures)
            table.append({"name": row.name, "group": row.group, "measured": measured, "pool": pool})
    except KeyboardInterrupt:
        failures.append(f"interrupted at {row.name}")
        print(f"bench: {failures[-1]}", file=sys.stderr)
    show_progress("")
    return table, failures


def main():
    arguments = parse_arguments()
    wanted = [row for row in rows.all_rows() if not arguments.only
              or any(text in row.name for text in arguments.only.split(","))]
    if not wanted:
        sys.exit(f"bench: no row has one of {arguments.only!r} in its name: "
                 + ", ".join(row.name for row in rows.all_rows()))
    about = machine()
    print(f"{about['cpus']} x {about['cpu']}, Linux {about['kernel']}, {about['libc']}, pheap "
          f"{about['commit']}; median of {arguments.runs} runs, {arguments.percent} % of the work")
    if about["load"] > 0.5:
        print(f"bench: load average {about['load']:.1f}: something else runs here, times will vary")
    peers, with_pool = rows.allocators()
    peers += [rows.another(text) for text in arguments.also]
    place = tempfile.mkdtemp(prefix="pheap-bench-", dir=os.environ.get("TMPDIR", "/tmp"))
    try:
        table, failures = measure_all(arguments, wanted, peers, with_pool, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    for field in FIELDS:
        print_table(table, field, [a.name for a in peers])
    print_goals(table)
    document = {"machine": about, "runs": arguments.runs, "percent": arguments.percent,
                "pool_runs": arguments.pool_runs, "pool_percent": arguments.pool_percent,
                "rows": table, "failures": failures,
                "goals": [{"what": t, "value": None if math.isnan(v) else v, "at_most": b}
                          for t, v, b in goals(table)]}
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as f:
            json.dump(document, f, indent=1)
    html = arguments.html or os.path.join(rows.BUILD, "bench.html")
    with open(html, "w", encoding="utf-8") as f:
        f.write(chart.page(document, [a.name for a in peers]))
    print(f"\nchart: {html}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
