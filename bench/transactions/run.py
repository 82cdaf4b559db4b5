#!/usr/bin/python3
"""run.py - transactions of opened heaps beside libpmemobj, LMDB and raw pwrite + fdatasync.

Each round runs every program once, one after the other; the median of all rounds counts, so that a
disturbance of the machine hits all alike; on the disk, which is faster and slower by turns, raw syncs
and pheap's commits take turns within a run. First /dev/shm taken for persistent memory, then
ordinary files in TMPDIR (/var/tmp). The last column is what pheap is to reach.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("PHEAP_BUILD", os.path.join(HERE, "../../build"))
DAX = {
    "pheap": ["handover", "update", "update-2", "handover", "replace", "replace-2", "handover",
              "sixteen", "empty", "empty-2", "handover", "add", "add-2", "handover",
              "look", "look-2", "recovery"],
    "pmemobj": ["update", "update-2", "replace", "replace-2", "sixteen", "empty", "empty-2"],
}
TURNS = 4
FILES = {
    "pheap": ["raw", "update", "update-16"] * TURNS + ["soon", "replace"],
    "pmemobj": ["update", "update-16"],
    "lmdb": ["update", "update-16"],
}
STORES = ["pheap", "pmemobj", "lmdb"]


def run(program, directory, seconds, names, forced):
    environment = {k: v for k, v in os.environ.items()
                   if k != "LD_PRELOAD" and not k.startswith(("PHEAP_", "PMEM"))}
    if forced:
        environment["PMEM_IS_PMEM_FORCE"] = "1"
    done = subprocess.run([os.path.join(BUILD, "bench/transactions", program), directory, str(seconds)]
                          + names, env=environment, check=True, capture_output=True, text=True)
    return [(line.split()[0], float(line.split()[1])) for line in done.stdout.splitlines()]


def measure(directory, programs, options, forced):
    """{(program, name): [ns of each run]}"""
    found = {}
    for _ in range(options.rounds):
        for program, names in programs.items():
            for name, ns in run(program, directory, options.seconds, names, forced):
                found.setdefault((program, name), []).append(ns)
    return found


def medians(found):
    return {key: statistics.median(values) for key, values in found.items()}


def per_second(ns):
    return None if ns is None else 1e9 / ns


def rows_of(dax, files):
    """[(what, unit, {store: figure}, wanted, is it reached)]"""
    def of(table, name):
        return {store: table[store, name] for store in STORES if (store, name) in table}

    def scaling(name):
        return {store: dax[store, name] / dax[store, name + "-2"] for store in STORES
                if (store, name + "-2") in dax}

    rows = []
    for name, what, bound in (("update", "one 8 B update, DAX mode", 300),
                              ("replace", "free + alloc 64 B + link, DAX mode", 500),
                              ("sixteen", "16 of those in one transaction, each", 150),
                              ("empty", "empty transaction", 25)):
        figures = of(dax, name)
        rows.append((what, "ns", figures, f"{bound} ns", figures["pheap"] <= bound))
    for name, what in (("add", "one 8 B update, optimistic, DAX mode"),
                       ("look", "16 words read, optimistic")):
        rows.append((what, "ns", of(dax, name), "", None))
    raw = per_second(files["pheap", "raw"])
    one = {store: per_second(ns) for store, ns in of(files, "update").items()}
    many = {store: per_second(ns) for store, ns in of(files, "update-16").items()}
    rows.append(("small durable commits a second, files, 1 thread", "/s", one,
                 f"0.9 x raw ({0.9 * raw:,.0f})", one["pheap"] >= 0.9 * raw))
    rows.append(("the same, 16 threads", "/s", many, f"8 x that ({8 * one['pheap']:,.0f})",
                 many["pheap"] >= 8 * one["pheap"]))
    soon = {"pheap": per_second(files["pheap", "soon"])}
    rows.append(("the same, durable later, 1 thread", "/s", soon, "", None))
    recovery = {"pheap": dax["pheap", "recovery"] / 1e9}
    rows.append(("recovery of 2 M objects of 64 B", "s", recovery, "0.1 s",
                 recovery["pheap"] <= 0.1))
    for name, what in (("update", "two threads: 8 B updates, times one"),
                       ("replace", "two threads: free + alloc + link, times one"),
                       ("empty", "two threads: empty, times one"),
                       ("add", "two threads: optimistic updates, times one"),
                       ("look", "two threads: optimistic reads, times one")):
        figures = scaling(name)
        rows.append((what, "x", figures, "1.8", figures["pheap"] >= 1.8))
    return rows, raw


def text_of(figure, unit):
    if figure is None:
        return "-"
    return f"{figure:,.2f}" if unit in ("s", "x") else f"{figure:,.0f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="figures for a program")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1, help="of each measurement")
    parser.add_argument("--directory", default=os.environ.get("TMPDIR", "/var/tmp"),
                        help="of the ordinary files (%(default)s)")
    options = parser.parse_args()
    dax = measure("/dev/shm", DAX, options, True)
    files = measure(options.directory, FILES, options, False)
    handovers = sorted(dax["pheap", "handover"])
    rows, raw = rows_of(medians(dax), medians(files))
    if options.json:
        print(json.dumps({"raw_per_second": raw, "handover_ns": handovers, "rows": [
            {"what": what, "unit": unit, "figures": figures, "wanted": wanted, "reached": reached}
            for what, unit, figures, wanted, reached in rows]}, indent=1))
        return 0
    kind = subprocess.run(["stat", "-f", "-c", "%T", options.directory], capture_output=True,
                          text=True, check=True).stdout.strip()
    print(f"DAX mode: /dev/shm; files: {options.directory} ({kind}); raw pwrite + fdatasync "
          f"{raw:,.0f} /s; median of {options.rounds} rounds")
    print(f"two threads: a line of memory goes from one processor to the other in {handovers[0]:.0f} to "
          f"{handovers[-1]:.0f} ns (median {statistics.median(handovers):.0f})")
    print(f"{'':52}" + "".join(f"{store:>10}" for store in STORES) + "  pheap must")
    for what, unit, figures, wanted, reached in rows:
        mark = "" if reached is None else "  reached" if reached else "  NOT reached"
        print(f"{what + ', ' + unit:52}" + "".join(
            f"{text_of(figures.get(store), unit):>10}" for store in STORES)
            + f"  {wanted}{mark}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
