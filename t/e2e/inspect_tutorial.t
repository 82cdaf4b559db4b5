#!/usr/bin/python3
"""docs/inspect.md, "Finding a leak", is run as it stands: a program that leaks, and what finds it."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import FINE, PHEAP, ROOT, Failure, check, expect, main, test  # noqa: E402

NUMBER = r"0x[0-9a-f]+|[+-]?\b\d[\d.]*(?: (?:B|KiB|MiB|GiB|ms|us|s|%)(?= |,|$))?"


def blocks():
    """[(language, file name, text)] of the section."""
    with open(os.path.join(ROOT, "docs/inspect.md"), encoding="utf-8") as f:
        section = f.read().split("\n## Finding a leak\n")[1].split("\n## ")[0]
    return re.findall(r"^```(c|sh)(?: (\S+))?\n(.*?)^```$", section, re.M | re.S)


def masked(line, directory):
    """Without what is different in each run: numbers, blanks, the directory."""
    line = line.replace(directory, "/tmp/demo")
    return " ".join(re.sub(NUMBER, "#", line).split())


def compare(command, said, expected, directory):
    """The lines of the page come in this order; between them there may be others where it has `...`."""
    left = [masked(line, directory) for line in said]
    skips = False
    for line in expected:
        wanted = masked(line, directory)
        if wanted == "...":
            skips = True
            continue
        while left and left[0] != wanted and skips:
            left.pop(0)
        if not left or left.pop(0) != wanted:
            raise Failure(f"{command}: no line {line!r} in {said}")
        skips = False
    check(skips or not left, f"{command}: it says more than the page: {left}")


def run_all(place, directory, commands):
    """One shell for all of them; what each said."""
    script = "".join(f"echo '@@@'\n{command}\n" for command in commands)
    path = os.path.dirname(PHEAP) + ":" + os.environ["PATH"]
    done = place.run("/bin/bash", "-c", script, cwd=directory, environment={"PATH": path})
    expect(done, FINE)
    return [said.splitlines() for said in done.stdout().split("@@@\n")[1:]]


def bytes_of(said, pattern):
    size = re.search(pattern, "\n".join(said), re.M).group(1).split()
    return float(size[0]) * {"KiB": 1 << 10, "MiB": 1 << 20}[size[1]]


@test
def what_the_page_shows_is_so(place):
    directory, parts = place.make_directory("demo"), []
    for kind, name, text in blocks():
        if kind == "c":
            with open(os.path.join(directory, name), "w", encoding="utf-8") as f:
                f.write(text)
        else:
            parts += [part.splitlines() for part in re.split(r"^\$ ", text, flags=re.M)[1:]]
    commands = [part[0] for part in parts]
    check(len(commands) > 8, "the page has next to no commands: the test did not find them")
    said = dict(zip(commands, run_all(place, directory, commands)))
    for command, *expected in parts:
        compare(command, said[command], expected, directory)
    leaks = said["pheap inspect pool leaks"]
    counted, estimated = bytes_of(leaks, r", ([\d.]+ .iB)$"), bytes_of(leaks, r"^  about ([\d.]+ .iB)")
    samples = counted / (512 << 10)
    check(abs(estimated - counted) < 5 * counted / samples ** 0.5, f"estimated {estimated} of {counted}")


if __name__ == "__main__":
    main()
