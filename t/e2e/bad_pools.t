#!/usr/bin/python3
"""Files that are no pools, and damaged ones: a clear line, its exit status, nothing changed."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import pool_bytes  # noqa: E402
import second_reader  # noqa: E402
from pheap_test import (BUILT_PROGRAMS, DAMAGED, FINE, FOUND, NOBODY, PHEAP, REFUSED,  # noqa: E402
                        SYSTEM, Skip, check, check_equal, check_in, expect, main, test,
                        wait_until)

COUNTER = os.path.join(BUILT_PROGRAMS, "counter")


def killed_pool(place, generations=3):
    """A pool whose counter was killed, and the lines that a whole run prints."""
    pool, out = place.path("pool"), place.path("out")
    process = place.start(PHEAP, "run", "-i", "50ms", pool, COUNTER, 60, stdout=out)
    place.wait_generation(pool, generations, process)
    check_equal(process.kill(), -signal.SIGKILL, "status")
    return pool, out


def every_command_refuses(place, pool, status, *parts):
    before = pool_bytes.digest(pool)
    for arguments in (("restore", pool), ("inspect", pool), ("inspect", "--json", pool, "heap"),
                      ("checkpoint", pool), ("run", pool, COUNTER, 1),
                      ("run", "--resume", pool, COUNTER, 1), ("run", "--fresh", pool, COUNTER, 1)):
        done = place.pheap(*arguments)
        expect(done, status, f"pheap {arguments[0]}:", pool, *parts)
        check_equal(len(done.stderr().splitlines()), 1, f"lines of {done.stderr()!r}")
        check_equal(done.stdout(), "", "stdout")
    check_equal(pool_bytes.digest(pool), before, "content of the file")


@test
def a_file_that_is_not_a_pool_is_refused(place):
    every_command_refuses(place, place.write("file", "What the thunder said\n" * 1000), REFUSED,
                          "not a ")


@test
def an_empty_file_is_refused(place):
    every_command_refuses(place, place.write("file", ""), REFUSED)


@test
def a_directory_and_a_missing_pool_are_refused(place):
    directory = place.make_directory("directory")
    for command in ("restore", "inspect", "checkpoint"):
        for path in (directory, place.path("missing")):
            done = place.pheap(command, path)
            check(done.status in (REFUSED, SYSTEM), f"{command} {path}: {done.status}")
            expect(done, done.status, f"pheap {command}:", path)
    check(not os.path.exists(place.path("missing")), "nothing made")


@test
def a_pool_of_a_newer_format_is_refused(place):
    pool, _ = killed_pool(place)
    content = pool_bytes.read(pool)
    for which in (0, 1):
        content[which * pool_bytes.FRAME + 8] = 200
        pool_bytes.seal(content, which)
    pool_bytes.write(pool, content)
    every_command_refuses(place, pool, REFUSED, "format version 200")


@test
def a_pool_without_a_whole_superblock_is_damaged(place):
    pool, _ = killed_pool(place)
    content = pool_bytes.read(pool)
    for which in (0, 1):
        pool_bytes.flip(content, which * pool_bytes.FRAME + 300, 3)
    pool_bytes.write(pool, content)
    every_command_refuses(place, pool, DAMAGED)


@test
def a_torn_newest_superblock_gives_the_state_before_and_inspect_says_so(place):
    pool, out = killed_pool(place)
    content = pool_bytes.read(pool)
    pool_bytes.flip(content, pool_bytes.newest(content).at + 1000, 5)
    pool_bytes.write(pool, content)
    done = place.pheap("inspect", pool)
    expect(done, FOUND)
    check_in("older state", done.stdout(), "inspect")
    expect(place.pheap("restore", pool), FINE)
    check_equal(len(open(out, encoding="ascii").readlines()), 60, "lines of output")


PROCESS = 1  # kind of a generation that can be resumed


def damage_newest(place, field):
    pool, out = killed_pool(place)
    content = pool_bytes.read(pool)
    generations = [g for g in pool_bytes.newest(content).generations if g["kind"] == PROCESS]
    pool_bytes.flip(content, generations[-1][field] * pool_bytes.FRAME + 16, 2)
    pool_bytes.write(pool, content)
    return pool, out, generations


def older_is_offered(place, field):
    pool, out, generations = damage_newest(place, field)
    done = place.pheap("restore", pool)
    expect(done, DAMAGED, "pheap restore:", pool)
    older = generations[-2]["number"]
    expect(done, DAMAGED, f"pheap restore -g {older} ")
    expect(place.pheap("run", "--resume", pool, COUNTER), DAMAGED, f"-g {older}")
    done = place.pheap("restore", "-g", older, pool)
    expect(done, FINE, f"resumed generation {older}")
    check_equal(len(open(out, encoding="ascii").readlines()), 60, "lines of output")


@test
def a_flipped_bit_in_the_index_is_found_and_the_older_generation_offered(place):
    older_is_offered(place, "index_frame")


@test
def a_flipped_bit_in_the_process_record_is_found_and_the_older_generation_offered(place):
    older_is_offered(place, "record_frame")


@test
def a_flipped_bit_in_a_mapped_page_stops_the_resumed_program(place):
    pool, fifo = place.path("pool"), place.path("fifo")
    os.mkfifo(fifo)
    with open(fifo, "r+b", buffering=0):
        process = place.start(PHEAP, "run", "-i", "50ms", pool,
                              os.path.join(BUILT_PROGRAMS, "dirty_pages"), 16, stdin=fifo)
        wait_until(lambda: "ready" in process.stdout(), 60, "the program's heap")
        place.wait_generation(pool, 3, process)
        process.kill()
        reader = second_reader.Pool(pool)
        heap = [frame for page, frame, _ in reader.pages(reader.superblock.generations[-1])
                if 0x200000000 <= page < 0x200000000 + (51 << 28) and frame > 1]  # in a slot
        frame = place.random.choice(heap[len(heap) // 4:-len(heap) // 4])
        content = pool_bytes.read(pool)
        pool_bytes.flip(content, frame * pool_bytes.FRAME + place.random.randrange(4096), 1)
        pool_bytes.write(pool, content)
        restore = place.start(PHEAP, "restore", pool, stdin=fifo)
        restore.resumed()
        check_equal(restore.wait(60), -signal.SIGKILL, "status")
        check_in(f"frame {frame} ", restore.stderr() + process.stderr(), "messages")


@test
def a_truncated_pool_is_damaged_and_never_crashes_a_tool(place):
    pool, _ = killed_pool(place)
    whole = pool_bytes.read(pool)
    used = max(max(g["root_frame"], g["record_frame"]) for g in pool_bytes.newest(whole).generations)
    for frames in (used // 2, 3, 2):  # the end of the file is room for later
        pool_bytes.write(pool, whole[:frames * pool_bytes.FRAME])
        done = place.pheap("restore", pool)
        expect(done, DAMAGED, "pheap restore:", pool)
        done = place.pheap("inspect", pool, "heap")
        expect(done, DAMAGED, "pheap inspect:", pool)
        done = place.pheap("inspect", pool)
        expect(done, FOUND)
        check_in("the file is cut short", done.stdout(), "summary")
    pool_bytes.write(pool, whole[:100])
    done = place.pheap("restore", pool)
    check(done.status in (REFUSED, DAMAGED), f"status {done.status}")
    pool_bytes.write(pool, whole)
    expect(place.pheap("restore", pool), FINE)


@test
def random_flips_never_crash_or_hang_a_tool(place):
    pool, _ = killed_pool(place)
    whole = pool_bytes.read(pool)
    for _ in range(20):
        content = bytearray(whole)
        flips = [_flip_somewhere(place, whole, content) for _ in range(8)]
        place.note("flips at " + ", ".join(map(str, flips)))
        pool_bytes.write(pool, content)
        for view in ("summary", "generations", "heap"):
            done = place.pheap("inspect", pool, view, timeout=20)
            check(done.status in (FINE, FOUND, REFUSED, DAMAGED), f"inspect {view}: {done.status}")


def _flip_somewhere(place, whole, content):
    """In the metadata half of the time, so that not only page contents are hit. Where that lies is
    read from the whole pool: a flip may have hit the superblock's count of generations."""
    generation = place.random.choice(pool_bytes.newest(whole).generations)
    frame = place.random.choice([0, 1, generation["root_frame"], generation["record_frame"],
                                 place.random.randrange(len(content) // pool_bytes.FRAME),
                                 place.random.randrange(len(content) // pool_bytes.FRAME)])
    at = frame * pool_bytes.FRAME + place.random.randrange(pool_bytes.FRAME)
    pool_bytes.flip(content, at, place.random.randrange(8))
    return at


@test
def a_pool_of_another_user_is_refused(place):
    if os.geteuid() != 0:
        raise Skip("needs two users")
    pool, _ = killed_pool(place)
    place.uid = NOBODY
    for mode in (0o600, 0o666):
        os.chmod(pool, mode)
        before = pool_bytes.digest(pool)
        for arguments in (("restore", pool), ("inspect", pool), ("checkpoint", pool),
                          ("run", pool, COUNTER, 1), ("run", "--resume", pool, COUNTER, 1)):
            done = place.pheap(*arguments)
            check(done.status in (REFUSED, SYSTEM), f"{arguments} mode {mode:o}: {done.status}")
            expect(done, done.status, f"pheap {arguments[0]}:", pool)
        check_equal(pool_bytes.digest(pool), before, "content of the file")


@test
def root_does_not_run_a_pool_of_another_user(place):
    if os.geteuid() != 0:
        raise Skip("needs two users")
    pool, _ = killed_pool(place)
    os.chown(pool, NOBODY, NOBODY)
    for arguments in (("restore", pool), ("run", pool, COUNTER, 1),
                      ("run", "--resume", pool, COUNTER, 1)):
        expect(place.pheap(*arguments), REFUSED, f"pheap {arguments[0]}:", pool)
    expect(place.pheap("inspect", pool), FINE)


@test
def a_pool_can_be_read_by_its_owner_alone(place):
    pool, _ = killed_pool(place)
    check_equal(os.stat(pool).st_mode & 0o777, 0o600, "mode")


if __name__ == "__main__":
    main()
