#!/usr/bin/python3
"""pheap run --dirty: a checkpoint as soon as so much was written."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (FINE, PHEAP, PYTHON, check, check_equal, expect, main, test,  # noqa: E402
                        wait_until)

# Writes as many MiB, page by page, as each line that it reads says.
WRITER = """
import sys
data = bytearray(96 << 20)
for i in range(0, len(data), 4096):
    data[i] = 1
print("ready", flush=True)
for line in sys.stdin:
    pages = int(line) * 256
    for i in range(pages):
        data[i * 4096] = (data[i * 4096] + 1) & 255
    print(line.strip(), flush=True)
"""


class Writer:
    def __init__(self, place, pool, *options, environment=None):
        path = pool + ".lines"
        os.mkfifo(path)
        self.fd = os.open(path, os.O_RDWR)
        self.place, self.pool, self.said = place, pool, 1
        self.process = place.start(PHEAP, "run", "-k", "16", *options, pool, PYTHON, "-uc", WRITER,
                                   stdin=path, environment=environment)
        wait_until(lambda: "ready" in self.process.stdout(), 60, "its start")

    def write(self, megabytes):
        os.write(self.fd, f"{megabytes}\n".encode())
        self.said += 1
        wait_until(lambda: len(self.process.stdout().split()) == self.said, 30, "its writes")

    def checkpoint(self):
        """Nothing is dirty then. Its number."""
        done = self.place.pheap("checkpoint", self.pool)
        expect(done, FINE)
        return int(done.stdout().split()[1].rstrip(":"))

    def end(self):
        self.process.kill()
        os.close(self.fd)


@test
def a_checkpoint_is_taken_when_so_much_was_written_and_not_before(place):
    for interval in ("0", "1h"):
        writer = Writer(place, place.path("pool-" + interval), "-i", interval, "--dirty", "32M")
        before = writer.checkpoint()
        for _ in range(3):
            writer.write(8)
        time.sleep(0.5)
        check_equal(place.newest(writer.pool), before, "newest generation after 8 MiB, thrice")
        writer.write(80)
        wait_until(lambda: place.newest(writer.pool) > before, 20, "a generation after 80 MiB")
        check(writer.checkpoint() <= before + 4, "not one checkpoint behind another")
        writer.end()


@test
def an_idle_program_is_not_checkpointed(place):
    writer = Writer(place, place.path("pool"), "-i", "0", "--dirty", "1M")
    before = writer.checkpoint()
    time.sleep(1)
    check_equal(place.newest(writer.pool), before, "newest generation")
    writer.end()


@test
def looking_takes_little_time_of_a_processor(place):
    writer = Writer(place, place.path("pool"), "-i", "0", "--dirty", "1G")
    children = f"/proc/{writer.process.pid}/task/{writer.process.pid}/children"
    with open(children, encoding="ascii") as f:
        agent = int(f.read().split()[0])

    def ticks():
        with open(f"/proc/{agent}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(2)
    share = (ticks() - before) / (2 * os.sysconf("SC_CLK_TCK"))
    place.note(f"{share * 100:.1f} % of a processor")
    check(share < 0.08, f"{share * 100:.1f} % of a processor")
    writer.end()


@test
def without_the_kernels_tracking_growth_counts(place):
    writer = Writer(place, place.path("pool"), "-i", "0", "--dirty", "32M",
                    environment={"PHEAP_TRACK": "checksum"})
    wait_until(lambda: place.newest(writer.pool) >= 1, 20, "a generation of 96 MiB")
    writer.end()


@test
def a_checkpoint_that_a_child_defers_is_taken_when_the_child_is_gone(place):
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "0", "--dirty", "1M", pool, PYTHON, "-uc", """
import subprocess, time
child = subprocess.Popen(["sleep", "2"])
data = bytearray(8 << 20)
print("ready")
child.wait()
print("alone")
time.sleep(1000)""")
    wait_until(lambda: "ready" in process.stdout(), 20, "its start")
    before = place.newest(pool)
    check("alone" not in process.stdout(), "the child lives")
    wait_until(lambda: "alone" in process.stdout(), 20, "the child's end")
    place.wait_generation(pool, before + 1, process)
    process.kill()


if __name__ == "__main__":
    main()
