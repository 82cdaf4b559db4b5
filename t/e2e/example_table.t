#!/usr/bin/python3
"""docs/examples/table.c: two indexes that agree whatever threads and kills do."""
import os
import shutil
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (FINE, LIBRARY, ROOT, ROUNDS, check, check_equal, check_in,  # noqa: E402
                        expect, main, test, wait_until)


def build(place):
    binary, library = place.path("table"), os.path.dirname(LIBRARY)
    shutil.copyfile(os.path.join(ROOT, "core/pheap.h"), place.path("pheap.h"))
    expect(place.run("cc", "-DPHEAP_LINKED", "-O2", "-g", "-Wall", "-Wextra",
                     "-Werror", "-I", place.path(), os.path.join(ROOT, "docs/examples/table.c"),
                     "-o", binary, "-L" + library, "-lpheap", "-lpthread",
                     "-Wl,-rpath," + library), FINE)
    return binary


@test
def rows_are_found_by_id_and_by_name(place):
    binary, data = build(place), place.path("data")

    def table(*words, status=FINE):
        done = place.run(binary, data, *words)
        check_equal(done.status, status, " ".join(words) + ": " + done.stderr())
        return done.stdout().splitlines()

    for row in ("5 bob 10", "3 cid 20", "9 ann 30"):
        table("add", *row.split())
    table("add", "9", "other", "1", status=1)
    check_equal(table("by-id"), ["3 cid 20", "5 bob 10", "9 ann 30"], "by id")
    check_equal(table("by-name"), ["9 ann 30", "5 bob 10", "3 cid 20"], "by name")
    table("set", "3", "aaa", "25")
    check_equal(table("by-name", "aab", "1"), ["9 ann 30"], "from aab, one")
    check_equal(table("get", "3"), ["3 aaa 25"], "a row")
    table("remove", "5")
    table("get", "5", status=1)
    table("get", "five", status=2)
    table("add", "7", "eve", "1O", status=2)
    check_equal(table("check"), ["2 rows, amounts 55"], "check")
    expect(place.pheap("recover", "--check", data), FINE)


@test
def threads_are_killed_and_the_indexes_agree(place):
    binary, data = build(place), place.path("data")
    for _ in range(3 * ROUNDS):
        process = place.start(binary, data, "run", 4, 60)
        wait_until(lambda p=process: "running" in p.stdout(), 60, "the threads")
        time.sleep(place.random.uniform(0.2, 0.8))
        process.kill()
        done = place.run(binary, data, "check")
        expect(done, FINE)
        check_in("amounts 0\n", done.stdout(), "what the threads have moved adds up")
        check(int(done.stdout().split()[0]) > 100, done.stdout() + "next to nothing was kept")


if __name__ == "__main__":
    main()
