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
        self.generation, self.root, count, begins_in = struct.unpack_from("<QQII", content, at + 3328)
        self.extents = [struct.unpack_from("<QQ", content, at + 3352 + 16 * i) for i in range(count)]
        start, self.before = struct.unpack_from("<QQ", content, at + 3608)
        self.start = (begins_in, start)
        self.records = list(self.walk())

    def is_next(self, extent, at, sequence, session, checksum):
        """The bytes of the record there, if it is the next one."""
        first, frames = self.extents[extent]
        where, end = first * pool_bytes.FRAME + at, (first + frames) * pool_bytes.FRAME
        if where + RECORD > end:
            return 0
        magic, _, number, size, before, own = struct.unpack_from("<4sIQQQQ", self.content, where)
        if magic != b"PHLG" or number != sequence or (own != session and before != checksum):
            return 0
        if size < RECORD or where + size > end:
            return 0
        return size if self.checksum(where, size) == self.stored(where) else 0

    def stored(self, at):
        return struct.unpack_from("<Q", self.content, at + 56)[0]

    def walk(self):
        (extent, at), busy = self.start, {self.start[0]}
        sequence, session, checksum = self.before, 0, self.root
        while True:
            spots = [(extent, at)] + [(i, 0) for i in range(len(self.extents)) if i not in busy]
            found = [(s, self.is_next(*s, sequence + 1, session, checksum)) for s in spots]
            (extent, at), size = next((f for f in found if f[1]), (spots[0], 0))
            if not size:
                return
            where = self.extents[extent][0] * pool_bytes.FRAME + at
            yield where, size
            busy.add(extent)
            at, sequence, checksum = at + size, sequence + 1, self.stored(where)
            session, = struct.unpack_from("<Q", self.content, where + 32)

    def checksum(self, at, size):
        header = bytearray(self.content[at:at + RECORD])
        body = xxhash.xxh3_64_intdigest(bytes(self.content[at + RECORD:at + size]))
        struct.pack_into("<Q", header, 56, body ^ struct.unpack("<Q", self.uuid[:8])[0])
        return xxhash.xxh3_64_intdigest(bytes(header))

    def entries(self, number):
        """Of record `number`, from 0: where each begins."""
        at = self.records[number][0]
        at += RECORD
        for _ in range(struct.unpack_from("<I", self.content, self.records[number][0] + 4)[0]):
            yield at
            kind, = struct.unpack_from("<I", self.content, at)
            written, = struct.unpack_from("<Q", self.content, at + 16)
            at += ENTRY + ((written + 7) // 8 * 8 if kind == WRITE else 0)

    def seal(self):
        """Checksums made to fit again, and what follows them."""
        checksum, session, before = self.root, 0, self.root
        for at, size in self.records:
            own, = struct.unpack_from("<Q", self.content, at + 32)
            before, session = (before if own == session else checksum), own
            struct.pack_into("<Q", self.content, at + 24, before)
            checksum = self.checksum(at, size)
            struct.pack_into("<Q", self.content, at + 56, checksum)

    def set_place(self, offset, value):
        """A field of the log's place, in both superblocks."""
        for which in (0, 1):
            struct.pack_into("<Q", self.content, which * pool_bytes.FRAME + 3328 + offset, value)
            pool_bytes.seal(self.content, which)
