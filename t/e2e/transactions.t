#!/usr/bin/python3
"""Heaps that programs open by themselves: killed at random, every transaction that was said to be
durable is there, whole; and pools of one sort are not taken for the other."""
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, DAMAGED, FINE, FOUND, LIBRARY, PYTHON, REFUSED, ROOT, ROUNDS, USAGE,  # noqa: E402
                        check, check_equal, check_in, expect, expect_whole, main, test, wait_until)
from transfers import TRANSFERS, check_all_there, said  # noqa: E402

PRELOADED = {"LD_PRELOAD": LIBRARY}
KILLS = 20


def start(place, pool, threads, **keywords):
    return place.start(TRANSFERS, pool, "run", threads, environment=PRELOADED, **keywords)


def found(place, pool):
    done = place.run(TRANSFERS, pool, "check", environment=PRELOADED)
    expect(done, FINE)
    for line in done.stdout().splitlines():
        check(len(line.split()) == 2, f"the heap does not make sense: {line}")
    return said(done.stdout())


@test
def every_transfer_that_was_said_is_there_after_kill_9(place):
    pool = place.path("pool")
    total = before = 0
    for round_number in range(KILLS * ROUNDS):
        process = start(place, pool, 1 + round_number % 8)
        wait_until(lambda: "\n" in process.stdout(), 20, "a transfer")
        time.sleep(random.random() * 0.2)
        process.kill()
        there = found(place, pool)
        check_all_there(process, there, f"round {round_number}")
        total = sum(there.values())
        check(total >= before, f"{before} transfers before, {total} now")
        before = total
    place.note(f"{KILLS * ROUNDS} kills, {total} transfers")


@test
def a_reader_finds_it_making_sense_while_it_is_written(place):
    pool = place.path("pool")
    process = start(place, pool, 4)
    wait_until(lambda: "\n" in process.stdout(), 20, "a transfer")
    for _ in range(20):
        before = said(process.stdout())
        there = found(place, pool)
        check(all(there[thread] >= number for thread, number in before.items()),
              f"said {before}, found {there}")
    process.kill()


@test
def a_second_writer_is_refused(place):
    pool = place.path("pool")
    process = start(place, pool, 1)
    wait_until(lambda: "\n" in process.stdout(), 20, "a transfer")
    second = place.run(TRANSFERS, pool, "run", 1, environment=PRELOADED)
    check_equal(second.status, 1, "exit status")
    check_in("in use", second.stdout(), "output")
    for words in (("run", pool, "/bin/true"), ("recover", "--pin", 1, pool), ("recover", "--compact", pool)):
        expect(place.pheap(*words), REFUSED, "a program has this heap open")
    process.kill()


@test
def a_heap_is_not_run_on_and_a_program_is_not_opened(place):
    heap, pool = place.path("heap"), place.path("pool")
    process = start(place, heap, 1)
    wait_until(lambda: "\n" in process.stdout(), 20, "a transfer")
    process.kill()
    before = found(place, heap)
    for options in ((), ("--fresh",), ("--resume",)):
        expect(place.pheap("run", *options, heap, "/bin/true"), REFUSED, "heap")
    expect(place.pheap("checkpoint", heap), REFUSED, "pheap_heap_checkpoint")
    done = place.run("/bin/true", environment=dict(PRELOADED, PHEAP_POOL=heap))
    expect(done, FINE)
    check_in("heap", done.stderr(), "stderr")
    check_equal(found(place, heap), before, "transfers")
    expect(place.pheap("run", pool, "/bin/true"), FINE)
    done = place.run(TRANSFERS, pool, "run", 1, environment=PRELOADED)
    check_equal(done.status, 1, "exit status")
    check_in("program's checkpoints", done.stdout(), "output")


@test
def a_program_that_is_checkpointed_opens_heaps_for_reading_only(place):
    heap, pool = place.path("heap"), place.path("pool")
    process = start(place, heap, 1)
    wait_until(lambda: "\n" in process.stdout(), 20, "a transfer")
    process.kill()
    done = place.pheap("run", "--fresh", pool, TRANSFERS, heap, "run", 1)
    check_in("for reading only", done.stdout(), "output")
    check(place.inspect(pool)["slot"] < 26 <= place.inspect(heap)["slot"], "each has slots of its own")
    done = place.pheap("run", "--fresh", pool, TRANSFERS, heap, "check")
    expect(done, FINE)
    check_equal(said(done.stdout()), found(place, heap), "transfers")


@test
def the_tools_look_at_a_heap_without_harm(place):
    pool = place.path("pool")
    process = start(place, pool, 2)
    wait_until(lambda: "\n" in process.stdout(), 20, "a transfer")
    process.kill()
    before = found(place, pool)
    summary = place.inspect(pool)
    check_equal(summary["format_version"], 3, "format")
    check_equal({g["kind"] for g in summary["generations"]}, {"heap"}, "kinds")
    check(place.pheap("restore", pool).status != FINE, "restored")
    live = place.inspect(pool, "heap")["heap"]["live_blocks"]
    check(live > 0, f"{live} blocks")
    listed = place.run(PYTHON, os.path.join(ROOT, "t/lib/second_reader.py"), "list", pool)
    expect(listed, FINE)
    check_equal(listed.stdout().count("\ngeneration "), len(summary["generations"]),
                "generations that the second reader finds")
    check_equal(found(place, pool), before, "transfers")


@test
def the_example_keeps_accounts(place):
    binary, heap = place.path("accounts"), place.path("heap")
    place.run("cp", os.path.join(ROOT, "core/pheap.h"), place.path("pheap.h"))
    library = os.path.dirname(LIBRARY)
    done = place.run("cc", "-DPHEAP_LINKED", "-Wall", "-Wextra", "-Werror", "-I", place.path(),
                     os.path.join(ROOT, "docs/examples/accounts.c"), "-o", binary,
                     "-L" + library, "-lpheap", "-Wl,-rpath," + library)
    expect(done, FINE)
    for words in ("open ann", "open bob", "pay ann 100", "move ann bob 30", "open cid", "drop cid"):
        expect(place.run(binary, heap, *words.split()), FINE)
    for words, status, why in (("move ann bob 71", FOUND, "'ann' has not got that much"), ("pay ann ten", USAGE, "'ten'"),
                               ("pay ann 1 2", USAGE, "usage"), ("open ann", FOUND, "'ann' already"),
                               ("pay dan 1", FOUND, "no account 'dan'")):
        expect(place.run(binary, heap, *words.split()), status, why)
    listed = place.run(binary, heap, "list").stdout()
    check_equal([line.split() for line in listed.splitlines()], [["ann", "70"], ["bob", "30"]],
                "accounts")
    expect(place.pheap("recover", "--check", heap), FINE)
    expect(place.pheap("recover", "--rollback", 1, "--yes", heap), REFUSED, "--drop-log")
    for words in ("--compact", "--repair --yes", "--clone " + place.path("copy")):
        expect(place.pheap("recover", *words.split(), heap), FINE)
    check_equal(place.run(binary, place.path("copy"), "list").stdout(), listed, "in the copy")
    check_equal(place.run(binary, heap, "list").stdout(), listed, "accounts after that")


@test
def optimistic_blocks_in_c_and_in_cpp(place):
    """The sums hold in every block, every way out of one does what it should."""
    source = os.path.join(ROOT, "t/programs/optimistic.c")
    for compiler, options in (("gcc", "-std=c11 -O2"), ("clang", "-std=c17 -O1"), ("g++", "-x c++ -std=c++17 -O2"),
                              ("g++", "-x c++ -O2 -fno-exceptions")):
        binary = place.path("optimistic")
        done = place.run(compiler, "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", *options.split(),
                         source, "-o", binary, "-lpthread")
        expect(done, FINE)
        for threads in (1, 4):
            pool = place.path(f"pool-{compiler}-{len(options)}-{threads}")
            done = place.run(binary, pool, threads, 2000 * ROUNDS, environment=PRELOADED)
            check_equal(done.stdout(), "fine\n", f"{compiler} {options}, {threads} threads")


LANGUAGES = (("gcc", "-std=c11 -O2"), ("clang", "-std=c17 -O1"), ("g++", "-x c++ -std=c++11 -O2"),
             ("clang++", "-x c++ -std=c++20 -O1"), ("g++", "-x c++ -O0 -fno-exceptions"))


@test
def self_relative_pointers_in_c_and_in_cpp(place):
    """What one language has written the other one reads."""
    source, binaries = os.path.join(ROOT, "t/programs/pointers.c"), []
    for number, (compiler, options) in enumerate(LANGUAGES):
        binaries.append(place.path(f"pointers-{number}"))
        expect(place.run(compiler, "-Wall", "-Wextra", "-Werror", *options.split(), source, "-o",
                         binaries[-1], "-lpthread"), FINE)
        pool = place.path(f"pool-{number}")
        done = place.run(binaries[-1], pool, "make", environment=PRELOADED)
        check_equal(done.stdout(), "fine\n", f"{compiler} {options}: made")
    for number, (compiler, options) in enumerate(LANGUAGES):
        for pool in range(len(LANGUAGES)):
            done = place.run(binaries[number], place.path(f"pool-{pool}"), "check", environment=PRELOADED)
            check_equal(done.stdout(), "fine\n", f"{compiler} {options}: pool {pool}")


@test
def references_lead_to_heaps_that_are_open(place):
    program, pools = os.path.join(BUILT_PROGRAMS, "references"), [place.path("first"), place.path("second")]
    for what in ("make", "check", "check"):
        check_equal(place.run(program, *pools, what, environment=PRELOADED).stdout(), "fine\n", what)
    clone = place.path("clone")
    expect(place.pheap("recover", "--clone", clone, pools[0]), FINE)
    check_equal(place.run(program, clone, pools[1], "cloned", environment=PRELOADED).stdout(), "fine\n",
                "a clone is another pool")


TWO_POOLS = os.path.join(BUILT_PROGRAMS, "two_pools")


def count_until_killed(place, pools):
    """Returns the last number that was said to be durable."""
    process = place.start(TWO_POOLS, *pools, "run", environment=PRELOADED)
    wait_until(lambda: "\n" in process.stdout(), 20, "a count")
    time.sleep(random.random() * 0.1)
    process.kill()
    lines = [line for line in process.stdout().splitlines(keepends=True) if line.endswith("\n")]
    return int(lines[-1])


def counted(place, pools):
    done = place.run(TWO_POOLS, *pools, "check", environment=PRELOADED)
    expect(done, FINE)
    return int(done.stdout())


@test
def two_heaps_agree_after_kill_9(place):
    pools = place.path("first"), place.path("second")
    for round_number in range(KILLS * ROUNDS):
        said_last = count_until_killed(place, pools)
        if round_number % 2:
            place.run(TWO_POOLS, *pools, "open", environment=PRELOADED)
        check(counted(place, pools) >= said_last, f"round {round_number}: {said_last} was said")
    place.note(f"{KILLS * ROUNDS} kills, {counted(place, pools)} transactions in both")


@test
def a_heap_in_doubt_says_so_and_is_settled_by_hand(place):
    pools = place.path("first"), place.path("second")
    away = place.path("away")
    for round_number in range(200):
        said_last = count_until_killed(place, pools)
        os.rename(pools[0], away)
        done = place.run(TWO_POOLS, *pools, "open", environment=PRELOADED)
        if "in doubt" in done.stdout():
            break
        os.rename(away, pools[0])
    check_in("(-5015)", done.stdout(), "in doubt")
    for word in (pools[0], pools[1], "is not there", "pheap recover --resolve"):
        check_in(word, done.stdout(), "the problem")
    done = place.run(TWO_POOLS, *pools, "read", environment=PRELOADED)
    expect(done, FINE)
    check(int(done.stdout()) in range(said_last - 1, said_last + 2), "what a reader sees")
    expect(place.pheap("recover", "--resolve", "perhaps", pools[1]), USAGE)
    expect_whole(place, pools[1])
    os.rename(away, pools[0])  # it decides itself
    first, second = [place.pheap("recover", "--resolve", how, pools[1]) for how in ("commit", "abort")]
    expect(second, FINE)
    if first.status == FINE:
        check_in("nothing is in doubt", second.stdout(), "settled by the first")
    else:
        expect(first, REFUSED, "which decides, is there")
    check(counted(place, pools) >= said_last, "settled as it was decided")
    place.note(f"in doubt after {round_number + 1} kills")


@test
def who_resolves_by_hand_is_believed(place):
    pools = place.path("first"), place.path("second")
    away = place.path("away")
    for round_number in range(200):
        count_until_killed(place, pools)
        os.rename(pools[0], away)
        if "in doubt" in place.run(TWO_POOLS, *pools, "open", environment=PRELOADED).stdout():
            break
        os.rename(away, pools[0])
    before = int(place.run(TWO_POOLS, *pools, "read", environment=PRELOADED).stdout())
    done = place.pheap("recover", "--resolve", "commit", pools[1])
    expect(done, FINE)
    check_in("1 transaction that another pool decides: committed", done.stdout(), "said")
    check_in("nothing is in doubt", place.pheap("recover", "--resolve", "abort", pools[1]).stdout(), "said")
    after = int(place.run(TWO_POOLS, *pools, "read", environment=PRELOADED).stdout())
    check_equal(after, before + 1, "the counter")
    expect(place.run(TWO_POOLS, *pools, "open", environment=PRELOADED), FINE)


@test
def the_static_library_is_malloc_and_the_api(place):
    shared = os.path.dirname(LIBRARY)
    place.run("cp", os.path.join(ROOT, "core/pheap.h"), place.path("pheap.h"))
    binary, heap = place.path("accounts"), place.path("heap")
    expect(place.run("cc", "-DPHEAP_LINKED", "-I", place.path(),
                     os.path.join(ROOT, "docs/examples/accounts.c"), os.path.join(shared, "libpheap.a"),
                     "-o", binary, "-lpthread"), FINE)
    for words in ("open ann", "pay ann 100"):
        expect(place.run(binary, heap, *words.split()), FINE)
    check_equal(place.run(binary, heap, "list").stdout().split(), ["ann", "100"], "accounts")
    defined = {line.split()[-1] for line in place.run("nm", "-g", "--defined-only", binary)
               .stdout().splitlines()}
    check({"malloc", "free", "calloc", "realloc", "pheap_open"} <= defined, "malloc is not pheap's")
    strangers = {line.split()[-1] for line in
                 place.run("nm", "-g", "--defined-only", os.path.join(shared, "libpheap.a"))
                 .stdout().splitlines() if len(line.split()) == 3}
    exported = {line.split()[-1] for line in place.run("nm", "-D", "--defined-only", LIBRARY)
                .stdout().splitlines()}
    check_equal(sorted(strangers), sorted(exported), "symbols of the static library")


@test
def the_header_is_clean_in_every_language(place):
    place.run("cp", os.path.join(ROOT, "core/pheap.h"), place.path("pheap.h"))
    for suffix, compiler, standard in (("c", "gcc", "c11"), ("c", "clang", "c11"),
                                       ("cc", "g++", "c++11"), ("cc", "clang++", "c++20")):
        with open(place.path("use." + suffix), "w", encoding="ascii") as f:
            f.write('#include "pheap.h"\n'
                    "int use(struct pheap *heap);\n"
                    "struct node { PHEAP_PTR(struct node) next; };\n"
                    "struct node *next(struct node *node);\n"
                    "struct node *next(struct node *node) { return PHEAP_PTR_OF(&node->next); }\n"
                    "int use(struct pheap *heap) { return pheap_sync(heap); }\n")
        for define in ((), ("-DPHEAP_LINKED",)):
            expect(place.run(compiler, f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic",
                             "-Werror", *define, "-fsyntax-only", place.path("use." + suffix)), FINE)


if __name__ == "__main__":
    main()
