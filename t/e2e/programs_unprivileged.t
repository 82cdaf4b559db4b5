#!/usr/bin/python3
"""All programs again as an ordinary user without any capability."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from killed_twice import ALL, NOBODY, add  # noqa: E402
from pheap_test import main  # noqa: E402

add(ALL, uid=NOBODY, as_what=" without privilege")
main()
