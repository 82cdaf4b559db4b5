#!/usr/bin/python3
"""Dirty pages found by comparing checksums, as on a kernel without PAGEMAP_SCAN (Debian 12's own)."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from killed_twice import NOBODY, add  # noqa: E402
from pheap_test import main  # noqa: E402

by_checksum = {"PHEAP_TRACK": "checksum"}
add(["perl", "threads_conditions"], environment=by_checksum, as_what=" by checksums")
add(["python3"], environment=by_checksum, uid=NOBODY, as_what=" by checksums without privilege")
main()
