#!/usr/bin/python3
"""A second reader of pool files, written from docs/pool-format.md alone and sharing nothing with
the library. It must agree with the library on every pool (t/e2e/pool_second_reader.t).

    second_reader.py list POOL              all generations, their pages and records
    second_reader.py page POOL GEN PAGE     4096 bytes to stdout (zeroes where nothing is stored)
    second_reader.py record POOL GEN        the record's bytes to stdout
    second_reader.py file POOL GEN PATH     what the generation has of a saved file, to stdout
    second_reader.py log POOL               the log's records
    second_reader.py word POOL ADDRESS...   8 bytes of memory each, as the newest generation and the
                                            log behind it have it
"""
import struct
import sys

import xxhash

FRAME = 4096
ENTRIES = 256
LEVELS = 5


LOG_RECORD = struct.Struct("<4sIQQQQQQQ")
LOG_ENTRY = struct.Struct("<IIQQII")


class Damaged(Exception):
    """Something in the file is not as the document says."""


def checksum(data):
    return xxhash.xxh3_64_intdigest(data)


MASK, MULTIPLIER = (1 << 64) - 1, 0x9e3779b97f4a7c15


def stack_hash(frames):
    hash_ = len(frames)
    for frame in frames:
        hash_ = (hash_ ^ frame) * MULTIPLIER & MASK ^ hash_ >> 29
    return hash_


class Generation:
    FIELDS = struct.Struct("<QQIIII QQ QQQQ QQQ QQQ")

    def __init__(self, data):
        (self.number, self.time, self.kind, self.flags, self.slot, _, self.root_frame,
         self.root_checksum, self.pages, self.record_frame, self.record_bytes,
         self.record_checksum, self.written, self.pause, self.freeze_written,
         *delta) = self.FIELDS.unpack(data)
        self.delta = tuple(delta)

    def is_valid(self, frames, next_number):
        if not 0 < self.number < next_number or not 1 <= self.kind <= 3:
            return False
        if self.delta[1] == 0 and self.delta[0] != 0:
            return False
        if self.delta[1] and not 2 <= self.delta[0] <= frames - self.delta[1]:
            return False
        if self.root_frame != 0 and not 2 <= self.root_frame < frames:
            return False
        if self.record_bytes == 0:
            return self.record_frame == 0
        end = self.record_frame + (self.record_bytes + FRAME - 1) // FRAME
        return 2 <= self.record_frame and end <= frames


class Superblock:
    FIELDS = struct.Struct("<8sIIQ16sQIIiIQQIIQQ")

    def __init__(self, data):
        (self.magic, self.version, _, self.sequence, self.uuid, self.created, self.slot,
         self.run_state, self.end_status, self.keep, self.run_first, self.resumed,
         self.resume_count, self.count, self.next, self.frames) = self.FIELDS.unpack_from(data)
        self.checksum_fits = struct.unpack_from("<Q", data, 4088)[0] == checksum(data[:4088])
        (self.log_generation, self.log_root, self.log_count,
         self.log_extent) = struct.unpack_from("<QQII", data, 3328)
        self.log_start, self.log_sequence = struct.unpack_from("<QQ", data, 3608)
        self.log = [struct.unpack_from("<QQ", data, 3352 + i * 16)
                    for i in range(min(self.log_count, 16))]
        self.generations = [Generation(data[256 + i * 128:384 + i * 128])
                            for i in range(min(self.count, 24))]

    def is_valid(self, place):
        if self.magic != b"PHEAPOOL" or self.version not in (1, 2, 3, 4) or not self.checksum_fits:
            return False
        if self.sequence % 2 != place or self.count > 24:
            return False
        if self.log_count > (16 if self.version >= 3 else 0) or self.log_generation >= self.next:
            return False
        if not all(n > 0 and 2 <= f <= self.frames - n for f, n in self.log):
            return False
        numbers = [g.number for g in self.generations]
        return (numbers == sorted(set(numbers)) and
                all(g.is_valid(self.frames, self.next) for g in self.generations))


class Pool:
    def __init__(self, path):
        self.file = open(path, "rb")
        candidates = [Superblock(self.raw_frame(i)) for i in (0, 1)]
        valid = [s for i, s in enumerate(candidates) if s.is_valid(i)]
        if not valid:
            raise Damaged("no superblock is valid")
        self.superblock = max(valid, key=lambda s: s.sequence)

    def raw_frame(self, number):
        self.file.seek(number * FRAME)
        data = self.file.read(FRAME)
        if len(data) != FRAME:
            raise Damaged(f"frame {number} is beyond the end of the file")
        return data

    def frame(self, number, expected):
        """A frame, checked against the entry that led to it."""
        data = self.raw_frame(number)
        if checksum(data) != expected:
            raise Damaged(f"frame {number} has a wrong checksum")
        return data

    def generation(self, number):
        for generation in self.superblock.generations:
            if generation.number == number:
                return generation
        raise Damaged(f"generation {number} is not listed")

    def entries(self, node):
        return list(struct.iter_unpack("<QQ", node))

    def walk(self, frame, expected, level, first_page):
        """(page, frame, checksum) of all that is stored below a node, ascending."""
        for i, (below, below_checksum) in enumerate(self.entries(self.frame(frame, expected))):
            page = first_page + (i << (8 * level))
            if below == 0:
                continue
            if level == 0:
                yield page, below, below_checksum
            else:
                yield from self.walk(below, below_checksum, level - 1, page)

    def delta(self, place):
        """Of one delta: the place of the one before, and (first page, pages, frame, checksum)s."""
        first, frames, expected = place
        data = b"".join(self.raw_frame(first + i) for i in range(frames))
        if checksum(data) != expected:
            raise Damaged(f"the delta in frame {first} has a wrong checksum")
        count, = struct.unpack_from("<Q", data, 24)
        entries = struct.iter_unpack("<QQQ", data[32:32 + 24 * count])
        return (struct.unpack_from("<QQQ", data),
                [(p & (1 << 40) - 1, 1 + (p >> 40), f, c) for p, f, c in entries])

    def chain(self, generation):
        """The deltas of a generation, newest first."""
        place, found = generation.delta, []
        while place[1]:
            if len(found) == 64:
                raise Damaged("a chain of more than 64 deltas")
            place, entries = self.delta(place)
            found.append(entries)
        return found

    def pages(self, generation):
        stored = {}
        if generation.root_frame:
            for page, frame, expected in self.walk(generation.root_frame,
                                                   generation.root_checksum, LEVELS - 1, 0):
                stored[page] = frame, expected
        for entries in reversed(self.chain(generation)):
            for first, pages, frame, expected in entries:
                for page in range(first, first + pages):
                    stored[page] = frame, expected
        return ((page, *stored[page]) for page in sorted(stored) if stored[page][0])

    def lookup(self, generation, page):
        for entries in self.chain(generation):
            for first, pages, frame, expected in entries:
                if first <= page < first + pages:
                    return frame, expected
        frame, expected = generation.root_frame, generation.root_checksum
        for level in reversed(range(LEVELS)):
            if frame == 0:
                return 0, 0
            node = self.entries(self.frame(frame, expected))
            frame, expected = node[(page >> (8 * level)) % ENTRIES]
        return frame, expected

    def content(self, frame, expected):
        return bytes(FRAME) if frame < 2 else self.frame(frame, expected)

    def record(self, generation):
        self.file.seek(generation.record_frame * FRAME)
        data = self.file.read(generation.record_bytes)
        if generation.record_bytes and checksum(data) != generation.record_checksum:
            raise Damaged("the record has a wrong checksum")
        return data


    def items(self, generation):
        """(kind, payload) of each item of a process record."""
        record, at = self.record(generation), 0
        while at < len(record):
            kind, size = struct.unpack_from("<II", record, at)
            yield kind, record[at + 8:at + 8 + size]
            at += 8 + (size + 7) // 8 * 8

    def stored(self, generation, first, size):
        """The first bytes of the file area from a page on."""
        if first < 1 << 36 or first % (1 << 24):
            raise Damaged(f"a saved file at page {first:#x}")
        pages = range(first, first + (size + FRAME - 1) // FRAME)
        return b"".join(self.content(*self.lookup(generation, p)) for p in pages)[:size]

    def saved_file(self, generation, path):
        """The bytes of a file that the record says is saved; zeroes for what nobody had mapped."""
        files, opened = {}, {}
        for kind, payload in self.items(generation):
            if kind == 4:
                number, = struct.unpack_from("<I", payload)
                size, = struct.unpack_from("<Q", payload, 24)
                files[number] = payload[80:-1].decode(), size
            elif kind == 30:
                number, _, first = struct.unpack("<IIQ", payload)
                name, size = files[number]
                if name == path:
                    return self.stored(generation, first, size)
            elif kind == 9:
                number, = struct.unpack_from("<I", payload)
                opened[number] = payload[56:-1].decode()
            elif kind == 31:
                number, flags, first, size, _, _ = struct.unpack("<IIQQII", payload)
                if (files[number][0] if flags & 1 else opened[number]) == path:
                    return self.stored(generation, first, size)
        raise Damaged(f"{path} is not saved")

    def log_record(self, extent, at, end, fits):
        """The record here, whole, if it fits, or None."""
        first, frames = self.superblock.log[extent]
        if min(end, frames * FRAME) - at < 64:
            return None
        self.file.seek(first * FRAME + at)
        head = self.file.read(64)
        magic, _, number, size, previous, own, _, _, expected = LOG_RECORD.unpack(head)
        if not fits(magic, number, previous, own) or size < 64 or size % 64 or size > end - at:
            return None
        body = self.file.read(size - 64)
        mixed = checksum(body) ^ struct.unpack("<Q", self.superblock.uuid[:8])[0]
        return head + body if checksum(head[:56] + struct.pack("<Q", mixed)) == expected else None

    def log_lane(self, extent, at, end, session):
        number = 1
        while record := self.log_record(extent, at, end, lambda magic, n, _, own:
                                        (magic, n, own) == (b"PHLN", number, session)):
            yield record
            at += len(record)
            number += 1

    def log_walk(self):
        """((session's number, stamp, lane's number from 1 on, or 0), record), as they are found: of
        equal ones those found first."""
        s = self.superblock
        extent, at, sequence, session, before = (s.log_extent, s.log_start, s.log_sequence, 0,
                                                 s.log_root)
        used, era = {extent}, 0
        while s.log_count:
            places = [(extent, at)] + [(i, 0) for i in range(s.log_count) if i not in used]
            for extent, at in places:
                record = self.log_record(extent, at, s.log[extent][1] * FRAME, lambda magic, n, previous, own:
                                         magic == b"PHLG" and n == sequence + 1 and
                                         (own == session or previous == before))
                if record is not None:
                    break
            else:
                return
            used.add(extent)
            at += len(record)
            sequence += 1
            _, entries, _, _, _, own, _, stamp, before = LOG_RECORD.unpack_from(record)
            era, session = era + (own != session), own
            yield (era, stamp, 0), record
            if entries == 0 and len(record) == 128 and record[64:72] == b"PHEAPLAN":
                lane, size, lane_number = struct.unpack_from("<QQQ", record, 72)
                for inner in self.log_lane(extent, at, at + size, lane):
                    yield (era, LOG_RECORD.unpack_from(inner)[7], lane_number + 1), inner
                at += size
                sequence += size // 64

    def log_records(self):
        """(sequence, bytes, checksum) of each, in their order."""
        for _, record in sorted(self.log_walk(), key=lambda found: found[0]):
            head = LOG_RECORD.unpack_from(record)
            yield head[2], record, head[8]

    def log_writes(self):
        """(address, bytes) of all that the log writes, in its order."""
        for _, record, _ in self.log_records():
            count, at = LOG_RECORD.unpack_from(record)[1], 64
            for _ in range(count):
                kind, _, address, size, _, _ = LOG_ENTRY.unpack_from(record, at)
                at += 32
                if kind == 2:
                    yield address, record[at:at + size]
                    at += (size + 7) // 8 * 8

    def memory(self, generation, address, size):
        data = b"".join(self.content(*self.lookup(generation, page))
                        for page in range(address // FRAME, (address + size - 1) // FRAME + 1))
        return data[address % FRAME:address % FRAME + size]

    def free_runs(self, generation):
        """Of a program's heap: free runs, those aside, as (address, slices); bytes behind all; blocks
        that are runs, as (address, bytes)."""
        slot = 0x200000000000 + (generation.slot << 40)
        number = lambda address, code: struct.unpack(code, self.memory(generation, address, struct.calcsize(code)))[0]
        at, top, free, aside, large = number(slot + 28, "<I"), number(slot + 200, "<I"), [], [], []
        left = number(slot + 120, "<Q") - (slot + top * 65536)
        while at < top:
            descriptor = slot + 65536 + 128 * at
            kind, slices = number(descriptor + 120, "<B"), number(descriptor + 84, "<I")
            if kind not in (1, 3, 4, 6, 7, 8) or slices == 0:
                raise Damaged(f"slice {at}: kind {kind}, {slices} slices")
            if kind in (4, 6):
                (free if kind == 4 else aside).append((slot + at * 65536, slices))
            if kind == 3:
                large.append((slot + at * 65536 + number(descriptor + 92, "<I"), number(descriptor, "<Q")))
            at += slices
        if at != top:
            raise Damaged(f"runs end at slice {at}, not at {top}")
        return free, aside, left, large

    def profile(self, generation):
        """Samples taken, and of each stack (taken, frames, [bytes of each live sample]); every chain
        is followed. None: there is no profile."""
        slot = 0x200000000000 + (generation.slot << 40)
        rate, place = struct.unpack("<QQ", self.memory(generation, slot + 512, 16))
        if rate == 0:
            return None
        head = self.memory(generation, place, 120 + 4 * (4096 + 65536))
        magic, same_rate, lock, _, _, stacks, _, _, samples, _, _ = struct.unpack_from("<8s10Q", head)
        stack_count, places, free, live, taken, _ = struct.unpack_from("<IIIIQQ", head, 88)
        if magic != b"profile\0" or same_rate != rate or lock != 0:
            raise Damaged("the profile's header")
        found, met = {}, 0
        for bucket, number in enumerate(struct.unpack_from("<4096I", head, 120)):
            while number:
                data = self.memory(generation, stacks + (number - 1) * 512, 512)
                hash_, stack_taken, _, after, frame_count = struct.unpack_from("<QQQII", data)
                frames = struct.unpack_from(f"<{frame_count}Q", data, 32)
                if hash_ != stack_hash(frames) or hash_ % 4096 != bucket:
                    raise Damaged(f"stack {number}")
                found[number], number = (stack_taken, frames, []), after
        for bucket, number in enumerate(struct.unpack_from("<65536I", head, 16504)):
            while number:
                data = self.memory(generation, samples + (number - 1) * 32, 32)
                address, size, _, stack, after = struct.unpack("<QQQII", data)
                if (address * MULTIPLIER & MASK) >> 48 != bucket:
                    raise Damaged(f"sample {number}")
                found[stack][2].append(size)
                number, met = after, met + 1
        while free:
            places -= 1
            free = struct.unpack_from("<I", self.memory(generation, samples + (free - 1) * 32, 32), 28)[0]
        if len(found) != stack_count or met != live or places != live:
            raise Damaged(f"{len(found)} stacks of {stack_count}, {met} samples of {live}, {places} places")
        return taken, found

    def word(self, address):
        generation = self.superblock.generations[-1]
        memory = bytearray()
        for page in (address // FRAME, address // FRAME + 1):
            memory += self.content(*self.lookup(generation, page))
        first = address // FRAME * FRAME
        for start, data in self.log_writes():
            for i in range(max(start, first), min(start + len(data), first + len(memory))):
                memory[i - first] = data[i - start]
        return struct.unpack_from("<Q", memory, address - first)[0]


def list_pool(pool):
    s = pool.superblock
    print(f"pool sequence {s.sequence} slot {s.slot} run {s.run_state} end {s.end_status} "
          f"keep {s.keep} next {s.next} frames {s.frames} created {s.created}")
    for g in s.generations:
        print(f"generation {g.number} kind {g.kind} flags {g.flags} slot {g.slot} time {g.time} "
              f"pages {g.pages} written {g.written}")
        pool.record(g)
        print(f"  record frame {g.record_frame} bytes {g.record_bytes} "
              f"checksum {g.record_checksum:016x}")
        for page, frame, expected in pool.pages(g):
            content = pool.content(frame, expected)
            print(f"  page {page:#x} frame {frame} checksum {expected:016x} "
                  f"bytes {content[:4].hex()}")


def main(arguments):
    command, path = arguments[:2]
    pool = Pool(path)
    if command == "list":
        list_pool(pool)
    elif command == "page":
        generation = pool.generation(int(arguments[2]))
        entry = pool.lookup(generation, int(arguments[3], 0))
        sys.stdout.buffer.write(pool.content(*entry))
    elif command == "file":
        content = pool.saved_file(pool.generation(int(arguments[2])), arguments[3])
        sys.stdout.buffer.write(content)
    elif command == "log":
        for sequence, record, expected in pool.log_records():
            print(f"record {sequence} bytes {len(record)} checksum {expected:016x}")
    elif command == "word":
        for address in arguments[2:]:
            print(f"word {int(address, 0):#x} {pool.word(int(address, 0))}")
    else:
        sys.stdout.buffer.write(pool.record(pool.generation(int(arguments[2]))))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Damaged as damage:
        sys.exit(f"second_reader: {damage}")
