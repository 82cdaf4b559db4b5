#!/usr/bin/python3
"""The views of pheap inspect say what the program itself says: alive, killed, in a damaged pool."""
import json
import os
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import pool_bytes  # noqa: E402
import second_reader  # noqa: E402
from pheap_test import (BUILT_PROGRAMS, DAMAGED, FINE, FOUND, PHEAP, PYTHON, REFUSED, USAGE, check,  # noqa: E402
                        check_equal, check_in, expect, main, test, wait_until)

INSPECTED = os.path.join(BUILT_PROGRAMS, "inspected")
PAGE = 4096


class Inspected:
    """The program, and what it says of itself."""

    def __init__(self, place, *arguments):
        self.place, self.pool, fifo = place, place.path("pool"), place.path("fifo")
        os.mkfifo(fifo)
        self.keeper = os.open(fifo, os.O_RDWR)
        self.process = place.start(PHEAP, "run", "-i", "0", self.pool, INSPECTED,
                                   place.path("file"), *arguments, stdin=fifo)
        wait_until(lambda: "ready\n" in self.process.stdout(), 60, "the program")
        self.checkpoint()

    def checkpoint(self):
        expect(self.place.pheap("checkpoint", self.pool), FINE)

    def said(self):
        lines = [line.split() for line in self.process.stdout().splitlines()]
        return {line[0]: int(line[1]) for line in lines if len(line) == 2}

    def command(self, text):
        count = self.process.stdout().count("done\n")
        os.write(self.keeper, text.encode() + b"\n")
        wait_until(lambda: self.process.stdout().count("done\n") > count, 60, text)

    def kill(self):
        if self.process.running():
            check_equal(self.process.kill(), -signal.SIGKILL, "status")
        os.close(self.keeper)

    def look(self, *arguments):
        done = self.place.pheap("inspect", "--json", self.pool, *arguments)
        expect(done, FINE)
        check_equal(done.stderr(), "", "stderr")
        text = self.place.pheap("inspect", self.pool, *arguments)
        expect(text, FINE)
        check("\033" not in text.stdout(), "no colour in a pipe")
        return json.loads(done.stdout()), text.stdout()


def crash_image(place, pool):
    """Its number: what the agent of a killed program writes."""
    return wait_until(lambda: [g["number"] for g in place.inspect(pool)["generations"] if g["kind"] == "crash"], 60,
                      "the crash image")[-1]


def alive_and_killed(place, look):
    """Both must show the same."""
    program = Inspected(place)
    look(program)
    program.kill()
    look(program)


def mapping_at(mappings, address):
    return next(m for m in mappings if m["start"] <= address < m["end"])


@test
def mappings_are_those_of_the_program(place):
    def look(program):
        found, text = program.look("mappings")
        said, mappings = program.said(), found["mappings"]
        one = mapping_at(mappings, said["mapping"])
        check_equal((one["permissions"], one["kind"]), ("rw-p", "anonymous"), f"{one}")
        check_equal(mapping_at(mappings, said["mapping"] - PAGE)["saved_pages"], 0, "not written")
        check(2 <= one["saved_pages"] <= one["size_bytes"] / PAGE, f"{one}")
        data = mapping_at(mappings, said["known_value"])
        check_equal((data["kind"], data["name"]), ("file", INSPECTED), f"{data}")
        check(data["saved_pages"] > 0, f"{data}")
        block = mapping_at(mappings, said["list_first"])
        check_equal((block["kind"], block["name"]), ("heap", "[slot]"), f"{block}")
        check_in(f"0x{one['start']:x}", text, "text")
        check("[vdso]" in text and "[stack]" in text, text)
        if program.process.running():
            with open(f"/proc/{program.process.pid}/maps", encoding="utf-8") as f:
                maps = {tuple(int(x, 16) for x in line.split()[0].split("-")): line.split()[1]
                        for line in f}
            for m in mappings:
                if m["kind"] == "file":
                    check_equal(maps.get((m["start"], m["end"])), m["permissions"], f"{m}")

    alive_and_killed(place, look)


@test
def memory_without_a_name_is_shown_by_what_it_is(place):
    pool = place.path("pool")
    script = ("import mmap, os, time\nf = os.memfd_create('its-name'); os.ftruncate(f, 8192)\n"
              "m = mmap.mmap(f, 8192); s = mmap.mmap(-1, 4096)\nprint('ready', flush=True)\n"
              "time.sleep(60)\n")
    process = place.start(PHEAP, "run", "-i", "0", pool, PYTHON, "-c", script)
    wait_until(lambda: "ready" in process.stdout(), 20, "the program")
    expect(place.pheap("checkpoint", pool), FINE)
    process.kill()
    found = place.inspect(pool, "mappings")["mappings"]
    names = sorted(m["name"] for m in found if m["permissions"] == "rw-s")
    check_equal(len(names), 2, f"{names}")
    check_in("/dev/zero", names[0], "shared and anonymous")
    check_in("its-name", names[1], "a memfd")
    check_equal({m["kind"] for m in found if m["permissions"] == "rw-s"}, {"object"}, "kinds")


@test
def a_resumed_program_is_shown_as_before(place):
    program = Inspected(place)
    before = program.look("leaks")[0]["leaks"]
    check_equal(program.process.kill(), -signal.SIGKILL, "status")
    restore = place.start(PHEAP, "restore", program.pool, stdin=place.path("fifo"))
    outer_pid = restore.resumed()["outer_pid"]
    program.checkpoint()
    for m in program.look("mappings")[0]["mappings"]:
        check_equal(m["kind"] == "heap", m["name"] == "[slot]", f"{m}")
    check_equal(program.look("leaks")[0]["leaks"], before, "leaks")
    os.kill(outer_pid, signal.SIGKILL)
    restore.wait()
    os.close(program.keeper)


@test
def files_are_those_of_the_program(place):
    def look(program):
        found, text = program.look("files")
        said = program.said()
        files = {f["number"]: f for f in found["files"]}
        one = files[said["file"]]
        check_equal((one["kind"], one["path"], one["offset"], one["size"], one["access"],
                     one["close_on_exec"]), ("file", place.path("file"), 7, 10, "both", True), "file")
        pipe = files[said["pipe_read"]]
        check_equal((pipe["kind"], pipe["content_bytes"], pipe["access"]), ("pipe", 5, "read"), "pipe")
        check_equal([(w["number"], w["data"]) for w in files[said["epoll"]]["watches"]],
                    [(said["pipe_read"], "0x4d")], "watches")
        check_equal(files[said["eventfd"]]["count"], 3, "count")
        check_equal([(l["number"], l["kind"], l["mode"], l["bytes"]) for l in found["locks"]],
                    [(said["file"], "flock", "exclusive", None)], "locks")
        check_in("5 of 65536 bytes unread", text, "text")
        check_in(f"watches fd {said['pipe_read']}", text, "text")

    alive_and_killed(place, look)


SOCKETS = """
import os, socket, sys
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
listening.listen(17)
named = socket.socket(socket.AF_UNIX)
named.bind("named")
named.listen()
hidden = socket.socket(socket.AF_UNIX)
hidden.bind(b"\\0\\x1b[31m%d" % os.getpid())
hidden.listen()
one, two = socket.socketpair()
one.send(b"hello")
sending = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sending.bind(("127.0.0.1", 0))
sending.connect(("127.0.0.1", 9))
memory = os.memfd_create("of my own")
self = os.pidfd_open(os.getpid())
os.mkfifo("queue")
queue = os.open("queue", os.O_RDWR)
print(os.getpid(), *[s.fileno() for s in (listening, named, hidden, one, two, sending)], memory, self, queue,
      listening.getsockname()[1], sending.getsockname()[1], "ready", flush=True)
sys.stdin.read()
"""


@test
def sockets_and_other_descriptors_are_told_by_what_they_are(place):
    os.mkfifo(place.path("fifo"))
    keeper = os.open(place.path("fifo"), os.O_RDWR)
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "0", pool, PYTHON, "-c", SOCKETS, stdin=place.path("fifo"))
    wait_until(lambda: "ready\n" in process.stdout(), 60, "the program")
    expect(place.pheap("checkpoint", pool), FINE)
    process.kill()
    os.close(keeper)
    pid, listening, named, hidden, one, two, sending, memory, own, queue, port, other = map(
        int, process.stdout().split()[:12])
    done = place.pheap("inspect", "--json", pool, "files")
    expect(done, FINE)
    files = {f["number"]: f for f in json.loads(done.stdout())["files"]}
    check_equal([f["number"] for f in files.values() if f["kind"] == "unknown"], [], "unknown ones")
    check_equal({n: files[n]["kind"] for n in (memory, own, queue)}, {memory: "memory", own: "pidfd", queue: "fifo"}, "kinds")
    check_equal((files[memory]["detail"], files[own]["detail"]), ("of my own", f"pid {pid}"), "details")
    expected = {listening: (f"TCP 127.0.0.1:{port}", None, "listens", 0), named: ("Unix named", None, "listens", 0),
                hidden: (f"Unix @\\x1b[31m{pid}", None, "listens", 0),
                one: (None, None, "the other end is its own", 0), two: (None, None, "the other end is its own", 5),
                sending: (f"UDP 127.0.0.1:{other}", "UDP 127.0.0.1:9", "open", 0)}
    check_equal({n: tuple(files[n][key] for key in ("own_address", "other_address", "socket_state", "unread_bytes"))
                 for n in expected}, expected, "sockets")
    check_equal(files[listening]["backlog"], 17, "backlog")
    text = place.pheap("inspect", pool, "files")
    expect(text, FINE)
    check_in(f"UDP 127.0.0.1:{other} to UDP 127.0.0.1:9: open", text.stdout(), "text")
    check_in("Unix: the other end is its own; 5 bytes unread", text.stdout(), "text")
    check("\033" not in text.stdout(), "nothing that steers a terminal")


def functions(thread):
    return [f["function"] for f in thread["frames"]]


@test
def threads_have_their_states_and_backtraces(place):
    def look(program):
        found, text = program.look("threads")
        threads = {t["name"]: t for t in found["threads"]}
        check_equal(sorted(threads), ["inspected", "sleeper", "spinner"], "threads")
        leader = threads["inspected"]
        check_equal((leader["tid"], leader["system_call"]), (program.said()["pid"], "read"), "leader")
        check_equal([f for f in functions(leader) if f in ("wait_for_commands", "main", "_start")],
                    ["wait_for_commands", "main", "_start"], "backtrace")
        frame = next(f for f in leader["frames"] if f["function"] == "wait_for_commands")
        check(frame["file"].endswith("t/programs/inspected.c") and frame["line"] > 0, f"{frame}")
        check_in("inspected.c:", text, "text")
        check_equal((threads["sleeper"]["system_call"], threads["spinner"]["system_call"]),
                    ("clock_nanosleep", None), "system calls")
        check_in("sleeper", functions(threads["sleeper"]), "backtrace")
        check_equal(threads["spinner"]["state"], "user code", "state")
        check_equal(functions(threads["spinner"])[:2], ["spin_here", "spinner"], "backtrace")
        for thread in threads.values():
            check(thread["backtrace_is_whole"], f"{thread}")
            check_equal(thread["registers"]["rip"], thread["frames"][0]["pc"], "rip")

    alive_and_killed(place, look)


@test
def without_libdw_threads_have_registers_and_one_frame(place):
    program = Inspected(place)
    program.kill()
    place.write("libdw.so.1", "no library")
    done = place.pheap("inspect", "--json", program.pool, "threads",
                       environment={"LD_LIBRARY_PATH": place.directory})
    expect(done, FINE, "pheap inspect:", "libdw1")
    for thread in json.loads(done.stdout())["threads"]:
        check_equal([f["pc"] for f in thread["frames"]], [thread["registers"]["rip"]], "frames")


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
del kept[::3]
print("ready", flush=True)
sys.stdin.read()
"""


def counted_apart(pool, number):
    """Free runs by order, and the rest, as the reader of t/lib counts them."""
    reader = second_reader.Pool(pool)
    free, aside, left = reader.free_runs(reader.generation(number))
    orders = {}
    for _, slices in free:
        count, size = orders.get(slices.bit_length() - 1, (0, 0))
        orders[slices.bit_length() - 1] = (count + 1, size + slices * 65536)
    return orders, max(free, key=lambda run: (run[1], -run[0])), aside, left


@test
def free_runs_are_those_that_an_independent_reader_counts(place):
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
        orders, largest, aside, left = counted_apart(pool, number)
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


def gdb(place, program, core, *commands):
    arguments = [part for command in commands for part in ("-ex", command)]
    done = place.run("gdb", "-nx", "-batch", *arguments, program, core)
    check_equal(done.status, 0, "status of gdb")
    return done.stdout()


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


@test
def gdb_opens_a_core_file_of_a_generation(place):
    def look(program):
        core = place.path("core")
        expect(place.pheap("inspect", "--core", core, program.pool), FINE)
        check_equal(os.stat(core).st_mode & 0o777, 0o600, "mode")
        out = gdb(place, INSPECTED, core, "info threads", "bt", "p known_value", "p known_list->text",
                  "p known_list->next->text", "thread apply all bt", "info auxv")
        for part in ("wait_for_commands", "main (", "12345", '"needle in block 1',
                     '"needle in block 0', "spin_here", "nanosleep", "AT_ENTRY"):
            check_in(part, out, "gdb")
        check_equal(out.count("(LWP "), 3 + 3 + 1, "threads listed, shown, current")
        expect(place.pheap("inspect", "--core", core, program.pool), REFUSED, core, "new file")
        os.unlink(core)

    alive_and_killed(place, look)


@test
def gdb_opens_a_core_file_of_cpython(place):
    pool, core = place.path("pool"), place.path("core")
    script = "import threading, time\nthreading.Thread(target=lambda: time.sleep(1000)).start()\n" \
             "print('ready', flush=True)\nthreading.Event().wait()"
    process = place.start(PHEAP, "run", "-i", "0", pool, PYTHON, "-c", script)
    wait_until(lambda: "ready" in process.stdout(), 60, "python")
    expect(place.pheap("checkpoint", pool), FINE)
    process.kill()
    expect(place.pheap("inspect", "--core", core, pool), FINE)
    out = gdb(place, PYTHON, core, "bt", "info threads", "p *(long *)&_Py_NoneStruct > 100")
    check_in("Py_BytesMain", out, "gdb")
    check_in("$1 = 1", out, "references of None")
    check("* 1  " in out and "  2  " in out, out)
    threads = json.loads(place.pheap("inspect", "--json", pool, "threads").stdout())["threads"]
    check_equal(len(threads), 2, "threads")
    check(any("Py_BytesMain" in functions(t) for t in threads), f"{threads}")


@test
def a_page_is_a_new_file_of_its_owner_s(place):
    program = Inspected(place)
    program.kill()
    page = place.path("page.html")
    expect(place.pheap("inspect", "--html", page, program.pool), FINE)
    check_equal(os.stat(page).st_mode & 0o777, 0o600, "mode")
    expect(place.pheap("inspect", "--html", page, program.pool), REFUSED, page, "new file")


@test
def a_generation_that_has_no_process_refuses_files_and_threads(place):
    program = Inspected(place)
    program.kill()
    crash = [g["number"] for g in place.inspect(program.pool)["generations"] if g["kind"] == "crash"]
    check_equal(len(crash), 1, "crash images")
    found, _ = program.look("-g", str(crash[0]), "mappings")
    check(mapping_at(found["mappings"], program.said()["mapping"])["saved_pages"] >= 2, "saved")
    found, _ = program.look("-g", str(crash[0]), "blocks", "--address",
                            hex(program.said()["list_first"]))
    check_in(program.said()["list_second"], [p["address"] for p in found["block"]["pointed_to_by"]],
             "pointed to by")
    for view in (("files",), ("threads",), ("--core", place.path("core"))):
        done = place.pheap("inspect", "-g", crash[0], program.pool, *view)
        expect(done, REFUSED, "pheap inspect:", program.pool, "crash image")
        check_equal(len(done.stderr().splitlines()), 1, "lines")


@test
def options_of_another_view_are_refused(place):
    pool = place.path("pool")
    expect(place.pheap("run", pool, "true"), FINE)
    for option, view in (("--size=48", "blocks"), ("--since=1", "blocks"), ("--age", "blocks"), ("--hex", "grep"),
                         ("--min=4", "strings"), ("--focus=x", "profile"), ("--once", "top"), ("-i1s", "top")):
        for other in (["heap"], [], ["--core", place.path("core")], ["diff", "1", "2"]):
            expect(place.pheap("inspect", option, pool, *other), USAGE, f"goes with the view {view}")
    expect(place.pheap("inspect", "--age", "top", pool), USAGE, "--age goes with the view blocks")
    for view, usage in ((["grep"], "POOL grep PATTERN"), (["diff", "1"], "POOL diff G1 G2"), (["heap", "x"], "POOL heap;")):
        expect(place.pheap("inspect", pool, *view), USAGE, usage)


VIEWS = (("roots",), ("retained",), ("mappings",), ("files",), ("threads",), ("heap",), ("slabs",),
         ("blocks",), ("leaks",), ("strings",), ("grep", "needle"))


@test
def a_damaged_page_is_said_next_to_what_is_whole(place):
    program = Inspected(place)
    program.kill()
    said, generation = program.said(), place.newest(program.pool) - 1
    content = pool_bytes.read(program.pool)
    entry = [g for g in second_reader.Pool(program.pool).superblock.generations
             if g.number == generation]
    pages = dict((page, frame) for page, frame, _ in
                 second_reader.Pool(program.pool).pages(entry[0]))
    pool_bytes.flip(content, pages[said["mapping"] // PAGE] * PAGE + 1000, 1)
    pool_bytes.write(program.pool, content)
    done = place.pheap("inspect", "-g", generation, program.pool, "grep", "needle in block")
    expect(done, FOUND, program.pool, "1 damaged pages")
    check_in("needle in block 1", done.stdout(), "what is whole")
    expect(place.pheap("inspect", "-g", generation, "--core", place.path("core"), program.pool),
           FOUND, "1 damaged pages")
    pool_bytes.flip(content, pages[said["list_first"] // PAGE] * PAGE + 4000, 1)
    pool_bytes.write(program.pool, content)
    expect(place.pheap("inspect", "-g", generation, program.pool, "leaks"), FOUND,
           "1 pages of the heap", "damaged")
    slot = said["list_first"] >> 40 << 40
    pool_bytes.flip(content, pages[slot // PAGE] * PAGE + 1, 1)  # the heap's header
    pool_bytes.write(program.pool, content)
    expect(place.pheap("inspect", "-g", generation, program.pool, "leaks"), DAMAGED,
           "has checksum")
    done = place.pheap("inspect", "-g", generation, program.pool, "grep", "needle in block")
    expect(done, FOUND, "has checksum", "not named")


@test
def views_of_a_damaged_pool_end_with_a_message(place):
    program = Inspected(place)
    program.kill()
    whole = pool_bytes.read(program.pool)
    newest = [g for g in pool_bytes.newest(whole).generations if g["kind"] == 1][-1]
    for field in ("root_frame", "record_frame"):
        content = bytearray(whole)
        pool_bytes.flip(content, newest[field] * PAGE + 20, 2)
        pool_bytes.write(program.pool, content)
        for view in VIEWS:
            done = place.pheap("inspect", program.pool, *view)
            check(done.status in (FINE, DAMAGED), f"{view}: {done.status}")
            if done.status == DAMAGED:
                expect(done, DAMAGED, "pheap inspect:", program.pool)
            elif field == "record_frame":
                check(False, f"{view} shows a damaged record")
    for _ in range(12):
        content = bytearray(whole)
        for _ in range(place.random.randrange(1, 30)):
            pool_bytes.flip(content, place.random.randrange(2 * PAGE, len(content)),
                            place.random.randrange(8))
        pool_bytes.write(program.pool, content)
        for view in VIEWS + (("generations",), ("diff", str(newest["number"]), str(newest["number"]))):
            done = place.pheap("inspect", "--json", program.pool, *view, timeout=30)
            check(done.status in (FINE, FOUND, DAMAGED), f"{view}: {done.status}: {done.stderr()}")
            check(len(done.stderr().splitlines()) <= 2, done.stderr())


if __name__ == "__main__":
    main()
