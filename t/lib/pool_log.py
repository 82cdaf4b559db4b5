"""The log of an opened heap, read and forged, from docs/pool-format.md alone."""
import struct

import pool_bytes
import xxhash

RECORD, ENTRY = 64, 32
ALLOC, WRITE, FREE = 1, 2, 3


class Log:
    """The log that the newest superblock lists; records as (offset in the file, bytes)."""

    def __init__(self, content):
        self.content = content
        self.super = pool_bytes.newest(content)
        at = self.super.at
        self.uuid = bytes(content[at + 24:at + 40])
        self.generation, self.nonce, count = struct.unpack_from("<QQI", content, at + 3328)
        self.extents = [struct.unpack_from("<QQ", content, at + 3352 + 16 * i) for i in range(count)]
        assert len(self.extents) == 1, "a small log"
        self.start, self.end = (self.extents[0][0] * pool_bytes.FRAME,
                                (self.extents[0][0] + self.extents[0][1]) * pool_bytes.FRAME)
        self.records = list(self.walk())

    def walk(self):
        at, previous, sequence = self.start, self.nonce, 1
        while at + RECORD <= self.end:
            magic, number, size, before = struct.unpack_from("<8sQQQ", self.content, at)
            if magic != b"PHEAPREC" or number != sequence or before != previous:
                return
            if self.checksum(at, size) != struct.unpack_from("<Q", self.content, at + 56)[0]:
                return
            yield at, size
            previous, sequence = struct.unpack_from("<Q", self.content, at + 56)[0], sequence + 1
            at += (size + 63) // 64 * 64

    def checksum(self, at, size):
        record = bytearray(self.content[at:at + size])
        record[56:64] = self.uuid[:8]
        return xxhash.xxh3_64_intdigest(bytes(record))

    def entries(self, number):
        """Of record `number`, from 0: where each begins."""
        at, size = self.records[number]
        end, at = at + size, at + RECORD
        while at < end:
            yield at
            kind, = struct.unpack_from("<I", self.content, at)
            written, = struct.unpack_from("<Q", self.content, at + 16)
            at += ENTRY + ((written + 7) // 8 * 8 if kind == WRITE else 0)

    def seal(self):
        """Checksums made to fit again, and what follows them."""
        previous = self.nonce
        for at, size in self.records:
            struct.pack_into("<Q", self.content, at + 24, previous)
            previous = self.checksum(at, size)
            struct.pack_into("<Q", self.content, at + 56, previous)

    def set_place(self, offset, value):
        """A field of the log's place, in both superblocks."""
        for which in (0, 1):
            struct.pack_into("<Q", self.content, which * pool_bytes.FRAME + 3328 + offset, value)
            pool_bytes.seal(self.content, which)
