#!/usr/bin/python3
"""Mappings that are made, split, moved, protected, dropped, shrunk and grown between checkpoints; a
reservation of terabytes, tens of thousands of mappings, huge pages, MADV_FREE, a brk area that
shrinks: as the program left them, after each restore, however written pages are found."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, FINE, PHEAP, add_test, check_equal, expect, main,  # noqa: E402
                        wait_until)

STATE = os.path.join(BUILT_PROGRAMS, "mappings_state")
STAGES = 8


def stages(place, environment):
    pool, path = place.path("pool"), place.path("lines")
    os.mkfifo(path)
    lines = os.open(path, os.O_RDWR)
    first = process = place.start(PHEAP, "run", "-i", "0", pool, STATE, stdin=path,
                                  environment=dict(environment, PHEAP_CHECK="cut"))

    def stage_stands(number):
        wait_until(lambda: f"stage {number}\n" in first.stdout() or not process.running(), 60,
                   f"stage {number}")
        check_equal(first.stdout().splitlines()[-1:], [f"stage {number}"],
                    f"its last line; {process.stderr()}")

    stage_stands(1)
    for number in range(1, STAGES + 1):
        expect(place.pheap("checkpoint", pool), FINE)
        if number % 3 == 0:  # else the next generation is on top of this one
            if process is first:
                process.kill()
            else:
                os.kill(resumed["outer_pid"], 9)
                process.wait()
            process = place.start(PHEAP, "restore", pool, stdin=path)
            resumed = process.resumed()
        os.write(lines, b"\n")
        stage_stands(number + 1)
    os.close(lines)
    check_equal(process.wait(), 0, "exit status: " + process.stderr())
    check_equal(first.stdout().splitlines()[-1], "whole", "its last word")


for name, variables in (("by the kernel's tracking", {}),
                        ("by checksums", {"PHEAP_TRACK": "checksum"}),
                        ("with threads stopped by a signal", {"PHEAP_FREEZE": "signal"})):
    add_test("mappings are followed, " + name,
             lambda place, variables=variables: stages(place, variables))

main()
