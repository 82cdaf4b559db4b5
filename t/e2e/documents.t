#!/usr/bin/python3
"""What the pages show is so: README.md's session, the user guide's session, C fragments, options and variables, the
columns of inspect.md's views, recover.md's collection. (tutorial.md: tutorial.t; a leak: inspect_tutorial.t.)"""
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import pages  # noqa: E402
from inspected import Inspected  # noqa: E402
from pheap_test import (BUILD, FINE, LIBRARY, PHEAP, PYTHON, ROOT, Failure, check, check_equal, check_in,  # noqa: E402
                        expect, main, test)

GUIDE, INSPECT, RECOVER = "docs/user-guide.md", "docs/inspect.md", "docs/recover.md"


def shown_in(text):
    return [one for language, _, block in pages.fenced(text) if language == "sh" for one in pages.commands(block)]


def make_demo(place, text):
    """A directory with the page's programs, and the system's python3 first in PATH."""
    directory = place.make_directory("demo")
    pages.write_files(directory, text)
    os.symlink(PYTHON, os.path.join(place.make_directory("bin"), "python3"))
    return directory, f"PATH={place.path('bin')}:$PATH\n"


def build(place, name, source, *flags):
    path = place.write(name + ".c", source)
    expect(place.run("cc", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-Wno-misleading-indentation", "-I",
                     os.path.join(ROOT, "core"), path, "-o", place.path(name), *flags), FINE)
    return place.path(name)


LINKED = ("-DPHEAP_LINKED", "-L" + os.path.dirname(LIBRARY), "-lpheap", "-Wl,-rpath," + os.path.dirname(LIBRARY))


# --- sessions ---

def without_rounds(lines):
    """How many of the program's lines fall into which part is a matter of time."""
    kept = []
    for line in lines:
        line = "a round" if re.match(r" *round +\d+ of", line) else line
        if not kept or line != "a round" or kept[-1] != line:
            kept.append(line)
    return kept


@test
def the_readme_shows_what_make_demo_prints(place):
    shown = "".join(pages.indented(pages.page("README.md", "A session"))).splitlines()
    shown = without_rounds([re.sub(r"/\S*/pheap-demo-\w+", pages.DEMO, line) for line in shown if line.strip() != "..."])
    check(len(shown) > 15, f"README.md shows next to nothing: {shown}")
    done = place.run(os.path.join(ROOT, "scripts/demo"), environment={"PHEAP_BUILD": BUILD})
    expect(done, FINE)
    said = [re.sub(r"/\S*/pheap-demo-\w+", pages.DEMO, line) for line in done.stdout().splitlines()]
    pages.compare("make demo", without_rounds(said),
                  [part for line in shown for part in ("...", line)] + ["..."], pages.DEMO)


@test
def the_session_of_the_user_guide_goes_as_it_is_printed(place):
    text = pages.page(GUIDE, "A program under pheap")
    directory, path = make_demo(place, text)
    # On a machine that is busy with other things a second may be over before the program has begun.
    path += 'sleep() { command sleep "$1"; until [ -s count.txt ]; do command sleep 0.05; done; }\n'
    shown = shown_in(text)
    check(len(shown) > 7, "the guide has next to no commands: the test did not find them")
    pages.run_as_shown(place, directory, shown, before=path)


SERVER = """
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include "pheap.h"

int main(void)
{
    for (;;) {
        for (int i = 0; i < 3000; i++)
            *(char volatile *)malloc(3000) = 1; /* nobody frees it */
        if ((unsigned long)pheap_checkpoint() != (unsigned long)pheap_resumed_generation())
            raise(SIGKILL); /* else it is resumed, and goes on */
    }
}
"""


@test
def what_nothing_leads_to_is_collected_as_recover_md_shows(place):
    directory = place.make_directory("demo")
    os.rename(build(place, "server", SERVER), os.path.join(directory, "server"))
    place.run(PHEAP, "run", "-i", "0", "--no-crash", os.path.join(directory, "pool"), os.path.join(directory, "server"))
    shown = shown_in(pages.page(RECOVER))
    check_equal(len(shown), 3, "commands of recover.md")
    pages.run_as_shown(place, directory, shown)


# --- views ---

def is_title(line):
    return len(line.split()) > 1 and not re.search(r"\d|\.\.\.", line)


def check_titles(said, command, lines):
    """The lines without numbers are there; how many there were."""
    titles = [" ".join(line.split()) for line in lines if is_title(line)]
    printed = [" ".join(line.split()) for line in said.splitlines()]
    for title in titles:
        check(title in printed or "free: no run" in printed, f"{command}: no line {title!r} in {printed[:40]}")
    return len(titles)


@test
def the_views_have_the_columns_that_inspect_md_shows(place):
    program = Inspected(place)
    program.command("grow")
    program.checkpoint()
    hello = build(place, "hello", dict((name, text) for _, name, text in pages.fenced(pages.page("docs/tutorial.md")))
                  ["hello.c"], *LINKED)
    expect(place.run(hello), FINE)
    os.rename(place.path("visits"), place.path("heap"))
    text = pages.page(INSPECT).split("\n## Finding a leak\n")[0]
    needle = program.look("blocks", "--size", "40-60")[0]["blocks"][1]["address"]
    program.kill()
    looked, titles = 0, 0
    for command, lines in [one for block in pages.indented(text) for one in pages.commands(block)]:
        words = re.sub(r"0x\w+", hex(needle), command).split()
        done = place.pheap(*words[1:])
        expect(done, FINE)
        titles += check_titles(done.stdout(), command, lines)
        looked += 1
    check(looked > 12 and titles > 12, f"{looked} commands with {titles} titles: the test did not find them")


# --- C ---

MAIN = '#include "pheap.h"\n#include <stdio.h>\n#include <stdlib.h>\n%s\nint main(void)\n{\n%s\n%s\n%s\n}\n'


def fragment(place, page, part, before, after, declared="", flags=()):
    """The page's only fragment with this part, as a program."""
    found = [text for language, name, text in pages.fenced(pages.page(page))
             if language == "c" and not name and part in text]
    check_equal(len(found), 1, f"fragments of {page} with {part!r}")
    return build(place, "fragment", MAIN % (declared, before, found[0], after), *flags)


@test
def the_checkpoint_of_the_user_guide_is_taken_under_pheap_alone(place):
    program = fragment(place, GUIDE, "pheap_checkpoint()", "    int64_t number = 0;",
                       '    printf("%ld\\n", (long)number);\n    return 0;')
    check_equal(place.run(program).stdout(), "0\n", "without pheap")
    done = place.run(PHEAP, "run", "-i", "0", place.path("pool"), program)
    check_equal((done.stdout(), done.stderr()), ("1\n", ""), "under pheap")


@test
def the_root_of_the_user_guide_is_shown(place):
    program = fragment(place, GUIDE, "pheap_root_put", "    void *table = malloc(100);", "    return 0;")
    expect(place.run(PHEAP, "run", "--at-exit", place.path("pool"), program), FINE)
    check_in("sessions", place.pheap("inspect", place.path("pool"), "roots").stdout(), "roots")
    check_in("sessions", place.pheap("inspect", place.path("pool"), "retained", "sessions").stdout(), "retained")


@test
def the_transactions_of_the_pages_are_committed(place):
    account = "enum { TYPE_ACCOUNT = 1 };\nstruct account { long balance; };"
    flags = ("-Wno-unused-result", *LINKED)
    program = fragment(place, "docs/transactions.md", "pheap_open", "", "    return status || pheap_close(heap);", account,
                       flags)
    expect(place.run(program), FINE)
    opened = """
    struct account *from, *to;
    struct pheap *heap;
    struct pheap_tx *setup;
    int status;
    if (pheap_open("accounts", 0, NULL, &heap) || pheap_tx_begin(heap, &setup))
        return 1;
    from = pheap_root(heap, "first", NULL);
    if (pheap_tx_alloc(setup, sizeof *to, TYPE_ACCOUNT, (void **)&to) || pheap_tx_commit(setup))
        return 2;"""
    program = fragment(place, GUIDE, "PHEAP_TX_END_WITH", opened,
                       '    printf("%ld %ld\\n", from->balance, to->balance);\n    return status || pheap_close(heap);',
                       account, flags)
    done = place.run(program)
    expect(done, FINE)
    check_equal(done.stdout(), "90 10\n", "balances")


# --- options and variables ---

def options_in(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


@test
def the_guide_names_the_options_that_there_are(place):
    rows = re.findall(r"^\| `pheap (\w+)(.*?)` \|(.*)$", pages.page(GUIDE), re.M)
    everywhere = options_in(pages.page(GUIDE) + pages.page(INSPECT) + pages.page(RECOVER))
    commands = {name for name, _, _ in rows}
    check_equal(commands, {"run", "checkpoint", "restore", "inspect", "recover", "doctor"}, "commands of the guide")
    for command in commands:
        said = place.pheap(command, "--help").stdout()
        there = options_in(said) - {"--help", "--version"}
        short = dict(re.findall(r"(-\w), (--[a-z-]+)", said))
        by_short = {long for letter, long in short.items() if re.search(rf"\[{letter}[ |\]]", pages.page(GUIDE))}
        named = set().union(*(options_in(usage + text) for name, usage, text in rows if name == command))
        check_equal(named - there, set(), f"options that pheap {command} does not have")
        check_equal(there - everywhere - by_short, set(), f"options of pheap {command} that no page names")


@test
def the_guide_names_the_variables_that_there_are(place):
    rows = re.findall(r"^\| (`PHEAP_.*?) \|", pages.page(GUIDE), re.M)
    named = {name for row in rows for name in re.findall(r"PHEAP_[A-Z_]+", row)}
    read = set()
    for folder in ("core", "preload", "tools"):
        for path in subprocess.run(["grep", "-rhoE", '"PHEAP_[A-Z_]+"', "--include=*.c", os.path.join(ROOT, folder)],
                                   capture_output=True, text=True, check=False).stdout.split():
            read.add(path.strip('"'))
    check(len(read) > 15, f"variables in the sources: {read}")
    check_equal(named, read - {"PHEAP_"} - {"PHEAP_GENERATION"}, "variables")
    done = place.pheap("run", place.path("pool"), "true", environment={name + "X": "1" for name in named})
    for name in named - {"PHEAP_CHECK"}:
        check_in(f"(did you mean '{name}'?)", done.stderr(), "what pheap run says of mistyped ones")


if __name__ == "__main__":
    if not shutil.which("cc"):
        raise Failure("no cc: scripts/packages has it")
    main()
