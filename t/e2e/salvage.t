#!/usr/bin/python3
"""pheap recover --salvage: what can still be read of pools that are damaged in every way; and no pool,
whatever is in it, makes a view, a check or a salvage crash or hang."""
import json
import os
import random
import signal
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import pool_bytes  # noqa: E402
import second_reader  # noqa: E402
from pheap_test import (BUILT_PROGRAMS, DAMAGED, FINE, LIBRARY, PHEAP, PYTHON, ROUNDS, SYSTEM, check,  # noqa: E402
                        check_equal, expect, main, test)

FRAME = 4096
GRAPH = os.path.join(BUILT_PROGRAMS, "known_graph")
CHURN = """
import random
kept = []
while True:
    kept.append([b"a block of the churn " + bytes(random.randrange(1, 3000)) for i in range(100)])
    if len(kept) > 60:
        kept.pop(random.randrange(len(kept)))"""


def killed(place):
    """A program's pool with several generations and deltas."""
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "40ms", "--no-crash", pool, PYTHON, "-c", CHURN)
    place.wait_generation(pool, 6, process)
    check_equal(process.kill(), -signal.SIGKILL, "status")
    return pool


def opened(place):
    pool = place.path("heap")
    expect(place.run(GRAPH, pool, "build", environment={"LD_PRELOAD": LIBRARY}), FINE)
    return pool


def pages_of(pool):
    """What the second reader finds: {generation: {page: content}}."""
    reader = second_reader.Pool(pool)
    return {g.number: {page: reader.content(frame, expected)
                       for page, frame, expected in reader.pages(g) if frame >= 2}
            for g in reader.superblock.generations}


class Salvaged:
    def __init__(self, place, pool, status, name="salvaged"):
        self.directory = place.path(name)
        done = place.pheap("recover", "--salvage", self.directory, pool)
        expect(done, status)
        with open(os.path.join(self.directory, "index.json"), encoding="utf-8") as f:
            self.index = json.load(f)
        self.images = {i["directory"]: i for i in self.index["images"]}

    def lines(self, *names):
        with open(os.path.join(self.directory, *names), encoding="utf-8") as f:
            return [json.loads(line) for line in f]

    def content(self, *names):
        with open(os.path.join(self.directory, *names), "rb") as f:
            return f.read()

    def pages(self, name, file="memory.raw"):
        content, pages = self.content(name, file), {}
        for run in self.lines(name, "pages.jsonl"):
            for at in range(0, run["bytes"] if run["file"] == file else 0, FRAME):
                pages[(run["address"] + at) // FRAME] = content[run["offset"] + at:
                                                                run["offset"] + at + FRAME]
        return pages


@test
def all_pages_of_all_generations_of_a_whole_pool_are_written(place):
    pool = killed(place)
    expected, found = pages_of(pool), Salvaged(place, pool, FINE)
    check_equal({name for name in found.images if not name.endswith("-dropped")},
                {f"generation-{n}" for n in expected}, "generations")
    for number, pages in expected.items():
        check(found.pages(f"generation-{number}") == pages, f"pages of generation {number}")
        check(found.images[f"generation-{number}"]["whole"], "whole")
        check(found.images[f"generation-{number}"]["record"]["whole"], "its record")
    blocks = found.lines(f"generation-{max(expected)}", "blocks.jsonl")
    memory = found.content(f"generation-{max(expected)}", "memory.raw")
    texts = sum(b"a block of the churn " in memory[b["offset"]:b["offset"] + b["bytes"]][:80]
                for b in blocks if "offset" in b)
    check(texts > 1000, f"{texts} of the program's blocks among {len(blocks)}")


@test
def without_superblocks_the_newest_generation_is_found(place):
    pool = killed(place)
    expected = pages_of(pool)
    content = pool_bytes.read(pool)
    content[:2 * FRAME] = bytes(2 * FRAME)
    pool_bytes.write(pool, content)
    found = Salvaged(place, pool, DAMAGED)
    check(found.images, "images")
    missing = {number: min(sum(found_pages.get(page) != data for page, data in pages.items())
                           for found_pages in map(found.pages, found.images))
               for number, pages in expected.items()}
    check_equal(missing[max(expected)], 0, f"pages of the newest that no image has: {missing}")


@test
def superblocks_that_are_damaged_still_name_generations(place):
    pool = killed(place)
    expected, content = pages_of(pool), pool_bytes.read(pool)
    for which in (0, 1):
        pool_bytes.flip(content, which * FRAME + 60)  # generations to keep
    pool_bytes.write(pool, content)
    found = Salvaged(place, pool, DAMAGED)
    for number, pages in expected.items():
        check(found.pages(f"generation-{number}-named") == pages, f"pages of generation {number}")


@test
def a_damaged_node_loses_no_more_than_what_was_hit(place):
    pool = killed(place)
    expected, content = pages_of(pool), pool_bytes.read(pool)
    reader = second_reader.Pool(pool)
    newest = reader.superblock.generations[-1]
    pool_bytes.flip(content, newest.root_frame * FRAME + 4000)  # an entry that is not in use
    pool_bytes.write(pool, content)
    expect(place.pheap("recover", "--check", pool), DAMAGED)
    found = Salvaged(place, pool, DAMAGED)
    name = f"generation-{newest.number}"
    check(found.pages(name) == expected[newest.number], "all pages")
    check_equal(found.images[name]["whole"], False, "it is said")
    check(found.images[name]["damaged_index_parts"] >= 1, "and counted")


@test
def a_damaged_page_is_kept_apart(place):
    pool = opened(place)
    expected, content = pages_of(pool), pool_bytes.read(pool)
    reader = second_reader.Pool(pool)
    newest = reader.superblock.generations[-1]
    page, frame, _ = next(p for p in reader.pages(newest) if p[1] >= 2)
    pool_bytes.flip(content, frame * FRAME + 100)
    pool_bytes.write(pool, content)
    found = Salvaged(place, pool, DAMAGED)
    name = f"generation-{newest.number}"
    whole = found.pages(name)
    check_equal(set(expected[newest.number]) - set(whole), {page}, "the one that is missing")
    check_equal(list(found.pages(name, "damaged.raw")), [page], "and where it is")


@test
def half_a_file_gives_half_of_its_pages(place):
    pool = killed(place)
    expected, content = pages_of(pool), pool_bytes.read(pool)
    reader = second_reader.Pool(pool)
    newest = reader.superblock.generations[-1]
    frames = {page: frame for page, frame, _ in reader.pages(newest) if frame >= 2}
    end = sorted(frames.values())[len(frames) * 3 // 4]
    pool_bytes.write(pool, content[:end * FRAME + 17])
    found = Salvaged(place, pool, DAMAGED)
    name = f"generation-{newest.number}"
    there = found.pages(name)
    check(found.images[name]["whole"] is False, "it is said")
    if found.images[name]["damaged_index_parts"] == 0:  # else pages may be older
        for page, data in there.items():
            check(expected[newest.number][page] == data, f"page {page:#x}")
        check_equal(set(there), {p for p, f in frames.items() if f < end}, "all that the file has")


@test
def objects_of_an_opened_heap_are_there_with_type_and_content(place):
    pool = opened(place)
    found = Salvaged(place, pool, FINE)
    blocks = found.lines("generation-2", "blocks.jsonl")
    content = found.content("generation-2", "blocks.raw")
    by_type = {}
    for block in blocks:
        by_type.setdefault(block["type"], []).append(block)
    check_equal({t: len(b) for t, b in by_type.items()}, {1: 3, 2: 1010, 3: 40, 4: 1}, "by type")
    large = by_type[4][0]
    check_equal(content[large["offset"] + 1000:large["offset"] + 1023], b"a text in a large block",
                "the large block")
    roots = {r["name"]: r["address"] for r in found.images["generation-2"]["heap"]["roots"]}
    check_equal(set(roots), {"tree", "list"}, "roots")
    # The list can be followed in the files alone.
    offsets = {b["address"]: b["offset"] for b in blocks}
    at, length = roots["list"], 0
    while at:
        at, length = struct.unpack_from("<Q", content, offsets[at])[0], length + 1
    check_equal(length, 1010, "the list, with what the log has")
    check_equal(len(found.lines("log.jsonl")), 2, "records of the log")


@test
def where_there_is_no_room_it_says_so(place):
    """No file longer than so many KiB: the first that does not fit is not mapped, nor is the rest of
    it taken for written."""
    pool, page = killed(place), place.path("page.html")
    limited = ("sh", "-c", 'trap "" XFSZ; ulimit -f $((2 * $0)); exec "$@"')
    for kib in (4, 40, 400):
        directory = place.path(f"out-{kib}")
        done = place.run(*limited, kib, PHEAP, "recover", "--salvage", directory, pool)
        expect(done, SYSTEM, "pheap recover:", "cannot write", directory, "not all of it")
        check(not os.path.exists(os.path.join(directory, "index.json")), "an index of half of it")
    done = place.run(*limited, 4, PHEAP, "inspect", "--html", page, pool)
    expect(done, SYSTEM, "pheap inspect:", page, "file size limit")
    check(not os.path.exists(page), "half a page is left")


@test
def a_directory_that_is_there_is_left_alone(place):
    pool = opened(place)
    directory = place.make_directory("there")
    done = place.pheap("recover", "--salvage", directory, pool)
    check(done.status not in (FINE, DAMAGED), f"status {done.status}")
    check_equal(os.listdir(directory), [], "what is in it")
    before = pool_bytes.read(pool)
    Salvaged(place, pool, FINE)
    check_equal(pool_bytes.read(pool), before, "the pool")


# --- pools with anything in them ---

VIEWS = ("summary", "heap", "slabs", "blocks", "leaks", "roots", "retained", "log", "strings",
         "grep needle", "diff 1 2", "mappings")


def mutate(content, reader_frames):
    content = bytearray(content)
    for _ in range(random.randrange(1, 12)):
        frame = random.choice(reader_frames)
        at = frame * FRAME + random.randrange(FRAME)
        kind = random.randrange(4)
        if kind == 0:
            pool_bytes.flip(content, at, random.randrange(8))
        elif kind == 1:
            content[at:at + 8] = struct.pack("<Q", random.choice((0, 1, 2, 2 ** 40, 2 ** 63, 2 ** 64 - 1)))
        elif kind == 2:
            content[frame * FRAME:(frame + 1) * FRAME] = bytes(FRAME)
        else:
            other = random.choice(reader_frames)
            content[frame * FRAME:(frame + 1) * FRAME] = content[other * FRAME:(other + 1) * FRAME]
    if random.randrange(3):  # superblocks that say so themselves
        for which in (0, 1):
            if content[which * FRAME:which * FRAME + 8] == b"PHEAPOOL":
                pool_bytes.seal(content, which)
    if random.randrange(8) == 0:
        del content[random.randrange(len(content)):]
    return content


def used_frames(content):
    return [f for f in range(len(content) // FRAME)
            if f < 2 or any(content[f * FRAME:(f + 1) * FRAME])]


def look_at_mutants(place, pool, rounds):
    whole = bytes(pool_bytes.read(pool))
    frames = used_frames(whole)
    for number in range(rounds):
        pool_bytes.write(pool, mutate(whole, frames))
        commands = [("inspect", pool, *view.split()) for view in random.sample(VIEWS, 3)]
        commands += [("recover", "--check", "--all", pool),
                     ("recover", "--salvage", place.path(f"s{number}"), pool)]
        for command in commands:
            done = place.pheap(*command, timeout=60)
            check(0 <= done.status <= 5, f"round {number}: {command}: {done.status}")


@test
def mutants_of_a_program_s_pool_are_looked_at_without_a_crash(place):
    look_at_mutants(place, killed(place), 6 * ROUNDS)


@test
def mutants_of_an_opened_heap_are_looked_at_without_a_crash(place):
    look_at_mutants(place, opened(place), 20 * ROUNDS)


if __name__ == "__main__":
    main()
