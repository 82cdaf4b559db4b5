"""A TCP server for connections.t: what it sends and receives is a pattern that shows every byte that is
lost, doubled or moved.

    tcp_server.py FAMILY ADDRESS CONNECTIONS BYTES GO

Accepts CONNECTIONS, sends on each as much as goes in without waiting and says "full N"; then does nothing
until the file GO is there. Then it sends the rest of BYTES on each, reads what comes until its end, and says
"right N" or where it is wrong."""
import os
import resource
import socket
import sys
import time

FAMILY, ADDRESS, COUNT, BYTES, GO = sys.argv[1:]
COUNT, BYTES = int(COUNT), int(BYTES)
PATTERN = b"".join(i.to_bytes(4, "big") for i in range(BYTES // 4))


def fill(connection):
    connection.setblocking(False)
    sent = 0
    while sent < BYTES:
        try:
            sent += connection.send(PATTERN[sent:sent + 65536])
        except BlockingIOError:
            break
    connection.setblocking(True)
    return sent


def finish(connection, sent):
    connection.sendall(PATTERN[sent:])
    connection.shutdown(socket.SHUT_WR)
    got = b""
    while True:
        more = connection.recv(65536)
        if not more:
            return "right" if got == PATTERN[:len(got)] else "wrong", len(got)
        got += more


resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
listener = socket.socket(getattr(socket, FAMILY))
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((ADDRESS, 7000))
listener.listen(64)
print("listens", flush=True)
connections = []
for _ in range(COUNT):
    connection, _peer = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connections.append((connection, fill(connection)))
    print("full", connections[-1][1], flush=True)
while not os.path.exists(GO):
    time.sleep(0.02)
for connection, sent in connections:
    try:
        print(*finish(connection, sent), connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
              flush=True)
    except OSError as error:
        print("broken", error.strerror, flush=True)
"""It listens as before, for new ones."""
connection, _peer = listener.accept()
connection.sendall(b"new")
print("served", flush=True)
