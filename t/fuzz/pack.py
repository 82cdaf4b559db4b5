#!/usr/bin/python3
"""Makes a fuzzer's input of a pool: t/fuzz/packed_pool.h says what that is.

    pack.py POOL OUTPUT [FRAMES_MAX]    what is not zero in the first frames, checksums to be sealed
    pack.py --record POOL OUTPUT        the newest generation's process record
"""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from second_reader import Pool  # noqa: E402

FRAME = 4096
PIECE = 64


def pieces(frame):
    """Offset and bytes of what is not zero, by lines of 64 bytes."""
    start = None
    for at in range(0, FRAME + PIECE, PIECE):
        line = frame[at:at + PIECE]
        if line.strip(b"\0"):
            start = at if start is None else start
        elif start is not None:
            yield start, frame[start:at].rstrip(b"\0")
            start = None


def pack(path, frames_max):
    with open(path, "rb") as f:
        content = f.read(frames_max * FRAME)
    size = min(os.path.getsize(path) // FRAME, 8192)
    out = bytearray(struct.pack("<BBH", 1, 0, size))
    for number in range(len(content) // FRAME):
        for offset, piece in pieces(content[number * FRAME:(number + 1) * FRAME]):
            out += struct.pack("<HHH", number, offset, len(piece)) + piece
    return bytes(out)


def main():
    if sys.argv[1] == "--record":
        pool = Pool(sys.argv[2])
        data = pool.record(pool.superblock.generations[0])
        target = sys.argv[3]
    else:
        data = pack(sys.argv[1], int(sys.argv[3]) if len(sys.argv) > 3 else 8192)
        target = sys.argv[2]
    with open(target, "wb") as f:
        f.write(data)


if __name__ == "__main__":
    main()
