"""A program that takes its time, until a file says that it may hurry, so that it can be killed half-way,
and whose output is known from a plain run. Killed and resumed as often as one likes, it must say the
same in the end."""
import os

from pheap_test import PHEAP, Failure, check_equal, wait_until


class Hurried:
    """Has `place`, `pool`, and, after run_plainly(), `expected` and `out`. `hurry` is the file's path."""

    def __init__(self, place):
        self.place, self.pool = place, place.path("pool")
        self.hurry, self.out = place.path("hurry"), place.path("out")
        self.expected = None

    def run_plainly(self, *command):
        self.place.write("hurry", b"")
        plain = self.place.run(*command)
        os.unlink(self.hurry)
        check_equal(plain.status, 0, "a plain run")
        self.expected = plain.stdout()

    def output(self):
        with open(self.out, encoding="ascii") as f:
            return f.read()

    def wait_lines(self, more):
        lines = self.output().count("\n") + more
        wait_until(lambda: self.output().count("\n") >= lines, 20, "more output")

    def restore(self, lines=0):
        """Resumes it and lets it live for some generations, and so many lines of output."""
        before = self.place.newest(self.pool)
        process = self.place.start(PHEAP, "restore", self.pool)
        process.resumed()
        self.wait_lines(lines)
        self.place.wait_generation(self.pool, before + 2, process)
        return process

    def finish(self):
        """Resumes it for the last time."""
        self.place.write("hurry", b"")
        done = self.place.pheap("restore", self.pool)
        check_equal(done.status, 0, f"the last restore: {done.stderr()}")
        if self.output() != self.expected:
            pairs = zip(self.output().split("\n"), self.expected.split("\n"))
            raise Failure(f"output: {next((p for p in pairs if p[0] != p[1]), 'its length')}")
