"""Servers of Debian, and what their clients say: for killed_server.run_server(). And nginx, which has
pages to give instead of keys to keep."""
import os
import signal
import urllib.request

from killed_server import Connection, Server, connects, free_port, run_server
from pheap_test import PHEAP, Failure, Skip, check, check_equal, wait_until

NGINX = "/usr/sbin/nginx"
MANY_KEYS = 1000000


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


def redis_fill(port):
    """So many keys more than the writers'; their values are their names."""
    connection = Connection(port)
    redis_send(connection, "EVAL", f"for i = 1, {MANY_KEYS} do redis.call('SET', 'key:' .. i, "
               "'value:' .. i) end return redis.call('DBSIZE')", "0")
    connection.socket.settimeout(120)
    count = connection.line()
    check(int(count[1:]) >= MANY_KEYS, f"keys of Redis: {count!r}")
    connection.close()


def redis_has_all(port):
    connection = Connection(port)
    connection.socket.settimeout(120)
    redis_send(connection, "EVAL", f"for i = 1, {MANY_KEYS} do if redis.call('GET', 'key:' .. i) ~= "
               "'value:' .. i then return i end end return 0", "0")
    expect_line(connection, b":0")
    connection.close()


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


def redis_command_patient(place, port):
    """Scripts that take long are not answered with -BUSY, which the writers would not understand."""
    return redis_command(place, port) + ["--lua-time-limit", "0"]


REDIS_WITH_MANY_KEYS = Server("Redis with a million keys", redis_command_patient, redis_put, redis_get,
                              redis_end, redis_fill, redis_has_all)


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
