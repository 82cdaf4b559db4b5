#!/usr/bin/python3
"""Threads in the middle of system calls go through committed checkpoints, and through kills: what
was left of a wait or a transfer when the image was made is done by the resumed process."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import BUILT_PROGRAMS, LONG, PHEAP, check, main, test  # noqa: E402

SURVIVOR = os.path.join(BUILT_PROGRAMS, "syscalls_survivor")
LATE_MS = 1000              # a busy machine
LATE_AFTER_KILL_MS = 60000  # the time between kill and resume counts
CHECKPOINTS = 3600 if LONG else 100
PATIENCE_SEC = 1200 if LONG else 120


def ends_well(process, started=None):
    """Told to end, the program says whether every call was as it should be; in the file that was
    its stdout when it was started."""
    process.kill(signal.SIGTERM)
    text = (started or process).stdout()
    check(text.startswith("ready\nOK "), f"the program said {text!r}")
    return text.splitlines()[1]


@test
def committed_checkpoints_disturb_no_system_call(place):
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "5ms", pool, SURVIVOR, PATIENCE_SEC, LATE_MS)
    place.wait_generation(pool, CHECKPOINTS, process, PATIENCE_SEC)
    place.note(ends_well(process))


@test
def a_resumed_program_goes_on_in_the_middle_of_its_calls(place):
    pool = place.path("pool")
    started = process = place.start(PHEAP, "run", "-i", "10ms", pool, SURVIVOR, PATIENCE_SEC,
                                    LATE_AFTER_KILL_MS)
    for wanted in (5, 20, 40):
        place.wait_generation(pool, wanted, process)
        if process is started:
            process.kill()
        else:
            os.kill(process.resumed()["outer_pid"], signal.SIGKILL)
            process.wait()
        process = place.start(PHEAP, "restore", pool)
        process.resumed()
    place.wait_generation(pool, place.newest(pool) + 5, process)
    place.note(ends_well(process, started))


if __name__ == "__main__":
    main()
