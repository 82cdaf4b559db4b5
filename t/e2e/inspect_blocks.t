#!/usr/bin/python3
"""The views of pheap inspect on the heap: slabs, free runs, blocks and their age, leaks, strings, changes."""
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import pool_bytes  # noqa: E402
import second_reader  # noqa: E402
from inspected import INSPECTED, PAGE, Inspected, alive_and_killed, crash_image  # noqa: E402
from pheap_test import (DAMAGED, FINE, FOUND, PHEAP, PYTHON, REFUSED, USAGE, check,  # noqa: E402
                        check_equal, check_in, expect, main, test, wait_until)

LEAKED_BYTES, LEAKED_BLOCKS = 208, 1000
GROWN_BYTES, GROWN_BLOCKS = 320, 500


def of_class(rows, block_bytes):
    found = [row for row in rows if row["block_bytes"] == block_bytes]
    check_equal(len(found), 1, f"rows of {block_bytes} bytes in {rows}")
    return found[0]


@test
def slabs_count_used_and_free_blocks(place):
    def look(program):
        found, text = program.look("slabs")
        row = of_class(found["slabs"], LEAKED_BYTES)
        check_equal(row["used"], LEAKED_BLOCKS, "used")
        check_equal((row["used_bytes"], row["wasted_bytes"] + row["used_bytes"]),
                    (LEAKED_BLOCKS * LEAKED_BYTES, row["size_bytes"]), f"{row}")
        check_equal(row["used"] + row["free"], row["slabs"] * (65536 // LEAKED_BYTES), f"{row}")
        lists = of_class(found["slabs"], 48)
        check(lists["lowest"] <= program.said()["list_first"] <= lists["highest"], f"{lists}")
        heap = program.look("heap")[0]["heap"]
        check_equal(sum(r["used"] for r in found["slabs"]), heap["live_blocks"], "blocks")
        check_in("208", text, "text")

    alive_and_killed(place, look)


HOLES = """
import sys
kept = [bytearray(size * 50000) for size in range(2, 60)]
del kept[40:44]
del kept[::3]
print("ready", flush=True)
sys.stdin.read()
"""


def counted_apart(pool, number):
    """Free runs by order, and the rest, as the reader of t/lib counts them; large blocks."""
    reader = second_reader.Pool(pool)
    free, aside, left, large = reader.free_runs(reader.generation(number))
    orders = {}
    for _, slices in free:
        count, size = orders.get(slices.bit_length() - 1, (0, 0))
        orders[slices.bit_length() - 1] = (count + 1, size + slices * 65536)
    return orders, max(free, key=lambda run: (run[1], -run[0])), aside, left, large


@test
def free_runs_and_large_blocks_are_those_that_an_independent_reader_finds(place):
    os.mkfifo(place.path("fifo"))
    keeper = os.open(place.path("fifo"), os.O_RDWR)
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "0", pool, PYTHON, "-c", HOLES, stdin=place.path("fifo"))
    wait_until(lambda: "ready\n" in process.stdout(), 60, "the program")
    expect(place.pheap("checkpoint", pool), FINE)

    def look(number):
        done = place.pheap("inspect", "--json", "-g", number, pool, "heap")
        expect(done, FINE)
        heap = json.loads(done.stdout())["heap"]
        free = heap["free_runs"]
        orders, largest, aside, left, large = counted_apart(pool, number)
        check(len(orders) >= 3 and sum(count for count, _ in orders.values()) >= 10, f"{orders}")
        check_equal({o["order"]: (o["runs"], o["bytes"]) for o in free["orders"]}, orders, "orders")
        whole, smaller = sum(size for _, size in orders.values()), 0
        for row in free["orders"]:
            check_equal(row["from_bytes"], 65536 << row["order"], f"{row}")
            check(abs(row["too_small_percent"] - 100 * smaller / whole) < 1e-6, f"{row}, {smaller} of {whole}")
            smaller += row["bytes"]
        check_equal((free["runs"], free["bytes"]), (sum(c for c, _ in orders.values()), whole), "sums")
        check_equal((free["largest_address"], free["largest_bytes"]), (largest[0], largest[1] * 65536), "the largest")
        check(abs(free["fragmentation_percent"] - 100 * (1 - largest[1] * 65536 / whole)) < 1e-6, f"{free}")
        check_equal((free["aside_runs"], free["aside_bytes"]), (len(aside), sum(s for _, s in aside) * 65536), "aside")
        check_equal(free["untouched_bytes"], left, "never handed out")
        check_equal(heap["free_bytes"], free["bytes"] + free["aside_bytes"], "free")
        done = place.pheap("inspect", "--json", "-g", number, pool, "blocks", "--limit", "1000",
                           "--size", "65537-9999999")
        expect(done, FINE)
        blocks = [(block["address"], block["bytes"]) for block in json.loads(done.stdout())["blocks"]]
        check(len(blocks) >= 30 and any(address % 4096 for address, _ in blocks), f"{blocks}")
        check_equal(blocks, large, "large blocks")
        text = place.pheap("inspect", "-g", number, pool, "heap")
        expect(text, FINE)
        check_in(f" at {largest[0]:#x}; fragmentation {free['fragmentation_percent']:.1f} %", text.stdout(), "text")

    look(1)
    check_equal(process.kill(), -signal.SIGKILL, "status")
    os.close(keeper)
    look(1)
    look(crash_image(place, pool))


@test
def a_block_has_its_content_and_the_pointers_from_and_to_it(place):
    def look(program):
        said = program.said()
        found, text = program.look("blocks", "--address", hex(said["list_second"] + 13))
        block = found["block"]
        check_equal((block["address"], block["bytes"], block["in_use"]),
                    (said["list_second"], 48, True), "block")
        content = bytes.fromhex(block["hex"])
        check_equal(int.from_bytes(content[:8], "little"), said["list_first"], "first word")
        check(content[8:].startswith(b"needle in block 1\0"), f"{content}")
        check_equal([(p["value"], p["block"]) for p in block["points_to"]],
                    [(said["list_first"], said["list_first"])], "points to")
        check_in(said["known_list"], [p["address"] for p in block["pointed_to_by"]], "pointed to by")
        check_in("needle i", text, "text")
        first = program.look("blocks", "--address", str(said["list_first"]))[0]["block"]
        check_in((said["list_second"], "block"),
                 [(p["address"], p["in_kind"]) for p in first["pointed_to_by"]], "pointed to by")
        found = program.look("blocks", "--size", "200-208", "--limit", "10")[0]
        check_equal((found["found"]["blocks"], len(found["blocks"])), (LEAKED_BLOCKS, 10), "found")
        expect(place.pheap("inspect", program.pool, "blocks", "--address", hex(said["known_value"])),
               REFUSED, "lies in no block")

    alive_and_killed(place, look)


AGING = """
import ctypes, sys
def place(block):
    return ctypes.addressof((ctypes.c_char * len(block)).from_buffer(block))
kept, gone, late, renewed = bytearray(500000), bytearray(600000), None, bytearray(700000)
while True:
    print("at", *[place(b) if b else 0 for b in (kept, gone, late, renewed)], "ready", flush=True)
    command = sys.stdin.readline().strip()
    if command == "second":
        gone, late, renewed = None, bytearray(800000), None
        renewed = bytearray(700000)
    if command == "third":
        gone = bytearray(600000)
"""


class Aging:
    """A program with three generations, whose blocks come, go, and come again."""

    def __init__(self, place, profile=None):
        os.mkfifo(place.path("fifo"))
        self.place, self.pool, keeper = place, place.path("pool"), os.open(place.path("fifo"), os.O_RDWR)
        self.process = place.start(PHEAP, "run", "-i", "0", self.pool, PYTHON, "-c", AGING, stdin=place.path("fifo"),
                                   environment={"PHEAP_PROFILE": profile} if profile else {})
        for round_, command in enumerate((b"second\n", b"third\n", b"")):
            wait_until(lambda n=round_: self.process.stdout().count("ready\n") > n, 60, "the program")
            expect(place.pheap("checkpoint", self.pool), FINE)
            os.write(keeper, command)
        self.said = [[int(word) for word in line.split()[1:5]] for line in self.process.stdout().splitlines()]
        check_equal(self.process.kill(), -signal.SIGKILL, "status")
        os.close(keeper)
        self.crash = crash_image(place, self.pool)
        self.times = {g["number"]: g["time_ns"] for g in place.inspect(self.pool)["generations"]}

    def blocks(self, *arguments, status=FINE):
        done = self.place.pheap("inspect", "--json", "--limit", "1000000", *arguments, self.pool, "blocks")
        expect(done, status)
        return {b["address"]: b for b in json.loads(done.stdout())["blocks"]}

    def first(self, address, *arguments, status=FINE):
        return self.blocks("--age", *arguments, status=status)[address]["first_generation"]


@test
def a_block_is_as_old_as_the_kept_generations_tell(place):
    program = Aging(place)
    (kept, gone, _, renewed), (_, _, late, renewed_again), (_, gone_again, _, _) = program.said
    expected = {kept: 1, late: 2, gone_again: 3, renewed_again: 1 if renewed == renewed_again else 2}
    blocks = program.blocks("--age")
    check_equal({a: blocks[a]["first_generation"] for a in expected}, expected, "first in")
    check_equal([(blocks[a]["allocated_after_ns"], blocks[a]["allocated_before_ns"]) for a in (kept, late, gone_again)],
                [(None, program.times[1]), (program.times[1], program.times[2]), (program.times[2], program.times[3])], "times")
    for since, older in ((1, None), (2, None), (None, 1), (None, 2), (1, 2)):
        arguments = (["--since", since] if since else []) + (["--older", older] if older else [])
        check_equal(set(program.blocks(*arguments)),
                    {a for a, b in blocks.items() if (not since or b["first_generation"] > since) and
                     (not older or b["first_generation"] <= older)}, f"since {since}, older {older}")
    check_equal(program.first(late, "-g", "2"), 2, "as generation 2 shows it")
    check_equal(program.first(kept, "-g", "1"), 1, "where nothing is older")
    check_equal((program.crash, program.first(gone_again, "-g", program.crash)), (4, 3), "as the crash image shows it")
    text = place.pheap("inspect", "--since", "2", "--size", "600000-650000", program.pool, "blocks")
    expect(text, FINE)
    check_in(f"{gone_again:#x}", text.stdout(), "text")
    one = place.pheap("inspect", "--age", "--address", late + 10, program.pool, "blocks")
    expect(one, FINE)
    check_in("first in generation 2, allocated ", one.stdout(), "one block")
    for wrong in (("--since", "3"), ("--since", "9"), ("--older", "4"), ("--since", "2", "--older", "1")):
        expect(place.pheap("inspect", *wrong, program.pool, "blocks"), REFUSED, program.pool, "none of them")


@test
def samples_tell_a_block_from_the_one_before_it(place):
    program = Aging(place, profile="4096")
    (kept, _, _, renewed), (_, _, late, renewed_again), (_, gone_again, _, _) = program.said
    check_equal([program.first(a) for a in (kept, late, renewed_again, gone_again)], [1, 2, 2, 3],
                f"first in, {renewed:#x} having become {renewed_again:#x}")


@test
def ages_do_without_a_generation_that_cannot_be_read(place):
    program = Aging(place)
    (kept, _, _, _), (_, _, late, _), _ = program.said
    content = pool_bytes.read(program.pool)
    second = [g for g in pool_bytes.newest(content).generations if g["number"] == 2][0]
    pool_bytes.flip(content, second["record_frame"] * PAGE + 20, 2)
    pool_bytes.write(program.pool, content)
    check_equal((program.first(kept, status=FOUND), program.first(late, status=FOUND)), (1, 3), "first in")
    expect(place.pheap("inspect", "--age", program.pool, "blocks"), FOUND, "1 older generations cannot be read")
    expect(place.pheap("inspect", "--since", "2", program.pool, "blocks"), DAMAGED, program.pool)


@test
def blocks_are_listed_by_address(place):
    program = Inspected(place)
    said = program.said()
    low, high = sorted((said["list_first"], said["list_second"]))
    every = program.look("blocks", "--limit", "100000")[0]["blocks"]
    for start, end in ((low, high), (low + 1, high), (low + 47, high - 1), (1, (1 << 64) - 1)):
        found = program.look("blocks", "--limit", "100000", "--address", f"{start:#x}-{end:#x}")[0]["blocks"]
        check_equal(found, [b for b in every if b["address"] <= end and b["address"] + b["bytes"] > start],
                    f"{start:#x}-{end:#x}")
    for wrong in ("0x10-", "-0x10", "0x20-0x10", "x", "0x10-0x20-0x30"):
        expect(place.pheap("inspect", f"--address={wrong}", program.pool, "blocks"), USAGE, "--address takes")
    expect(place.pheap("inspect", "--type", "1", program.pool, "blocks"), REFUSED, program.pool, "have no type")
    program.kill()


@test
def leaks_are_the_blocks_that_nothing_points_to(place):
    def look(program):
        found, text = program.look("leaks")
        row = of_class(found["leaks"], LEAKED_BYTES)
        # a word that is left over somewhere may keep one
        check(LEAKED_BLOCKS - 2 <= row["blocks"] <= LEAKED_BLOCKS, f"{row}")
        check_equal(of_class(found["leaks"], None)["bytes"], 1 << 20, "the large one")
        check_equal([r for r in found["leaks"] if r["block_bytes"] not in (LEAKED_BYTES, None)], [],
                    "blocks that are in use")
        for sample in row["samples"]:
            block = program.look("blocks", "--address", hex(sample))[0]["block"]
            check_equal((block["address"], block["hex"][:8]), (sample, "11111111"), f"{block}")
        check_in("nothing points to", text, "text")

    alive_and_killed(place, look)


@test
def strings_and_grep_find_texts_bytes_and_pointers(place):
    def look(program):
        said = program.said()
        wanted = [said["list_first"] + 8, said["list_second"] + 8]
        for arguments in (("grep", "needle in block"), ("grep", "--hex", "6e6565646c6520696e20 62")):
            hits = program.look(*arguments)[0]["hits"]
            check_equal(sorted(h["address"] for h in hits if h["in_kind"] == "block" and
                               h["block"] in (said["list_first"], said["list_second"])),
                        sorted(wanted), f"{arguments}")
        hits = program.look("grep", "straddling")[0]["hits"]
        check_in(said["straddling"], [h["address"] for h in hits], "across two pages")
        hits, text = program.look("grep", "--pointer", hex(said["list_second"]))
        check_in(said["known_list"], [h["address"] for h in hits["hits"]], "pointers")
        check_in(INSPECTED, text, "text")
        strings = program.look("strings", "--min", "17", "--limit", "100000")[0]["strings"]
        check_in((said["list_first"] + 8, "needle in block 0"),
                 [(s["address"], s["text"]) for s in strings], "strings")
        check_in((said["straddling"], "straddling two pages"),
                 [(s["address"], s["text"]) for s in strings], "strings")
        check(all(len(s["text"]) >= 17 for s in strings), "long enough")
        check_equal(program.look("grep", "no such text anywhere")[0]["hits"], [], "hits")
        for bad in ("1", "xx", ""):
            expect(place.pheap("inspect", program.pool, "grep", "--hex", bad), 2, "pheap inspect:")

    alive_and_killed(place, look)


@test
def diff_shows_what_came(place):
    program = Inspected(place)
    first = place.newest(program.pool)
    program.command("grow")
    program.checkpoint()
    second = place.newest(program.pool)

    def look():
        diff, text = program.look("diff", str(first), str(second))
        diff = diff["diff"]
        row = of_class(diff["classes"], GROWN_BYTES)
        check_equal((row["blocks_change"], row["bytes_change"]),
                    (GROWN_BLOCKS, GROWN_BLOCKS * GROWN_BYTES), f"{row}")
        check(not [r for r in diff["classes"] if r["block_bytes"] == LEAKED_BYTES], "unchanged class")
        address = program.said()["grown_mapping"]
        check([m for m in diff["mappings"] if m["start"] <= address < m["end"]], "mapping")
        check_equal([(f["change"], f["path"]) for f in diff["files"]],
                    [("came", place.path("file-grown"))], "files")
        heap = diff["pages"][0]
        check(heap["came"] * PAGE >= GROWN_BLOCKS * GROWN_BYTES - 2 * PAGE and heap["same"] > 50,
              f"{heap}")
        check_in("file-grown", text, "text")
        back = program.look("diff", str(second), str(first))[0]["diff"]
        check_equal(of_class(back["classes"], GROWN_BYTES)["blocks_change"], -GROWN_BLOCKS, "back")
        check_equal(back["pages"][0]["went"], heap["came"], "back")

    look()
    program.kill()
    look()
    expect(place.pheap("inspect", program.pool, "diff", first, second + 99), REFUSED, program.pool)


def apart(reader, old, new):
    """Pages of a slot and of the rest that changed, came, went and stayed, by the reader of t/lib."""
    was, now = ({page: frame if frame < 2 else checksum for page, frame, checksum in reader.pages(g)} for g in (old, new))
    slot = 0x200000000000 + (new.slot << 40) >> 12
    counts = {True: dict(changed=0, came=0, went=0, same=0), False: dict(changed=0, came=0, went=0, same=0)}
    for page in set(was) | set(now):
        kind = "came" if page not in was else "went" if page not in now else "same" if was[page] == now[page] else "changed"
        counts[slot <= page < slot + (1 << 28)][kind] += 1
    return counts[True], counts[False]


@test
def generations_tell_what_changed(place):
    program = Inspected(place)
    program.command("grow")
    program.checkpoint()
    program.checkpoint()
    program.kill()
    check_equal(crash_image(place, program.pool), 4, "the crash image")
    found, text = program.look("generations")
    reader = second_reader.Pool(program.pool)
    check_equal([(c["number"], c["since"]) for c in found["changes"]], [(1, None), (2, 1), (3, 2), (4, 3)], "compared")
    for change in found["changes"][1:]:
        expected = apart(reader, reader.generation(change["since"]), reader.generation(change["number"]))
        check_equal((change["heap_pages"], change["other_pages"]), expected, f"{change['number']}")
    check(found["changes"][1]["heap_pages"]["came"] * PAGE >= GROWN_BLOCKS * GROWN_BYTES - 2 * PAGE, f"{found['changes'][1]}")
    lines = text.splitlines()
    check_equal((len(lines), lines[1].split()[-2:]), (5, ["-", "-"]), f"{lines}")
    check("changes" not in program.look("heap")[0], "other views have the list alone")


@test
def roots_and_retained_bytes_agree_with_leaks(place):
    def look(program):
        lost, kept = program.look("leaks")[0]["leaked"], program.look("retained")[0]
        reached = lost["blocks_in_use"] - lost["blocks"]
        check_equal(kept["retained_by"]["retained_blocks"], reached, "by all roots together")
        roots = program.look("roots")[0]["roots"]
        data = [r for r in roots if r["kind"] == "memory" and r["root"].startswith(INSPECTED)]
        check(data and all(r["words"] > 0 for r in roots), f"{roots}")
        head = program.said()["known_list"]  # a variable that a list of three hangs on
        one = program.look("retained", INSPECTED)[0]
        check(one["retained_by"]["retained_blocks"] >= 1, f"{one['retained_by']} {head:#x}")
        below = sum(r["retained_blocks"] for r in one["retained"])
        check_equal(below, one["retained_by"]["retained_blocks"], "right below it")
    alive_and_killed(place, look)


if __name__ == "__main__":
    main()
