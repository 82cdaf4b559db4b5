#!/usr/bin/python3
"""docs/tutorial.md is run as it stands: its programs are built, its commands print what it says."""
import os
import re
import shlex
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import FINE, LIBRARY, PHEAP, ROOT, Failure, check, expect, main, test  # noqa: E402


def blocks():
    with open(os.path.join(ROOT, "docs/tutorial.md"), encoding="utf-8") as f:
        return re.findall(r"^```(c|sh)(?: (\S+))?\n(.*?)^```$", f.read(), re.M | re.S)


def compare(command, said, expected):
    """A line of the tutorial may have ... for what is not always the same; alone, for any lines."""
    if expected == ["..."]:
        return
    if len(said) < len(expected):
        raise Failure(f"{command}: {said}, the tutorial has {expected}")
    for wanted in expected:
        pattern = ".*".join(re.escape(part) for part in wanted.split("..."))
        check(any(re.fullmatch(pattern, line) for line in said), f"{command}: no line {wanted!r} in {said}")
    if "..." not in "".join(expected):
        check(said == expected, f"{command}: {said}, the tutorial has {expected}")


@test
def what_the_tutorial_shows_is_so(place):
    directory, library = place.make_directory("tutorial"), os.path.dirname(LIBRARY)
    shutil.copyfile(os.path.join(ROOT, "core/pheap.h"), os.path.join(directory, "pheap.h"))
    commands = 0
    for kind, name, text in blocks():
        if kind == "c":
            with open(os.path.join(directory, name), "w", encoding="utf-8") as f:
                f.write(text)
            expect(place.run("cc", "-DPHEAP_LINKED", "-Wall", "-Wextra", "-Werror", "-I", directory,
                             os.path.join(directory, name), "-o",
                             os.path.join(directory, name[:-2]), "-L" + library, "-lpheap",
                             "-lpthread", "-Wl,-rpath," + library), FINE)
            continue
        for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
            command, *expected = part.splitlines()
            words = [PHEAP if word == "pheap" else word for word in shlex.split(command)]
            done = place.run(*words, cwd=directory)
            expect(done, FINE)
            compare(command, done.stdout().splitlines(), expected)
            commands += 1
    check(commands > 5, "the tutorial has next to no commands: the test did not find them")


if __name__ == "__main__":
    main()
