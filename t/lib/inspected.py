"""A program under pheap, above all t/programs/inspected, and what it says of itself, for the tests of pheap inspect."""
import json
import os
import signal

from pheap_test import BUILT_PROGRAMS, FINE, PHEAP, check, check_equal, expect, wait_until

INSPECTED = os.path.join(BUILT_PROGRAMS, "inspected")
PAGE = 4096


class Commanded:
    """A program under pheap that says "ready", takes commands from a pipe, and is checkpointed when we say so."""

    def __init__(self, place, program, *arguments, **keywords):
        self.place, self.pool, fifo = place, place.path("pool"), place.path("fifo")
        os.mkfifo(fifo)
        self.keeper = os.open(fifo, os.O_RDWR)
        self.process = place.start(PHEAP, "run", "-i", "0", self.pool, program, *arguments, stdin=fifo, **keywords)
        wait_until(lambda: "ready\n" in self.process.stdout(), 60, "the program")
        self.checkpoint()

    def checkpoint(self):
        expect(self.place.pheap("checkpoint", self.pool), FINE)

    def said(self):
        """What it has said of itself: names and numbers."""
        lines = [line.split() for line in self.process.stdout().splitlines()]
        return {line[0]: int(line[1]) for line in lines if len(line) == 2}

    def command(self, text, answer="done\n"):
        count = self.process.stdout().count(answer)
        os.write(self.keeper, text.encode() + b"\n")
        wait_until(lambda: self.process.stdout().count(answer) > count, 60, text)

    def kill(self):
        if self.process.running():
            check_equal(self.process.kill(), -signal.SIGKILL, "status")
        os.close(self.keeper)

    def look(self, *arguments):
        """What pheap inspect shows: as JSON, and as text."""
        done = self.place.pheap("inspect", "--json", self.pool, *arguments)
        expect(done, FINE)
        check_equal(done.stderr(), "", "stderr")
        text = self.place.pheap("inspect", self.pool, *arguments)
        expect(text, FINE)
        check("\033" not in text.stdout(), "no colour in a pipe")
        return json.loads(done.stdout()), text.stdout()


class Inspected(Commanded):
    def __init__(self, place, *arguments):
        super().__init__(place, INSPECTED, place.path("file"), *arguments)


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
