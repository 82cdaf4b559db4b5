#!/usr/bin/python3
"""A checkpoint every 100 ms, for long (PHEAP_TEST_LONG: ten minutes): nothing grows with their number:
no memory, no descriptors, no mappings, and the pool only up to what the kept generations need."""
import os
import re
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, PHEAP, check, check_equal, descendants, main,  # noqa: E402
                        test)

LONG = bool(os.environ.get("PHEAP_TEST_LONG"))
SECONDS = 600 if LONG else 12
SAMPLES = 120 if LONG else 24
HEAP_MB = 64
WRITE_PAGES, WRITE_SECONDS = 300, 0.05
# Two samples of one and the same state differ by so much; a leak of one page a checkpoint in ten
# minutes by 24 MB.
MEMORY_SLACK_KB = 4096 if LONG else 2048
POOL_SLACK = 1.02


def count_of(pid, what):
    return len(os.listdir(f"/proc/{pid}/{what}"))


def sample(pid, agent, pool):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        rss_kb = int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])
    with open(f"/proc/{pid}/maps", encoding="utf-8") as f:
        mappings = sum(1 for _ in f)
    return {"memory_kb": rss_kb, "mappings": mappings, "descriptors": count_of(pid, "fd"),
            "agent_descriptors": count_of(agent, "fd"), "tasks": count_of(pid, "task"),
            "pool_kb": os.stat(pool).st_blocks // 2}


def soak(place, environment):
    pool, fifo = place.path("pool"), place.path("fifo")
    os.mkfifo(fifo)
    keeper = os.open(fifo, os.O_RDWR)
    process = place.start(PHEAP, "run", "-i", "100ms", pool,
                          os.path.join(BUILT_PROGRAMS, "dirty_pages"), HEAP_MB, stdin=fifo,
                          stdout="/dev/null", environment=environment)
    place.wait_generation(pool, 5, process)
    pid = process.popen.pid
    found = descendants(pid)
    check_equal(len(found), 1, "processes that the program shares its memory with")
    first, begin, samples = place.newest(pool), time.monotonic(), []
    while time.monotonic() < begin + SECONDS:
        os.write(keeper, b"%d\n" % WRITE_PAGES)
        time.sleep(WRITE_SECONDS)
        if time.monotonic() - begin >= (len(samples) + 1) * SECONDS / SAMPLES:
            samples.append(sample(pid, found[0], pool))
    made = place.newest(pool) - first
    os.close(keeper)
    check_equal(process.wait(60), 0, "exit status")
    check("cannot" not in process.stderr(), process.stderr())
    return made, samples


def early_and_late(samples, what):
    """The largest value of the second quarter (the first is for settling), the usual one of the last."""
    quarter = len(samples) // 4
    early = [s[what] for s in samples[quarter:2 * quarter]]
    return max(early), statistics.median(s[what] for s in samples[-quarter:])


def check_soak(place, environment):
    made, samples = soak(place, environment)
    print(f"# {made} generations in {SECONDS} s; first and last sample: {samples[0]} {samples[-1]}")
    check(made >= SECONDS, f"{made} generations in {SECONDS} s")
    check(len(samples) >= SAMPLES * 3 // 4, f"{len(samples)} samples")
    for what in ("mappings", "descriptors", "agent_descriptors", "tasks"):
        early, late = early_and_late(samples, what)
        # One that the agent opens when it first needs it, and keeps: what grows with each of more than
        # a hundred generations is another matter.
        spare = 1 if what == "agent_descriptors" else 0
        check(late <= early + spare, f"{what}: {early}, {made} generations later {late}")
    early, late = early_and_late(samples, "memory_kb")
    check(late <= early + MEMORY_SLACK_KB, f"memory: {early} kB, {made} generations later {late} kB")
    early, late = early_and_late(samples, "pool_kb")
    check(late <= early * POOL_SLACK, f"pool: {early} kB, {made} generations later {late} kB")


@test
def nothing_grows_with_the_number_of_checkpoints(place):
    check_soak(place, {})


if __name__ == "__main__":
    main()
