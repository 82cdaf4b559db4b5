#!/usr/bin/python3
"""pheap run --on-term --tcp-established: TCP connections outlive a program that SIGTERM ends. The same
connection of a client goes on with the resumed program, no byte lost or doubled; in a network namespace of
its own. Without the option at the restore, and after any other end, they come back reset."""
import ctypes
import errno
import fcntl
import os
import shutil
import signal
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (PHEAP, PROGRAMS, PYTHON, REFUSED, USAGE, Failure, Skip, check, check_equal,  # noqa: E402
                        check_in, main, test, wait_until)

SERVER = os.path.join(PROGRAMS, "tcp_server.py")
BYTES = 8 << 20
PATTERN = b"".join(i.to_bytes(4, "big") for i in range(BYTES // 4))
CLONE_NEWNET, SIOCSIFFLAGS, IFF_UP = 0x40000000, 0x8914, 1
REPAIR = 19


class Network:
    """A network namespace with a loopback interface, kept by a thread of ours that stays in it."""

    def __init__(self):
        self.tasks, self.path, self.error = [], None, None
        self.wake, self.ready = threading.Condition(), threading.Event()
        self.thread = threading.Thread(target=self.stay, daemon=True)
        self.thread.start()
        self.ready.wait()
        if self.error:
            raise Skip(self.error)

    def stay(self):
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
            self.error = "no network namespace of its own: " + os.strerror(ctypes.get_errno())
        else:
            self.path = f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net"
            with socket.socket() as any_socket:
                fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
                try:
                    any_socket.setsockopt(socket.IPPROTO_TCP, REPAIR, 1)
                except OSError as error:
                    self.error = f"TCP_REPAIR: {error.strerror}"
        self.ready.set()
        while True:
            with self.wake:
                while not self.tasks:
                    self.wake.wait()
                task = self.tasks.pop()
            if task is None:
                return
            task()

    def do(self, function):
        """In the namespace; its result."""
        done, result = threading.Event(), []

        def task():
            try:
                result.append(function())
            except OSError as error:
                result.append(error)
            done.set()

        with self.wake:
            self.tasks.append(task)
            self.wake.notify()
        done.wait()
        if isinstance(result[0], OSError):
            raise result[0]
        return result[0]

    def prefix(self):
        return ["nsenter", "--net=" + self.path, "--"]

    def end(self):
        with self.wake:
            self.tasks.append(None)
            self.wake.notify()
        self.thread.join()


def network():
    if os.geteuid() != 0:
        raise Skip("network namespaces and TCP_REPAIR take root")
    return Network()


class Client:
    """A connection whose bytes are read only when the server is to go on."""

    def __init__(self, net, family, address):
        self.socket = net.do(lambda: socket.create_connection((address, 7000)) if family == "AF_INET"
                             else self.connect_six(address))
        self.sent = 0

    @staticmethod
    def connect_six(address):
        made = socket.socket(socket.AF_INET6)
        made.connect((address, 7000))
        return made

    def send(self, count):
        self.socket.sendall(PATTERN[self.sent:self.sent + count])
        self.sent += count

    def chatter(self, over):
        """Sends all the time: something is always on its way."""
        while not over.wait(0.00005) and self.sent < BYTES // 4:
            self.send(100)

    def finish(self):
        """Reads to the end; what came."""
        self.socket.settimeout(60)
        self.socket.shutdown(socket.SHUT_WR)
        got = bytearray()
        while True:
            more = self.socket.recv(1 << 20)
            if not more:
                return bytes(got)
            got += more


def start(place, net, pool, *options, family="AF_INET", address="127.0.0.1", count=1,
          size=BYTES, prefix=()):
    server = place.start(PHEAP, "run", "-i", "0", *options, pool, PYTHON, SERVER, family, address, count,
                         size, place.path("go"), prefix=net.prefix() + list(prefix))
    wait_until(lambda: "listens" in server.stdout() or not server.running(), 30, "the server")
    check(server.running(), server.stderr())
    return server


def wait_for_lines(process, text, count):
    wait_until(lambda: process.stdout().count(text) >= count, 60, f"{count} lines with {text!r}")


def restore(place, net, pool, *options):
    process = place.start(PHEAP, "restore", *options, pool, prefix=net.prefix())
    process.resumed()
    return process


def start_with_one_client(place):
    """The namespace, the pool's path, the server whose client's buffers are full, the client."""
    net, pool = network(), place.path("pool")
    server = start(place, net, pool, "--on-term", "--tcp-established")
    client = Client(net, "AF_INET", "127.0.0.1")
    wait_for_lines(server, "full", 1)
    return net, pool, server, client


def check_ends_well(net, server, family="AF_INET", address="127.0.0.1"):
    """It takes a new client, which is the last."""
    made = Client(net, family, address)
    made.socket.settimeout(60)
    check_equal(made.socket.recv(3), b"new", "what a new client gets")
    made.socket.close()
    check_equal(server.wait(), 0, "exit status: " + server.stderr())


def connection_goes_on(place, family, address):
    net, pool = network(), place.path("pool")
    first = server = start(place, net, pool, "--on-term", "--tcp-established", family=family,
                           address=address, count=2)
    clients = [Client(net, family, "127.0.0.1" if family == "AF_INET" else address) for _ in range(2)]
    wait_for_lines(first, "full", 2)
    for client in clients:
        client.send(100004)  # nobody reads it
    over = threading.Event()
    chatter = threading.Thread(target=clients[1].chatter, args=(over,))
    chatter.start()
    for _ in range(2):
        check_equal(server.kill(signal.SIGTERM), -signal.SIGTERM, "exit status of the server")
        check("not kept" not in first.stderr() and "packet filter" not in first.stderr(), first.stderr())
        clients[0].send(20000)  # nobody is there
        time.sleep(0.3)
        server = restore(place, net, pool, "--tcp-established")
    over.set()
    place.write("go", "")
    chatter.join()
    got = [None, None]

    def finish(i):
        try:
            got[i] = clients[i].finish()
        except OSError as error:
            got[i] = repr(error)

    threads = [threading.Thread(target=finish, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, client in enumerate(clients):
        check(isinstance(got[i], bytes), f"client {i}: {got[i]}")
        check_equal(len(got[i]), BYTES, f"bytes that client {i} got")
        check(got[i] == PATTERN, f"what client {i} got is not what was sent")
        client.socket.close()
    wait_for_lines(first, "right", 2)
    lines = [line.split() for line in first.stdout().splitlines() if line.startswith("right")]
    check_equal(lines, [["right", str(client.sent), "1"] for client in clients],
                "what the server got, and TCP_NODELAY")
    check_ends_well(net, server, family, address)
    net.end()


@test
def a_clients_connection_goes_on_with_the_resumed_server(place):
    connection_goes_on(place, "AF_INET", "127.0.0.1")


@test
def over_ipv6_too(place):
    connection_goes_on(place, "AF_INET6", "::1")


def count_over(connection, over, counts):
    """A counter of redis, one up with each answer; anything else ends it."""
    answers, number = connection.makefile("rb"), 0
    try:
        while not over.is_set():
            connection.sendall(b"INCR x\r\n")
            check_equal(answers.readline(), b":%d\r\n" % (number + 1), "the counter")
            number += 1
            counts[0] = number
    except (OSError, Failure) as error:
        counts[1] = repr(error)


@test
def a_client_of_redis_does_not_notice_that_it_is_stopped_and_resumed(place):
    if not shutil.which("redis-server"):
        raise Skip("no redis-server")
    net = network()
    command = (PHEAP, "run", "--resume", "-i", "1s", "--on-term", "--tcp-established", place.path("pool"),
               "redis-server", "--port", "7000", "--save", "", "--appendonly", "no")
    server = place.start(*command, prefix=net.prefix())

    def connected():
        try:
            return net.do(lambda: socket.create_connection(("127.0.0.1", 7000)))
        except ConnectionRefusedError:
            check(server.running(), server.stderr())
            return None

    connection = wait_until(connected, 30, "redis")
    connection.settimeout(60)
    over, counts = threading.Event(), [0, None]
    client = threading.Thread(target=count_over, args=(connection, over, counts))
    client.start()
    for _ in range(2):
        before = counts[0]
        wait_until(lambda n=before: counts[0] > n + 100 or counts[1], 60, "answers")
        check_equal(server.kill(signal.SIGTERM), -signal.SIGTERM, "exit status of redis")
        server = place.start(*command, prefix=net.prefix())
        server.resumed()
    before = counts[0]
    wait_until(lambda: counts[0] > before + 100 or counts[1], 60, "more answers")
    over.set()
    client.join()
    connection.close()
    server.kill(signal.SIGTERM)
    check_equal(counts[1], None, "what went wrong for the client")
    net.end()


@test
def more_connections_than_the_program_might_open_when_it_was_started(place):
    """The agent's limit on descriptors is not the program's, which has raised its own."""
    net, pool, count, size = network(), place.path("pool"), 60, 4096
    first = start(place, net, pool, "--on-term", "--tcp-established", count=count, size=size,
                  prefix=("prlimit", "--nofile=48:4096", "--"))
    clients = []
    for i in range(count):
        clients.append(Client(net, "AF_INET", "127.0.0.1"))
        wait_for_lines(first, "full", i + 1)
    check_equal(first.kill(signal.SIGTERM), -signal.SIGTERM, "exit status of the server")
    check("not kept" not in first.stderr(), first.stderr())
    server = restore(place, net, pool, "--tcp-established")
    place.write("go", "")
    for client in clients:
        client.send(400)
        check(client.finish() == PATTERN[:size], "what a client got")
    wait_for_lines(first, "right 400", count)
    check_ends_well(net, server)
    net.end()


def outcome_of(client):
    """What the client's connection comes to: an error's name, or how many bytes there were."""
    try:
        return len(client.finish())
    except OSError as error:  # ENOTCONN: it had been reset before it was shut down
        return "ConnectionResetError" if error.errno == errno.ENOTCONN else type(error).__name__


@test
def without_the_option_at_the_restore_they_are_reset(place):
    net, pool, first, client = start_with_one_client(place)
    check_equal(first.kill(signal.SIGTERM), -signal.SIGTERM, "exit status of the server")
    check_in("connected: kept with --tcp-established", place.pheap("inspect", pool, "files").stdout(),
             "what inspect says of it")
    client.send(1000)
    server = restore(place, net, pool)
    place.write("go", "")
    wait_for_lines(first, "broken", 1)
    check_equal(outcome_of(client), "ConnectionResetError", "what the client finds")
    check_ends_well(net, server)
    net.end()


@test
def an_older_generation_has_them_reset_too(place):
    """What comes in for them is dropped no longer: the client is told."""
    net, pool, first, client = start_with_one_client(place)
    check_equal(place.pheap("checkpoint", pool, prefix=net.prefix()).status, 0, "status of a checkpoint")
    check_equal(first.kill(signal.SIGTERM), -signal.SIGTERM, "exit status of the server")
    server = restore(place, net, pool, "-g", 1, "--tcp-established")
    client.send(1000)
    check_equal(outcome_of(client), "ConnectionResetError", "what the client finds")
    place.write("go", "")
    check_ends_well(net, server)
    net.end()


@test
def one_with_urgent_data_is_reset_and_the_others_go_on(place):
    net, pool = network(), place.path("pool")
    first = start(place, net, pool, "--on-term", "--tcp-established", count=2)
    clients = [Client(net, "AF_INET", "127.0.0.1") for _ in range(2)]
    wait_for_lines(first, "full", 2)
    clients[0].send(100)
    clients[0].socket.send(b"!", socket.MSG_OOB)
    for client in clients:
        client.send(100)
    check_equal(first.kill(signal.SIGTERM), -signal.SIGTERM, "exit status of the server")
    check_in("not kept", first.stderr(), "what the server's agent says")
    server = restore(place, net, pool, "--tcp-established")
    place.write("go", "")
    check_equal(outcome_of(clients[0]), "ConnectionResetError", "what the urgent client finds")
    check_equal(outcome_of(clients[1]), BYTES, "bytes that the other client got")
    wait_for_lines(first, "right 100", 1)
    check_ends_well(net, server)
    net.end()


@test
def after_kill_9_there_is_nothing_to_keep_which_is_said(place):
    net, pool, first, client = start_with_one_client(place)
    check_equal(place.pheap("checkpoint", pool, prefix=net.prefix()).status, 0, "status of a checkpoint")
    client.send(1000)
    first.kill()
    server = restore(place, net, pool, "--tcp-established")
    check_in("no TCP connections to go on with", server.stderr(), "what the restore says")
    place.write("go", "")
    wait_for_lines(first, "broken", 1)
    check_ends_well(net, server)
    client.socket.close()
    net.end()


@test
def a_checkpoint_that_is_given_up_leaves_the_connection_as_it_was(place):
    """A socket that cannot be checkpointed behind the connection: SIGTERM does what the program
    wishes, which is nothing."""
    net, pool, go = network(), place.path("pool"), place.path("go")
    code = (f"import signal, sys, runpy, socket\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            f"sys.argv = ['', 'AF_INET', '127.0.0.1', '1', '{BYTES}', {go!r}]\n"
            "real = socket.socket.accept\n"
            "def accept(self):\n"
            "    global kept\n"
            "    made = real(self)\n"
            "    kept = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)\n"
            "    return made\n"
            "socket.socket.accept = accept\n"
            f"runpy.run_path({SERVER!r})\n")
    server = place.start(PHEAP, "run", "-i", "0", "--on-term", "--tcp-established", pool, PYTHON, "-c", code,
                         prefix=net.prefix())
    wait_until(lambda: "listens" in server.stdout() or not server.running(), 30, "the server")
    client = Client(net, "AF_INET", "127.0.0.1")
    wait_for_lines(server, "full", 1)
    client.send(100004)
    os.kill(server.pid, signal.SIGTERM)
    wait_until(lambda: "no checkpoint" in server.stderr(), 30, "the refusal")
    check_in("a netlink socket", server.stderr(), "the refusal")
    place.write("go", "")
    check(client.finish() == PATTERN, "what the client got")
    wait_for_lines(server, "right", 1)
    check_in("right 100004", server.stdout(), "what the server got")
    check_ends_well(net, server)
    net.end()


@test
def who_may_not_is_told(place):
    net, pool, first, client = start_with_one_client(place)
    check_equal(first.kill(signal.SIGTERM), -signal.SIGTERM, "exit status of the server")
    without = place.run(PHEAP, "restore", "--tcp-established", pool,
                        prefix=net.prefix() + ["setpriv", "--bounding-set=-net_admin", "--"])
    check_equal(without.status, REFUSED, "status of a restore without CAP_NET_ADMIN")
    check_in("CAP_NET_ADMIN", without.stderr(), "its message")
    check_in("without --tcp-established it comes back reset", without.stderr(), "its message")
    client.send(1000)
    server = restore(place, net, pool, "--tcp-established")  # nothing was lost by that
    place.write("go", "")
    check(client.finish() == PATTERN, "what the client got")
    check_ends_well(net, server)

    refused = place.run(PHEAP, "run", "--on-term", "--tcp-established", place.path("other"), "true",
                        prefix=["setpriv", "--bounding-set=-net_admin", "--"])
    check_equal(refused.status, REFUSED, "status of a run without CAP_NET_ADMIN")
    check_in("CAP_NET_ADMIN", refused.stderr(), "its message")
    check_equal(place.pheap("run", "--tcp-established", place.path("other"), "true").status, USAGE,
                "status without --on-term")
    net.end()


main()
