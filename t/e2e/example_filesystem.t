#!/usr/bin/python3
"""docs/examples/filesystem: its operations are atomic whatever kills it; mounted, it does as the
kernel's own file systems do."""
import os
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (FINE, LIBRARY, ROOT, ROUNDS, Skip, check, check_equal,  # noqa: E402
                        expect, expect_whole, main, test, wait_until)

SOURCES = os.path.join(ROOT, "docs/examples/filesystem")


def build(place, name, *options):
    binary, library = place.path(name), os.path.dirname(LIBRARY)
    shutil.copyfile(os.path.join(ROOT, "core/pheap.h"), place.path("pheap.h"))
    main_file = "main.c" if name == "filesystem" else name + ".c"
    expect(place.run("cc", "-DPHEAP_LINKED", "-O2", "-g", "-Wall", "-Wextra",
                     "-Werror", "-I", place.path(), os.path.join(SOURCES, main_file),
                     os.path.join(SOURCES, "files.c"), "-o", binary, *options, "-L" + library,
                     "-lpheap", "-Wl,-rpath," + library), FINE)
    return binary


@test
def each_operation_is_there_as_a_whole_or_not_at_all(place):
    binary = build(place, "crash_test")
    pool, reference = place.path("pool"), place.path("reference")
    seed, done = place.random.randrange(2**32), 0
    place.note(f"operations of seed {seed}")

    def dump(path):
        shown = place.run(binary, "dump", path)
        expect(shown, FINE)
        return shown.stdout()

    for _ in range(5 * ROUNDS):
        process = place.start(binary, "run", pool, seed, done)
        wait_until(lambda p=process: p.stdout().count("\n") > 20 or not p.running(), 60, "operations")
        time.sleep(place.random.uniform(0, 0.4))
        process.kill()
        told = int(process.stdout().rsplit("\n", 2)[-2]) + 1
        expect(place.run(binary, "apply", reference, seed, done, told), FINE)
        found, done = dump(pool), told
        if found != dump(reference):  # the one that was under way has happened, and was not told
            expect(place.run(binary, "apply", reference, seed, told, told + 1), FINE)
            done += 1
        check_equal(found, dump(reference), f"the tree after {told} operations")
    check(dump(pool).count("\n") > 10, "next to nothing was made")
    expect_whole(place, pool)


class Mounted:
    def __init__(self, place, binary):
        self.place, self.binary = place, binary
        self.pool, self.path = place.path("pool"), place.make_directory("mounted")
        self.process = None

    def mount(self):
        self.process = self.place.start(self.binary, self.pool, self.path, "-f")
        wait_until(lambda: "ready" in self.process.stdout() or not self.process.running(), 60,
                   "the mount")
        if not self.process.running():
            raise Skip("nothing can be mounted with FUSE here: " + self.process.stderr().strip()[:80])

    def unmount(self, number):
        self.process.kill(number)
        if os.path.ismount(self.path) or number == signal.SIGKILL:
            subprocess.run(["fusermount3", "-u", self.path], check=True)


def listing(top):
    found = {}
    for directory, names, files in os.walk(top):
        for name in names + files:
            path = os.path.join(directory, name)
            state = os.lstat(path)
            is_dir = os.path.isdir(path) and not os.path.islink(path)
            content = None
            if os.path.islink(path):
                content = os.readlink(path)
            elif not is_dir:
                with open(path, "rb") as f:
                    content = f.read()
            found[os.path.relpath(path, top)] = (oct(state.st_mode), state.st_nlink,
                                                 0 if is_dir else state.st_size, content)
    return found


def do_something(random, top):
    """One random operation; how it ended, for both trees to be compared."""
    def path():
        return os.path.join(top, *(f"{'abc'[i]}{random.randrange(6)}"
                                   for i in range(random.randint(1, 3))))

    def write(name, at, data):
        fd = os.open(name, os.O_RDWR | os.O_CREAT, 0o640)
        try:
            os.pwrite(fd, data, at)
        finally:
            os.close(fd)

    one, other, data = path(), path(), random.randbytes(random.randrange(20000))
    choice, at, mode = random.randrange(11), random.randrange(100000), random.randrange(0o400, 0o1000)
    try:
        [lambda: os.mkdir(one, 0o755), lambda: os.mkdir(one, 0o700), lambda: write(one, at, data),
         lambda: write(one, 0, data), lambda: os.truncate(one, at), lambda: os.symlink("target", one),
         lambda: os.link(one, other, follow_symlinks=False), lambda: os.rename(one, other),
         lambda: os.unlink(one), lambda: os.rmdir(one),
         lambda: os.path.islink(one) or os.chmod(one, mode | 0o400)][choice]()
        return choice, "done"
    except OSError as error:
        return choice, os.strerror(error.errno)


@test
def mounted_it_does_as_the_kernels_file_systems_do(place):
    if subprocess.run(["pkg-config", "--exists", "fuse3"], check=False).returncode != 0:
        raise Skip("libfuse3-dev is not installed: see scripts/packages")
    if not os.path.exists("/dev/fuse"):
        raise Skip("there is no /dev/fuse here")
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3"], check=True,
                           capture_output=True, text=True).stdout.split()
    mounted = Mounted(place, build(place, "filesystem", *flags))
    model = place.make_directory("model")
    mounted.mount()
    try:
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            for _ in range(400 * ROUNDS):
                seed = place.random.randrange(2**32)
                results = [do_something(type(place.random)(seed), top) for top in (model, mounted.path)]
                check_equal(results[1], results[0], f"operation {seed}: mounted, and in the model")
            mounted.unmount(number)
            mounted.mount()
            check_equal(listing(mounted.path), listing(model), "the trees after the mount was ended")
        sparse = os.path.join(mounted.path, "sparse")
        with open(sparse, "wb") as f:
            f.seek(1 << 30)
            f.write(b"end")
        check(os.stat(sparse).st_blocks <= 8, "blocks of a sparse file")
        os.unlink(sparse)
    finally:
        if mounted.process.running():
            mounted.unmount(signal.SIGTERM)


if __name__ == "__main__":
    main()
