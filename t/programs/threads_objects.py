"""Four threads, 200 MB of objects that are made, changed and dropped; the output depends on all.

Each thread appends a line a round to its own file; the main thread prints a digest of all threads.
"""
import hashlib
import random
import sys
import threading

THREADS = 4
OBJECTS = 24000
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 17

digests = [b""] * THREADS
barrier = threading.Barrier(THREADS + 1)


class Node:
    def __init__(self, rng, number):
        self.number = number
        self.payload = rng.randbytes(1700)
        self.links = [rng.randrange(OBJECTS) for _ in range(8)]
        self.names = {"left": number * 2, "right": number * 2 + 1}


def change(rng, nodes):
    for _ in range(2500):
        i = rng.randrange(OBJECTS)
        if rng.random() < 0.5:
            nodes[i] = Node(rng, i)
        else:
            nodes[i].payload = nodes[nodes[i].links[0]].payload[::-1]
            nodes[i].names["left"] += nodes[i].links[1]


def digest(nodes, start):
    h = hashlib.blake2b(start)
    for node in nodes[:: 3]:
        h.update(node.payload)
        h.update(b"%d %d" % (node.names["left"], node.links[2]))
    return h.digest()


def work(thread):
    with open("thread-%d.log" % thread, "a", buffering=1) as log:
        rng = random.Random(thread)
        nodes = [Node(rng, i) for i in range(OBJECTS)]
        for number in range(ROUNDS):
            change(rng, nodes)
            digests[thread] = digest(nodes, digests[thread])
            log.write("%d %s\n" % (number, digests[thread].hex()))
            barrier.wait()
            barrier.wait()


def main():
    threads = [threading.Thread(target=work, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for number in range(ROUNDS):
        barrier.wait()
        print(number, hashlib.sha256(b"".join(digests)).hexdigest(), flush=True)
        barrier.wait()
    for thread in threads:
        thread.join()


main()
