#!/usr/bin/python3
"""What may happen to the disk below a pool: an error that makes it read-only, one that makes every
write and every sync fail, a quota, a pool that somebody truncates, a file system that is pulled away.
The program goes on, the last generation stays, the reason is said. And two programs never write one
pool, by whatever name they call it. Needs root for the file systems (in a file, by loop device)."""
import ctypes
import fcntl
import os
import signal
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, FINE, NOBODY, PHEAP, Skip, check, check_equal,  # noqa: E402
                        check_in, expect, main, test, wait_until)

COUNTER = os.path.join(BUILT_PROGRAMS, "counter")
DIRTY_PAGES = os.path.join(BUILT_PROGRAMS, "dirty_pages")
EXT4_IOC_SHUTDOWN = 0x8004587d
SHUTDOWN_NOLOGFLUSH = 2
Q_SETQUOTA_USER = (0x800008 << 8) | 0


class Disk:
    """An ext4 file system of some megabytes, in a file (root only)."""

    def __init__(self, place, mb=64, features="", options="loop"):
        if os.geteuid() != 0:
            raise Skip("mounts a file system: needs root")
        self.image, self.path, self.options = place.path("image"), place.make_directory("disk"), options
        with open(self.image, "wb") as image:
            image.truncate(mb << 20)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", *(["-O", features] if features else []),
                        self.image], check=True)
        self.mount()
        os.chmod(self.path, 0o777)

    def mount(self):
        done = subprocess.run(["mount", "-o", self.options, self.image, self.path], check=False,
                              capture_output=True, text=True)
        if done.returncode != 0:
            raise Skip("cannot mount: " + done.stderr.strip())

    def device(self):
        with open("/proc/mounts", encoding="utf-8") as mounts:
            return [line.split()[0] for line in mounts if line.split()[1] == self.path][-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.path], check=False, stderr=subprocess.DEVNULL)


class Writer:
    """Writes pages on request; checkpoints only on request."""

    def __init__(self, place, pool, megabytes=8):
        path = place.path(".lines")
        if not os.path.exists(path):
            os.mkfifo(path)
            place.give(path)
        self.fd, self.place, self.pool, self.said = os.open(path, os.O_RDWR), place, pool, 0
        self.process = place.start(PHEAP, "run", "-i", "0", pool, DIRTY_PAGES, str(megabytes),
                                   stdin=path)
        wait_until(lambda: "ready" in self.process.stdout(), 60, "its start")

    def goes_on(self):
        os.write(self.fd, b"1500\n")
        self.said += 1
        wait_until(lambda: self.process.stdout().count("1500") == self.said, 60, "its writes")

    def checkpoint(self):
        self.goes_on()
        done = self.place.pheap("checkpoint", self.pool)
        self.goes_on()
        return done

    def end(self):
        self.process.kill()
        os.close(self.fd)


@test
def on_a_file_system_that_turned_read_only_the_program_goes_on(place):
    with Disk(place, options="loop,errors=remount-ro") as disk:
        pool = os.path.join(disk.path, "pool")
        writer = Writer(place, pool)
        expect(writer.checkpoint(), FINE)
        with open(f"/sys/fs/ext4/{os.path.basename(disk.device())}/trigger_fs_error", "w",
                  encoding="utf-8") as trigger:
            trigger.write("by a test of pheap")
        for _ in range(6):  # what the pool has room for already may still be written
            done = writer.checkpoint()
            if done.status != FINE:
                break
        check(done.status != FINE, "checkpoints go on")
        check("read-only" in done.stderr().lower() or "input/output" in done.stderr().lower(),
              done.stderr())
        check(place.newest(pool) >= 1, "the last generation stays")
        writer.end()


@test
def when_writes_and_syncs_fail_the_last_generation_stays(place):
    with Disk(place) as disk:
        pool = os.path.join(disk.path, "pool")
        writer = Writer(place, pool)
        for _ in range(2):
            expect(writer.checkpoint(), FINE)
        directory = os.open(disk.path, os.O_RDONLY)
        fcntl.ioctl(directory, EXT4_IOC_SHUTDOWN, struct.pack("I", SHUTDOWN_NOLOGFLUSH))
        os.close(directory)
        for _ in range(3):
            done = writer.checkpoint()
            check(done.status != FINE, "a checkpoint on a dead disk")
            check_in("input/output", done.stderr().lower(), "the reason")
        writer.process.kill()
        subprocess.run(["umount", disk.path], check=True)
        disk.mount()
        check_equal(place.newest(pool), 2, "the newest generation, after another mount")
        expect(place.pheap("recover", "--check", pool), FINE)
        resumed = place.start(PHEAP, "restore", pool)
        resumed.resumed()
        os.close(writer.fd)
        check_equal(resumed.wait(), 0, "the resumed program, at the end of its stdin")


class Quota(ctypes.Structure):
    """struct if_dqblk"""
    _fields_ = [(name, ctypes.c_uint64) for name in (
        "hard", "soft", "space", "ihard", "isoft", "inodes", "btime", "itime")] + [
            ("valid", ctypes.c_uint32)]


def set_quota(device, uid, kilobytes):
    quota = Quota(hard=kilobytes, soft=0, valid=1)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.quotactl(ctypes.c_int(Q_SETQUOTA_USER - (1 << 32)), device.encode(), uid,
                     ctypes.byref(quota)) != 0:
        raise Skip("no quotas here: " + os.strerror(ctypes.get_errno()))


@test
def over_its_quota_the_program_goes_on_and_with_more_it_is_checkpointed(place):
    with Disk(place, mb=96, features="quota", options="loop,usrquota") as disk:
        set_quota(disk.device(), NOBODY, 24 << 10)
        place.uid = NOBODY
        place.give(place.directory)
        pool = os.path.join(disk.path, "pool")
        writer = Writer(place, pool)
        for taken in range(1, 30):
            done = writer.checkpoint()
            if done.status != FINE:
                break
        check(1 < taken < 29, f"{taken} checkpoints")
        check_in("quota", done.stderr().lower(), "the reason")
        check_equal(place.newest(pool), taken - 1, "the newest generation")
        place.uid = None
        set_quota(disk.device(), NOBODY, 0)
        place.uid = NOBODY
        expect(writer.checkpoint(), FINE)
        writer.end()
        place.uid = None


@test
def a_pool_that_somebody_truncates_ends_checkpoints_and_not_the_program(place):
    pool = place.path("pool")
    writer = Writer(place, pool)
    expect(writer.checkpoint(), FINE)
    os.truncate(pool, 8192)
    done = writer.checkpoint()
    check(done.status != FINE, "a checkpoint into a pool of which most is gone")
    check_in("truncated", done.stderr().lower(), "the reason")
    check(writer.checkpoint().status != FINE, "the next one")
    writer.end()


@test
def a_file_system_that_is_pulled_away_does_not_stop_the_program(place):
    with Disk(place) as disk:
        pool = os.path.join(disk.path, "pool")
        process = place.start(PHEAP, "run", "-i", "20ms", pool, COUNTER, "150", "0", "10")
        place.wait_generation(pool, 2, process)
        subprocess.run(["umount", "-l", disk.path], check=True)
        check_equal(process.wait(), 0, "its exit status")
        check_equal(process.stdout().splitlines()[-1:], ["150 11325"], "its last line")


@test
def two_programs_never_write_one_pool_whatever_its_name(place):
    pool = place.path("pool")
    first = place.start(PHEAP, "run", "-i", "0", pool, COUNTER, "3000", "0", "10")
    wait_until(lambda: first.stdout(), 20, "output of the counter")
    os.link(pool, place.path("hard"))
    os.symlink(pool, place.path("soft"))
    for name in ("pool", "hard", "soft"):
        second = place.run(PHEAP, "run", "-i", "0", place.path(name), COUNTER, "1")
        check(second.status != 0 and second.stdout() == "",
              f"{name}: status {second.status}, {second.stdout()!r}")
    expect(place.pheap("checkpoint", pool), FINE)
    first.kill()


@test
def of_many_that_begin_at_once_one_has_the_pool(place):
    for attempt in range(3):
        pool = place.path(f"pool-{attempt}")
        all_of_them = [place.start(PHEAP, "run", "-i", "0", pool, COUNTER, "400", "0", "10")
                       for _ in range(4)]
        ends = [process.wait() for process in all_of_them]
        # Who comes too late is refused, or goes on with a volatile heap and says so.
        won = [p for p, status in zip(all_of_them, ends)
               if status == 0 and "in use by process" not in p.stderr()]
        check_equal(len(won), 1, f"programs that had the pool, of {ends}")
        check_equal(len(won[0].stdout().splitlines()), 400, "lines of the one")


main()
