#!/usr/bin/python3
"""docs/examples/keyvalue: every acknowledged write survives kill -9; the protocol's own tools."""
import os
import shutil
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from killed_server import Connection, connects, free_port  # noqa: E402
from pheap_test import (FINE, LIBRARY, ROOT, ROUNDS, check, check_equal, check_in,  # noqa: E402
                        expect, main, test, wait_until)

SOURCES = os.path.join(ROOT, "docs/examples/keyvalue")
CLIENTS = 6


class Client(Connection):
    def call(self, *words):
        words = [str(w).encode() for w in words]
        self.send(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        return self.reply()

    def reply(self):
        line = self.line()
        kind, rest = line[:1], line[1:].decode()
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        if kind == b"$" and rest != "-1":
            while len(self.buffer) < int(rest) + 2:
                self.buffer += self.socket.recv(65536)
            text, self.buffer = self.buffer[:int(rest)], self.buffer[int(rest) + 2:]
            return text.decode()
        return {b":": lambda: int(rest), b"+": lambda: rest, b"-": lambda: "error " + rest,
                b"$": lambda: None}[kind]()


def build(place):
    binary = place.path("keyvalue")
    shutil.copyfile(os.path.join(ROOT, "core/pheap.h"), place.path("pheap.h"))
    library = os.path.dirname(LIBRARY)
    sources = sorted(os.path.join(SOURCES, f) for f in os.listdir(SOURCES) if f.endswith(".c"))
    expect(place.run("cc", "-DPHEAP_LINKED", "-O2", "-g", "-Wall", "-Wextra",
                     "-Werror", "-I", place.path(), *sources, "-o", binary, "-L" + library,
                     "-lpheap", "-Wl,-rpath," + library), FINE)
    return binary


def serve(place, binary):
    port = free_port()
    process = place.start(binary, place.path("data"), port)
    wait_until(lambda: connects(port) or not process.running(), 60, "the server's port")
    check(process.running(), process.stderr())
    return process, port


class Writer(threading.Thread):
    """What it was told to be done; one more may have been done that it was not told of."""

    def __init__(self, number):
        super().__init__(daemon=True)
        self.number, self.done, self.port, self.wrong = number, 0, 0, None

    def step(self, client, i):
        me = f"writer {self.number}"
        answers = (client.call("SET", f"{me} key {i}", "x" * (i % 300) + str(i)), client.call("INCR", me),
                   client.call("HSET", me + " hash", f"field {i % 50}", i),
                   client.call("RPUSH", me + " list", i), client.call("DEL", f"{me} key {i - 100}"))
        if "error" in str(answers):
            raise ValueError(answers)

    def run(self):
        try:
            client = Client(self.port)
            while True:
                self.step(client, self.done)
                self.done += 1
        except OSError:
            pass  # the server is gone
        except Exception as error:  # pylint: disable=broad-except
            self.wrong = error

    def look(self, client):
        me, n = f"writer {self.number}", self.done
        counted = int(client.call("GET", me) or 0)
        check(n <= counted <= n + 1, f"{me}: counted {counted} of {n}")
        for i in range(max(0, n - 99), n):  # the one under way may have removed n - 100
            check_equal(client.call("GET", f"{me} key {i}"), "x" * (i % 300) + str(i), f"{me}, key {i}")
        check_equal(client.call("EXISTS", f"{me} key {n - 102}"), 0, "a deleted key")
        for i in range(max(0, n - 50), n):
            check(int(client.call("HGET", me + " hash", f"field {i % 50}")) in (i, n), "a field")
        listed = [int(x) for x in client.call("LRANGE", me + " list", 0, -1)]
        check(listed in (list(range(n)), list(range(n + 1))), f"{me}: list {listed[-3:]} of {n}")
        self.done = 0


@test
def every_acknowledged_write_survives_kill_9(place):
    binary = build(place)
    process, port = serve(place, binary)
    for _ in range(3 * ROUNDS):
        writers = [Writer(n) for n in range(CLIENTS)]
        for writer in writers:
            writer.port = port
            writer.start()
        time.sleep(place.random.uniform(0.3, 1.0))
        process.kill()
        for writer in writers:
            writer.join()
            check(not writer.wrong, f"a writer: {writer.wrong}")
        check(sum(w.done for w in writers) > 10, "next to nothing was written")
        process, port = serve(place, binary)
        client = Client(port)
        for writer in writers:
            writer.look(client)
        check_equal(client.call("FLUSHALL"), "OK", "flush")
        check_equal(client.call("DBSIZE"), 0, "keys after that")
    client.send(b"SHUTDOWN\r\n")
    check_equal(process.wait(), 0, "exit status")
    expect(place.pheap("recover", "--check", place.path("data")), FINE)


@test
def commands_answer_as_those_of_redis(place):
    binary = build(place)
    process, port = serve(place, binary)
    client = Client(port)
    for words, answer in (
            ("PING", "PONG"), ("ECHO hello", "hello"), ("SET a 1", "OK"), ("GET a", "1"),
            ("GET none", None), ("SET a 2 NX", None), ("SET b 2 XX", None), ("INCR a", 2),
            ("DECRBY a 5", -3), ("INCRBY a x", "error ERR value is not an integer or out of range"),
            ("MSET c 3 d 4", "OK"), ("MGET c none d", ["3", None, "4"]), ("STRLEN c", 1),
            ("EXISTS a c none", 2), ("DEL c none", 1), ("TYPE a", "string"), ("TYPE none", "none"),
            ("HSET h f 1 g 2", 2), ("HSET h f 3", 0), ("HGET h f", "3"), ("HLEN h", 2),
            ("HINCRBY h f 4", 7), ("HEXISTS h x", 0), ("HDEL h f", 1), ("HGETALL h", ["g", "2"]),
            ("HDEL h g", 1), ("EXISTS h", 0), ("RPUSH l b c", 2), ("LPUSH l a", 3), ("LLEN l", 3),
            ("LRANGE l 0 -1", ["a", "b", "c"]), ("LRANGE l -2 1", ["b"]), ("LRANGE l 5 9", []),
            ("LPOP l", "a"), ("RPOP l", "c"), ("RPOP l", "b"), ("RPOP l", None), ("EXISTS l", 0),
            ("EXPIRE a 100", 1), ("TTL a", 100), ("PERSIST a", 1), ("TTL a", -1), ("TTL none", -2),
            ("SET e x PX 30", "OK"), ("EXPIRE none 5", 0), ("DBSIZE", 3), ("KEYS d*", ["d"]),
            ("GET", "error ERR wrong number of arguments for 'GET' command"),
            ("NO such", "error ERR unknown command 'NO'"), ("SAVE", "OK")):
        check_equal(client.call(*words.split()), answer, words)
    check_in("WRONGTYPE", client.call("LPUSH", "a", "x"), "the wrong type")
    wait_until(lambda: client.call("DBSIZE") == 2, 10, "the key whose time is over is removed")
    client.send(b"*1\r\n$-5\r\n")
    check_in("Protocol", client.reply(), "nonsense")
    client = Client(port)
    for i in range(5000):
        client.send(b"SET key-%d %d\r\n" % (i, i))  # without waiting, as words
    for _ in range(5000):
        check_equal(client.reply(), "OK", "a reply")
    check_equal(client.call("GET", "key-4999"), "4999", "the last key")
    if shutil.which("redis-benchmark"):
        done = place.run("redis-benchmark", "-p", port, "-t", "ping,set,get,incr,lpush,rpush,lpop,hset,mset,"
                         "lrange_100", "-n", 1000, "-q", "--csv")
        expect(done, FINE)
        check(done.stdout().count("\n") >= 10 and "rror" not in done.stdout(), done.stdout())
    client.send(b"SHUTDOWN\r\n")
    check_equal(process.wait(), 0, "exit status")


if __name__ == "__main__":
    main()
