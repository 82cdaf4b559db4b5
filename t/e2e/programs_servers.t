#!/usr/bin/python3
"""Servers of Debian, killed with SIGKILL under load and restored, twice; their clients connect
again. And a small server of our own, with many clients."""
import os
import re
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from killed_server import connects, free_port, newest_generation, run_server  # noqa: E402
from pheap_test import (BUILT_PROGRAMS, NOBODY, PHEAP, add_test, check, check_equal,  # noqa: E402
                        main, wait_until)
from servers import SERVERS, nginx_serves_after_two_restores  # noqa: E402

ECHO_SERVER = os.path.join(BUILT_PROGRAMS, "echo_server")
CLIENTS = 1000


def add_server(server, uid):
    def body(place):
        run_server(place, server)

    body.uid = uid
    add_test(f"{server.name} killed twice under load has all that was acknowledged"
             + (" without privilege" if uid else ""), body)


def ask(client, number):
    client.sendall(b"%d\n" % number)
    return int(client.recv(64))


def connect_unix(place):
    client = socket.socket(socket.AF_UNIX)
    client.connect(place.path("echo"))
    return client


def many_clients(place):
    """A thousand connections of both kinds are reset by a restore, and dropped by the server."""
    port, pool = free_port(), place.path("pool")
    started = process = place.start(PHEAP, "run", "-i", "100ms", pool, ECHO_SERVER, port,
                                    prefix=("prlimit", "--nofile=4096:4096"))
    wait_until(lambda: connects(port), 30, "the server's port")
    pid = process.pid
    total = 0
    for _ in range(2):
        clients = [socket.create_connection(("127.0.0.1", port), 30) if i % 2 else
                   connect_unix(place) for i in range(CLIENTS)]
        for i, client in enumerate(clients):
            total += i
            check_equal(ask(client, i), total, "sum")
        place.wait_generation(pool, place.newest(pool) + 2, process)
        newest = newest_generation(place, pool)
        gone = started.stdout().count("client gone")
        os.kill(pid, signal.SIGKILL)
        process.wait()
        for client in clients:
            client.close()
        process = place.start(PHEAP, "restore", pool)
        pid = process.resumed()["outer_pid"]
        wait_until(lambda g=gone: started.stdout().count("client gone") >= g + CLIENTS, 30,
                   "the server drops its clients")
        check_equal(len(re.findall("client gone: ECONNRESET", started.stdout()[-CLIENTS * 24:])),
                    CLIENTS, "clients dropped for a reset connection")
        print(f"# {CLIENTS} clients: pause {newest['pause_ns'] / 1e6:.1f} ms", flush=True)
    for client in (socket.create_connection(("127.0.0.1", port), 30), connect_unix(place)):
        total += 1
        check_equal(ask(client, 1), total, "sum, to a new client")
        client.close()
    check(process.running(), "it serves on")
    os.kill(pid, signal.SIGTERM)
    process.wait()


for one in SERVERS:
    add_server(one, NOBODY)
add_server(SERVERS[0], None)
add_test("nginx serves after two restores", nginx_serves_after_two_restores)
add_test("a server drops a thousand clients that were reset, and serves new ones", many_clients)
main()
