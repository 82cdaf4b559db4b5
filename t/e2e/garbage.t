#!/usr/bin/python3
"""What is garbage is not written: free spans; and what was left out and is in use again is as it
was. PHEAP_CHECK=cut compares all memory with each generation."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, FINE, PHEAP, check, check_equal, expect, main,  # noqa: E402
                        test, wait_until)

BLOCKS = os.path.join(BUILT_PROGRAMS, "churned_blocks")
ROUNDS = int(os.environ.get("PHEAP_TEST_ROUNDS", "300000"))


@test
def freed_memory_is_not_written(place):
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "0", pool, BLOCKS, "0", "256")
    wait_until(lambda: "freed" in process.stdout(), 60, "its blocks")
    expect(place.pheap("checkpoint", pool), FINE)
    written = place.inspect(pool)["generations"][-1]["written_bytes"]
    place.note(f"{written >> 10} KiB written after 256 MiB were touched and freed")
    check(written < 8 << 20, f"{written} bytes written")
    process.kill()


def churns(place, environment):
    pool = place.path("pool")
    first = process = place.start(PHEAP, "run", "-i", "15ms", pool, BLOCKS, "2", str(ROUNDS),
                                  environment=environment)
    place.wait_generation(pool, 4, process)
    process.kill()
    for _ in range(3):
        before = place.newest(pool)
        process = place.start(PHEAP, "restore", pool)
        resumed = process.resumed()
        wait_until(lambda: place.newest(pool) >= before + 3 or not process.running(), 60,
                   "three more generations")
        if not process.running():
            break  # fast enough to be done before the next kill
        os.kill(resumed["outer_pid"], signal.SIGKILL)
        process.wait()
    else:
        process = place.start(PHEAP, "restore", pool)
    check_equal(process.wait(), 0, "its exit status")
    check_equal(first.stdout(), f"{2 * ROUNDS}\n", "blocks that were right")
    check("missed" not in process.stderr(), process.stderr())


@test
def what_is_handed_out_again_is_as_it_was_after_each_restore(place):
    churns(place, {"PHEAP_CHECK": "cut"})


@test
def the_same_with_pages_found_by_checksums(place):
    churns(place, {"PHEAP_CHECK": "cut", "PHEAP_TRACK": "checksum"})


main()
