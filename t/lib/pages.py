"""The examples that the pages show: found, run as they stand, and what they print compared with what is printed there.

A page may have ... for what is not always the same: within a line for anything, as a line of its own for any lines.
Numbers, sizes, times, addresses and identifiers are those of one run: they are not compared.
"""
import os
import re

from pheap_test import FINE, PHEAP, ROOT, Failure, check, expect

HEX = r"\b[0-9a-f]{32}\b|\b(?=[0-9a-f]*\d)[0-9a-f]{16}\b"
NUMBER = HEX + r"|0x[0-9a-f]+|[+-]?\b\d[\d.]*(?: (?:B|KiB|MiB|GiB|ms|us|s|%)(?=[ ,:;)]|$))?"
DEMO = "/tmp/demo"  # where the pages' examples were run


def page(name, section=None):
    """The text of a page, or of one of its sections of the second level."""
    with open(os.path.join(ROOT, name), encoding="utf-8") as f:
        text = f.read()
    return text if section is None else text.split(f"\n## {section}\n")[1].split("\n## ")[0]


def fenced(text):
    """[(language, file name, text)]."""
    return re.findall(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", text, re.M | re.S)


def indented(text):
    """The blocks that are indented by four blanks, without these."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    runs = re.findall(r"(?:^    .*\n(?:[ \t]*\n(?=    ))*)+", text + "\n", re.M)
    return ["".join(line[4:] or "\n" for line in run.splitlines(keepends=True)) for run in runs]


def commands(block):
    """[(command, [line that it prints])] of a block with prompts."""
    parts = [part.splitlines() for part in re.split(r"^\$ ", block, flags=re.M)[1:]]
    return [(command, lines) for command, *lines in parts]


def write_files(directory, text):
    """The programs that a page shows with a name."""
    for _, name, content in fenced(text):
        if name:
            with open(os.path.join(directory, name), "w", encoding="utf-8") as f:
                f.write(content)


def masked(line, directory):
    """Without what is different in each run."""
    line = re.sub(r" \(outer pid \d+\)", "", line.replace(directory, DEMO))
    return " ".join(re.sub(NUMBER, "#", line).split())


def is_line(wanted, line):
    if "..." not in wanted or wanted == line:
        return wanted == line
    return re.fullmatch(".*".join(re.escape(part) for part in wanted.split("...")), line) is not None


def compare(command, said, expected, directory):
    """The lines of the page come in this order; between them there may be others where it has `...`."""
    left = [masked(line, directory) for line in said]
    skips = False
    for line in expected:
        wanted = masked(line, directory)
        if wanted == "...":
            skips = True
            continue
        while left and skips and not is_line(wanted, left[0]):
            left.pop(0)
        if not left or not is_line(wanted, left.pop(0)):
            raise Failure(f"{command}: no line {line!r} in {said}")
        skips = False
    check(skips or not left, f"{command}: it says more than the page: {left}")


def run_all(place, directory, lines, before="", **environment):
    """One shell for all of them, what they say on stderr included; what each said. Through a pipe: a file would be
    cut back when a program is resumed that has it for its stderr."""
    script = before + "\n" + "".join(f"echo '@@@'\n{line}\n" for line in lines)
    path = f"{os.path.dirname(PHEAP)}:{os.environ['PATH']}"
    done = place.run("/bin/bash", "-c", '/bin/bash -c "$0" 2>&1 | cat', script, cwd=directory,
                     environment={"PATH": path, **environment})
    expect(done, FINE)
    # The shell's own words, and what an agent says on a machine that is busy with other things.
    said = re.sub(r"^(\S+: line \d+: +\d+ Killed |pheap: the program was stopped for \d+ ms).*\n", "", done.stdout(),
                  flags=re.M)
    return [lines.splitlines() for lines in said.split("@@@\n")[1:]]


def run_as_shown(place, directory, shown, **keywords):
    """shown: [(command, lines)]; {command: what it said} of those that are shown once."""
    said = run_all(place, directory, [command for command, _ in shown], **keywords)
    check(len(said) == len(shown), f"{len(shown)} commands, and the shell ran {len(said)}")
    for (command, expected), lines in zip(shown, said):
        compare(command, lines, expected, directory)
    return {command: lines for (command, _), lines in zip(shown, said)}
