#!/usr/bin/python3
"""docs/tutorial.md is run as it stands: its programs are built as it says, its commands print what it says."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import pages  # noqa: E402
from pheap_test import LIBRARY, PHEAP, ROOT, check, check_equal, main, test  # noqa: E402


def install(home):
    """What `make install PREFIX=$HOME/pheap` makes, as far as the tutorial needs it: tools.t runs that."""
    prefix = os.path.join(home, "pheap")
    for name in ("bin", "include", "lib/pkgconfig"):
        os.makedirs(os.path.join(prefix, name))
    shutil.copy(os.path.join(ROOT, "core/pheap.h"), os.path.join(prefix, "include"))
    shutil.copy(LIBRARY, os.path.join(prefix, "lib"))
    shutil.copy(PHEAP, os.path.join(prefix, "bin"))
    with open(os.path.join(ROOT, "scripts/pheap.pc.in"), encoding="ascii") as f:
        text = f.read().replace("@PREFIX@", prefix).replace("@LIBDIR@", f"{prefix}/lib").replace("@VERSION@", "1")
    with open(os.path.join(prefix, "lib/pkgconfig/pheap.pc"), "w", encoding="ascii") as f:
        f.write(text)


@test
def what_the_tutorial_shows_is_so(place):
    directory, text = place.make_directory("tutorial"), pages.page("docs/tutorial.md")
    install(directory)
    pages.write_files(directory, text)
    prepare, build = pages.indented(text)
    check_equal(prepare.splitlines()[0], "make install PREFIX=$HOME/pheap", "the first command")
    programs = [name[:-2] for language, name, _ in pages.fenced(text) if language == "c"]
    check(len(programs) > 2, "the tutorial has next to no programs: the test did not find them")
    built = [(build.replace("hello", name).replace("cc ", "cc -Wall -Wextra -Werror "), []) for name in programs]
    shown = [one for language, _, block in pages.fenced(text) if language == "sh" for one in pages.commands(block)]
    check(len(shown) > 5, "the tutorial has next to no commands: the test did not find them")
    pages.run_as_shown(place, directory, built + shown, before=prepare.split("\n", 1)[1], HOME=directory)


if __name__ == "__main__":
    main()
