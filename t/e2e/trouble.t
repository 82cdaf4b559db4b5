#!/usr/bin/python3
"""Trouble while a program runs: it goes on, the last generation stays, the reason is said once."""
import os
import re
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, FINE, PHEAP, PYTHON, REFUSED, check,  # noqa: E402
                        check_equal, check_in, expect, main, test, wait_until)
from small_disk import SmallDisk, fill  # noqa: E402

COUNTER = os.path.join(BUILT_PROGRAMS, "counter")
DENY = os.path.join(BUILT_PROGRAMS, "deny_call")
HAS_TRACKING = tuple(int(n) for n in re.findall(r"\d+", os.uname().release)[:2]) >= (6, 7)


def start_sleeper(place, pool, *prefix, options=("-i", "0")):
    process = place.start(*prefix, PHEAP, "run", *options, pool, COUNTER, "3000")
    wait_until(lambda: process.stdout(), 20, "output of the counter")
    return process


@test
def a_full_disk_stops_checkpoints_and_not_the_program(place):
    with SmallDisk(place, 160) as disk:
        pool, fifo = os.path.join(disk, "pool"), place.path("fifo")
        os.mkfifo(fifo)
        keeper = os.open(fifo, os.O_RDWR)
        process = place.start(PHEAP, "run", "-i", "0", "-k", "16", pool,
                              os.path.join(BUILT_PROGRAMS, "dirty_pages"), 24, stdin=fifo)
        wait_until(lambda: "ready" in process.stdout(), 60, "the program's heap")

        def write_and_checkpoint(lines):
            os.write(keeper, b"20000\n")
            wait_until(lambda: process.stdout().count("20000") == lines, 60, "the writes")
            return place.pheap("checkpoint", pool)

        expect(write_and_checkpoint(1), FINE)
        fill(os.path.join(disk, "filler"))
        lines = 2
        while (done := write_and_checkpoint(lines)).status == FINE:  # the pool has some room itself
            lines += 1
            check(lines < 10, "checkpoints go on although the disk is full")
        for again in (1, 2):
            check_in("no space left", done.stderr().lower(), "the reason")
            done = write_and_checkpoint(lines + again)
            check(done.status != FINE, "a checkpoint on a full disk")
        check_equal(place.newest(pool), lines - 1, "the newest generation")
        said = process.stderr().lower().count("no space left")
        check(said <= 1, f"the reason was said {said} times on the program's stderr")
        os.unlink(os.path.join(disk, "filler"))
        expect(write_and_checkpoint(lines + 3), FINE)
        check_equal(place.newest(pool), lines, "the newest generation, with space again")
        process.kill()
        os.close(keeper)
        resumed = place.start(PHEAP, "restore", pool)
        resumed.resumed()
        check_equal(resumed.wait(), 0, "the resumed program, at the end of its stdin")


@test
def on_a_full_disk_a_crash_image_gives_way_to_a_checkpoint(place):
    with SmallDisk(place, 160) as disk:
        pool, fifo = os.path.join(disk, "pool"), place.path("fifo")
        os.mkfifo(fifo)
        keeper = os.open(fifo, os.O_RDWR)

        def write(process, lines):
            os.write(keeper, b"20000\n")
            wait_until(lambda: process.stdout().count("20000") == lines, 60, "the writes")

        process = place.start(PHEAP, "run", "-i", "0", "-k", "1", pool,
                              os.path.join(BUILT_PROGRAMS, "dirty_pages"), 24, stdin=fifo)
        wait_until(lambda: "ready" in process.stdout(), 60, "the program's heap")
        for lines in (1, 2):
            write(process, lines)
            expect(place.pheap("checkpoint", pool), FINE)
        write(process, 3)
        process.kill()
        wait_until(lambda: [g for g in place.inspect(pool)["generations"] if g["kind"] == "crash"],
                   20, "a crash image")
        process = place.start(PHEAP, "run", "--fresh", "-i", "0", "-k", "1", pool,
                              os.path.join(BUILT_PROGRAMS, "dirty_pages"), 24, stdin=fifo)
        wait_until(lambda: "ready" in process.stdout(), 60, "the program's heap")
        fill(os.path.join(disk, "filler"))
        for lines in (1, 2, 3):
            write(process, lines)
            expect(place.pheap("checkpoint", pool), FINE)
        check_equal([g["kind"] for g in place.inspect(pool)["generations"]], ["process"], "kinds")
        process.kill()
        os.close(keeper)


@test
def a_full_disk_met_by_the_interval_is_reported_once(place):
    with SmallDisk(place, 8) as disk:
        process = place.start(PHEAP, "run", "-i", "50ms", os.path.join(disk, "pool"),
                              os.path.join(BUILT_PROGRAMS, "threads_conditions"), "2500")
        check_equal(process.wait(), 0, "exit status")
        check_in("end ", process.stdout(), "output")
        said = [line for line in process.stderr().splitlines() if "pheap" in line]
        check(len(said) <= 2, f"said once: {said}")


@test
def a_removed_pool_does_not_stop_the_program_and_is_said_once(place):
    directory = place.make_directory("directory")
    pool = os.path.join(directory, "pool")
    process = start_sleeper(place, pool, options=("-i", "50ms"))
    place.wait_generation(pool, 1, process)
    check("was removed" not in process.stderr(), "said before it is so")
    shutil.rmtree(directory)
    wait_until(lambda: f"pool '{pool}' was removed" in process.stderr(), 30, "a line about the pool")
    lines = len(process.stdout().splitlines())
    wait_until(lambda: len(process.stdout().splitlines()) > lines + 50, 20, "more output")
    check(process.running(), "the program goes on")
    check_equal(process.stderr().count("was removed"), 1, "how often it is said")
    process.kill()


@test
def without_ptrace_the_program_runs_and_the_reason_is_said_by_name(place):
    pool = place.path("pool")
    process = start_sleeper(place, pool, DENY, "ptrace")
    done = place.pheap("checkpoint", pool)
    if done.status == FINE:
        process.kill()
        expect(place.pheap("restore", pool), FINE)
        return
    check_in("ptrace", (done.stderr() + process.stderr()).lower(), "the reason")
    lines = len(process.stdout().splitlines())
    wait_until(lambda: len(process.stdout().splitlines()) > lines + 20, 20, "more output")
    process.kill()


def falls_back_without(place, what):
    pool = place.path("pool")
    process = start_sleeper(place, pool, DENY, what)
    tracking = place.inspect(pool)["program"]["tracking"].lower()
    check("checksum" in tracking or "soft-dirty" in tracking, f"how dirty pages are found: {tracking}")
    if HAS_TRACKING:
        check_in(what, tracking, "what is missing, by name")
    resumes_below_its_surroundings_filter(place, pool, process, what)


def resumes_below_its_surroundings_filter(place, pool, process, what):
    """As in a container: the program and its restore have the same filter, and it stays."""
    expect(place.pheap("checkpoint", pool), FINE)
    process.kill()
    before = len(process.stdout().splitlines())
    restore = place.start(DENY, what, PHEAP, "restore", pool)
    resumed = restore.resumed()
    wait_until(lambda: len(process.stdout().splitlines()) > before + 2, 30, "more output")
    with open(f"/proc/{resumed['outer_pid']}/status", encoding="ascii") as f:
        check_in("Seccomp_filters:\t1\n", f.read(), "the resumed program's filters")
    expect(place.pheap("checkpoint", pool), FINE)
    restore.kill(signal.SIGTERM)


@test
def a_container_that_forbids_personality_is_no_hindrance(place):
    pool = place.path("pool")
    process = start_sleeper(place, pool, DENY, "personality")
    resumes_below_its_surroundings_filter(place, pool, process, "personality")


@test
def a_filter_that_the_program_puts_on_itself_is_refused_by_name(place):
    """Restored without it, it could do more than before."""
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "0", pool, DENY, "userfaultfd", COUNTER, "3000")
    wait_until(lambda: process.stdout(), 20, "output of the counter")
    expect(place.pheap("checkpoint", pool), REFUSED, "has put a seccomp filter on itself")
    process.kill()


@test
def without_userfaultfd_checksums_serve(place):
    falls_back_without(place, "userfaultfd")


@test
def without_pagemap_scan_checksums_serve(place):
    falls_back_without(place, "pagemap_scan")


@test
def a_descriptor_that_cannot_be_restored_is_named_at_the_checkpoint(place):
    pool = place.path("pool")
    for number, (code, part) in enumerate((
            ("import socket; a, b = socket.socketpair(); fd = a.fileno()", "socket"),
            ("import select; e = select.epoll(); fd = e.fileno()", "epoll"))):
        pool = place.path(f"pool-{number}")
        process = place.start(PHEAP, "run", "-i", "0", pool, PYTHON, "-uc",
                              code + "; print(fd); import time; time.sleep(1000)")
        fd = int(wait_until(process.stdout, 20, "output"))
        done = place.pheap("checkpoint", pool)
        if done.status == FINE:  # of a kind that can be restored by now
            process.kill()
            continue
        expect(done, REFUSED, f"fd {fd}", part)
        check(process.running(), "the program goes on")
        check_equal(place.newest(pool), 0, "generations")
        process.kill()


@test
def a_shared_mapping_that_cannot_be_restored_is_named_at_the_checkpoint(place):
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "0", pool, PYTHON, "-uc",
                          "import mmap, time; m = mmap.mmap(-1, 8192); m[0] = 1; print('ready');"
                          "time.sleep(1000)")
    wait_until(process.stdout, 20, "output")
    done = place.pheap("checkpoint", pool)
    if done.status != FINE:
        expect(done, REFUSED, "shared")
    check(process.running(), "the program goes on")
    process.kill()


def killed_copy(place):
    program = place.path("counter")
    shutil.copy(COUNTER, program)
    place.give(program)
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "50ms", pool, program, "100")
    place.wait_generation(pool, 2, process)
    process.kill()
    return program, pool


@test
def a_changed_executable_is_refused_at_restore(place):
    program, pool = killed_copy(place)
    before = place.inspect(pool)
    os.unlink(program)
    shutil.copy("/bin/true", program)
    expect(place.pheap("restore", pool), REFUSED, "pheap restore:", program)
    os.unlink(program)
    expect(place.pheap("restore", pool), REFUSED, "pheap restore:", program)
    check_equal(place.inspect(pool)["generations"], before["generations"], "generations")


@test
def a_changed_library_is_refused_at_restore(place):
    library = place.path("liblittle.so")
    source = place.write("little.c", "int little(void) { return 1; }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "50ms", pool, COUNTER, "100",
                          environment={"LD_PRELOAD": library})
    place.wait_generation(pool, 2, process)
    process.kill()
    place.write("little.c", "int little(void) { return 2; }\nint more = 3;\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    expect(place.pheap("restore", pool), REFUSED, "pheap restore:", library)


@test
def a_mapped_file_that_has_vanished_moved_or_changed_is_named_and_restores_when_it_is_back(place):
    data, moved, pool = place.write("data", b"data" * 4096), place.path("moved"), place.path("pool")
    process = place.start(PHEAP, "run", "-i", "50ms", pool, PYTHON, "-uc",
                          "import mmap, time\nf = open('data', 'rb')\n"
                          "m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)\nf.close()\n"
                          "while True: print(m[:4]); time.sleep(0.02)")
    place.wait_generation(pool, 2, process)
    process.kill()
    before = place.inspect(pool)["generations"]
    os.rename(data, moved)
    expect(place.pheap("restore", pool), REFUSED, "pheap restore:", data, "mapped")
    place.write("data", b"else" * 4096)
    expect(place.pheap("restore", pool), REFUSED, "pheap restore:", data, "changed")
    check_equal(place.inspect(pool)["generations"], before, "generations")
    os.rename(moved, data)
    lines = len(process.stdout().splitlines())
    restore = place.start(PHEAP, "restore", pool)
    restore.resumed()
    wait_until(lambda: len(process.stdout().splitlines()) > lines + 2, 20, "more output")
    check_equal(set(process.stdout().splitlines()), {"b'data'"}, "what it reads")
    restore.kill(signal.SIGTERM)


@test
def a_file_cut_below_what_the_program_had_written_is_refused_or_named(place):
    pool, out = place.path("pool"), place.path("out")
    process = place.start(PHEAP, "run", "-i", "50ms", pool, COUNTER, "60", stdout=out)
    place.wait_generation(pool, 3, process)
    check_equal(process.kill(), -signal.SIGKILL, "status")
    os.unlink(out)
    done = place.pheap("restore", pool)
    check(done.status in (REFUSED, 5), f"status {done.status}")
    expect(done, done.status, "pheap restore:", out)


if __name__ == "__main__":
    main()
