#!/usr/bin/python3
"""The library and the reader written from docs/pool-format.md alone say the same of pools."""
import gzip
import os
import re
import shutil
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import BUILD, PYTHON, ROOT, check, check_equal, check_in, main, test  # noqa: E402

READER = os.path.join(ROOT, "t", "lib", "second_reader.py")
MAKER = os.path.join(BUILD, "t", "unit", "pool_example")
HEAP_MAKER = os.path.join(BUILD, "t", "unit", "tx_example")
POOLS = os.path.join(ROOT, "t", "pools")
DOCUMENT = os.path.join(ROOT, "docs", "pool-format.md")


def make_pools(place):
    directory = place.path("pools")
    os.mkdir(directory)
    done = subprocess.run([MAKER], env={**os.environ, "PHEAP_EXAMPLE_DIR": directory},
                          capture_output=True, text=True, check=False)
    check_equal(done.returncode, 0, f"status of pool_example, which said {done.stdout}")
    return directory


def reader(*arguments):
    done = subprocess.run([PYTHON, READER, *map(str, arguments)], capture_output=True, check=False)
    check_equal(done.stderr, b"", "stderr of the second reader")
    check_equal(done.returncode, 0, "status of the second reader")
    return done.stdout


def lists_agree(directory, name):
    with open(os.path.join(directory, name + ".list"), encoding="ascii") as f:
        expected = f.read().splitlines()
    found = reader("list", os.path.join(directory, name + ".pool")).decode().splitlines()
    for line_found, line_expected in zip(found, expected):
        check_equal(line_found, line_expected, "a line of the list")
    check_equal(len(found), len(expected), "lines")
    return expected


@test
def both_readers_list_the_example_alike(place):
    lines = lists_agree(make_pools(place), "example")
    check_equal(sum(line.startswith("generation") for line in lines), 2, "generations")


@test
def both_readers_list_a_pool_with_a_long_history_alike(place):
    lines = lists_agree(make_pools(place), "random")
    check_equal(sum(line.startswith("generation") for line in lines), 6, "generations")
    check(len(lines) > 100, f"only {len(lines)} lines")


def goes_on_with(place, name):
    """Both readers and the list of that time say the same of an old pool, and it can be gone on with."""
    copy = place.path(name + ".pool")
    shutil.copy(os.path.join(POOLS, name + ".pool"), copy)
    os.chmod(copy, 0o600)
    with open(os.path.join(POOLS, name + ".list"), encoding="ascii") as f:
        expected = f.read()
    check_equal(reader("list", copy).decode(), expected, f"the second reader's list of {name}")
    done = subprocess.run([MAKER], env={**os.environ, "PHEAP_OLD_POOL": copy},
                          capture_output=True, text=True, check=False)
    check_equal(done.returncode, 0, f"status of pool_example, which said {done.stdout}")
    with open(copy + ".list", encoding="ascii") as f:
        check_equal(f.read(), expected, f"the library's list of {name}")
    lines = reader("list", copy).decode().splitlines()
    check(any(line.startswith("generation 3 ") for line in lines), f"the third generation: {lines}")


@test
def pools_of_every_format_so_far_are_read_and_gone_on_with(place):
    names = sorted(name[:-5] for name in os.listdir(POOLS) if name.endswith(".pool"))
    check_equal(names, ["format-1", "format-2"], "pools kept")
    for name in names:
        goes_on_with(place, name)


def log_agrees(path, lines):
    """The second reader's view of a pool with a log: its records, and words of its memory."""
    records = [line for line in lines if line.startswith("record ")]
    addresses = [line.split()[1] for line in lines if line.startswith("word ")]
    check_equal(reader("log", path).decode().splitlines(), records, "records of the log")
    words = reader("word", path, *addresses).decode().splitlines()
    check_equal(words, [line for line in lines if line.startswith("word ")], "words of memory")
    check(len(records) >= 5 and len(words) >= 6, f"only {len(lines)} lines")


@test
def both_readers_see_the_same_behind_a_log(place):
    directory = place.make_directory("heaps")
    done = subprocess.run([HEAP_MAKER], env={**os.environ, "PHEAP_EXAMPLE_DIR": directory},
                          capture_output=True, text=True, check=False)
    check_equal(done.returncode, 0, f"status of tx_example, which said {done.stdout}")
    with open(os.path.join(directory, "heap.list"), encoding="ascii") as f:
        log_agrees(os.path.join(directory, "heap.pool"), f.read().splitlines())


@test
def a_heap_of_format_3_is_read_and_gone_on_with(place):
    copy = place.path("format-3.pool")
    with gzip.open(os.path.join(POOLS, "format-3.pool.gz")) as f, open(copy, "wb") as out:
        shutil.copyfileobj(f, out)
    os.chmod(copy, 0o600)
    with open(os.path.join(POOLS, "format-3.list"), encoding="ascii") as f:
        expected = f.read()
    log_agrees(copy, expected.splitlines())
    done = subprocess.run([HEAP_MAKER], env={**os.environ, "PHEAP_OLD_POOL": copy},
                          capture_output=True, text=True, check=False)
    check_equal(done.returncode, 0, f"status of tx_example, which said {done.stdout}")
    with open(copy + ".list", encoding="ascii") as f:
        check_equal(f.read(), expected, "the library's list of it")


@test
def the_second_reader_ends_a_log_at_a_flipped_bit(place):
    copy = place.path("spoilt.pool")
    with gzip.open(os.path.join(POOLS, "format-3.pool.gz")) as f:
        content = bytearray(f.read())
    with open(os.path.join(POOLS, "format-3.list"), encoding="ascii") as f:
        third = int(f.read().splitlines()[2].split()[1])
    at, = [m.start() for m in re.finditer(b"PHLG", content)
           if struct.unpack_from("<Q", content, m.start() + 8)[0] == third]
    content[at + 100] ^= 4
    with open(copy, "wb") as out:
        out.write(content)
    check_equal(len(reader("log", copy).decode().splitlines()), 2, "records before it")


@test
def the_second_reader_finds_pages_and_records(place):
    pool = os.path.join(make_pools(place), "example.pool")
    for generation, page, expected in ((1, 0x70000000a, b"A"), (1, 0x70000000b, b"B"),
                                       (1, 0x70000000c, b"\0"), (2, 0x70000000a, b"A"),
                                       (2, 0x70000000b, b"C"), (2, 0x70000000d, b"\0")):
        check_equal(reader("page", pool, generation, hex(page)), expected * 4096,
                    f"page {page:#x} of generation {generation}")
    check_equal(reader("record", pool, 1), b"\1\0\0\0\5\0\0\0hello\0\0\0", "record")


@test
def the_bytes_that_the_document_shows_are_those_of_the_example(place):
    with open(os.path.join(make_pools(place), "example.pool"), "rb") as f:
        content = f.read()
    with open(DOCUMENT, encoding="utf-8") as f:
        shown = re.findall(r"^    ([0-9a-f]{4}): ((?:[0-9a-f]{2} ){15}[0-9a-f]{2})", f.read(), re.M)
    check(len(shown) >= 20, f"only {len(shown)} lines of bytes found")
    for offset, line in shown:
        at = int(offset, 16)
        check_equal(content[at:at + 16].hex(" "), line, f"bytes at offset {offset}")


@test
def the_second_reader_recognises_a_flipped_bit(place):
    path = os.path.join(make_pools(place), "example.pool")
    with open(path, "r+b") as f:
        f.seek(10 * 4096 + 77)
        f.write(b"D")
    done = subprocess.run([PYTHON, READER, "list", path], capture_output=True, text=True,
                          check=False)
    check_equal(done.returncode, 1, "status")
    check_in("frame 10 has a wrong checksum", done.stderr, "stderr")


if __name__ == "__main__":
    main()
