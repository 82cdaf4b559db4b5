#!/usr/bin/python3
"""The views of pheap inspect say what the program itself says: alive, killed, in a damaged pool."""
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import pool_bytes  # noqa: E402
import second_reader  # noqa: E402
from inspected import INSPECTED, PAGE, Inspected, alive_and_killed  # noqa: E402
from pheap_test import (DAMAGED, FINE, FOUND, PHEAP, PYTHON, REFUSED, USAGE, check,  # noqa: E402
                        check_equal, check_in, expect, main, test, wait_until)


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


def gdb(place, program, core, *commands):
    arguments = [part for command in commands for part in ("-ex", command)]
    done = place.run("gdb", "-nx", "-batch", *arguments, program, core)
    check_equal(done.status, 0, "status of gdb")
    return done.stdout()


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
