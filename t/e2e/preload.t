#!/usr/bin/python3
"""libpheap.so preloaded without a pool: a volatile heap, unseen and quick to start."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import LIBRARY, PROGRAMS, PYTHON, check, check_equal, main, test  # noqa: E402

PRELOAD = {"LD_PRELOAD": LIBRARY}
STARTS, ROUNDS_MAX = 50, 6
SLOWER_MAX = 0.0003  # seconds
BUSY_MORE = 0.0001  # an interpreter's 0.26 to 0.29 ms are more while other tests run


@test
def ordinary_programs_run_as_without_it(place):
    for arguments in (("sh", "-c", "ls -la /usr/bin | wc -l"), ("gawk", "BEGIN { print length(ENVIRON[\"PATH\"]) }"),
                      (PYTHON, "-c", "import json; print(json.dumps(list(range(1000))))"),
                      ("sort", "-r", os.path.join(PROGRAMS, "tables.lua")),
                      ("perl", "-e", "print join ',', map { $_ * 2 } 1 .. 5000"),
                      ("sh", "-c", "echo a | cat | xargs -n1 env printf '%s\\n'; (exit 3) & wait $!; echo $?")):
        plain = place.run(*arguments)
        under = place.run(*arguments, environment=PRELOAD)
        check_equal(under.status, plain.status, f"status of {arguments}")
        check_equal(under.stdout(), plain.stdout(), f"output of {arguments}")
        check_equal(under.stderr(), plain.stderr(), f"stderr of {arguments}")


@test
def the_legacy_layout_and_an_unlimited_stack_leave_room_for_the_heap(place):
    script = "import sys; x = [bytes(1000) for i in range(50000)]; print(len(x))"
    for prefix in (("setarch", "-L"), ("setarch", "-R"), ("sh", "-c", 'ulimit -s unlimited; exec "$@"', "sh")):
        done = place.run(*prefix, PYTHON, "-c", script, environment=PRELOAD)
        check_equal((done.status, done.stdout(), done.stderr()), (0, "50000\n", ""), f"under {prefix}")


@test
def a_limit_on_address_space_leaves_a_program_its_memory(place):
    script = "x = [bytes(1000) for i in range(50000)]; print(len(x))"
    done = place.run("prlimit", f"--as={1 << 30}", PYTHON, "-c", script, environment=PRELOAD)
    check_equal((done.status, done.stdout(), done.stderr()), (0, "50000\n", ""), "under RLIMIT_AS")


@test
def a_small_limit_on_address_space_leaves_a_small_program_its_memory(place):
    script = "$x{$_} = 'x' x 1000 for 1 .. 5000; print scalar keys %x"
    done = place.run("prlimit", "--as=32000000", "perl", "-e", script, environment=PRELOAD)
    check_equal((done.status, done.stdout(), done.stderr()), (0, "5000", ""), "under 32 MB of RLIMIT_AS")
    done = place.run("prlimit", "--data=30000000", "perl", "-e", script, environment=PRELOAD)
    check_equal((done.status, done.stdout(), done.stderr()), (0, "5000", ""), "under 30 MB of RLIMIT_DATA")


def start_seconds(program, environment):
    begin = time.perf_counter()
    os.waitpid(os.posix_spawn(program[0], program, environment), 0)
    return time.perf_counter() - begin


def starts_nearly_as_fast(*program, slower_max=SLOWER_MAX):
    """By the fastest starts, which a busy machine disturbs least; more of them while it is too slow."""
    plain, under = [], []
    for _ in range(ROUNDS_MAX):
        for _ in range(STARTS):  # in turn, so that both see the same machine
            plain.append(start_seconds(program, {}))
            under.append(start_seconds(program, PRELOAD))
        slower = min(under) - min(plain)
        if slower <= slower_max:
            break
    print(f"# {program[0]}: {min(plain) * 1e3:.2f} ms, {slower * 1e3:.2f} ms more when preloaded")
    check(slower <= slower_max, f"{slower * 1e3:.2f} ms slower")


@test
def preloading_alone_makes_a_start_three_tenths_of_a_millisecond_slower_at_most(place):
    starts_nearly_as_fast("/bin/true")


@test
def so_it_does_the_start_of_an_interpreter(place):
    starts_nearly_as_fast(PYTHON, "-c", "pass", slower_max=SLOWER_MAX + BUSY_MORE)


if __name__ == "__main__":
    main()
