#!/usr/bin/python3
"""Programs that pheap cannot serve: refused with one line before anything is made."""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, FINE, NOBODY, PHEAP, REFUSED, SYSTEM, Skip, check,  # noqa: E402
                        check_equal, expect, main, test)

TRUE = shutil.which("true")


def refused(place, command, *parts, status=REFUSED):
    pool = place.path("pool")
    done = place.pheap("run", pool, *command)
    expect(done, status, "pheap run:", *parts)
    check_equal(len(done.stderr().splitlines()), 1, f"lines of {done.stderr()!r}")
    check(not os.path.exists(pool), "a pool was made")


def patched(place, offset, value):
    """A copy of /bin/true with one byte changed."""
    with open(TRUE, "rb") as f:
        content = bytearray(f.read())
    content[offset] = value
    return place.write("patched", bytes(content), 0o755)


@test
def a_missing_program_is_refused(place):
    refused(place, ["no-such-program-here"], "no-such-program-here", "not found in PATH")
    refused(place, [place.path("missing")], place.path("missing"), "No such file")


@test
def a_program_that_is_not_executable_is_refused(place):
    refused(place, [place.write("file", "#!/bin/sh\n", 0o644)], "not executable")


@test
def a_directory_is_refused(place):
    refused(place, [place.make_directory("directory")], "is a directory")


@test
def an_empty_file_and_an_empty_name_are_refused(place):
    refused(place, [place.write("file", "", 0o755)], "neither a program nor a script")
    refused(place, [""], "empty")


@test
def a_static_program_is_refused(place):
    source = place.write("static.c", "int main(void) { return 0; }\n")
    for flag in ("-static", "-static-pie"):
        program = place.path("static" + flag)
        if subprocess.run(["gcc", flag, "-o", program, source], check=False).returncode != 0:
            raise Skip(f"gcc {flag} does not link here")
        refused(place, [program], program, "statically linked")


@test
def a_setuid_or_setgid_program_is_refused(place):
    for mode in (0o4755, 0o2755):
        program = place.path(f"true-{mode:o}")
        shutil.copy(TRUE, program)
        os.chmod(program, mode)
        refused(place, [program], program, "setuid")


@test
def a_32_bit_program_is_refused(place):
    refused(place, [patched(place, 4, 1)], "32-bit")


@test
def a_program_for_another_machine_is_refused(place):
    refused(place, [patched(place, 18, 183)], "another machine")  # 183: aarch64


@test
def a_script_is_judged_by_its_interpreter(place):
    refused(place, [place.write("script", "#!/no/such/interpreter\n", 0o755)],
            "/no/such/interpreter")
    refused(place, [place.write("script2", "#!\n", 0o755)], "names no interpreter")
    good = place.write("good", "#!/bin/sh\nexit 6\n", 0o755)
    check_equal(place.pheap("run", place.path("pool"), good).status, 6, "a good script")
    plain = place.write("plain", "exit $1\n", 0o755)
    check_equal(place.pheap("run", place.path("pool2"), plain, "7").status, 7, "without #!")


@test
def an_unprivileged_user_gets_the_same_answers(place):
    if os.geteuid() != 0:
        raise Skip("that is who runs this already")
    place.uid = NOBODY
    os.chown(place.directory, NOBODY, NOBODY)
    program = place.write("mine", "#!/bin/sh\n", 0o600)
    refused(place, [program], "not executable")


@test
def a_pool_that_cannot_be_made_stops_the_program_from_starting(place):
    for pool, part in ((place.path("no", "such", "pool"), "does not exist"),
                       ("/proc/pheap-pool", "/proc/pheap-pool")):
        done = place.pheap("run", pool, "touch", place.path("started"))
        check(done.status in (REFUSED, SYSTEM), f"{pool}: {done.status}")
        expect(done, done.status, "pheap run:", pool)
        check(part.lower() in done.stderr().lower(), done.stderr())
    check(not os.path.exists(place.path("started")), "the program was started")


@test
def a_read_only_directory_stops_the_program_from_starting(place):
    place.uid = NOBODY if os.geteuid() == 0 else None
    directory = place.make_directory("directory")
    os.chmod(directory, 0o555)
    done = place.pheap("run", os.path.join(directory, "pool"), "touch", place.path("started"))
    expect(done, SYSTEM, "pheap run:", directory)
    check(not os.path.exists(place.path("started")), "the program was started")


@test
def a_dangling_symbolic_link_is_no_place_for_a_pool(place):
    os.symlink(place.path("target"), place.path("link"))
    done = place.pheap("run", place.path("link"), os.path.join(BUILT_PROGRAMS, "counter"), "1")
    check(done.status in (REFUSED, SYSTEM), f"status {done.status}: {done.stderr()}")
    check(not os.path.exists(place.path("target")), "the link was followed")


@test
def a_path_preload_cannot_express_is_refused(place):
    build = place.path("with space")
    os.makedirs(os.path.join(build, "bin"))
    os.makedirs(os.path.join(build, "lib"))
    shutil.copy(PHEAP, os.path.join(build, "bin", "pheap"))
    shutil.copy(os.path.join(os.path.dirname(PHEAP), "../lib/libpheap.so"),
                os.path.join(build, "lib", "libpheap.so"))
    done = place.run(os.path.join(build, "bin", "pheap"), "run", place.path("pool"), "true")
    expect(done, REFUSED, "LD_PRELOAD cannot name")
    check(not os.path.exists(place.path("pool")), "the pool was left behind")
    expect(place.pheap("run", place.path("pool"), "true"), FINE)


if __name__ == "__main__":
    main()
