#!/usr/bin/python3
"""malloc where libraries come and go, in C++, with raised privileges, beside other allocators."""
import os
import shutil
import stat
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, LIBRARY, NOBODY, PHEAP, PROGRAMS, PYTHON, Skip, check,  # noqa: E402
                        check_equal, expect, main, test)

PRELOAD = {"LD_PRELOAD": LIBRARY}
SLOT_BASE, SLOT_BYTES = 0x200000000000, 1 << 40
TLS_LIBRARIES = 60


def compiled(place, source, name, *flags, compiler="gcc"):
    path = place.path(name)
    done = subprocess.run([compiler, "-O2", "-g", "-o", path, source, *flags], capture_output=True, text=True)
    check_equal((done.returncode, done.stderr), (0, ""), f"{compiler} {source}")
    return path


def library(place, name, *flags):
    source = os.path.join(PROGRAMS, "libraries", name + ".c")
    return compiled(place, source, name + ".so", "-D_GNU_SOURCE", "-shared", "-fPIC", *flags)


def tap_is_fine(done, what):
    failed = [line for line in done.stdout().splitlines() if line.startswith(("not ok", "#"))]
    check_equal((done.status, failed), (0, []), what)
    check("\n1.." in done.stdout(), f"{what}: ran to its end")


@test
def libraries_are_opened_and_closed(place):
    plugin = library(place, "plugin")
    program = os.path.join(BUILT_PROGRAMS, "malloc_plugins")
    tap_is_fine(place.run(program, plugin), "malloc_plugins under glibc")
    tap_is_fine(place.run(program, plugin, environment=PRELOAD), "malloc_plugins")
    tap_is_fine(place.run(program, plugin, environment={**PRELOAD, "PHEAP_DEEPBIND": "1"}),
                "malloc_plugins, bound deeply")


@test
def libpheap_itself_may_be_opened_and_closed(place):
    plugin = library(place, "plugin")
    tap_is_fine(place.run(os.path.join(BUILT_PROGRAMS, "malloc_plugins"), plugin, LIBRARY), "malloc_plugins")


@test
def every_form_of_new_and_delete(place):
    program = compiled(place, os.path.join(PROGRAMS, "new_delete.cc"), "new_delete", "-std=c++17", compiler="g++")
    tap_is_fine(place.run(program), "new_delete under glibc")
    tap_is_fine(place.run(program, environment=PRELOAD), "new_delete")


@test
def other_libraries_may_be_preloaded_before_and_behind(place):
    wrapper = library(place, "wrapper", "-fno-builtin")
    for order in (f"{wrapper}:{LIBRARY}", f"{LIBRARY}:{wrapper}"):
        done = place.run(PYTHON, "-c", "print(len([bytes(i) for i in range(2000)]))", environment={"LD_PRELOAD": order})
        check_equal((done.status, done.stdout()), (0, "2000\n"), f"preloaded {order}")
        check_equal(done.stderr(), f"wrapped {int(order.startswith(wrapper))}\n", f"preloaded {order}")


@test
def an_auditor_of_the_dynamic_linker(place):
    auditor = library(place, "audit")
    done = place.run(PYTHON, "-c", "import json; print(json.dumps([1, 2]))",
                     environment={**PRELOAD, "LD_AUDIT": auditor})
    check_equal((done.status, done.stdout(), done.stderr()), (0, "[1, 2]\n", ""), "with LD_AUDIT")


@test
def the_static_thread_local_storage_is_a_few_words(place):
    done = place.run("readelf", "-lW", LIBRARY)
    sizes = [int(line.split()[5], 16) for line in done.stdout().splitlines() if line.split()[:1] == ["TLS"]]
    check(len(sizes) == 1 and sizes[0] <= 64, f"bytes of thread-local storage: {sizes}")


@test
def libraries_with_static_thread_local_storage_still_load(place):
    one = library(place, "tls_block")
    for i in range(TLS_LIBRARIES):
        shutil.copy(one, place.path(f"tls{i}.so"))
    script = f"""
import ctypes
loaded = 0
try:
    for i in range({TLS_LIBRARIES}):
        ctypes.CDLL("./tls%d.so" % i).tls_block()
        loaded += 1
except OSError as error:
    assert "static TLS" in str(error), error
print(loaded)
"""
    plain = int(place.run(PYTHON, "-c", script).stdout())
    under = int(place.run(PYTHON, "-c", script, environment=PRELOAD).stdout())
    check(0 < plain < TLS_LIBRARIES, f"{plain} of {TLS_LIBRARIES} libraries load without pheap: nothing was tested")
    check(under >= plain - 1, f"{under} libraries load under pheap, {plain} without")


@test
def a_program_with_its_own_malloc_runs_and_is_resumed(place):
    program = os.path.join(BUILT_PROGRAMS, "own_malloc")
    expected = "".join(f"{i} from the program's own malloc\n" for i in range(1, 31))
    done = place.run(program, "3", environment=PRELOAD)
    check_equal((done.status, done.stdout(), done.stderr()), (0, expected[:3 * 32], ""), "preloaded")
    pool, out = place.path("pool"), place.path("out")
    process = place.start(PHEAP, "run", "-i", "100ms", pool, program, "30", stdout=out)
    place.wait_generation(pool, 3, process)
    process.kill()
    expect(place.pheap("restore", pool), 0)
    with open(out, encoding="ascii") as f:
        check_equal(f.read(), expected, "what it wrote")


@test
def the_heap_is_private_memory_and_holds_no_descriptor(place):
    script = ("import os; print(open('/proc/self/maps').read()); "
              "print('descriptors', sorted(os.listdir('/proc/self/fd'), key=int))")
    plain = place.run(PYTHON, "-c", script).stdout().splitlines()
    under = place.run(PYTHON, "-c", script, environment=PRELOAD).stdout().splitlines()
    check_equal(under[-1], plain[-1], "open descriptors")
    rows = [line.split() for line in under[:-1] if line]
    heap = [row for row in rows if SLOT_BASE <= int(row[0].split("-")[0], 16) < SLOT_BASE + 51 * SLOT_BYTES]
    check(len(heap) >= 2, f"mappings of the slot: {heap}")
    for row in heap:
        check(row[1].endswith("p") and row[4] == "0" and len(row) == 5, f"not private and anonymous: {row}")


SECURE_PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
int main(void)
{
    void *volatile block = malloc(100);
    printf("%d %lu\\n", getauxval(AT_SECURE) != 0, ((unsigned long)block - 0x200000000000ul) >> 40);
    return 0;
}
"""


@test
def a_setuid_program_does_not_listen_to_the_environment(place):
    if os.getuid() != 0:
        raise Skip("only root can make a program of another user's")
    if os.statvfs(place.directory).f_flag & os.ST_NOSUID:
        raise Skip(f"{place.directory} is mounted nosuid")
    place.write("libpheap.so", open(LIBRARY, "rb").read(), 0o755)
    source = place.write("secure.c", SECURE_PROGRAM)
    program = compiled(place, source, "secure", f"-L{place.directory}", "-lpheap", f"-Wl,-rpath,{place.directory}")
    pool = place.path("pool")
    asked = {"PHEAP_SLOT": "7", "PHEAP_HARDEN": "1", "PHEAP_STATS": "1"}
    plain = place.run(program, environment=asked)
    check_equal((plain.status, plain.stdout()), (0, "0 7\n"), "AT_SECURE and slot of an ordinary program")
    os.chown(program, NOBODY, NOBODY)
    os.chmod(program, 0o755 | stat.S_ISUID)
    secure = place.run(program, environment={**asked, "PHEAP_POOL": pool})
    check_equal((secure.status, secure.stdout(), secure.stderr()), (0, "1 0\n", ""), "AT_SECURE and slot")
    check(not os.path.exists(pool), "no pool was made")


if __name__ == "__main__":
    main()
