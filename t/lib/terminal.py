"""An interactive shell on a terminal of its own, at which a test types and reads what is shown."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios

from pheap_test import wait_until


def kill_user(place, pool):
    """Kills the program that has the pool."""
    os.kill(place.inspect(pool)["program"]["outer_pid"], signal.SIGKILL)


SHELL = ["/bin/bash", "--norc", "--noprofile", "--noediting", "-i"]


class Terminal:
    """An interactive shell on a terminal of its own; `command` is another program that shows one."""

    def __init__(self, place, command=None):
        self.place = place
        self.seen = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(place.directory)
            if place.uid is not None:
                os.setgroups([])
                os.setgid(place.uid)
                os.setuid(place.uid)
            os.environ.update({"PS1": "ready> ", "TERM": "xterm", "HOME": place.directory,
                               "LC_ALL": "C.UTF-8"})
            command = command or SHELL
            os.execvp(command[0], command)

    def type(self, keys, pattern):
        """Types, and waits for what matches; returns what was shown since."""
        self.seen = ""
        os.write(self.fd, keys.encode())
        return wait_until(lambda: self.shows(pattern), 30, f"{pattern!r} after typing {keys!r}")

    def shows(self, pattern):
        while select.select([self.fd], [], [], 0)[0]:
            self.seen += os.read(self.fd, 65536).decode(errors="replace")
        return re.search(pattern, self.seen)

    def close(self, pool=None):
        """Kills the shell; with a pool what runs on that too."""
        if pool is not None:
            kill_user(self.place, pool)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


def set_size(terminal, rows, columns):
    fcntl.ioctl(terminal.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
