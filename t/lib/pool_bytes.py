"""The superblocks of a pool file, read and spoilt, from docs/pool-format.md alone."""
import hashlib
import struct

FRAME = 4096
GENERATION = 128


class Superblock:
    def __init__(self, content, which):
        self.at = which * FRAME
        block = content[self.at:self.at + FRAME]
        self.magic = block[:8]
        self.version, = struct.unpack_from("<I", block, 8)
        self.sequence, = struct.unpack_from("<Q", block, 16)
        count, = struct.unpack_from("<I", block, 84)
        self.generations = []
        for i in range(count):
            at = 256 + i * GENERATION
            number, = struct.unpack_from("<Q", block, at)
            kind, = struct.unpack_from("<I", block, at + 16)
            root, = struct.unpack_from("<Q", block, at + 32)
            record, = struct.unpack_from("<Q", block, at + 56)
            delta, = struct.unpack_from("<Q", block, at + 104)
            self.generations.append({"number": number, "kind": kind, "root_frame": root, "record_frame": record,
                                     "index_frame": delta or root})  # its own, if it has a delta


def read(path):
    with open(path, "rb") as f:
        return bytearray(f.read())


def digest(path):
    return hashlib.sha256(read(path)).hexdigest()


def write(path, content):
    with open(path, "r+b") as f:
        f.write(content)
        f.truncate(len(content))


def newest(content):
    """The superblock with the higher sequence."""
    return max((Superblock(content, 0), Superblock(content, 1)), key=lambda s: s.sequence)


def flip(content, at, bit=0):
    content[at] ^= 1 << bit


def seal(content, which):
    """A superblock's checksum made to fit its bytes again."""
    import xxhash  # pylint: disable=import-outside-toplevel

    at = which * FRAME
    digest = xxhash.xxh3_64_intdigest(bytes(content[at:at + 4088]))
    struct.pack_into("<Q", content, at + 4088, digest)
