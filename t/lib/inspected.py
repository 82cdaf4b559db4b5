"""The program t/programs/inspected under pheap, and what it says of itself, for the tests of pheap inspect."""
import json
import os
import signal

from pheap_test import BUILT_PROGRAMS, FINE, PHEAP, check, check_equal, expect, wait_until

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
