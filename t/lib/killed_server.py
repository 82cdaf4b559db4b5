"""A server is killed at a random moment under load, restored, and killed and restored again; its
clients connect again and miss nothing that was acknowledged before the newest generation's cut.

A server is described by a Server, its clients by functions that send one pair and ask for one.
"""
import os
import shutil
import signal
import socket
import threading
import time

from pheap_test import PHEAP, Failure, Skip, check, check_equal, wait_until

WRITERS = 4
PAUSE_SEC = 0.001  # between two pairs of a writer: all are looked for in the end


class Server:
    """command(place, port): its arguments. put and get work on a connection and raise if they are
    not answered as they should be; end(port, pid) makes it end with status 0. fill(port) gives it
    much to keep before the writers begin, has_all(port) raises if something of that is gone."""

    def __init__(self, name, command, put, get, end, fill=None, has_all=None):
        self.name, self.command, self.put, self.get, self.end = name, command, put, get, end
        self.fill, self.has_all = fill, has_all


class Connection:
    """A stream with lines, as these protocols have."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 5)
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data)

    def line(self):
        while b"\r\n" not in self.buffer:
            got = self.socket.recv(65536)
            if not got:
                raise ConnectionError("end of file")
            self.buffer += got
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def close(self):
        self.socket.close()


class Writer(threading.Thread):
    """Sends pairs one after the other, connects again when it must; (key, time of the answer)."""

    def __init__(self, server, port, number):
        super().__init__(daemon=True)
        self.server, self.port, self.number = server, port, number
        self.acknowledged, self.reconnected, self.wrong = [], 0, None
        self.stopped = False

    def run(self):
        i = 0
        while not self.stopped:
            try:
                connection = Connection(self.port)
            except OSError:
                time.sleep(0.005)
                continue
            try:
                while not self.stopped:
                    key = f"{self.number}:{i}"
                    self.server.put(connection, key)
                    self.acknowledged.append((key, time.time_ns()))
                    i += 1
                    time.sleep(PAUSE_SEC)
            except OSError:
                self.reconnected += 1
            except Exception as error:  # pylint: disable=broad-except
                self.wrong = error
                return
            finally:
                connection.close()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def connects(port):
    try:
        Connection(port).close()
        return True
    except OSError:
        return False


def newest_generation(place, pool):
    """The newest that can be restored: there may be a crash behind it."""
    return [g for g in place.inspect(pool)["generations"] if g["kind"] == "process"][-1]


def check_keys(server, port, writers):
    """All that was acknowledged, and is not lost with reason, is there; how many keys that is."""
    connection, count = Connection(port), 0
    for writer in writers:
        for key, _ in list(writer.acknowledged):
            server.get(connection, key)
            count += 1
    connection.close()
    return count


def killed(place, process, pid):
    time.sleep(place.random.uniform(0, 1))
    os.kill(pid, signal.SIGKILL)
    status = process.wait(60)
    check(status in (-signal.SIGKILL, 128 + signal.SIGKILL), f"status {status} after SIGKILL")


def restored(place, pool, server, port, writers):
    """Restores, and looks for what must be there; (process, its outer pid)."""
    newest = newest_generation(place, pool)
    for writer in writers:  # nobody answers them now; what came after the cut is gone
        writer.acknowledged = [a for a in writer.acknowledged if a[1] < newest["time_ns"]]
    begin = time.monotonic()
    process = place.start(PHEAP, "restore", pool)
    resumed = process.resumed()
    wait_until(lambda: connects(port) or not process.running(), 30, "a connection")
    seconds = time.monotonic() - begin
    check_equal(resumed["generation"], newest["number"], "generation resumed")
    count = check_keys(server, port, writers)
    if server.has_all:
        server.has_all(port)
    print(f"# {server.name}: generation {resumed['generation']}, pause "
          f"{newest['pause_ns'] / 1e6:.1f} ms, serves {seconds * 1000:.0f} ms after the restore "
          f"began; {count} keys found", flush=True)
    return process, resumed["outer_pid"]


def run_server(place, server, interval="100ms"):
    port, pool = free_port(), place.path("pool")
    command = server.command(place, port)
    if not shutil.which(command[0]):
        raise Skip(f"{command[0]} is not installed: see scripts/packages")
    process = place.start(PHEAP, "run", "-i", interval, pool, *command)
    wait_until(lambda: connects(port) or not process.running(), 30, "the server's port")
    check(process.running(), process.stderr() + process.stdout())
    if server.fill:
        server.fill(port)
    writers = [Writer(server, port, n) for n in range(WRITERS)]
    for writer in writers:
        writer.start()
    pid = process.pid
    try:
        for _ in range(2):
            before = [len(w.acknowledged) for w in writers]
            place.wait_generation(pool, place.newest(pool) + 3, process)
            wait_until(lambda b=before: all(len(w.acknowledged) > n for w, n in zip(writers, b)), 30,
                       "each writer served again")
            killed(place, process, pid)
            process, pid = restored(place, pool, server, port, writers)
        before = [len(w.acknowledged) for w in writers]
        wait_until(lambda: all(len(w.acknowledged) > n + 10 for w, n in zip(writers, before)), 30,
                   "each writer served on")
    finally:
        for writer in writers:
            writer.stopped = True
        for writer in writers:
            writer.join(10)
    for writer in writers:
        if writer.wrong:
            raise Failure(f"a writer of {server.name}: {writer.wrong!r}")
        check(writer.reconnected >= 2, "each writer had to connect again twice")
    check_keys(server, port, writers)
    server.end(port, pid)
    check_equal(process.wait(), 0, f"exit status of {server.name}")
