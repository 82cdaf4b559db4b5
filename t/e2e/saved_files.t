#!/usr/bin/python3
"""--files=save: files that a program writes in place are, when it is resumed, as they were at the cut."""
import os
import random
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, FINE, PHEAP, PYTHON, REFUSED, ROOT,  # noqa: E402
                        ROUNDS, check, check_equal, check_in, expect, main, test, time, wait_until)
from hurried import Hurried  # noqa: E402
from small_disk import SmallDisk, fill  # noqa: E402

SECOND_READER = os.path.join(ROOT, "t", "lib", "second_reader.py")
IN_PLACE = os.path.join(BUILT_PROGRAMS, "in_place")
SQLITE = """
import dbm, os, sqlite3, sys, time
kind, rounds, ms = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if kind == "dbm":
    db = dbm.open("data", "n")
else:
    db = sqlite3.connect("data", isolation_level=None)
    db.execute(f"pragma journal_mode={kind}")
    db.execute("pragma synchronous=off")
    db.execute("create table t (k integer primary key, v text)")
known = {}
for n in range(rounds):
    k, v = n * 31 % 97, f"value {n} " * (n % 50 + 1)
    known[k] = v
    if kind == "dbm":
        db[str(k)] = v
        found = {int(k): db[k].decode() for k in db.keys()}
    else:
        db.execute("begin")
        db.execute("insert or replace into t values (?, ?)", (k, v))
        db.execute("delete from t where k = ?", ((n * 17) % 97,))
        db.execute("commit")
        known.pop((n * 17) % 97, None)
        found = dict(db.execute("select k, v from t"))
    print(n, len(known), "right" if found == known else "differs", flush=True)
    time.sleep(ms / 1000)
if kind != "dbm":
    print(*db.execute("pragma integrity_check").fetchone())
"""


class InPlace(Hurried):
    """The program in_place in a directory of its own: its output, its files."""

    def modes(self):
        return [os.stat(path).st_mode & 0o777 for path in self.files]

    def __init__(self, place, rounds=800, folder=None):
        super().__init__(place)
        self.rounds = rounds
        self.folder = folder or place.make_directory("files")
        self.files = [os.path.join(self.folder, name) for name in ("one", "other")]
        self.command = (IN_PLACE, *self.files, str(rounds), self.hurry)
        self.run_plainly(*self.command)
        self.contents = self.read()

    def read(self):
        found = []
        for path in self.files:
            with open(path, "rb") as f:
                found.append(f.read())
        return found

    def run(self, *options):
        process = self.place.start(PHEAP, "run", "-i", "40ms", *options, self.pool, *self.command,
                                   stdout=self.out)
        if "0" not in options:
            self.place.wait_generation(self.pool, 3, process)
        wait_until(lambda: self.output().count("\n") > 3, 20, "output")
        return process

    def finish(self):
        super().finish()
        check(self.read() == self.contents, "what the files hold in the end")


@test
def files_are_as_memory_says_after_two_kills(place):
    for _ in range(ROUNDS):
        one = InPlace(place)
        process = one.run("--files=save")
        process.kill()
        process = one.restore()
        time.sleep(random.random() / 5)
        process.kill(signal.SIGTERM)
        one.restore().kill(signal.SIGTERM)
        one.finish()
        os.unlink(one.pool)


@test
def without_the_option_they_are_not(place):
    one = InPlace(place)
    process = one.run("-i", "0")
    expect(place.pheap("checkpoint", one.pool), FINE)
    lines = one.output().count("\n") + 5
    wait_until(lambda: one.output().count("\n") > lines, 20, "more output")
    process.kill()
    place.write("hurry", b"")
    done = place.pheap("restore", one.pool)
    check(done.status == REFUSED or "differs" in one.output(), "the program notices, or is refused")


@test
def files_that_are_gone_are_made_again(place):
    one = InPlace(place)
    one.run("--files=save").kill()
    modes = one.modes()
    for path in one.files:
        os.unlink(path)
    one.restore().kill(signal.SIGTERM)
    check_equal(one.modes(), modes, "modes")
    check_equal(sorted(os.listdir(one.folder)), ["one", "other"], "what is in the folder")
    one.finish()


@test
def another_file_in_the_place_is_named_and_left_alone_unless_it_is_a_copy(place):
    one = InPlace(place)
    one.run("--files=save").kill()
    path, away = one.files[0], place.path("away")  # in the same folder it would be found
    os.rename(path, away)
    with open(path, "wb") as f:
        f.write(b"somebody else's")
    expect(place.pheap("restore", one.pool), REFUSED, "pheap restore:", path, "another file")
    with open(path, "rb") as f:
        check_equal(f.read(), b"somebody else's", "the other file")
    os.unlink(path)
    one.restore().kill(signal.SIGTERM)  # made again
    other = one.files[1]
    shutil.copy(other, other + ".copy")
    with open(other, "r+b") as f:
        f.write(b"written to after the kill")  # in place: it is put back
    one.restore().kill(signal.SIGTERM)
    os.unlink(away)
    os.unlink(other + ".copy")
    one.finish()


@test
def a_restore_that_is_killed_half_way_can_be_repeated(place):
    folder, pool = place.make_directory("files"), place.path("pool")
    contents = {os.path.join(folder, name): os.urandom(24 << 20) for name in ("one", "other")}
    for path, content in contents.items():
        with open(path, "wb") as f:
            f.write(content)
    script = ("import sys, time\nfiles = [open(name, 'r+b') for name in sys.argv[1:]]\n"
              "print('ready', flush=True)\ntime.sleep(60)\n")
    process = place.start(PHEAP, "run", "-i", "0", "--files=save", pool, PYTHON, "-c", script, *contents)
    wait_until(lambda: "ready" in process.stdout(), 20, "the program")
    expect(place.pheap("checkpoint", pool), FINE)
    process.kill()
    one, other = contents
    os.unlink(other)
    with open(one, "r+b") as f:
        f.write(b"written to after the cut" * 1000000)
    half_way = 0
    for n in range(8):  # as long as the whole takes, about
        process = place.start(PHEAP, "restore", "-g", "1", pool)
        time.sleep(0.008 * (n + 1))
        process.kill()
        if "resumed" in process.stderr():  # the program lives on without its restorer
            os.kill(process.resumed()["outer_pid"], signal.SIGKILL)
            break
        half_way += len(os.listdir(folder)) > 1
    print(f"# {n} restores killed, {half_way} of them at the files", flush=True)
    process = place.start(PHEAP, "restore", "-g", "1", pool)
    process.resumed()
    for path, content in contents.items():
        with open(path, "rb") as f:
            check(f.read() == content, f"content of {path}")
    check_equal(sorted(os.listdir(folder)), ["one", "other"], "what is in the folder")
    process.kill(signal.SIGTERM)


@test
def on_a_full_disk_a_restore_is_refused_and_nothing_has_changed(place):
    with SmallDisk(place, 2) as disk:
        one = InPlace(place, folder=disk)
        one.run("--files=save").kill()
        before = one.read()
        os.unlink(one.files[0])
        fill(os.path.join(disk, "filler"))
        done = place.pheap("restore", one.pool)
        check(done.status != FINE, "a restore")
        check_in(one.files[0], done.stderr(), "the message")
        check_in("space", done.stderr(), "the message")
        check_equal(sorted(os.listdir(disk)), ["filler", "other"], "what is in the folder")
        with open(one.files[1], "rb") as f:
            check(f.read() == before[1], "the other file is as it was")
        os.unlink(os.path.join(disk, "filler"))
        one.finish()


@test
def what_a_failed_checkpoint_had_read_is_read_again(place):
    content = os.urandom(24 << 20)
    with SmallDisk(place, 64) as disk:
        pool, data = os.path.join(disk, "pool"), place.write("data", content)
        script = ("import os, time\nwhile not os.path.exists('go'): time.sleep(0.02)\n"
                  "f = open('data', 'r+b')\nprint('ready', flush=True)\ntime.sleep(60)\n")
        process = place.start(PHEAP, "run", "-i", "0", "--files=save", pool, PYTHON, "-c", script)
        time.sleep(0.3)
        expect(place.pheap("checkpoint", pool), FINE)
        place.write("go", b"")
        wait_until(lambda: "ready" in process.stdout(), 20, "the program")
        fill(os.path.join(disk, "filler"))
        done = place.pheap("checkpoint", pool)
        check(done.status != FINE, "a checkpoint on a full disk")
        os.unlink(os.path.join(disk, "filler"))
        expect(place.pheap("checkpoint", pool), FINE)
        process.kill()
        with open(data, "r+b") as f:
            f.write(bytes(len(content)))
        process = place.start(PHEAP, "restore", pool)
        process.resumed()
        with open(data, "rb") as f:
            check(f.read() == content, "what was put back")
        process.kill(signal.SIGTERM)


@test
def a_larger_file_is_refused_at_the_checkpoint_by_name(place):
    one = InPlace(place)
    process = place.start(PHEAP, "run", "-i", "0", "--files=save:64K", one.pool, *one.command,
                          stdout=one.out)
    wait_until(lambda: one.output().count("\n") > 3, 20, "output")
    done = place.pheap("checkpoint", one.pool)
    expect(done, done.status, "pheap checkpoint:", one.files[0], "--files=save:1M")
    check(done.status != FINE, "a checkpoint")
    process.kill()


@test
def a_larger_file_that_is_appended_to_is_cut_back_as_ever(place):
    pool, out = place.path("pool"), place.path("out")
    script = ("import time\nf = open('log', 'w')\nfor n in range(200):\n"
              "    f.write(f'{n}' * 500 + '\\n'); f.flush(); print(n, flush=True)\n"
              "    time.sleep(0.005)\n")
    process = place.start(PHEAP, "run", "-i", "40ms", "--files=save:16K", pool, PYTHON, "-c", script,
                          stdout=out)
    place.wait_generation(pool, 8, process)
    process.kill()
    check_equal(place.pheap("restore", pool).status, 0, "status")
    with open(place.path("log"), encoding="ascii") as f:
        check_equal(f.read(), "".join(f"{n}" * 500 + "\n" for n in range(200)), "the log")


@test
def a_file_that_does_not_change_is_written_once(place):
    content = os.urandom(8 << 20)
    pool, data = place.path("pool"), place.write("data", content)
    script = ("import time\nf = open('data', 'r+b')\nprint('ready', flush=True)\n"
              "time.sleep(1)\nf.write(b'x' * 5000); f.flush()\nprint('written', flush=True)\n"
              "time.sleep(60)\n")
    process = place.start(PHEAP, "run", "-i", "0", "--files=save", pool, PYTHON, "-c", script)
    wait_until(lambda: "ready" in process.stdout(), 20, "the program")
    for _ in range(3):
        expect(place.pheap("checkpoint", pool), FINE)
    wait_until(lambda: "written" in process.stdout(), 20, "the program")
    expect(place.pheap("checkpoint", pool), FINE)
    written = [g["written_bytes"] for g in place.inspect(pool, "generations")["generations"]]
    check(max(written) < 2 << 20, f"later generations are small: {written}")
    os.utime(data, (1, 1))
    with open(data, "r+b") as f:
        f.write(b"y" * (8 << 20))
    process.kill()
    generation = str(place.inspect(pool)["resume_generation"])
    found = subprocess.run([PYTHON, SECOND_READER, "file", pool, generation, data], check=True,
                           stdout=subprocess.PIPE).stdout
    check(found == b"x" * 5000 + content[5000:], "what the second reader finds")
    process = place.start(PHEAP, "restore", pool)
    process.resumed()
    with open(data, "rb") as f:
        check(f.read() == found, "what was put back")
    process.kill(signal.SIGTERM)


@test
def a_file_that_somebody_else_has_locked_is_not_touched(place):
    pool, data = place.path("pool"), place.write("data", b"a" * 100)
    script = ("import fcntl, time\nf = open('data', 'r+b')\nfcntl.lockf(f, fcntl.LOCK_EX)\n"
              "print('ready', flush=True)\ntime.sleep(60)\n")
    process = place.start(PHEAP, "run", "-i", "0", "--files=save", pool, PYTHON, "-c", script)
    wait_until(lambda: "ready" in process.stdout(), 20, "the program")
    expect(place.pheap("checkpoint", pool), FINE)
    process.kill()
    other = place.start(PYTHON, "-c", "import fcntl, time\nf = open('data', 'r+b')\n"
                        "fcntl.lockf(f, fcntl.LOCK_EX)\nf.write(b'mine'); f.flush()\n"
                        "print('ready', flush=True)\ntime.sleep(60)\n")
    wait_until(lambda: "ready" in other.stdout(), 20, "the other program")
    done = place.pheap("restore", pool)
    expect(done, done.status, "pheap restore:", data, "locked by another")
    with open(data, "rb") as f:
        check_equal(f.read(4), b"mine", "the file")
    other.kill()
    process = place.start(PHEAP, "restore", pool)
    process.resumed()
    with open(data, "rb") as f:
        check_equal(f.read(4), b"aaaa", "the file, put back")
    process.kill(signal.SIGTERM)


@test
def a_copy_does_not_take_the_files_of_a_running_program(place):
    one = InPlace(place)
    process = one.run("--files=save")
    done = place.pheap("restore", "--copy", place.path("copy"), one.pool)
    expect(done, REFUSED, "pheap restore:", one.folder, "end that program first")
    place.write("hurry", b"")
    check_equal(process.wait(), 0, "the program")
    check_equal(one.output(), one.expected, "output")


def database(place, kind):
    directory, pool = place.make_directory(kind), place.path("pool-" + kind)
    out = os.path.join(directory, "out")
    plain = place.run(PYTHON, "-c", SQLITE, kind, "150", "0",
                      cwd=place.make_directory(kind + "-plain"))
    check_equal(plain.status, 0, f"a plain run: {plain.stderr()}")
    process = place.start(PHEAP, "run", "--files=save", "-i", "50ms", pool, PYTHON, "-c", SQLITE, kind,
                          "150", "8", stdout=out, cwd=directory)
    place.wait_generation(pool, 4, process)
    process.kill()
    process = place.start(PHEAP, "restore", pool)
    place.wait_generation(pool, process.resumed()["generation"] + 3, process)
    process.kill(signal.SIGTERM)
    check_equal(place.pheap("restore", pool).status, 0, "the last restore")
    with open(out, encoding="ascii") as f:
        check(f.read() == plain.stdout(), f"output of {kind}")


@test
def a_database_of_sqlite_is_as_its_program_knows_it(place):
    for kind in ("wal", "memory", "truncate"):
        database(place, kind)


@test
def a_database_of_dbm_is_as_its_program_knows_it(place):
    database(place, "dbm")


@test
def views_show_what_is_saved(place):
    one = InPlace(place)
    one.run("--files=save").kill()
    files = place.inspect(one.pool, "files")
    saved = {f["path"]: f for f in files["saved_contents"]}
    check_equal(sorted(saved), one.files, "saved")
    check_equal(saved[one.files[1]]["bytes"], 64 * 4096, "bytes")
    check_equal([f["content_saved"] for f in files["files"] if f["path"] == one.files[0]], [True],
                "of the descriptor")
    text = place.pheap("inspect", one.pool, "files").stdout()
    check_in("content saved", text, "the text")


if __name__ == "__main__":
    main()
