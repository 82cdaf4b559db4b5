#!/usr/bin/python3
"""Servers of Debian, killed with SIGKILL under load and restored, twice; their clients connect
again. And a small server of our own, with many clients."""
import os
import re
import signal
import socket
import sys
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from killed_server import (Connection, Server, connects, free_port, newest_generation,  # noqa: E402
                           run_server)
from pheap_test import (BUILT_PROGRAMS, Failure, NOBODY, PHEAP, Skip, add_test, check,  # noqa: E402
                        check_equal, main, wait_until)

ECHO_SERVER = os.path.join(BUILT_PROGRAMS, "echo_server")
NGINX = "/usr/sbin/nginx"
CLIENTS = 1000


def expect_line(connection, expected):
    line = connection.line()
    if line != expected:
        raise Failure(f"the server said {line!r}, expected {expected!r}")


def value_of(key):
    return ("value of " + key + " " + "x" * (hash(key) % 300)).encode()


def redis_command(place, port):
    return ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "",
            "--appendonly", "no", "--dir", place.directory]


def redis_send(connection, *words):
    words = [w if isinstance(w, bytes) else w.encode() for w in words]
    connection.send(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w)
                                                         for w in words))


def redis_put(connection, key):
    redis_send(connection, "SET", key, value_of(key))
    expect_line(connection, b"+OK")


def redis_get(connection, key):
    redis_send(connection, "GET", key)
    expect_line(connection, b"$%d" % len(value_of(key)))
    expect_line(connection, value_of(key))


def redis_end(port, pid):
    del pid
    redis_send(Connection(port), "SHUTDOWN", "NOSAVE")


def memcached_command(place, port):
    del place
    return ["memcached", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-m", "256"]


def memcached_put(connection, key):
    value = value_of(key)
    connection.send(b"set %s 0 0 %d\r\n%s\r\n" % (key.encode(), len(value), value))
    expect_line(connection, b"STORED")


def memcached_get(connection, key):
    value = value_of(key)
    connection.send(b"get %s\r\n" % key.encode())
    expect_line(connection, b"VALUE %s 0 %d" % (key.encode(), len(value)))
    expect_line(connection, value)
    expect_line(connection, b"END")


def memcached_end(port, pid):
    del port
    os.kill(pid, signal.SIGTERM)


SERVERS = [
    Server("Redis", redis_command, redis_put, redis_get, redis_end),
    Server("memcached", memcached_command, memcached_put, memcached_get, memcached_end),
]


def add_server(server, uid):
    def body(place):
        run_server(place, server)

    body.uid = uid if os.geteuid() == 0 else None
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


NGINX_CONFIGURATION = """
daemon off; master_process off; pid {place}/pid; error_log stderr;
events {{ }}
http {{
    access_log off; client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi; uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
    server {{ listen 127.0.0.1:{port}; listen unix:{place}/nginx.sock; root {place}; }}
}}
"""


def fetch(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/page", timeout=10) as answer:
        return answer.read()


def nginx_serves_after_two_restores(place):
    """One process: nginx's own workers would be children."""
    if not os.path.exists(NGINX):
        raise Skip(f"{NGINX} is not installed: see scripts/packages")
    port, pool = free_port(), place.path("pool")
    page = os.urandom(300000)
    place.write("page", page)
    configuration = place.write("nginx.conf",
                                NGINX_CONFIGURATION.format(place=place.directory, port=port))
    process = place.start(PHEAP, "run", "-i", "50ms", pool, NGINX, "-e", "stderr", "-c",
                          configuration)
    wait_until(lambda: connects(port) or not process.running(), 30, "the server's port")
    check(process.running(), process.stderr())
    pid = process.pid
    for _ in range(2):
        idle = Connection(port)  # kept alive over the checkpoint
        check_equal(fetch(port), page, "the page")
        place.wait_generation(pool, place.newest(pool) + 2, process)
        os.kill(pid, signal.SIGKILL)
        process.wait()
        idle.close()
        process = place.start(PHEAP, "restore", pool)
        pid = process.resumed()["outer_pid"]
        check_equal(fetch(port), page, "the page after a restore")
    os.kill(pid, signal.SIGTERM)
    check_equal(process.wait(), 0, "exit status of nginx")


for one in SERVERS:
    add_server(one, NOBODY)
add_server(SERVERS[0], None)
add_test("nginx serves after two restores", nginx_serves_after_two_restores)
add_test("a server drops a thousand clients that were reset, and serves new ones", many_clients)
main()
