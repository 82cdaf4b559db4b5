#!/usr/bin/python3
"""What a user asks for to find a fault: PHEAP_HARDEN, PHEAP_STATS, malloc_info, memcheck."""
import os
import re
import shutil
import signal
import subprocess
import sys
from xml.etree import ElementTree

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, LIBRARY, PHEAP, PYTHON, ROOT, Skip, add_test, check, check_equal,  # noqa: E402
                        check_in, expect, main, test)

PRELOAD = {"LD_PRELOAD": LIBRARY}
HARDENED = {**PRELOAD, "PHEAP_HARDEN": "1"}


def tap_is_fine(done, what):
    failed = [line for line in done.stdout().splitlines() if line.startswith(("not ok", "#"))]
    check_equal((done.status, failed, done.stderr()), (0, [], ""), what)


for program in ("malloc_conformance", "malloc_names", "malloc_moments", "malloc_threads"):
    add_test(f"{program} passes in a hardened heap",
             lambda place, program=program: tap_is_fine(
                 place.run(os.path.join(BUILT_PROGRAMS, program), environment=HARDENED), program))

MISUSE = """
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    char *volatile small = malloc(100), *volatile large = malloc(1 << 20);
    switch (argc > 1 ? argv[1][0] : 0) {
    case 'o': small[100] = 0; free(small); break;
    case 'd': free(small); free(small); break;
    case 'g': large[1 << 20] = 1; break;
    case 'u': free(large); large[5] = 1; break;
    case 'n': *(volatile char *)8 = 1; break;
    case 'k': raise(SIGSEGV); break;
    }
    return 0;
}
"""


def misuse(place):
    path = place.path("misuse")
    done = subprocess.run(["gcc", "-w", "-O0", "-g", "-o", path, place.write("misuse.c", MISUSE)],
                          capture_output=True, text=True)
    check_equal((done.returncode, done.stderr), (0, ""), "gcc misuse.c")
    return path


@test
def a_hardened_heap_reports_what_a_plain_one_lets_pass(place):
    program = misuse(place)
    for argument, status, text in (
            ("o", -6, r"pheap: overflow of 0x\w+, written to at 0x\w+: a block of 100 bytes in the slab at 0x\w+, size class 112\n"),
            ("d", -6, r"pheap: double free of 0x\w+ in free: a block in the slab at 0x\w+, size class 112\n"),
            ("g", -6, r"pheap: fault at 0x\w+: behind the large block 0x\w+ of 1048576 bytes, span at 0x\w+\n"),
            ("u", -6, r"pheap: fault at 0x\w+: in or beside the large block 0x\w+ of 1048576 bytes, which was freed.*\n"),
            ("n", -11, ""), ("k", -11, ""), ("", 0, "")):
        done = place.run(program, *([argument] if argument else []), environment=HARDENED)
        check(done.status == status and re.fullmatch(text, done.stderr()),
              f"{argument}: found {done.status}, {done.stderr()!r}, expected {status}, {text!r}")
    done = place.run(program, "o", environment=PRELOAD)
    check_equal((done.status, done.stderr()), (0, ""), "a plain heap")


@test
def a_program_s_own_handler_of_faults_is_left_alone(place):
    script = "import faulthandler, ctypes; faulthandler.enable(); ctypes.string_at(8)"
    done = place.run(PYTHON, "-c", script, environment=HARDENED)
    check_equal(done.status, -11, "status")
    check_in("Fatal Python error: Segmentation fault", done.stderr(), "stderr")


COUNTING = """
import sys, time
kept = {}
for i in range(1, 61):
    kept[i] = [bytes([i]) * (i * 1000), str(i) * 100]
    kept.pop(i - 20, None)
    print(i, sum(len(x) + len(y) for x, y in kept.values()), flush=True)
    time.sleep(0.03)
"""


@test
def a_hardened_program_is_killed_and_resumed_twice(place):
    hardened = {"PHEAP_HARDEN": "1", "PYTHONMALLOC": "malloc"}
    expected = place.run(PYTHON, "-c", COUNTING, environment={"PYTHONMALLOC": "malloc"}).stdout()
    pool, out = place.path("pool"), place.path("out")
    process = place.start(PHEAP, "run", "-i", "100ms", pool, PYTHON, "-c", COUNTING, stdout=out,
                          environment=hardened)
    place.wait_generation(pool, 4, process)
    process.kill()
    resumed = place.start(PHEAP, "restore", pool)
    pid = resumed.resumed()["outer_pid"]
    place.wait_generation(pool, place.newest(pool) + 2, resumed)
    os.kill(pid, signal.SIGKILL)
    resumed.wait()
    expect(place.pheap("restore", pool), 0)
    with open(out, encoding="ascii") as f:
        check_equal(f.read(), expected, "what it wrote")
    heap = place.inspect(pool, "heap")
    check(heap, f"heap: {heap}")


@test
def statistics_are_printed_at_exit(place):
    asked = {**PRELOAD, "PHEAP_STATS": "1"}
    plain = place.run(PYTHON, "-c", "print(1)", environment=asked)
    check_equal((plain.status, plain.stdout()), (0, "1\n"), "status and output")
    check_in("pheap: statistics of python3", plain.stderr(), "stderr")
    check(re.search(r"\n +32 +\d+ +\d+ +\d+\n", plain.stderr()), f"a line of a class in {plain.stderr()!r}")
    hardened = place.run(PYTHON, "-c", "", environment={**asked, "PHEAP_HARDEN": "1"})
    check_in("slot 0, hardened\n", hardened.stderr(), "stderr")
    quiet = place.run(PYTHON, "-c", "print(1)", environment={**asked, "PHEAP_STATS": "0"})
    check_equal(quiet.stderr(), "", "stderr with PHEAP_STATS=0")


@test
def statistics_do_not_go_into_a_file_that_took_the_place_of_stderr(place):
    script = "import os; fd = os.open('data', os.O_CREAT | os.O_WRONLY); os.dup2(fd, 2)"
    place.run(PYTHON, "-c", script, environment={**PRELOAD, "PHEAP_STATS": "1"})
    check_equal(os.path.getsize(place.path("data")), 0, "bytes in the file")
    script = "import os; os.close(2)"
    done = place.run(PYTHON, "-c", script, environment={**PRELOAD, "PHEAP_STATS": "1"})
    check_equal((done.status, done.stderr()), (0, ""), "with descriptor 2 closed")


@test
def children_of_a_program_do_not_print_its_statistics(place):
    script = "import os, sys\nif os.fork() == 0: sys.exit(0)\nos.wait()"
    done = place.run(PYTHON, "-c", script, environment={**PRELOAD, "PHEAP_STATS": "1"})
    check_equal(done.stderr().count("pheap: statistics"), 1, "statistics printed")


INFO = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
kept = [libc.malloc(ctypes.c_size_t(n)) for n in (100, 5000, 10000000) for i in range(10)]
stream = ctypes.c_void_p(libc.fopen(b"info.xml", b"w"))
assert libc.malloc_info(0, stream) == 0
libc.fclose(stream)
"""


@test
def malloc_info_is_well_formed_and_adds_up(place):
    for environment in (PRELOAD, HARDENED):
        done = place.run(PYTHON, "-c", INFO, environment=environment)
        check_equal((done.status, done.stderr()), (0, ""), "python")
        root = ElementTree.parse(place.path("info.xml")).getroot()
        check_equal((root.tag, root[0].tag), ("malloc", "heap"), "outermost elements")
        for part in (root, root[0]):
            found = {(element.tag, element.get("type")) for element in part}
            for wanted in (("total", "fast"), ("total", "rest"), ("system", "current"), ("system", "max"),
                           ("aspace", "total"), ("aspace", "mprotect")):
                check(wanted in found, f"{wanted} is not in {part.tag}: {sorted(found, key=str)}")
        sizes = root.findall("heap/sizes/size")
        used = sum(int(s.get("used")) * int(s.get("block")) for s in sizes)
        mapped = root.find("total[@type='mmap']")
        check(used >= 10 * 5100 and int(mapped.get("count")) >= 10 and int(mapped.get("size")) >= 100_000_000,
              f"used {used}, large {mapped.attrib}")
        committed = int(root.find("system[@type='current']").get("size"))
        check(used + int(mapped.get("size")) <= committed, f"{used} + {mapped.attrib} of {committed}")
        check(all(int(s.get("used")) <= int(s.get("total")) for s in sizes), "used of total")


MEMCHECK = """
#include <stdlib.h>
#include <string.h>
int main(int argc, char **argv)
{
    char *volatile small = malloc(100), *volatile large = malloc(300000), *volatile lost;
    char *volatile zeroed = calloc(10, 10);
    volatile int sink = 0;
    const char *fault;
    int i;
    for (i = 0; i < 100; i++)
        sink += zeroed[i];
    small = realloc(memset(small, 1, 100), 200);
    if (small[99])
        sink++;
    for (fault = argc > 1 ? argv[1] : ""; *fault; fault++)
        switch (*fault) {
        case 'r': sink = small[200]; break;
        case 'w': large[300000] = 1; break;
        case 'u': if (small[150]) sink++; break;
        case 'l': lost = malloc(777); lost = NULL; break;
        case 'f': free(small); sink = small[7]; small = NULL; break;
        case 'd': free(large); free(large); break;
        }
    free(small);
    free(large);
    free(zeroed);
    return 0;
}
"""


def memcheck(place, program, *arguments, options=()):
    return place.run("valgrind", "-q", "--leak-check=full", "--error-exitcode=9", *options, program, *arguments)


@test
def memcheck_sees_the_blocks_of_a_linked_program(place):
    if not shutil.which("valgrind"):
        raise Skip("no valgrind here")
    path, directory = place.path("checked"), os.path.dirname(LIBRARY)
    done = subprocess.run(["gcc", "-w", "-O0", "-g", "-o", path, place.write("checked.c", MEMCHECK), f"-L{directory}",
                           "-lpheap", f"-Wl,-rpath,{directory}"], capture_output=True, text=True)
    check_equal((done.returncode, done.stderr), (0, ""), "gcc checked.c")
    # Unless told otherwise it puts a malloc of its own in the place of any.
    check_in("is 0 bytes after a block of size 200 alloc'd", memcheck(place, path, "r").stderr(), "its own malloc")
    ours = ("--soname-synonyms=somalloc=nouserintercepts",)
    fine = memcheck(place, path, options=ours)
    check_equal((fine.status, fine.stderr()), (0, ""), "a program without faults")
    done = memcheck(place, path, "rwulf", options=ours)
    check_equal(done.status, 9, "status of a program with faults")
    for text in ("Address 0x20.* is 0 bytes after a block of size 200 alloc'd",
                 "Address 0x20.* is 0 bytes after a block of size 300,000 alloc'd",
                 "depends on uninitialised value",
                 "Address 0x20.* is 7 bytes inside a block of size 200 free'd",
                 "777 bytes in 1 blocks are definitely lost"):
        check(re.search(text, done.stderr()), f"found {done.stderr()!r}, expected {text!r}")
    done = memcheck(place, path, "d", options=ours)
    check_equal(done.status, -6, "status of a double free")
    check_in("pheap: double free of", done.stderr(), "a double free")


OPENED = """
#define PHEAP_LINKED
#include <stdio.h>
#include <stdlib.h>
#include "core/pheap.h"

static void need(long long status) { if (status < 0) { printf("%lld\\n", status); exit(1); } }

int main(int argc, char **argv)
{
    struct pheap *heap;
    struct pheap_tx *tx = NULL;
    long *count, *lost;

    need(pheap_open(argv[1], PHEAP_CREATE, NULL, &heap));
    count = pheap_root(heap, "count", NULL);
    need(pheap_tx_begin(heap, &tx));
    if (!count) {
        need(pheap_tx_alloc(tx, sizeof *count, 1, (void **)&count));
        need(pheap_root_set(tx, "count", count, 1));
    }
    need(pheap_tx_add(tx, count, sizeof *count));
    ++*count;
    need(pheap_tx_commit(tx));
    need(pheap_heap_checkpoint(heap));
    PHEAP_TX(heap) {
        PHEAP_SET(tx, count, PHEAP_GET(tx, count) + 1);
    } PHEAP_TX_END;
    printf("%ld\\n", *count);
    lost = malloc(777);
    if (argc > 2 && *lost)
        puts("not zero");
    free(lost);
    need(pheap_close(heap));
    return 0;
}
"""


@test
def a_heap_that_is_opened_under_valgrind_has_no_agent_and_works(place):
    if not shutil.which("valgrind"):
        raise Skip("no valgrind here")
    path, directory = place.path("opens"), os.path.dirname(LIBRARY)
    done = subprocess.run(["gcc", "-w", "-O0", "-g", f"-I{ROOT}", "-o", path,
                           place.write("opens.c", OPENED), f"-L{directory}", "-lpheap",
                           f"-Wl,-rpath,{directory}"], capture_output=True, text=True)
    check_equal((done.returncode, done.stderr), (0, ""), "gcc opens.c")
    for count in (2, 4):
        done = memcheck(place, path, place.path("heap"))
        check_equal((done.status, done.stdout(), done.stderr()), (0, f"{count}\n", ""), "a program without faults")
    done = memcheck(place, path, place.path("heap"), "fault")
    check_equal((done.status, done.stdout()), (9, "6\n"), "a program with a fault")
    check_in("depends on uninitialised value", done.stderr(), "the fault")
    generations = place.inspect(place.path("heap"))["generations"]
    check_equal(generations[-1]["number"], 4, "the newest generation")


if __name__ == "__main__":
    main()
