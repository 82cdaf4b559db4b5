"""Writes N MB of bytes that compress to about a half, the same every time, to a file."""
import random
import sys

rng = random.Random(11)
words = [rng.randbytes(rng.randrange(2, 9)) for _ in range(4000)]
with open(sys.argv[2], "wb") as out:
    for _ in range(int(sys.argv[1]) * 4):
        block = bytearray()
        while len(block) < 250000:
            block += b"".join(rng.choices(words, k=500))
            block += rng.randbytes(300)
        out.write(block[:250000])
