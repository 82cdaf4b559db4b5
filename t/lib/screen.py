"""A program on a terminal of its own, and what its screen shows: the few escape sequences of TERM=vt100."""
import os
import pty
import re
import select
import signal
import termios

from pheap_test import Failure, wait_until
from terminal import set_size

SEQUENCE = re.compile(r"\033\[([?>]?)([0-9;]*)([A-Za-z])|\033([DM78])|\033[()][A-Z0-9]|\033[=>]|"
                      "[\016\017\007]")


class Screen:
    """`seen` is all that was written, `lines()` what stands there now (not of another terminal)."""

    def __init__(self, place, command, rows=24, columns=80, environment=None):
        self.place, self.command, self.seen, self.rest = place, command, "", ""
        self.is_known = "TERM" not in (environment or {})
        self.status = None
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(place.directory)
            if place.uid is not None:
                os.setgroups([])
                os.setgid(place.uid)
                os.setuid(place.uid)
            os.environ.update({"TERM": "vt100", "LC_ALL": "C.UTF-8", "HOME": place.directory})
            os.environ.update(environment or {})
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            while os.get_terminal_size(0).lines != rows:  # the parent sets it
                pass
            os.execv(command[0], command)
        self.modes = termios.tcgetattr(self.fd)
        self.resize(rows, columns)

    def resize(self, rows, columns):
        self.rows, self.columns = rows, columns
        self.clear()
        set_size(self, rows, columns)

    def clear(self):
        self.cells = [[" "] * self.columns for _ in range(self.rows)]
        self.row = self.column = self.top = 0
        self.saved = 0, 0
        self.bottom = self.rows - 1

    def move(self, down):
        """To the next row or the one before; at the edge of the region its rows move instead."""
        if self.row == (self.bottom if down else self.top):
            del self.cells[self.top if down else self.bottom]
            self.cells.insert(self.row, [" "] * self.columns)
        else:
            self.row += 1 if down else -1

    def put(self, text):
        for character in text:
            if character == "\r":
                self.column = 0
            elif character == "\n":
                self.move(True)
            elif character == "\b":
                self.column -= 1
            elif character != "\0":
                self.column %= self.columns + 1
                if self.row < self.rows and self.column < self.columns:
                    self.cells[self.row][self.column] = character
                self.column += 1

    def erase(self, kind, argument):
        first = self.row * self.columns + self.column
        last = self.rows * self.columns if kind == "J" else (self.row + 1) * self.columns
        if argument == 2:
            first = 0
        elif argument == 1:
            first, last = (0 if kind == "J" else self.row * self.columns), first + 1
        for at in range(first, min(last, self.rows * self.columns)):
            self.cells[at // self.columns][at % self.columns] = " "

    def obey(self, private, numbers, kind):
        values = [int(n) if n else 0 for n in numbers.split(";")] if numbers else [0]
        step = values[0] or 1
        if private or kind in "mhl":
            return
        if kind == "r":
            self.top, self.bottom = (step - 1, values[1] - 1) if len(values) > 1 else (0, self.rows - 1)
            self.row = self.column = 0
            return
        if kind == "H":
            self.row, self.column = step - 1, (values[1] if len(values) > 1 and values[1] else 1) - 1
        elif kind in "JK":
            self.erase(kind, values[0])
        elif kind in "ABCD":
            self.row += {"A": -step, "B": step}.get(kind, 0)
            self.column += {"C": step, "D": -step}.get(kind, 0)
        else:
            raise Failure(f"an escape sequence that the test does not know: {numbers}{kind}")

    def obey_short(self, kind):
        if kind == "7":
            self.saved = self.row, self.column
        elif kind == "8":
            self.row, self.column = self.saved
        else:
            self.move(kind == "D")

    def read(self):
        """Takes in what was written meanwhile; False when the terminal has no user any more."""
        while select.select([self.fd], [], [], 0)[0]:
            try:
                data = os.read(self.fd, 65536).decode(errors="replace")
            except OSError:
                return False
            if not data:
                return False
            self.seen += data
            self.rest += data if self.is_known else ""
        at = 0
        for match in SEQUENCE.finditer(self.rest):
            self.put(self.rest[at:match.start()])
            if match.group(3):
                self.obey(*match.groups()[:3])
            elif match.group(4):
                self.obey_short(match.group(4))
            at = match.end()
        begun = self.rest.find("\033", at)
        self.put(self.rest[at:begun if begun >= 0 else len(self.rest)])
        self.rest = self.rest[begun:] if begun >= 0 else ""
        return True

    def lines(self):
        self.read()
        return ["".join(row).rstrip() for row in self.cells]

    def text(self):
        return "\n".join(self.lines())

    def wait(self, pattern, timeout=60):
        """Until the screen shows it; the match."""
        try:
            return wait_until(lambda: re.search(pattern, self.text(), re.M), timeout, f"{pattern!r}")
        except Failure as failure:
            raise Failure(f"{failure}; the screen:\n{self.text()}") from None

    def type(self, keys, pattern):
        os.write(self.fd, keys.encode())
        return self.wait(pattern)

    def ended(self):
        self.read()
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self.status = os.waitstatus_to_exitcode(status)
        return pid != 0

    def end(self, keys=None, number=None):
        """Types, or sends a signal; the exit status."""
        if keys:
            os.write(self.fd, keys.encode())
        if number:
            os.kill(self.pid, number)
        wait_until(self.ended, 60, f"the end of {self.command}")
        self.read()
        modes = termios.tcgetattr(self.fd)
        os.close(self.fd)
        if modes != self.modes:
            raise Failure(f"the terminal's modes were {self.modes}, are {modes}")
        return self.status
