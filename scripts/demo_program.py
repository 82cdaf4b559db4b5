"""An ordinary program that knows nothing of pheap: three threads count words, the main one reports."""
import collections
import hashlib
import random
import threading

ROUNDS = 20
THREADS = 3
barrier = threading.Barrier(THREADS + 1)
counters = [collections.Counter() for _ in range(THREADS)]


def count_words(thread):
    rng = random.Random(thread)
    for _ in range(ROUNDS):
        for _ in range(32000):
            counters[thread]["word%d" % rng.randrange(40000)] += rng.randrange(9)
        barrier.wait()
        barrier.wait()


threads = [threading.Thread(target=count_words, args=(n,)) for n in range(THREADS)]
for thread in threads:
    thread.start()
for number in range(1, ROUNDS + 1):
    barrier.wait()
    total = sum(counters, collections.Counter())
    digest = hashlib.sha256(repr(sorted(total.items())).encode()).hexdigest()[:16]
    print(f"round {number:2} of {ROUNDS}: {len(total)} words, {sum(total.values())} in all, {digest}",
          flush=True)
    barrier.wait()
for thread in threads:
    thread.join()
