#!/usr/bin/python3
"""A calculator, a database, a compressor, and threads with condition variables. Killed with SIGKILL at random moments, as whoever runs the test."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from killed_twice import add  # noqa: E402
from pheap_test import main  # noqa: E402

add(["bc", "sqlite3", "xz", "threads_conditions"])
main()
