#!/usr/bin/python3
"""pheap inspect and recover on heaps that programs open by themselves: a graph of which everything is
known, part of it in a generation and part in the log."""
import json
import os
import random
import shutil
import signal
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import pool_bytes  # noqa: E402
import pool_log  # noqa: E402
from pheap_test import (BUILT_PROGRAMS, DAMAGED, FINE, FOUND, LIBRARY, PHEAP, REFUSED, ROUNDS, USAGE, Skip, check,  # noqa: E402
                        check_equal, check_in, expect, main, test, wait_until)

PROGRAM = os.path.join(BUILT_PROGRAMS, "known_graph")
POINTERS = os.path.join(BUILT_PROGRAMS, "pointers")
TYPED = os.path.join(BUILT_PROGRAMS, "typed_objects")
LEAVES, DECOYS, OBJECTS = 9, 7, 17  # what typed_objects makes
PRELOADED = {"LD_PRELOAD": LIBRARY}
NODES, LATER, LOST, LARGE = 1000, 10, 40, 200000


def lines(text):
    return [line.split() for line in text.splitlines()]


class Heap:
    """A heap that known_graph has made, and what it said of it."""

    def __init__(self, place, name="heap"):
        self.place, self.path = place, place.path(name)
        done = place.run(PROGRAM, self.path, "build", environment=PRELOADED)
        expect(done, FINE)
        self.said = dict((name, int(value)) for name, value in lines(done.stdout()))
        self.lost = sorted(int(v) for name, v in lines(done.stdout()) if name == "lost")

    def look(self, *arguments, status=FINE):
        done = self.place.pheap("inspect", "--json", self.path, *arguments)
        expect(done, status)
        expect(self.place.pheap("inspect", self.path, *arguments), status)
        return json.loads(done.stdout())

    def counts(self, path=None):
        done = self.place.run(PROGRAM, path or self.path, "check", environment=PRELOADED)
        expect(done, FINE)
        return dict((name, int(value)) for name, value in lines(done.stdout()))


WHOLE = {"list": NODES + LATER, "trees": 3, "nodes": NODES + LATER, "lost": LOST, "large": 1,
         "text": 1}


@test
def the_generation_that_the_log_follows_is_not_dropped(place):
    heap = Heap(place)
    before = heap.counts()
    newest = place.inspect(heap.path)["generations"][-1]["number"]
    expect(place.pheap("recover", "--drop", newest, heap.path), REFUSED, "its heap's log follows")
    expect(place.pheap("recover", "--check", heap.path), FINE)
    check_equal(heap.counts(), before, "what is in the heap")


@test
def size_classes_blocks_and_types_are_those_of_generation_and_log(place):
    heap = Heap(place)
    by_size = {s["block_bytes"]: s for s in heap.look("slabs")["slabs"]}
    check_equal({size: s["used"] for size, s in by_size.items()},
                {48: NODES + LATER, 64: LOST, 112: 3, 3072: 0, None: 1}, "blocks in use")
    check_equal(by_size[None]["used_bytes"], LARGE, "bytes of the large one")
    check_equal(heap.look("heap")["heap"]["live_blocks"], NODES + LATER + LOST + 4, "blocks")
    blocks = heap.look("blocks", "--type", "3")["blocks"]
    check_equal(sorted(b["address"] for b in blocks), heap.lost, "blocks of type 3")
    check_equal({b["asked_bytes"] for b in blocks}, {64}, "as asked for")
    older = heap.look("-g", "1", "slabs")["slabs"]
    check_equal(older, [], "the first generation, which no log follows any more")


@test
def objects_have_ages(place):
    heap = Heap(place)
    check_equal(heap.look("blocks", "--since", "1")["found"]["blocks"], NODES + LATER + LOST + 4, "since the empty one")
    check_equal(heap.look("blocks", "--older", "1")["found"]["blocks"], 0, "in the empty one")
    expect(heap.place.run(PROGRAM, heap.path, "lose", environment=PRELOADED), FINE)
    ages = [b["first_generation"] for b in heap.look("blocks", "--age", "--limit", "10000")["blocks"]]
    check_equal(ages, [2] * (NODES + LATER + LOST + 6), "the second generation and its log have them all")


@test
def free_runs_are_those_that_the_program_has_made(place):
    path = place.path("heap")
    done = place.run(PROGRAM, path, "holes", environment=PRELOADED)
    expect(done, FINE)
    blocks = [int(value) for name, value in lines(done.stdout()) if name == "block"]
    check_equal([after - at for at, after in zip(blocks, blocks[1:])],
                [slices * 65536 for slices in (20, 2, 5, 2, 3)], "they lie one behind the other")
    heap = json.loads(place.pheap("inspect", "--json", path, "heap").stdout())["heap"]
    free = heap["free_runs"]
    check_equal([(o["order"], o["runs"], o["bytes"]) for o in free["orders"]],
                [(1, 1, 3 << 16), (2, 1, 5 << 16), (4, 1, 20 << 16)], "orders")
    check_equal((free["bytes"], heap["free_bytes"]), (28 << 16, 28 << 16), "free bytes")
    check_equal((free["largest_bytes"], free["largest_address"]), (20 << 16, blocks[0]), "the largest")
    check_equal(round(free["fragmentation_percent"], 6), round(100 * 8 / 28, 6), "fragmentation")
    check_equal(heap["committed_bytes"] - heap["free_bytes"], heap["span_bytes"], "the rest")
    text = place.pheap("inspect", path, "heap")
    expect(text, FINE)
    check_in(f"free: 3 runs, 1.8 MiB; the largest 1.2 MiB at {blocks[0]:#x}; fragmentation 28.6 %",
             text.stdout(), "text")


@test
def leaks_are_what_no_named_root_leads_to(place):
    heap = Heap(place)
    found = heap.look("leaks")
    check_equal((found["leaked"]["blocks"], found["leaked"]["bytes"]), (LOST, LOST * 64), "leaks")
    check_equal([row["block_bytes"] for row in found["leaks"]], [64], "of one size")


@test
def roots_are_named_with_what_they_lead_to(place):
    heap = Heap(place)
    roots = {r["name"]: r for r in heap.look("roots")["roots"]}
    check_equal(set(roots), {"tree", "list"}, "names")
    check_equal((roots["tree"]["address"], roots["tree"]["type"]), (heap.said["top"], 1), "tree")
    check_equal(roots["list"]["block"], heap.said["head"], "list")


@test
def retained_bytes_are_those_of_the_known_graph(place):
    heap = Heap(place)
    rows = heap.look("retained", "--limit", "5000")["retained"]
    of_root = {r["name"]: r for r in rows if r["kind"] == "name"}
    of_block = {r["address"]: r for r in rows if r["kind"] == "block"}
    tree = LARGE + 3 * 112
    check_equal((of_root["tree"]["retained_bytes"], of_root["tree"]["retained_blocks"]), (tree, 4),
                "tree")
    check_equal(of_root["list"]["retained_bytes"], 48 * (NODES + LATER), "list")
    check_equal(of_block[heap.said["top"]]["retained_bytes"], tree, "the top of the tree")
    check_equal(of_block[heap.said["left"]]["retained_bytes"], 112,
                "one of two ways to the large block")
    check_equal(of_block[heap.said["below"]]["retained_bytes"], LARGE, "the large block")
    check(not set(heap.lost) & set(of_block), "what is lost is retained by nothing")
    # Every node of the list keeps those behind it.
    in_list = sorted((r["retained_bytes"] for a, r in of_block.items() if r["bytes"] == 48))
    check_equal(in_list, [48 * i for i in range(1, NODES + LATER + 1)], "a chain")
    one = heap.look("retained", str(heap.said["head"]))
    check_equal(one["retained_by"]["retained_blocks"], NODES + LATER, "by address")
    check_equal(len(one["retained"]), 1, "right below it: one")
    check_equal(heap.look("retained", "tree")["retained_by"]["retained_bytes"], tree, "by name")
    expect(place.pheap("inspect", heap.path, "retained", str(heap.lost[0])), REFUSED, "no root")


@test
def the_log_shows_its_records(place):
    heap = Heap(place)
    found = heap.look("log")
    totals = found["log_totals"]
    check_equal((totals["records"], totals["generation"], totals["breaks_off"]),
                (2, heap.said["generation"], False), "totals")
    check_equal([(r["allocations"], r["frees"]) for r in found["log"]], [(LATER, 0), (LOST // 2, 0)],
                "records")
    expect(place.pheap("inspect", "-g", "1", heap.path, "log"), REFUSED, "no log")


@test
def texts_and_bytes_of_the_log_are_found(place):
    heap = Heap(place)
    hits = heap.look("grep", "edon", "--limit", "2000")["hits"]
    check_equal(len(hits), NODES + LATER, "in the generation and in the log")
    texts = [t["text"] for t in heap.look("strings", "--min", "20")["strings"]]
    check_equal(texts, ["a text in a large block"], "texts")
    shown = heap.look("blocks", "--address", hex(heap.said["below"]))["block"]
    check_equal((shown["type"], shown["asked_bytes"]), (4, LARGE), "type and bytes")
    check_equal(len(shown["pointed_to_by"]), 2, "from left and right")


@test
def diff_shows_growth_by_size_class_and_type(place):
    heap = Heap(place)
    found = heap.look("diff", "1", "2")
    check_equal({r["block_bytes"]: r["blocks_change"] for r in found["diff"]["classes"]}, {48: NODES + LATER, 64: LOST, 112: 3, None: 1}, "classes")
    check_equal({r["type"]: (r["blocks"], r["blocks_change"]) for r in found["diff"]["types"]},
                {1: (3, 3), 2: (NODES + LATER, NODES + LATER), 3: (LOST, LOST), 4: (1, 1)}, "types")
    check_equal(heap.look("diff", "2", "2")["diff"]["types"], [], "no difference")


@test
def a_page_for_a_browser_has_the_same_figures(place):
    heap = Heap(place)
    page = place.path("page.html")
    expect(place.pheap("inspect", "--html", page, heap.path), FINE)
    with open(page, encoding="utf-8") as f:
        check_in(f'"blocks":{LOST},', f.read(), "the page")
    check_equal(heap.counts(), WHOLE, "and the heap is as it was")


# --- recover --check ---

def checked(heap, status, *ids):
    done = heap.place.pheap("recover", "--check", "--json", heap.path)
    expect(done, status)
    found = json.loads(done.stdout())
    check_equal(sorted({f["id"] for f in found["findings"]}), sorted(ids), "findings")
    return found


@test
def a_log_is_checked(place):
    heap = Heap(place)
    found = checked(heap, FINE)
    check_equal((found["verdict"], found["log_records"], found["log_whole"]), ("fine", 2, True), "it")
    check_in("fine", place.pheap("recover", "--check", "--all", heap.path).stdout(), "said")


@test
def every_flip_in_a_record_that_others_follow_is_found(place):
    heap = Heap(place)
    whole = pool_bytes.read(heap.path)
    at, size = pool_log.Log(whole).records[0]
    for _ in range(60):
        content = bytearray(whole)
        where, bit = at + random.randrange(size), random.randrange(8)
        pool_bytes.flip(content, where, bit)
        pool_bytes.write(heap.path, content)
        found = checked(heap, DAMAGED, "LG-3")
        check_equal((found["log_records"], found["log_whole"]), (0, False), f"{where}, bit {bit}")
    done = place.run(PROGRAM, heap.path, "check", environment=PRELOADED)
    check_in("log breaks off", done.stderr(), "pheap_open()")
    shown = heap.look("slabs", status=FOUND)["slabs"]
    check_equal([s["used"] for s in shown if s["block_bytes"] == 48], [NODES], "up to the break")


def forged(heap, change, *ids):
    content = pool_bytes.read(heap.path)
    log = pool_log.Log(content)
    change(log)
    pool_bytes.write(heap.path, content)
    return checked(heap, DAMAGED, *ids)


@test
def entries_that_make_no_sense_are_found(place):
    def entry(kind, offset, form, value):
        def change(log):
            at = next(a for n in (0, 1) for a in log.entries(n)
                      if struct.unpack_from("<I", log.content, a)[0] == kind)
            struct.pack_into(form, log.content, at + offset, value)
            log.seal()
        return change

    for number, change in enumerate((
            entry(pool_log.ALLOC, 0, "<I", 9), entry(pool_log.ALLOC, 8, "<Q", 0x230008012491),
            entry(pool_log.ALLOC, 16, "<Q", 1 << 60), entry(pool_log.ALLOC, 16, "<Q", 0),
            entry(pool_log.ALLOC, 24, "<I", 5), entry(pool_log.ALLOC, 24, "<I", 0xfffffff0),
            entry(pool_log.ALLOC, 28, "<I", 81), entry(pool_log.ALLOC, 28, "<I", 80),
            entry(pool_log.WRITE, 8, "<Q", 0x230000000000), entry(pool_log.WRITE, 8, "<Q", 64),
            entry(pool_log.WRITE, 16, "<Q", 1 << 63), entry(pool_log.WRITE, 0, "<I", pool_log.FREE))):
        heap = Heap(place, f"heap{number}")
        found = forged(heap, change, "LG-4")
        check_equal(found["log_whole"], False, f"{number}")
        done = place.run(PROGRAM, heap.path, "check", environment=PRELOADED)
        expect(done, REFUSED)


@test
def a_log_in_the_wrong_place_is_found(place):
    forged(Heap(place, "a"), lambda log: log.set_place(0, 1), "LG-2")
    forged(Heap(place, "b"), lambda log: log.set_place(24, log.super.generations[-1]["root_frame"]),
           "FR-2")
    forged(Heap(place, "c"), lambda log: log.set_place(24, 1), "LG-1")


# --- copies, repairs, going back ---

def spoil_record(heap, number):
    content = pool_bytes.read(heap.path)
    at, size = pool_log.Log(content).records[number]
    pool_bytes.flip(content, at + size - 1)
    pool_bytes.write(heap.path, content)


@test
def a_copy_has_the_generations_and_the_log(place):
    heap = Heap(place)
    uuid = place.inspect(heap.path)["uuid"]
    clone, other = place.path("clone"), place.path("other")
    expect(place.pheap("recover", "--clone", clone, heap.path), FINE)
    expect(place.pheap("recover", "--compact", "-o", other, heap.path), FINE)
    expect(place.pheap("recover", "--compact", heap.path), FINE)
    check(place.inspect(clone)["uuid"] != uuid, "a clone has its own identity")
    check_equal(place.inspect(other)["uuid"], uuid, "a copy has not")
    for path in (heap.path, clone, other):
        expect(place.pheap("recover", "--check", "--all", path), FINE)
        check_equal(place.inspect(path, "log")["log_totals"]["records"], 2, "records")
        check_equal(heap.counts(path), WHOLE, path)
    # Both go on from there.
    for path in (clone, heap.path):
        expect(place.run(PROGRAM, path, "build", environment=PRELOADED), FINE)
        expect(place.pheap("recover", "--check", path), FINE)


@test
def a_copy_for_another_slot_is_refused_by_the_words_that_are_addresses(place):
    heap = Heap(place)
    done = place.pheap("recover", "--clone", place.path("clone"), "--slot", "7", heap.path)
    expect(done, REFUSED, "words of the heap are addresses in it")
    check(not os.path.exists(place.path("clone")), "no copy")
    words = 2 + 2 + NODES + LATER - 1 + 2 * 3  # tree, list, two pairs of lost ones
    check_in(f"{words} words", done.stderr(), "how many")
    expect(place.pheap("recover", "--clone", place.path("clone"), "--slot", "3", heap.path), FINE)


# What reaches the disk, and what gives the clone its name.
STEPS = ("fallocate", "ftruncate", "pwrite64", "fdatasync", "fsync", "renameat2")


@test
def a_copy_for_another_slot_that_is_killed_at_any_step_is_there_whole_or_not_at_all(place):
    if not shutil.which("strace"):
        raise Skip("no strace here: nothing can be killed at a system call")
    lists, clone = place.path("lists"), place.path("clone")
    place.run(POINTERS, lists, "make", environment=PRELOADED)
    before, killed, there = pool_bytes.read(lists), 0, 0
    for call in STEPS:
        for n in range(1, 1000):
            done = place.run("strace", "-qq", "-o", place.path("trace"), "-e", f"trace={call}", "-e",
                             f"inject={call}:signal=KILL:when={n}", PHEAP, "recover", "--clone", clone,
                             "--slot", 7, lists)
            check(done.status in (FINE, -signal.SIGKILL), f"{call} {n}: {done.status} {done.stderr()}")
            check(pool_bytes.read(lists) == before, f"the pool, killed at {call} {n}")
            if os.path.exists(clone):
                check_equal(place.run(POINTERS, clone, "check", environment=PRELOADED).stdout(), "fine\n",
                            f"the clone, killed at {call} {n}")
                there += done.status != FINE
            for name in os.listdir(place.path()):
                if name.startswith("clone"):
                    os.unlink(place.path(name))
            if done.status == FINE:
                break
            killed += 1
    check(killed > 20 and there > 0, f"{killed} killed, {there} of them with the clone in its place")


@test
def a_copy_for_another_slot_has_the_same_objects_there(place):
    typed, lists = place.path("typed"), place.path("lists")

    def run(program, *words):
        return place.run(program, *words, environment=PRELOADED).stdout().split()

    run(TYPED, typed, "make")
    done = place.pheap("recover", "--clone", typed + "-7", "--slot", 7, typed)
    expect(done, REFUSED, "in objects whose pointers are not known")
    run(TYPED, typed, "register")
    check_equal(run(POINTERS, lists, "make"), ["fine"], "lists, with self-relative pointers alone")
    before = [pool_bytes.read(pool) for pool in (typed, lists)]
    for pool in (typed, lists):
        done = place.pheap("recover", "--clone", pool + "-7", "--slot", 7, pool)
        expect(done, FINE)
        expect(place.pheap("recover", "--check", "--all", pool + "-7"), FINE)
        again = place.pheap("recover", "--clone", pool + "-7", "--slot", 8, pool)
        expect(again, REFUSED, "exist")
        expect(place.pheap("recover", "--clone", pool + "-11", "--slot", 11, pool), USAGE, "slot 11")
    check_equal([pool_bytes.read(pool) for pool in (typed, lists)], before, "the pools")
    check_equal(place.inspect(typed + "-7")["slot"], 7, "slot")
    check(place.inspect(typed + "-7")["uuid"] != place.inspect(typed)["uuid"], "a pool of its own")
    # The reference leads to the original, which is not open.
    check_equal(run(TYPED, typed + "-7", "count"), [str(LEAVES - 1), str(DECOYS)], "leaves there")
    check_equal(run(POINTERS, lists + "-7", "check"), ["fine"], "the list there")
    check_equal(run(TYPED, typed, "count"), [str(LEAVES), str(DECOYS)], "and in the original")
    run(TYPED, typed + "-7", "make")
    check_equal(run(TYPED, typed + "-7", "count"), [str(LEAVES), str(2 * DECOYS)], "it goes on")
    check_equal(sorted(os.listdir(place.path())), sorted(n for n in os.listdir(place.path()) if ".copy-" not in n),
                "nothing is left behind")


@test
def a_log_that_is_damaged_is_not_copied(place):
    heap = Heap(place)
    spoil_record(heap, 0)
    expect(place.pheap("recover", "--clone", place.path("clone"), heap.path), DAMAGED, "log")


@test
def a_repair_keeps_what_is_whole_of_the_log(place):
    heap = Heap(place)
    expect(place.run(PROGRAM, heap.path, "lose", environment=PRELOADED), FINE)
    check_equal(heap.look("log")["log_totals"]["records"], 3, "records")
    spoil_record(heap, 1)
    expect(place.run(PROGRAM, heap.path, "check", environment=PRELOADED), REFUSED)
    before = pool_bytes.read(heap.path)
    done = place.pheap("recover", "--repair", heap.path)
    expect(done, DAMAGED)
    check_in("1 transactions", done.stdout(), "the plan")
    check_equal(pool_bytes.read(heap.path), before, "nothing is changed")
    expect(place.pheap("recover", "--repair", "--yes", heap.path), FINE)
    expect(place.pheap("recover", "--check", heap.path), FINE)
    check_equal(heap.counts(), {**WHOLE, "lost": LOST // 2}, "up to the damaged record")
    expect(place.run(PROGRAM, heap.path, "lose", environment=PRELOADED), FINE)
    check_equal(heap.counts()["lost"], LOST // 2 + 2, "and it goes on")
    # What the backup has leads to what was there.
    with open(heap.path + ".backup", "rb") as f:
        before = f.read()
    content = pool_bytes.read(heap.path)
    content[:len(before)] = before
    pool_bytes.write(heap.path, content)
    checked(heap, DAMAGED, "LG-3")


@test
def a_repair_without_the_newest_generation_begins_a_new_log(place):
    heap = Heap(place)
    content = pool_bytes.read(heap.path)
    pool_bytes.flip(content, pool_bytes.newest(content).generations[-1]["index_frame"] * 4096 + 40)
    pool_bytes.write(heap.path, content)
    done = place.pheap("recover", "--repair", "--yes", heap.path)
    expect(done, FINE)
    check_in("give up all transactions since generation 1", done.stdout(), "said")
    expect(place.pheap("recover", "--check", heap.path), FINE)
    check_equal(heap.counts(), dict.fromkeys(WHOLE, 0), "as it was made")
    expect(place.run(PROGRAM, heap.path, "build", environment=PRELOADED), FINE)
    check_equal(heap.counts(), WHOLE, "and it can be used")


@test
def going_back_says_what_it_drops_and_needs_a_flag(place):
    heap = Heap(place)
    expect(place.pheap("recover", "--rollback", "2", "--yes", heap.path), REFUSED, "2 transactions",
           "--drop-log")
    check_equal(heap.counts(), WHOLE, "nothing is changed")
    expect(place.pheap("recover", "--rollback", "2", "--yes", "--drop-log", heap.path), FINE)
    check_equal(heap.counts(), {**WHOLE, "list": NODES, "nodes": NODES, "lost": LOST // 2},
                "the generation")
    expect(place.pheap("recover", "--rollback", "1", "--yes", heap.path), FINE)
    expect(place.pheap("recover", "--check", heap.path), FINE)
    check_equal(heap.counts()["list"], 0, "the first generation")
    expect(place.run(PROGRAM, heap.path, "build", environment=PRELOADED), FINE)
    check_equal(heap.counts(), WHOLE, "and it can be used")


# --- recover --collect ---

@test
def what_nothing_leads_to_is_freed_and_nothing_else(place):
    heap = Heap(place)
    before = pool_bytes.read(heap.path)
    done = place.pheap("recover", "--collect", "--dry-run", "--json", heap.path)
    expect(done, FINE)
    found = json.loads(done.stdout())
    check_equal((found["blocks"], found["bytes"], found["blocks_in_use"], found["freed"]),
                (LOST, LOST * 64, NODES + LATER + LOST + 4, False), "a dry run")
    check_equal(pool_bytes.read(heap.path), before, "changes nothing")
    done = place.pheap("recover", "--collect", heap.path)
    expect(done, FINE)
    check_in(f"{LOST} of {NODES + LATER + LOST + 4} blocks", done.stdout(), "said")
    check_equal(heap.counts(), {**WHOLE, "lost": 0}, "what is left")
    check_equal(heap.look("log")["log_totals"]["records"], 0, "a generation has it")
    expect(place.pheap("recover", "--check", heap.path), FINE)
    found = json.loads(place.pheap("recover", "--collect", "--json", heap.path).stdout())
    check_equal((found["blocks"], found["generation"]), (0, None), "once more")
    # What a name led to, when the name is gone.
    expect(place.run(PROGRAM, heap.path, "unname", environment=PRELOADED), FINE)
    found = json.loads(place.pheap("recover", "--collect", "--json", heap.path).stdout())
    check_equal(found["blocks"], NODES + LATER, "the list")
    check_equal(heap.counts(), {**WHOLE, "lost": 0, "list": 0, "nodes": 0}, "the tree is left")
    expect(place.run(PROGRAM, heap.path, "build", environment=PRELOADED), FINE)
    check_equal(heap.counts()["list"], NODES + LATER, "and its blocks can be used again")


@test
def what_only_self_relative_pointers_lead_to_is_kept(place):
    pool = place.path("heap")
    check_equal(place.run(POINTERS, pool, "make", environment=PRELOADED).stdout(), "fine\n", "made")
    kept = json.loads(place.pheap("inspect", "--json", pool, "retained", "list").stdout())
    check_equal(kept["retained_by"]["retained_blocks"], 100, "that the root retains")
    for lost, blocks in ((0, 100), (49, 100), (0, 51)):
        if lost:
            check_equal(place.run(POINTERS, pool, "lose", environment=PRELOADED).stdout(), "fine\n", "cut")
        done = place.pheap("recover", "--collect", "--json", pool)
        expect(done, FINE)
        found = json.loads(done.stdout())
        check_equal((found["blocks_in_use"], found["blocks"]), (blocks, lost), "blocks, and freed")
        if blocks == 100 and not lost:
            check_equal(place.run(POINTERS, pool, "check", environment=PRELOADED).stdout(), "fine\n", "all")


@test
def where_pointers_are_known_they_alone_count(place):
    pool = place.path("heap")

    def run(what):
        done = place.run(TYPED, pool, what, environment=PRELOADED)
        expect(done, FINE)
        return done.stdout().split()

    def collected(*options):
        done = place.pheap("recover", "--collect", "--json", *options, pool)
        expect(done, FINE)
        return json.loads(done.stdout())["blocks"]

    def retained():
        shown = place.pheap("inspect", "--json", pool, "retained", "node").stdout()
        return json.loads(shown)["retained_by"]["retained_blocks"]

    check_equal(run("misuse"), ["0"], "layouts that make no sense")
    run("make")
    check_equal((collected("--dry-run"), retained()), (1, OBJECTS - 1), "unknown: every word, no reference")
    run("register")
    check_equal((collected("--dry-run"), retained()), (DECOYS, OBJECTS - DECOYS), "known, in the log")
    run("forget")
    check_equal(collected("--dry-run"), 1, "taken back")
    run("register")
    check_equal(run("count"), [str(LEAVES), str(DECOYS)], "all are there")
    check_equal(collected(), DECOYS, "freed")
    check_equal(run("count"), [str(LEAVES), "0"], "what is left")
    check_equal((collected(), retained()), (0, LEAVES + 1), "known, in a generation")
    expect(place.pheap("recover", "--check", pool), FINE)


@test
def what_points_to_an_object_in_whichever_way_is_shown(place):
    pool = place.path("heap")
    for what in ("make", "register"):
        expect(place.run(TYPED, pool, what, environment=PRELOADED), FINE)

    def look(*arguments):
        done = place.pheap("inspect", "--json", pool, "blocks", *arguments)
        expect(done, FINE)
        return json.loads(done.stdout())

    node = look("--type", "1")["blocks"][0]["address"]
    shown = look("--address", hex(node))["block"]
    check_equal([(p["address"], p["in_kind"], p["in"]) for p in shown["pointed_to_by"]],
                [(None, "name", "root 'node'")], "what points to the node")
    # Two decoys, then a leaf at each kind, then the elements: a decoy and a leaf.
    self_relative, element = ["self-relative"], ["address", "self-relative"]
    check_equal([p["kind"] for p in shown["points_to"]],
                2 * ["address"] + ["address"] + 2 * self_relative + ["reference"] + 5 * element, "its pointers")
    leaves = {b["address"] for b in look("--type", "2")["blocks"]}
    check(leaves <= {p["value"] for p in shown["points_to"]}, "every leaf")
    for pointer in shown["points_to"]:
        target = look("--address", hex(pointer["value"]))["block"]
        check_equal([(p["address"], p["value"], p["kind"]) for p in target["pointed_to_by"]],
                    [(pointer["address"], pointer["value"], pointer["kind"])], "the way back")


@test
def an_object_that_grows_leads_to_what_it_led_to(place):
    pool = place.path("heap")

    def run(what):
        done = place.run(TYPED, pool, what, environment=PRELOADED)
        expect(done, FINE)
        return done.stdout().split()

    run("make")
    run("register")
    for _ in range(3):
        run("grow")
        check_equal(run("count"), [str(LEAVES), str(DECOYS)], "leaves")
    check_equal(json.loads(place.pheap("inspect", "--json", pool, "heap").stdout())["heap"]["live_blocks"],
                OBJECTS, "old ones are freed")
    expect(place.pheap("recover", "--check", pool), FINE)


@test
def nothing_is_collected_of_what_is_damaged_or_in_use_or_a_program_s(place):
    heap = Heap(place)
    whole = pool_bytes.read(heap.path)
    spoil_record(heap, 0)
    before = pool_bytes.read(heap.path)
    expect(place.pheap("recover", "--collect", heap.path), DAMAGED, "nothing is freed")
    check_equal(pool_bytes.read(heap.path), before, "unchanged")
    pool_bytes.write(heap.path, whole)
    process = place.start(PROGRAM, heap.path, "stay", environment=PRELOADED)
    wait_until(lambda: "ready" in process.stdout(), 20, "the program")
    expect(place.pheap("recover", "--collect", heap.path), REFUSED, "a program has this heap open")
    expect(place.pheap("recover", "--collect", "--dry-run", heap.path), FINE)
    process.kill()
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "50ms", pool, "sleep", "1000")
    place.wait_generation(pool, 1, process)
    process.kill()
    before = pool_bytes.read(pool)
    done = place.pheap("recover", "--collect", pool)
    expect(done, FINE)
    check_in("nothing is freed", done.stdout(), "said")
    check_equal(pool_bytes.read(pool), before, "unchanged")


@test
def a_collection_that_is_killed_leaves_a_heap_that_makes_sense(place):
    heap = Heap(place)
    expect(place.run(PROGRAM, heap.path, "lose", environment=PRELOADED), FINE)
    whole = pool_bytes.read(heap.path)
    for _ in range(8 * ROUNDS):
        pool_bytes.write(heap.path, whole)
        process = place.start(PHEAP, "recover", "--collect", heap.path)
        time.sleep(random.random() * 0.03)
        if process.running():
            process.kill()
        process.wait()
        expect(place.pheap("recover", "--check", heap.path), FINE)
        counts = heap.counts()
        check_in(counts["lost"], (0, LOST + 2), "freed or not")
        check_equal({**counts, "lost": 0}, {**WHOLE, "lost": 0}, "all else")


if __name__ == "__main__":
    main()
