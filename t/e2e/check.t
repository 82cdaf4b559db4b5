#!/usr/bin/python3
"""pheap recover --check: pools of real programs, whole, in use and damaged."""
import json
import os
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import pool_bytes  # noqa: E402
from pheap_test import (BUILT_PROGRAMS, DAMAGED, FINE, FOUND, PHEAP, PROGRAMS, PYTHON, REFUSED,  # noqa: E402
                        ROOT, SYSTEM, USAGE, check, check_equal, check_in, expect, main, test)

COUNTER = os.path.join(BUILT_PROGRAMS, "counter")
GROWING_LISTS = os.path.join(PROGRAMS, "growing_lists.py")


def killed_pool(place, *command, generations=3):
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "50ms", pool, *(command or (COUNTER, 60)),
                          stdout=place.path("out"))
    place.wait_generation(pool, generations, process)
    check_equal(process.kill(), -signal.SIGKILL, "status")
    return pool


def check_pool(place, pool, status, *parts):
    """What it says as JSON; as text it has these parts. The file stays what it is."""
    before = pool_bytes.digest(pool)
    expect(place.pheap("recover", "--check", "--all", pool), status)
    text = place.pheap("recover", "--check", "--all", pool).stdout()
    for part in parts:
        check_in(part, text, "output")
    done = place.pheap("recover", "--check", "--all", "--json", pool)
    expect(done, status)
    check_equal(pool_bytes.digest(pool), before, "content of the file")
    return json.loads(done.stdout())


def spoil(pool, at, bit=0):
    content = pool_bytes.read(pool)
    pool_bytes.flip(content, at, bit)
    pool_bytes.write(pool, content)


@test
def the_pool_of_a_killed_program_is_fine(place):
    pool = killed_pool(place)
    found = check_pool(place, pool, FINE, ": fine")
    check_equal((found["verdict"], found["findings"], found["in_use"]), ("fine", [], False), "it")
    check(all(g["whole"] for g in found["generations"]), "all whole")


@test
def a_heap_that_is_cut_in_the_middle_of_malloc_is_fine(place):
    for _ in range(3):
        pool = killed_pool(place, PYTHON, GROWING_LISTS, generations=12)
        check_pool(place, pool, FINE, ": fine")
        os.unlink(pool)


@test
def a_pool_in_use_is_checked_on_its_newest_generation(place):
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "20ms", pool, PYTHON, GROWING_LISTS)
    place.wait_generation(pool, 3, process)
    for _ in range(20):
        done = place.pheap("recover", "--check", "--json", pool)
        expect(done, FINE)
        found = json.loads(done.stdout())
        check_equal((found["in_use"], found["checked_generations"]), (True, 1), "in use, looked at")
    process.kill()


@test
def a_damaged_page_is_told_by_generation_and_address(place):
    pool = killed_pool(place)
    generation = pool_bytes.newest(pool_bytes.read(pool)).generations[-1]
    spoil(pool, generation["record_frame"] * pool_bytes.FRAME + 100)
    found = check_pool(place, pool, DAMAGED, "RC-1", f"generation {generation['number']}",
                       "pheap restore -g")
    check_equal([f["id"] for f in found["findings"]], ["RC-1"], "findings")
    check_equal([g["number"] for g in found["generations"] if not g["whole"]],
                [generation["number"]], "damaged ones")


@test
def a_torn_superblock_is_found_and_harmless(place):
    pool = killed_pool(place)
    spoil(pool, 500)
    found = check_pool(place, pool, FOUND, "SB-2", "harmless")
    check_equal(found["findings"][0]["offset"], 4088, "offset")


@test
def a_pool_without_a_whole_superblock_is_damaged(place):
    pool = killed_pool(place)
    spoil(pool, 500)
    spoil(pool, 4096 + 500)
    check_pool(place, pool, DAMAGED, "neither superblock is valid")


@test
def a_file_that_was_cut_short_is_damaged(place):
    pool = killed_pool(place)
    content = pool_bytes.read(pool)
    pool_bytes.write(pool, content[:12 * pool_bytes.FRAME + 100])
    found = check_pool(place, pool, DAMAGED, "FI-1", "FR-1")
    check("FI-1" in found["counts"], "counts")


@test
def what_is_no_pool_is_refused(place):
    for path, status in ((place.write("file", "text\n" * 3000), REFUSED), (place.write("none", ""), REFUSED),
                         (place.make_directory("directory"), REFUSED), (place.path("missing"), SYSTEM)):
        done = place.pheap("recover", "--check", path)
        expect(done, status, "pheap recover:", path)
        check_equal(len(done.stderr().splitlines()), 1, "lines")
        check_equal(done.stdout(), "", "stdout")


@test
def options_that_make_no_sense_are_refused(place):
    pool = killed_pool(place)
    for arguments in (["--check"], ["--check", "--pin", "1", pool], ["--json", "--pin", "1", pool],
                      ["--check", pool, pool], [pool]):
        expect(place.pheap("recover", *arguments), USAGE, "--help")


@test
def every_finding_is_documented(_place):
    with open(os.path.join(ROOT, "recovery/check/finding.c"), encoding="ascii") as f:
        table = re.findall(r'\{"([A-Z]{2}-\d+)",\s*"([^"]+)"\}', f.read())
    with open(os.path.join(ROOT, "docs/recover.md"), encoding="utf-8") as f:
        documented = re.findall(r"^\| ([A-Z]{2}-\d+) \| ([^|]+) \|", f.read(), re.M)
    check_equal([(i, m.strip()) for i, m in documented], table, "findings in docs/recover.md")


if __name__ == "__main__":
    main()
