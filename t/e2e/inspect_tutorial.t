#!/usr/bin/python3
"""docs/inspect.md, "Finding a leak", is run as it stands: a program that leaks, and what finds it."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import pages  # noqa: E402
from pheap_test import check, main, test  # noqa: E402


def bytes_of(said, pattern):
    size = re.search(pattern, "\n".join(said), re.M).group(1).split()
    return float(size[0]) * {"KiB": 1 << 10, "MiB": 1 << 20}[size[1]]


@test
def what_the_page_shows_is_so(place):
    directory, text = place.make_directory("demo"), pages.page("docs/inspect.md", "Finding a leak")
    pages.write_files(directory, text)
    shown = [one for language, _, block in pages.fenced(text) if language == "sh" for one in pages.commands(block)]
    check(len(shown) > 8, "the page has next to no commands: the test did not find them")
    said = pages.run_as_shown(place, directory, shown)
    leaks = said["pheap inspect pool leaks"]
    counted, estimated = bytes_of(leaks, r", ([\d.]+ .iB)$"), bytes_of(leaks, r"^  about ([\d.]+ .iB)")
    samples = counted / (512 << 10)
    check(abs(estimated - counted) < 5 * counted / samples ** 0.5, f"estimated {estimated} of {counted}")


if __name__ == "__main__":
    main()
