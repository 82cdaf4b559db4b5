#!/usr/bin/python3
"""pheap recover --collect --free: what a program has lost is freed in its checkpoints, when it was
found so twice; the program goes on from there and knows nothing of it."""
import json
import os
import signal
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import pool_bytes  # noqa: E402
from pheap_test import (BUILT_PROGRAMS, FINE, FOUND, PHEAP, REFUSED, ROUNDS, USAGE, check, check_equal, check_in,  # noqa: E402
                        expect, main, test, wait_until)

PROGRAM = os.path.join(BUILT_PROGRAMS, "leaking")
LEAK, CHANGE, LOOK = signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP
HIDDEN = 2  # blocks that the program knows by a disguised address


class Leaking:
    """The program under pheap, killed and resumed from its newest generation."""

    def __init__(self, place, environment=None, keep=3):
        self.place, self.pool = place, place.path("pool")
        self.process = self.first = place.start(PHEAP, "run", "-i", "0", "-k", keep, self.pool, PROGRAM,
                                                environment=environment)
        self.pid = self.process.pid
        wait_until(lambda: "ready" in self.first.stdout(), 60, "the program")
        self.lost_each_time = int(self.first.stdout().split()[1])

    def order(self, number):
        before = self.first.stdout().count("\n")
        os.kill(self.pid, number)
        wait_until(lambda: self.first.stdout().count("\n") > before or not self.process.running(), 60, "its answer")
        check(self.process.running(), f"the program has ended: {self.process.stderr()}")
        return self.first.stdout().splitlines()[before]

    def kill(self):
        expect(self.place.pheap("checkpoint", self.pool), FINE)
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait()

    def resume(self):
        self.process = self.place.start(PHEAP, "restore", self.pool)
        self.pid = self.process.resumed()["outer_pid"]

    def end(self):
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait()

    def collect(self, *options):
        done = self.place.pheap("recover", "--collect", "--free", "--json", *options, self.pool)
        expect(done, FINE)
        self.place.note(done.stdout())
        return json.loads(done.stdout())

    def is_fine(self):
        check_equal(self.order(LOOK), "wrong 0 0", "what the program knows")

    def is_whole(self, *harmless):
        """harmless: FOUND, where a superblock may have been hit that is not in force."""
        done = self.place.pheap("recover", "--check", self.pool)
        check(done.status in (FINE, *harmless), f"{done.status}: {done.stdout()}")


def nearly(found, expected, what):
    """A word that is left somewhere may keep a block, and what it leads to."""
    check(expected * 0.6 <= found <= expected, f"{what}: {found} of {expected}")


@test
def crash_images_alone_are_counted_and_nothing_is_freed(place):
    program = Leaking(place)
    program.order(LEAK)
    program.end()
    wait_until(lambda: place.inspect(program.pool)["generations"], 20, "the crash image")
    content = pool_bytes.read(program.pool)
    done = place.pheap("recover", "--collect", "--json", program.pool)
    expect(done, FINE)
    found = json.loads(done.stdout())["blocks"]  # those that only a register led to among them
    check(found >= program.lost_each_time * 0.6, f"nothing leads to {found} of {program.lost_each_time}")
    for options in ((), ("--now",), ("--dry-run",)):
        expect(place.pheap("recover", "--collect", "--free", *options, program.pool), REFUSED, program.pool,
               "there is no program to be resumed")
    check_equal(pool_bytes.read(program.pool), content, "the pool")


def twice_found(place, environment=None, keep=3):
    program = Leaking(place, environment, keep)
    program.order(LEAK)
    program.kill()
    lost = program.lost_each_time
    before = pool_bytes.read(program.pool)
    found = program.collect()
    nearly(found["blocks"], lost + HIDDEN, "found")
    check_equal((found["freed_blocks"], found["generation"], found["waiting_blocks"]),
                (0, None, found["blocks"]), "the first time")
    again = program.collect()
    check_equal((again["freed_blocks"], again["waiting_blocks"]), (0, found["blocks"]), "the program has not run")
    check_equal(pool_bytes.read(program.pool), before, "the pool is unchanged")
    check_equal(os.stat(program.pool + ".quarantine").st_mode & 0o777, 0o600, "who may read it")
    program.resume()
    program.is_fine()
    program.order(CHANGE)
    program.order(LEAK)
    program.kill()
    would = program.collect("--dry-run")
    freed = program.collect()
    check_equal((freed["freed_blocks"], freed["freed_bytes"]), (would["freed_blocks"], would["freed_bytes"]), "as said")
    nearly(freed["freed_blocks"], found["blocks"] - HIDDEN, "freed")
    check_equal(freed["freed_blocks"] + freed["waiting_blocks"], freed["blocks"], "the others wait")
    program.is_whole()
    third = program.collect()
    check_equal((third["freed_blocks"], third["blocks"]), (0, freed["waiting_blocks"]), "the program has not run")
    check_equal(third["blocks_in_use"], freed["blocks_in_use"] - freed["freed_blocks"], "blocks in use")
    program.resume()
    for changes in range(2, 4):
        check_equal(program.order(CHANGE), f"changed {changes} 77", "what it knows by a disguised address")
    program.is_fine()
    program.kill()
    program.is_whole()
    freed = program.collect()
    nearly(freed["freed_blocks"], lost, "what was lost later")
    check_equal(freed["waiting_blocks"], freed["blocks"] - freed["freed_blocks"], "waiting")
    program.resume()
    check_equal(program.order(CHANGE), "changed 4 77", "what it knows by a disguised address")
    program.is_fine()
    program.end()


@test
def what_was_found_twice_is_freed_and_the_program_goes_on(place):
    twice_found(place)


@test
def the_samples_of_a_profiled_heap_go_with_their_blocks(place):
    twice_found(place, {"PHEAP_PROFILE": "2000"})


@test
def with_one_generation_kept_the_same_is_done(place):
    twice_found(place, keep=1)


@test
def now_frees_at_once_and_a_rollback_has_all_again(place):
    program = Leaking(place)
    program.order(LEAK)
    program.kill()
    done = place.pheap("recover", "--collect", "--free", program.pool)
    expect(done, FINE)
    check_in("wait in the quarantine", done.stdout(), "said")
    place.pheap("recover", "--pin", 1, program.pool)
    freed = program.collect("--now")
    check_equal((freed["freed_blocks"], freed["waiting_blocks"]), (freed["blocks"], 0), "freed")
    nearly(freed["blocks"], program.lost_each_time + HIDDEN, "freed")
    check(not os.path.exists(program.pool + ".quarantine"), "nothing waits")
    program.is_whole()
    program.resume()
    program.is_fine()
    program.end()
    expect(place.pheap("recover", "--rollback", 1, "--yes", program.pool), FINE)
    again = program.collect("--dry-run", "--now")
    check_equal(again["blocks"], freed["blocks"], "lost blocks of the older generation")
    program.resume()
    check_equal(program.order(CHANGE), "changed 1 77", "what would have been freed")
    program.is_fine()
    program.end()


@test
def a_collector_that_is_killed_leaves_what_was_or_what_is_to_be(place):
    program = Leaking(place)
    program.order(LEAK)
    program.kill()
    before = pool_bytes.read(program.pool)
    begun = time.monotonic()
    lost = program.collect("--now")["freed_blocks"]
    lasted = time.monotonic() - begun
    outcomes = {"before": 0, "after": 0}
    for _ in range(8 * ROUNDS):
        pool_bytes.write(program.pool, before)
        collector = place.start(PHEAP, "recover", "--collect", "--free", "--now", program.pool)
        time.sleep(place.random.uniform(0, lasted))
        collector.kill()
        program.is_whole(FOUND)
        found = program.collect("--dry-run", "--now")["blocks"]
        check(found in (0, lost), f"{found} of {lost} blocks are left")
        outcomes["after" if found == 0 else "before"] += 1
    place.note(f"killed {outcomes}")
    program.resume()
    program.is_fine()
    program.end()


@test
def a_quarantine_that_is_not_of_this_run_or_not_whole_is_none(place):
    program = Leaking(place)
    program.order(LEAK)
    program.kill()
    quarantine = program.pool + ".quarantine"
    waiting = program.collect()["waiting_blocks"]
    with open(quarantine, "rb") as file:
        whole = file.read()
    check_equal(len(whole), 64 + 32 * waiting, "its length")
    check_equal(struct.unpack_from("<QI", whole), (0x6175717061656870, 1), "its magic and version")
    check_equal(struct.unpack_from("<QQ", whole, 40), (1, waiting), "its generation, and entries")
    program.resume()
    program.kill()
    expected = program.collect("--dry-run")["freed_blocks"]
    check_equal(expected, waiting, "would be freed")
    spoilt = [whole[:-1], whole[:-32], whole + bytes(32), b"", whole[:60]]
    for _ in range(20):
        place_of = place.random.randrange(len(whole))
        spoilt.append(whole[:place_of] + bytes([whole[place_of] ^ 1 << place.random.randrange(8)]) + whole[place_of + 1:])
    for content in spoilt:
        with open(quarantine, "wb") as file:
            file.write(content)
        found = program.collect("--dry-run")
        check_equal((found["freed_blocks"], found["earlier_generation"]), (0, None), "a damaged quarantine")
    os.unlink(quarantine)
    os.symlink("/etc/passwd", quarantine)
    check_equal(program.collect("--dry-run")["freed_blocks"], 0, "a link")
    os.unlink(quarantine)
    with open(quarantine, "wb") as file:
        file.write(whole)
    process = place.start(PHEAP, "run", "--fresh", "-i", "0", program.pool, PROGRAM)
    wait_until(lambda: "ready" in process.stdout(), 60, "the program")
    expect(place.pheap("checkpoint", program.pool), FINE)
    process.kill()
    check_equal(program.collect("--dry-run")["earlier_generation"], None, "of an earlier run")


@test
def nothing_is_freed_in_use_after_an_end_of_a_hardened_heap_or_unasked(place):
    program = Leaking(place)
    program.order(LEAK)
    expect(place.pheap("checkpoint", program.pool), FINE)
    expect(place.pheap("recover", "--collect", "--free", program.pool), REFUSED, "in use")
    check_equal(program.collect("--dry-run", "--now")["generation"], None, "a dry run beside the program")
    program.kill()
    before = pool_bytes.read(program.pool)
    done = place.pheap("recover", "--collect", program.pool)
    expect(done, FINE)
    check_in("nothing is freed without --free", done.stdout(), "said")
    for options in (("--free",), ("--collect", "--now"), ("--check", "--free")):
        expect(place.pheap("recover", *options, program.pool), USAGE)
    check_equal(pool_bytes.read(program.pool), before, "unchanged")
    pool = place.path("ended")
    expect(place.pheap("run", "-i", "0", "--at-exit", pool, "true"), FINE)
    expect(place.pheap("recover", "--collect", "--free", "--now", pool), REFUSED, "no program to be resumed")
    pool = place.path("hardened")
    process = place.start(PHEAP, "run", "-i", "0", pool, PROGRAM, environment={"PHEAP_HARDEN": "1"})
    wait_until(lambda: "ready" in process.stdout(), 60, "the program")
    expect(place.pheap("checkpoint", pool), FINE)
    process.kill()
    expect(place.pheap("recover", "--collect", "--free", "--now", pool), REFUSED, "hardened")


main()
