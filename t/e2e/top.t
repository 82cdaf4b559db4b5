#!/usr/bin/python3
"""pheap inspect top: figures of a running program, once, as an object, and on a terminal."""
import json
import os
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, FINE, LIBRARY, NOBODY, PHEAP, PYTHON, REFUSED, SYSTEM, USAGE,  # noqa: E402
                        add_test, check, check_equal, check_in, expect, main, test, wait_until)
from screen import Screen  # noqa: E402

SITES = os.path.join(BUILT_PROGRAMS, "allocation_sites")
DENY = os.path.join(BUILT_PROGRAMS, "deny_call")
# Grows by a list of 100-byte blocks, and allocates and frees more than that all the time.
CHURN = """
import time
keep = []
while True:
    keep.append([bytes(100) for _ in range(100)])
    [str(i) for i in range(3000)]
    time.sleep(0.01)
"""


class Sites:
    """allocation_sites, which stands still until it is told to go on."""

    def __init__(self, place, *options, environment=None):
        self.place, self.pool, fifo = place, place.path("pool"), place.path("fifo")
        os.mkfifo(fifo)
        place.give(fifo)
        self.keeper = os.open(fifo, os.O_RDWR)
        self.process = place.start(PHEAP, "run", "-i", "0", *options, self.pool, SITES, "1", stdin=fifo,
                                   environment=environment)
        self.wait_ready(1)
        expect(place.pheap("checkpoint", self.pool), FINE)

    def wait_ready(self, count):
        wait_until(lambda: self.process.stdout().count("ready\n") >= count, 60, "the program")

    def say(self, text):
        os.write(self.keeper, text.encode())

    def end(self):
        self.say("end\n")
        check_equal(self.process.wait(), 0, "status")
        os.close(self.keeper)


def top(place, *arguments, **keywords):
    done = place.pheap("inspect", "--json", "-i", "100ms", "top", *arguments, **keywords)
    expect(done, FINE)
    return json.loads(done.stdout())


def start_churn(place, environment=None):
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "200ms", pool, PYTHON, "-c", CHURN,
                          environment={"PYTHONMALLOC": "malloc", **(environment or {})})
    place.wait_generation(pool, 2, process)
    return process, pool


@test
def a_program_that_stands_still_is_seen_as_its_generation_is(place):
    program = Sites(place)
    live = top(place, program.pool)
    check_equal((live["heap"]["of"], live["pid"]), ("program", program.process.pid), "source")
    check_equal(top(place, str(program.process.pid))["heap"]["classes"], live["heap"]["classes"], "by pid")
    slabs = place.inspect(program.pool, "slabs")["slabs"]
    # The agent has the program's thread allocate nothing: the two are the same to a block.
    check_equal([(c["block_bytes"], c["blocks"], c["bytes"]) for c in live["heap"]["classes"]],
                [(s["block_bytes"], s["used"], s["used_bytes"]) for s in slabs], "size classes")
    check_equal(live["heap"]["change_bytes"], 0, "nothing changes")
    check_equal((live["heap"]["rates"], live["heap"]["allocated_bytes"], live["heap"]["freed_bytes"]),
                ("seen", 0, 0), "rates")
    generations = place.inspect(program.pool, "generations")["generations"]
    check_equal([(c["number"], c["pause_ns"], c["written_bytes"]) for c in live["checkpoints"]],
                [(g["number"], g["pause_ns"], g["written_bytes"]) for g in reversed(generations)],
                "checkpoints")
    check_equal(live["file_bytes"], os.path.getsize(program.pool), "the pool's size")
    program.end()


@test
def what_it_keeps_shows_before_there_is_a_generation_of_it(place):
    program = Sites(place)
    before = top(place, program.pool)["heap"]
    program.say("grow\n")
    program.wait_ready(2)
    after = top(place, program.pool)["heap"]
    check_equal(after["bytes"] - before["bytes"], 20000 * 160, "growth")
    check_equal(after["blocks"] - before["blocks"], 20000, "blocks")
    program.end()


@test
def rates_are_seen_or_sampled(place):
    process, pool = start_churn(place)
    heap = top(place, pool)["heap"]
    check_equal(heap["rates"], "seen", "without a profile")
    check(heap["allocated_bytes"] > 0 and heap["change_bytes"] > 0, f"{heap}")
    process.kill()
    os.unlink(pool)
    process, pool = start_churn(place, {"PHEAP_PROFILE": "4K"})
    found = top(place, pool)
    heap = found["heap"]
    check_equal(heap["rates"], "sampled", "with a profile")
    check(heap["allocated_bytes"] > heap["change_bytes"] > 0 and heap["freed_bytes"] > 0, f"{heap}")
    check(found["checkpoints_taken"] >= 2, f"{found}")
    process.kill()


@test
def a_program_that_has_ended_leaves_its_generation(place):
    program = Sites(place, "--at-exit")
    program.end()
    found = top(place, program.pool)
    check_equal((found["pid"], found["run"]), (None, "the program has ended with exit status 0"), "run")
    check_equal((found["heap"]["of"], found["heap"]["generation"]), ("generation", 2), "source")
    text = place.pheap("inspect", program.pool, "top")
    expect(text, FINE)
    check_in("the heap as in generation 2", text.stdout(), "text")
    check("\033" not in text.stdout(), "no escape sequences in a pipe")
    check(all(line == line.rstrip() and len(line) <= 100 for line in text.stdout().splitlines()), "lines")


@test
def a_heap_that_programs_open_is_its_generation_and_its_log(place):
    heap = place.path("heap")
    expect(place.run(os.path.join(BUILT_PROGRAMS, "known_graph"), heap, "build",
                     environment={"LD_PRELOAD": LIBRARY}), FINE)
    found = top(place, heap)
    slabs = place.inspect(heap, "slabs")["slabs"]
    check_equal((found["heap"]["of"], found["run"]), ("generation", "a heap that programs open by themselves"),
                "source")
    check_equal([c["blocks"] for c in found["heap"]["classes"]], [s["used"] for s in slabs], "blocks")
    text = place.pheap("inspect", heap, "top").stdout()
    check_in(f"the heap as in generation {found['heap']['generation']} and its log\n", text, "text")


@test
def where_memory_may_not_be_read_generations_are_shown_and_said(place):
    program = Sites(place)
    done = place.run(DENY, "tracing", PHEAP, "inspect", "--json", "-i", "100ms", "top", program.pool)
    expect(done, FINE)
    found = json.loads(done.stdout())
    check_equal((found["heap"]["of"], found["pid"]), ("generation", program.process.pid), "source")
    check_in("may not be read", found["why"], "why")
    check_equal(found["heap"]["bytes"], top(place, program.pool)["heap"]["bytes"], "figures")
    program.end()


@test
def a_hardened_heap_is_counted_too(place):
    program = Sites(place, environment={"PHEAP_HARDEN": "1"})
    slabs = place.inspect(program.pool, "slabs")["slabs"]
    check_equal([c["blocks"] for c in top(place, program.pool)["heap"]["classes"]],
                [s["used"] for s in slabs], "blocks")
    program.end()


@test
def what_is_no_pool_and_no_program_is_refused(place):
    expect(place.pheap("inspect", "top", place.path("none")), SYSTEM, "none")
    expect(place.pheap("inspect", "top", str(os.getpid())), REFUSED, "not started under pheap")
    expect(place.pheap("inspect", "-i", "1ms", "top", "x"), USAGE, "100ms")
    expect(place.pheap("inspect", "--sort", "age", "top", "x"), USAGE, "--sort")
    expect(place.pheap("inspect", "-g", "1", "top", "x"), USAGE, "-g")


@test
def another_user_sees_nothing(place):
    if os.geteuid() != 0:
        return
    program = Sites(place)
    place.uid = NOBODY
    for target in (program.pool, str(program.process.pid)):
        done = place.pheap("inspect", "top", target)
        check(done.status not in (FINE, None) and not done.stdout(), f"{target}: {done.stdout()}")
    place.uid = None
    program.end()


def on_a_terminal(place):
    process, pool = start_churn(place)
    screen = Screen(place, [PHEAP, "inspect", "-i", "200ms", "top", pool])
    screen.wait(r"every 200\.00 ms  .*/pool$")
    screen.wait(r"^ +\d+ +[\d.]+ s .* process  kept$")
    screen.wait(r"^live [\d.]+ MiB  \d+ blocks  \+.*/s")

    def sizes():
        return re.findall(r"^ *(large|\d+) +\d+ +[\d.]+ (?:B|.iB) ", screen.text(), re.M)

    first = screen.wait(r"^live \S+ MiB  (\d+)").group(1)
    wait_until(lambda: screen.wait(r"^live \S+ MiB  (\d+)").group(1) != first, 30, "another look")
    screen.type("p", "paused")
    check_equal(max(sizes(), key=sizes().count), sizes()[0], "no size twice")
    by_bytes = sizes()
    screen.type("ssss", r"paused")
    wait_until(lambda: sizes() == sorted(sizes(), key=lambda s: 1 << 40 if s == "large" else int(s)), 30,
               f"sizes in order instead of {sizes()}")
    check(sizes() != by_bytes, "sorted as before")
    screen.type("s", "paused")
    wait_until(lambda: sizes() == by_bytes, 30, "by bytes again")
    screen.type("\033OB", "paused")
    wait_until(lambda: sizes()[0] == by_bytes[1], 30, "scrolled")
    screen.type("h", r"^q +quit")
    screen.type("h", r"^live")
    screen.type("p", r"every")
    screen.type("+", r"every 100\.00 ms")
    screen.resize(10, 40)
    screen.wait(r"^ block +blocks +bytes")
    lines = screen.lines()
    check(any(line.startswith("live ") for line in lines) and len(sizes()) >= 2, f"10 rows: {lines}")
    screen.resize(40, 120)
    wait_until(lambda: len(sizes()) > 15, 30, "more rows on a larger screen")
    check_equal(screen.end("q"), 0, "status")
    check(process.running(), "the program does not notice")
    process.kill()


def add(name, body, uid=None):
    def run(place):
        body(place)

    run.uid = uid
    add_test(name, run)


add("keys, sizes and looks on a terminal", on_a_terminal)
add("the same without privilege", on_a_terminal, uid=NOBODY)


@test
def a_program_that_is_killed_in_view_is_said_and_so_is_a_pool_that_goes(place):
    process, pool = start_churn(place)
    screen = Screen(place, [PHEAP, "inspect", "-i", "100ms", "top", str(process.pid)])
    screen.wait(r"^live")
    process.kill()
    screen.wait(r"^the program was killed; pheap restore goes on from")
    screen.wait(r"^the heap as in generation \d+$")
    os.unlink(pool)
    screen.wait(r"^pool: .*no such file")
    check_equal(screen.end("q"), 0, "status")


@test
def signals_and_the_end_of_the_terminal_end_it_and_leave_all_as_it_was(place):
    program = Sites(place)
    for keys, number in (("\003", None), (None, signal.SIGTERM), (None, signal.SIGHUP)):
        screen = Screen(place, [PHEAP, "inspect", "-i", "200ms", "top", program.pool],
                        environment={"TERM": "xterm"})
        wait_until(lambda s=screen: s.read() and "live " in s.seen, 30, "a look")
        check_in("\033[?1049h", screen.seen, "another screen")
        check_equal(screen.end(keys, number), 0, f"status after {keys!r} {number}")
        check(screen.seen.rindex("\033[?1049l") > screen.seen.rindex("live "), "the first screen again")
    screen = Screen(place, [PHEAP, "inspect", "-i", "200ms", "top", program.pool])
    screen.wait("^live")
    os.close(screen.fd)
    wait_until(lambda: os.waitpid(screen.pid, os.WNOHANG)[0], 30, "the end without a terminal")
    program.end()


@test
def colour_is_for_terminals_that_have_it_and_people_who_want_it(place):
    process, pool = start_churn(place)

    def seen(**environment):
        screen = Screen(place, [PHEAP, "inspect", "-i", "100ms", "top", pool], environment=environment)
        # Sizes that grow are in colour from the second look on.
        wait_until(lambda: screen.read() and re.search(r"\+[\d.]+ .iB", screen.seen), 30, "looks")
        screen.end("q" if environment["TERM"] != "dumb" else "\003")
        return screen.seen

    colour = re.compile(r"\033\[[0-9;]*3[0-9][0-9;]*m")
    check(colour.search(seen(TERM="xterm-256color")), "colours of xterm")
    check(not colour.search(seen(TERM="xterm-256color", NO_COLOR="1")), "NO_COLOR")
    check("\033" not in seen(TERM="dumb"), "a dumb terminal gets plain text")
    process.kill()


if __name__ == "__main__":
    main()
