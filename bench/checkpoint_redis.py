"""Redis under its benchmark tool, for bench/checkpoint.py: a million keys, random SET and GET at full
speed; without checkpoints, with one a second, with a BGSAVE a second. All three have pheap's malloc,
so that they differ in checkpoints alone; a fourth run is Redis as it is, with its own.
"""
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time

REDIS_SERVER = "/usr/bin/redis-check-rdb"  # the same program: it looks at its own name
KEYS, VALUE_BYTES, CLIENTS = 1000000, 100, 50
FILL = 4  # random writes a key: 98 % of the keys are there then
START_SECONDS = 10


def available():
    return all(shutil.which(name) for name in ("redis-server", "redis-benchmark", "redis-cli"))


class Every:
    """Calls something a second after it was called last, until the with-statement ends."""

    def __init__(self, call):
        self.call, self.results, self.over = call, [], threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over.wait(1):
            done = self.call()
            if done is not None:
                self.results.append(done)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *unused):
        self.over.set()
        self.thread.join()


class Server:
    """A Redis server with all its keys; how: plain, preloaded, or run with a pool."""

    def __init__(self, place, how, pheap, library):
        self.place, self.pheap = os.path.join(place, "redis"), pheap
        shutil.rmtree(self.place, ignore_errors=True)
        os.mkdir(self.place)
        self.pool, self.socket = os.path.join(self.place, "pool"), os.path.join(self.place, "socket")
        server = os.path.join(self.place, "redis-server")
        os.symlink(REDIS_SERVER, server)
        command = [server, "--port", "0", "--unixsocket", self.socket, "--save", "",
                   "--jemalloc-bg-thread", "no", "--dir", self.place]
        environment = dict(os.environ)
        if how == "preloaded":
            environment["LD_PRELOAD"] = library
        if how == "pool":
            command = [pheap, "run", "-i", "0", self.pool] + command
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.wait_until_there()
        self.load(KEYS * FILL, "set", 64)

    def wait_until_there(self):
        end = time.monotonic() + START_SECONDS
        while self.ask("ping") != "PONG":
            if self.process.poll() is not None or time.monotonic() > end:
                sys.exit("bench: redis-server does not answer")
            time.sleep(0.02)

    def ask(self, *words):
        return subprocess.run(["redis-cli", "-s", self.socket, *words], capture_output=True,
                              text=True, check=False).stdout.strip()

    def load(self, requests, tests, pipeline=1):
        """Requests a second over all tests, the longest time that one took (ns), the 99th of 100."""
        done = subprocess.run(["redis-benchmark", "-s", self.socket, "-n", str(requests), "-r",
                               str(KEYS), "-d", str(VALUE_BYTES), "-c", str(CLIENTS), "-P",
                               str(pipeline), "-t", tests, "--csv"], capture_output=True, text=True,
                              check=False)
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        if done.returncode != 0 or not rows:
            sys.exit(f"bench: redis-benchmark: {done.stderr.strip()}")
        seconds = sum(requests / float(row["rps"]) for row in rows)
        return {"rate": len(rows) * requests / seconds,
                "latency_max": max(float(row["max_latency_ms"]) for row in rows) * 1e6,
                "latency_p99": max(float(row["p99_latency_ms"]) for row in rows) * 1e6}

    def checkpoint(self):
        begin = time.monotonic()
        done = subprocess.run([self.pheap, "checkpoint", "-t", "600", "--json", self.pool],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return None
        return {**json.loads(done.stdout), "seconds": time.monotonic() - begin}

    def save(self):
        """BGSAVE; the ns that its fork() took, None while the one before is under way."""
        if "started" not in self.ask("bgsave"):
            return None
        found = re.search(r"latest_fork_usec:(\d+)", self.ask("info", "stats"))
        return int(found[1]) * 1000 if found else None

    def end(self):
        self.ask("shutdown", "nosave")
        self.process.wait()
        shutil.rmtree(self.place)


def one_round(place, requests, pheap, library):
    """One run of each kind, the same load for each."""
    found = {}
    for name, how in (("own malloc", "plain"), ("without", "preloaded"), ("with", "pool"),
                      ("bgsave", "preloaded")):
        server = Server(place, how, pheap, library)
        if how == "pool":
            server.checkpoint()  # the first one holds all keys and is not counted
        call = {"with": server.checkpoint, "bgsave": server.save}.get(name)
        if call:
            with Every(call) as every:
                found[name] = server.load(requests, "set,get")
            found[name]["events"] = every.results
        else:
            found[name] = server.load(requests, "set,get")
        server.end()
    return found
