#!/usr/bin/python3
"""PHEAP_PROFILE: what allocated the live blocks, in a live, a killed, a resumed and a forked program."""
import gzip
import json
import math
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import pool_bytes  # noqa: E402
import second_reader  # noqa: E402
from inspected import Commanded  # noqa: E402
from pheap_test import (BUILT_PROGRAMS, DAMAGED, FINE, FOUND, LIBRARY, PHEAP, REFUSED, USAGE, check, check_equal,  # noqa: E402
                        check_in, expect, main, test, wait_until)

PROGRAM = os.path.join(BUILT_PROGRAMS, "allocation_sites")
RATE = 16384


class Sites(Commanded):
    def __init__(self, place, threads=1, rate=RATE):
        super().__init__(place, PROGRAM, str(threads), environment={"PHEAP_PROFILE": str(rate)})

    def grow(self):
        self.command("grow", answer="ready\n")
        self.checkpoint()


def bytes_of(stacks, site, key="bytes"):
    return sum(s[key] for s in stacks if s["allocated_by"] == site)


def check_near(found, expected, what):
    """Within five standard deviations of so many samples."""
    allowed = 5 * expected / (expected / RATE) ** 0.5
    check(abs(found - expected) <= allowed,
          f"{what}: estimated {found}, allocated {expected}, {allowed:.0f} allowed")


def check_sites(stacks, said):
    for site in ("leaked", "kept"):
        check_near(bytes_of(stacks, site), said[site], site)
    for site in ("large", "moved"):
        check_near(bytes_of(stacks, site), said[site], site)
        check_equal(bytes_of(stacks, site), said[site], f"{site}: always sampled")
    check_equal(bytes_of(stacks, "passed"), 0, "what was freed")


@test
def live_bytes_are_named_by_what_allocated_them(place):
    program = Sites(place, threads=3)

    def look():
        found, text = program.look("profile")
        profile = found["profile"]
        check_equal((profile["rate_bytes"], profile["lost"]), (RATE, 0), "rate, lost")
        check_sites(profile["stacks"], program.said())
        check_equal(sum(s["bytes"] for s in profile["stacks"]), profile["bytes"], "sum")
        kept = next(s for s in profile["stacks"] if s["allocated_by"] == "kept")
        names = [f["function"] for f in kept["frames"]]
        check_equal(names[:2], ["kept", "work"], f"{names}")
        check(kept["frames"][0]["file"].endswith("allocation_sites.c"), f"{kept['frames'][0]}")
        check_in("kept  ", text, "text")
        expect(place.pheap("recover", "--check", "--all", program.pool), FINE)

    look()
    program.kill()
    look()
    crash = program.look("generations")[0]["generations"][-1]
    if crash["kind"] == "crash":
        found = json.loads(place.pheap("inspect", "--json", "-g", str(crash["number"]), program.pool,
                                       "profile").stdout())
        check_sites(found["profile"]["stacks"], program.said())


@test
def the_independent_reader_finds_the_same_samples(place):
    program = Sites(place, threads=3)
    program.grow()
    program.kill()
    profile = program.look("-g", "2", "profile")[0]["profile"]
    reader = second_reader.Pool(program.pool)
    taken, stacks = reader.profile(reader.generation(2))
    check_equal(taken, profile["taken"], "samples taken")
    live = sorted((stack_taken, len(frames), len(sizes), round(sum(b / (1 - math.exp(-b / RATE)) for b in sizes)))
                  for stack_taken, frames, sizes in stacks.values() if sizes)
    check_equal(live, sorted((row["sampled_so_far"], len(row["frames"]), row["samples"], row["bytes"])
                             for row in profile["stacks"]), "taken, frames, samples, bytes of each stack")


@test
def a_profile_that_is_damaged_leaves_the_rest_to_be_seen(place):
    program = Sites(place)
    program.kill()
    reader, content = second_reader.Pool(program.pool), pool_bytes.read(program.pool)
    generation = reader.generation(1)
    slot = 0x200000000000 + (generation.slot << 40)
    head = int.from_bytes(reader.memory(generation, slot + 520, 8), "little")
    frame, _ = reader.lookup(generation, head // 4096)
    pool_bytes.flip(content, frame * 4096 + 88 + 3, bit=7)
    pool_bytes.write(program.pool, content)
    expect(place.pheap("inspect", "-g", "1", program.pool, "profile"), DAMAGED, "checksum")
    done = place.pheap("inspect", "--json", "-g", "1", program.pool, "leaks")
    expect(done, FOUND, "checksum")
    found = json.loads(done.stdout())
    check("leaking_stacks" not in found and found["leaked"]["blocks"] > 10000, f"{found['leaked']}")
    address = hex(found["leaks"][0]["samples"][0])
    expect(place.pheap("inspect", "-g", "1", "--address", address, program.pool, "blocks"), FOUND)
    expect(place.pheap("inspect", program.pool, "diff", "1", "1"), FOUND)


@test
def leaks_name_the_stack_that_allocated_them(place):
    program = Sites(place)
    found, text = program.look("leaks")
    check_near(bytes_of(found["leaking_stacks"], "leaked"), program.said()["leaked"], "leaked")
    check_equal([s for s in found["leaking_stacks"] if s["allocated_by"] != "leaked"], [],
                "stacks beside it")
    check(re.search(r"samples\), allocated by\n +leaked ", text), text)
    program.kill()


@test
def diff_names_what_grew_and_is_still_reachable(place):
    program = Sites(place)
    before = program.said()["kept"]
    program.grow()
    found, text = program.look("diff", "1", "2")
    sites = found["diff"]["sites"]
    check_equal(sites[0]["allocated_by"], "kept", f"{sites[0]}")
    check_near(bytes_of(sites, "kept", "bytes_change"), program.said()["kept"] - before, "growth")
    check(re.search(r"about \+\S+ MiB, \+\d+ blocks, allocated by\n +kept ", text), text)
    program.kill()


@test
def a_sampled_block_names_its_stack(place):
    program = Sites(place)
    large = program.look("blocks", "--size", "300000-310000")[0]["blocks"]
    check_equal(len(large), 10, "large blocks")
    found, text = program.look("blocks", "--address", hex(large[3]["address"]))
    check_equal(found["block"]["allocated_by"][0]["function"], "large", f"{found['block']}")
    check_in("allocated by\n      large ", text, "text")
    program.kill()


@test
def a_resumed_program_is_sampled_on(place):
    program = Sites(place)
    program.kill()
    before = program.said()["kept"]
    keeper = os.open(place.path("fifo"), os.O_RDWR)
    resumed = place.start(PHEAP, "restore", program.pool, stdin=place.path("fifo"))
    os.write(keeper, b"grow\n")
    wait_until(lambda: f"kept {2 * before}\n" in resumed.stdout() + program.process.stdout(), 60,
               "the resumed program grows")
    expect(place.pheap("checkpoint", program.pool), FINE)
    found, _ = program.look("profile")
    check_near(bytes_of(found["profile"]["stacks"], "kept"), 2 * before, "kept")
    os.write(keeper, b"end\n")
    check_equal(resumed.wait(), 0, "status")
    os.close(keeper)


def read_fields(data):
    """(number, value) of a message of profile.proto, which this test reads by itself."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(data):
        key = varint()
        value = varint()
        if key & 7 == 2:
            at += value
            value = data[at - value:at]
        yield key >> 3, value


def packed_or_plain(message, number):
    return [value for field, value in read_fields(message) if field == number]


@test
def pprof_and_folded_files_say_the_same(place):
    program = Sites(place)
    folded, pprof = place.path("folded"), place.path("pprof")
    found, _ = program.look("profile")
    expect(place.pheap("inspect", "--folded", folded, "--pprof", pprof, program.pool, "profile"), FINE)
    stacks = found["profile"]["stacks"]
    with open(folded, encoding="ascii") as f:
        lines = [line.rsplit(" ", 1) for line in f]
    check_equal([int(size) for _, size in lines], [s["bytes"] for s in stacks], "folded")
    check(any(line[0].endswith(";main;work;kept") for line in lines), f"{lines}")
    with gzip.open(pprof) as f:
        fields = list(read_fields(f.read()))
    strings = [value.decode() for number, value in fields if number == 6]
    check_equal(strings[0], "", "string 0")
    samples = [packed_or_plain(value, 2) for number, value in fields if number == 2]
    check_equal(samples, [[s["blocks"], s["bytes"]] for s in stacks], "samples")
    functions = [dict(read_fields(value)) for number, value in fields if number == 5]
    check_in("kept", [strings[f[2]] for f in functions], "functions")
    locations = {dict(read_fields(v))[1] for number, v in fields if number == 4}
    used = {i for number, v in fields if number == 2 for i in packed_or_plain(v, 1)}
    check_equal(used, locations, "locations")
    again = place.pheap("inspect", "--pprof", pprof, program.pool, "profile")
    check(again.wait() not in (FINE, None) and "new file" in again.stderr(), again.stderr())
    program.kill()


@test
def stacks_are_chosen_by_a_function_in_them(place):
    program = Sites(place, threads=3)
    program.kill()
    every = program.look("profile")[0]["profile"]["stacks"]

    def names(rows):
        return {tuple(f["function"] for f in row["frames"]) for row in rows}

    def chosen(*options):
        profile = program.look(*options, "profile")[0]["profile"]
        check_equal(profile["bytes"], sum(row["bytes"] for row in profile["stacks"]), "sum of what is shown")
        return names(profile["stacks"])

    kept = {stack for stack in names(every) if any(re.search("^(kept|moved)$", name or "") for name in stack)}
    main_ = {stack for stack in names(every) if "main" in stack}
    check(kept and main_ and not kept <= main_, f"{names(every)}")
    check_equal(chosen("--focus", "^(kept|moved)$"), kept, "--focus")
    check_equal(chosen("--ignore", "^main$"), names(every) - main_, "--ignore")
    check_equal(chosen("--focus", "^(kept|moved)$", "--ignore", "^main$"), kept - main_, "both")
    check_equal(chosen("--focus", "no such function"), set(), "none")
    folded = place.path("folded")
    expect(place.pheap("inspect", "--focus", "^large$", "--folded", folded, program.pool, "profile"), FINE)
    with open(folded, encoding="ascii") as f:
        check(all("large" in line for line in f), "the file has those alone")
    expect(place.pheap("inspect", "--focus", "(", program.pool, "profile"), USAGE, "--focus '('", "regular expression")


@test
def without_a_profile_there_is_none_and_no_library(place):
    maps = place.run("/bin/cat", "/proc/self/maps", environment={"LD_PRELOAD": LIBRARY})
    check("libunwind" not in maps.stdout(), "libunwind is loaded for nobody else")
    expect(place.run(PHEAP, "run", "--at-exit", place.path("pool"), "/bin/true"), FINE)
    done = place.pheap("inspect", place.path("pool"), "profile")
    expect(done, REFUSED)
    check_in("PHEAP_PROFILE=1", done.stderr(), "stderr")


@test
def a_hardened_heap_says_that_it_has_none(place):
    done = place.run(PROGRAM, stdin="/dev/null", environment={
        "LD_PRELOAD": LIBRARY, "PHEAP_HARDEN": "1", "PHEAP_PROFILE": "1"})
    expect(done, FINE)
    check_in("PHEAP_PROFILE: a heap under PHEAP_HARDEN", done.stderr(), "stderr")


if __name__ == "__main__":
    main()
