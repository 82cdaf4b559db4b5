"""A file system of a few megabytes, for tests of what happens when it is full."""
import os
import subprocess

from pheap_test import Skip


class SmallDisk:
    """A file system of a few megabytes (root only)."""

    def __init__(self, place, mb):
        if os.geteuid() != 0:
            raise Skip("mounts a small file system: needs root")
        self.path = place.make_directory("disk")
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mb}m", "tmpfs", self.path],
                                 check=False, capture_output=True, text=True)
        if mounted.returncode != 0:
            raise Skip("cannot mount: " + mounted.stderr.strip())

    def __enter__(self):
        return self.path

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.path], check=True)


def fill(path):
    with open(path, "wb", buffering=0) as f:
        try:
            while f.write(bytes(1 << 16)):
                pass
        except OSError:
            pass
