#!/usr/bin/python3
"""Generations that are --self-contained are resumed without the files that the program had mapped."""
import os
import shutil
import signal
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, FINE, PHEAP, PYTHON, REFUSED, ROOT, Skip, check,  # noqa: E402
                        check_equal, check_in, expect, main, test, time, wait_until)
from hurried import Hurried  # noqa: E402
import pool_bytes  # noqa: E402
from second_reader import checksum  # noqa: E402

SECOND_READER = os.path.join(ROOT, "t", "lib", "second_reader.py")
LIBRARY_SOURCE = """
static long table[3000] = {7}, calls;
long twist(long n) { calls++; table[n % 3000] += n; return table[n % 3000] * 3 + calls; }
"""


class Carried(Hurried):
    """A program whose executable, library and data file are its own; `count` lines of output."""

    def __init__(self, place, count=800):
        super().__init__(place)
        self.count = count
        self.program, self.library, self.data = (place.path(n) for n in ("program", "lib.so", "data"))
        shutil.copy(os.path.join(BUILT_PROGRAMS, "carried_state"), self.program)
        source = place.write("library.c", LIBRARY_SOURCE)
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", self.library, source], check=True)
        place.write("data", os.urandom(15 * 4096 + 100))  # the last page is not full
        self.files = (self.program, self.library, self.data)
        self.command = (self.program, self.library, self.data, str(count), self.hurry)
        self.run_plainly(*self.command)

    def start(self, *options, **keywords):
        return self.place.start(PHEAP, "run", "-i", "50ms", *options, self.pool, *self.command,
                                stdout=self.out, **keywords)

    def wait_generation(self, process):
        """One of a time when pages of the private mapping have been given back."""
        wait_until(lambda: self.output().count("\n") > self.count / 40 + 5, 20, "output")
        self.place.wait_generation(self.pool, self.place.newest(self.pool) + 2, process)

    def restore(self, lines=10):
        return super().restore(lines)


def kill(process):
    """The restorer hands the signal on; the program dies of it."""
    process.kill(signal.SIGTERM)


@test
def a_program_goes_on_without_its_executable_its_library_and_its_data(place):
    one = Carried(place)
    process = one.start("--self-contained")
    one.wait_generation(process)
    process.kill()
    for path in one.files:
        os.unlink(path)
    kill(one.restore())
    kill(one.restore())
    one.finish()


@test
def a_program_that_runs_already_can_be_told_to_carry_its_files(place):
    one = Carried(place)
    process = one.start()
    one.wait_generation(process)
    expect(place.pheap("checkpoint", "--self-contained", one.pool), FINE)
    process.kill()
    for path in one.files:
        os.unlink(path)
    kill(one.restore())  # and goes on so
    one.finish()


@test
def a_program_goes_on_beside_files_that_have_changed(place):
    one = Carried(place)
    process = one.start("--self-contained")
    one.wait_generation(process)
    process.kill()
    for path in one.files:
        os.rename(path, path + ".old")
        shutil.copy("/bin/true", path)
    kill(one.restore())
    for path in one.files:  # back again: a program that does without them does not look at them
        os.rename(path + ".old", path)
    kill(one.restore())
    one.finish()


@test
def without_the_option_a_file_that_is_gone_is_named_and_so_is_the_option(place):
    one = Carried(place)
    process = one.start()
    place.wait_generation(one.pool, 3, process)
    process.kill()
    for path in one.files:
        os.rename(path, path + ".away")
        expect(place.pheap("restore", one.pool), REFUSED, "pheap restore:", path, "--self-contained")
        os.rename(path + ".away", path)
    one.finish()


@test
def a_program_is_checkpointed_after_its_files_were_replaced_under_it(place):
    one = Carried(place)
    process = one.start("--self-contained")
    place.wait_generation(one.pool, 2, process)
    for path in one.files:  # as a package manager does it
        shutil.copy("/bin/true", path + ".new")
        os.rename(path + ".new", path)
    one.wait_generation(process)
    expect(place.pheap("checkpoint", one.pool), FINE)
    process.kill()
    kill(one.restore())
    one.finish()


@test
def files_that_were_deleted_before_the_first_checkpoint_come_back_too(place):
    one = Carried(place)
    process = one.start("--self-contained", "-i", "0")
    wait_until(lambda: one.output().count("\n") > 40, 20, "output")
    for path in one.files:
        os.unlink(path)
    if not place.privileged():  # whom the kernel does not let at what is mapped and has no name
        expect(place.pheap("checkpoint", one.pool), REFUSED, "which no name leads to")
        process.kill()
        return
    expect(place.pheap("checkpoint", one.pool), FINE)
    process.kill()
    process = place.start(PHEAP, "restore", one.pool)
    process.resumed()
    one.wait_lines(10)
    expect(place.pheap("checkpoint", one.pool), FINE)
    kill(process)
    one.finish()


@test
def what_is_carried_is_written_once(place):
    one = Carried(place)
    process = one.start("--self-contained", "-i", "0")
    wait_until(lambda: one.output().count("\n") > 2, 20, "output")
    for _ in range(4):
        expect(place.pheap("checkpoint", one.pool), FINE)
    process.kill()
    written = [g["written_bytes"] for g in place.inspect(one.pool, "generations")["generations"]]
    check(max(written) < 1 << 20, f"later generations are small: {written}")
    process = place.start(PHEAP, "restore", one.pool)
    process.resumed()
    for _ in range(3):  # its files are as they were: they are compared, not written
        expect(place.pheap("checkpoint", one.pool), FINE)
    kill(process)
    written = [g["written_bytes"] for g in place.inspect(one.pool, "generations")["generations"]
               if g["kind"] == "process"]
    check(max(written) < 1 << 20, f"after a restore too: {written}")


def write_file(path, content):
    """In place: the same inode."""
    with open(path, "r+b") as f:
        f.write(content)


@test
def a_mapped_file_that_is_written_in_place_is_saved_again(place):
    one = Carried(place)
    process = one.start("--self-contained")
    place.wait_generation(one.pool, 2, process)
    write_file(one.data, b"changed" * 1000)
    newest = place.newest(one.pool)
    place.wait_generation(one.pool, newest + 3, process)
    one.wait_lines(2)
    process.kill()
    shared = one.output().split("\n")[-2].split()[3]
    os.unlink(one.data)
    one.restore().kill(signal.SIGTERM)
    check_equal(one.output().split("\n")[-2].split()[3], shared, "what the shared mapping shows")


@test
def the_second_reader_finds_the_files_content_where_the_format_says(place):
    one = Carried(place)
    process = one.start("--self-contained")
    place.wait_generation(one.pool, 3, process)
    process.kill()
    generation = str([g for g in place.inspect(one.pool)["generations"]
                      if g["kind"] == "process"][-1]["number"])
    for path in one.files:
        with open(path, "rb") as f:
            content = f.read()
        found = subprocess.run([PYTHON, SECOND_READER, "file", one.pool, generation, path],
                               check=True, stdout=subprocess.PIPE).stdout
        check_equal(len(found), len(content), f"bytes of {path}")
        # An executable's symbols and the like are mapped by nobody.
        wrong = [at for at in range(0, len(content), 4096)
                 if found[at:at + 4096] != content[at:at + 4096] and any(found[at:at + 4096])]
        check_equal(wrong, [], f"pages of {path} that differ")
        check(any(found[:4096]), f"the first page of {path}")
    mappings = place.inspect(one.pool, "mappings")["mappings"]
    library = [m for m in mappings if m["name"] == one.library]
    check(library and all(m["file_pages"] * 4096 == m["size_bytes"] for m in library
                          if m["permissions"] == "r-xp"), f"{library}")
    files = place.inspect(one.pool, "files")["mapped_files"]
    check_equal([f["saved"] for f in files if f["path"] in one.files], [True] * 3, "saved")


@test
def python_goes_on_without_its_executable_and_its_modules(place):
    python, pool, out = place.path("python"), place.path("pool"), place.path("out")
    shutil.copy(os.path.realpath(PYTHON), python)
    script = ("import json, time, hashlib\n"
              "seen = []\n"
              "for i in range(300):\n"
              "    seen.append({'n': i, 'h': hashlib.sha256(str(i).encode()).hexdigest()})\n"
              "    print(len(seen), hashlib.md5(json.dumps(seen).encode()).hexdigest(), flush=True)\n"
              "    time.sleep(0.005)\n")
    expected = place.run(python, "-c", script).stdout()
    process = place.start(PHEAP, "run", "--self-contained", "-i", "100ms", pool, python, "-c", script,
                          stdout=out)
    place.wait_generation(pool, 3, process)
    process.kill()
    os.unlink(python)
    process = place.start(PHEAP, "restore", pool)
    place.wait_generation(pool, process.resumed()["generation"] + 2, process)
    kill(process)
    check_equal(place.pheap("restore", pool).status, 0, "the last restore")
    with open(out, encoding="ascii") as f:
        check_equal(f.read(), expected, "output")


@test
def with_files_save_a_file_that_it_only_reads_is_carried_too(place):
    text = "".join(f"line {n} of the input\n" for n in range(4000))
    pool, out, source = place.path("pool"), place.path("out"), place.write("input", text)
    script = ("import time\n"
              "with open('input', buffering=4096) as f:\n"
              "    for line in f:\n"
              "        print(line, end='', flush=True)\n"
              "        time.sleep(0.0005)\n")
    process = place.start(PHEAP, "run", "--self-contained", "--files=save", "-i", "50ms", pool, PYTHON,
                          "-c", script, stdout=out)
    place.wait_generation(pool, 4, process)
    process.kill()
    inode = os.stat(source).st_ino
    os.utime(source, (5, 5))
    process = place.start(PHEAP, "restore", pool)
    place.wait_generation(pool, process.resumed()["generation"] + 2, process)
    kill(process)
    check_equal((os.stat(source).st_ino, os.stat(source).st_mtime), (inode, 5), "the file, if it is there")
    os.unlink(source)
    check_equal(place.pheap("restore", pool).status, 0, "the last restore")
    with open(out, encoding="ascii") as f:
        check(f.read() == text, "output")


def spoil_vdso(pool):
    """The newest process generation says that its kernel's vdso was another one."""
    content = pool_bytes.read(pool)
    newest = pool_bytes.newest(content)
    for i, generation in enumerate(newest.generations):
        at = newest.at + 256 + i * pool_bytes.GENERATION
        first, = struct.unpack_from("<Q", content, at + 56)
        size, _ = struct.unpack_from("<QQ", content, at + 64)
        record, item = first * 4096, 0
        while generation["kind"] == 1 and item < size:
            kind, length = struct.unpack_from("<II", content, record + item)
            is_text, = struct.unpack_from("<I", content, record + item + 8 + 20)
            if kind == 3 and is_text:
                pool_bytes.flip(content, record + item + 8 + 24)
            item += 8 + (length + 7) // 8 * 8
        digest = checksum(bytes(content[record:record + size]))
        struct.pack_into("<Q", content, at + 72, digest)
    pool_bytes.seal(content, newest.at // 4096)
    pool_bytes.write(pool, content)


def vdso_places(pid):
    """Where the kernel's vdso is, and what else the program's libraries may call."""
    with open(f"/proc/{pid}/maps", encoding="ascii") as f:
        return [line.split()[0] for line in f if line.endswith("[vdso]\n")]


@test
def under_another_kernel_the_old_vdso_calls_the_new_one(place):
    pool, out = place.path("pool"), place.path("out")
    script = ("import time\n"
              "for n in range(400):\n"
              "    print(n, time.time(), time.monotonic(), flush=True)\n"
              "    time.sleep(0.005)\n")
    process = place.start(PHEAP, "run", "--self-contained", "-i", "50ms", pool, PYTHON, "-c", script,
                          stdout=out)
    place.wait_generation(pool, 3, process)
    before = vdso_places(process.pid)
    process.kill()
    spoil_vdso(pool)
    for _ in range(2):
        process = place.start(PHEAP, "restore", pool)
        resumed = process.resumed()
        check(vdso_places(resumed["outer_pid"]) != before, f"the vdso lies elsewhere: {before}")
        place.wait_generation(pool, resumed["generation"] + 3, process)
        before = None  # the next restore: the second is an ordinary one
        kill(process)
        spoil_vdso(pool)
    check_equal(place.pheap("restore", pool).status, 0, "the last restore")
    with open(out, encoding="ascii") as f:
        lines = [line.split() for line in f]
    check_equal([int(line[0]) for line in lines], list(range(400)), "lines")
    for column in (1, 2):
        times = [float(line[column]) for line in lines]
        check(times == sorted(times) and 1.9 < times[-1] - times[0] < 100, "times go on")


@test
def without_the_option_another_kernel_is_refused(place):
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "50ms", pool, os.path.join(BUILT_PROGRAMS, "counter"),
                          "3000")
    place.wait_generation(pool, 2, process)
    process.kill()
    spoil_vdso(pool)
    expect(place.pheap("restore", pool), REFUSED, "pheap restore:", "vdso", "--self-contained")


class Elsewhere:
    """Another root directory that has pheap's own tool and its libraries under other names, /proc, /dev
    and nothing else."""

    def __init__(self, place):
        if os.geteuid() != 0:
            raise Skip("another root directory: needs root")
        self.place, self.root = place, place.make_directory("root")
        tool = place.make_directory("root/tool")
        for name in ("proc", "dev", "srv", "sys", "run"):
            place.make_directory("root/" + name)
        listed = subprocess.run(["ldd", PHEAP], check=True, capture_output=True, text=True).stdout
        for path in [word for word in listed.split() if word.startswith("/")] + [PHEAP]:
            shutil.copy(os.path.realpath(path), os.path.join(tool, os.path.basename(path)))
        for name in ("null", "zero"):
            subprocess.run(["mknod", "-m", "666", f"{self.root}/dev/{name}", "c", "1",
                            {"null": "3", "zero": "5"}[name]], check=True)

    def prefix(self):
        script = (f"mount -t proc proc {self.root}/proc && exec chroot {self.root} "
                  "/tool/ld-linux-x86-64.so.2 --library-path /tool /tool/pheap \"$@\"")
        return ("unshare", "-m", "sh", "-c", script, "sh")


@test
def a_pool_is_carried_to_a_root_directory_where_nothing_of_the_program_is(place):
    elsewhere = Elsewhere(place)
    one = Carried(place)
    # Its streams are whatever the restorer has.
    process = place.start("sh", "-c", f'cd /; "$@" 2>/dev/null | cat >{one.out}', "sh", PHEAP, "run",
                          "-i", "50ms", "--self-contained", one.pool, *one.command)
    wait_until(lambda: os.path.exists(one.out), 20, "output")
    one.wait_generation(process)
    os.kill(place.inspect(one.pool)["program"]["pid"], signal.SIGKILL)
    process.wait()
    carried = os.path.join(elsewhere.root, "srv", "pool")
    shutil.copy(one.pool, carried)
    first = place.start(*elsewhere.prefix(), "restore", "/srv/pool", stdout=one.out)
    first.resumed()
    one.wait_lines(30)
    place.wait_generation(carried, 6, first)
    check_equal(first.kill(signal.SIGTERM), -signal.SIGTERM, "status")
    last = place.run(*elsewhere.prefix(), "restore", "/srv/pool", stdout=place.path("last"))
    check_equal(last.status, 0, f"status: {last.stderr()}")
    with open(place.path("last"), encoding="ascii") as f:
        found = f.read()
    check(len(found) > 100, "some output of the last")
    check(one.expected.endswith(found), f"the end of the output: {found[:100]}...")


if __name__ == "__main__":
    main()
