#!/usr/bin/python3
"""What a program with one thread pays for pheap: nothing where libc takes its shortcuts, and a start."""
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import LIBRARY, PHEAP, PYTHON, Skip, check, check_equal, expect, main, test  # noqa: E402

PRELOAD = {"LD_PRELOAD": LIBRARY}
AT_MOST = 1.01  # instructions under pheap, by those without

GETC_PUTC = """
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv)
{
    long left = argc > 1 ? atol(argv[1]) : 0;
    FILE *in = fopen("/dev/zero", "r"), *out = fopen("/dev/null", "w");
    for (; left > 0; left--)
        putc(getc(in), out);
    return 0;
}
"""

SHARED_PTR = """
#include <cstdlib>
#include <memory>
#include <vector>
int main(int argc, char **argv)
{
    std::vector<std::shared_ptr<int>> all(100, std::make_shared<int>(1));
    for (long left = argc > 1 ? std::atol(argv[1]) : 0; left > 0; left--) {
        all[left % 100] = std::make_shared<int>(left);
        std::vector<std::shared_ptr<int>> copy(all);
        std::shared_ptr<int> one = copy[left % 7];
        if (*one < 0)
            return 1;
    }
    return 0;
}
"""

# What pheap must not do: a thread of its own.
THREAD = """
#include <pthread.h>
#include <unistd.h>
static void *wait(void *unused) { pause(); return unused; }
__attribute__((constructor)) static void start(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, wait, NULL);
}
"""

SHORTCUTS = """
#include <stdio.h>
#include <string.h>
#include <sys/single_threaded.h>
#include <unistd.h>
int main(void)
{
    char line[256];
    FILE *status;
    usleep(1000000);
    status = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, status))
        if (strncmp(line, "Threads:", 8) == 0)
            printf("single %d, %s", __libc_single_threaded, line);
    return 0;
}
"""


def compiled(place, name, source, *flags, compiler="gcc"):
    path = place.path(name)
    suffix = ".cc" if compiler == "g++" else ".c"
    done = subprocess.run([compiler, "-O2", "-o", path, place.write(name + suffix, source), *flags],
                          capture_output=True, text=True)
    check_equal((done.returncode, done.stderr), (0, ""), f"{compiler} {name}")
    return path


def collected(place, program, rounds, preload):
    if not shutil.which("valgrind"):
        raise Skip("no valgrind here: instructions cannot be counted")
    done = place.run("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, rounds,
                     environment={"LD_PRELOAD": preload} if preload else None)
    check_equal(done.status, 0, f"{program} under callgrind")
    return int(re.search(r"Collected : (\d+)", done.stderr())[1])


def per_round(place, program, rounds, preload=None):
    """Start-up, the same for both lengths, is not in it."""
    return (collected(place, program, 2 * rounds, preload) - collected(place, program, rounds, preload)) / rounds


@test
def a_loop_of_getc_and_putc_takes_no_lock(place):
    program = compiled(place, "getc_putc", GETC_PUTC)
    plain = per_round(place, program, 20000)
    under = per_round(place, program, 20000, LIBRARY)
    print(f"# getc and putc: {plain:.2f} instructions, {under:.2f} when preloaded")
    check(under <= plain * AT_MOST, f"{under:.2f} instructions of a getc and putc, {plain:.2f} without pheap")


@test
def the_same_loop_beside_a_thread_takes_more(place):
    program = compiled(place, "getc_putc", GETC_PUTC)
    threaded = compiled(place, "thread.so", THREAD, "-shared", "-fPIC")
    plain, beside = per_round(place, program, 20000), per_round(place, program, 20000, threaded)
    check(beside > plain * 1.2, f"{beside:.2f} instructions beside a thread, {plain:.2f} without: "
          "the tests of this file would not see one")


@test
def shared_pointers_are_counted_without_atomics(place):
    program = compiled(place, "shared_ptr", SHARED_PTR, "-std=c++17", compiler="g++")
    plain = per_round(place, program, 500)
    under = per_round(place, program, 500, LIBRARY)
    print(f"# shared_ptr: {plain:.0f} instructions a round, {under:.0f} when preloaded")
    check(under <= plain * AT_MOST, f"{under:.0f} instructions a round, {plain:.0f} without pheap")


@test
def with_an_agent_too_libc_knows_of_one_thread(place):
    program, pool = compiled(place, "shortcuts", SHORTCUTS), place.path("pool")
    process = place.start(PHEAP, "run", "-i", "50ms", pool, program)
    place.wait_generation(pool, 2, process)
    check_equal(process.wait(30), 0, "status")
    check_equal(process.stdout(), "single 1, Threads:\t1\n", "what libc and the kernel say")


def calls(place, program, environment):
    """{name: how many}"""
    if not shutil.which("strace"):
        raise Skip("no strace here: system calls cannot be listed")
    log = place.path("calls")
    settings = [word for name, value in environment.items() for word in ("-E", f"{name}={value}")]
    expect(place.run("strace", "-f", "-o", log, *settings, *program), 0)
    with open(log, encoding="utf-8", errors="replace") as f:
        names = re.findall(r"^\d+ +(\w+)\(", f.read(), re.M)
    return {name: names.count(name) for name in names}


def more_calls(place, *program):
    plain, under = calls(place, program, {}), calls(place, program, PRELOAD)
    return {name: under.get(name, 0) - plain.get(name, 0)
            for name in sorted({*plain, *under}) if under.get(name, 0) > plain.get(name, 0)}


@test
def a_start_takes_the_loader_ten_calls_more_and_pheap_none(place):
    loader = {"close": 1, "mmap": 5, "mprotect": 1, "newfstatat": 1, "openat": 1, "read": 1}
    check_equal(more_calls(place, "/bin/true"), loader, "system calls of /bin/true added by the preload")


@test
def a_heap_takes_one_mapping_and_grows_in_steps(place):
    """mprotect: a MiB of the heap each; brk is gone instead. The clock: one look in sixteen spans."""
    at_most = {"close": 1, "mmap": 6, "mprotect": 20, "newfstatat": 1, "openat": 1, "read": 1,
               "prlimit64": 1, "getrandom": 1, "clock_gettime": 8}
    added = more_calls(place, PYTHON, "-c", "pass")
    print(f"# CPython's start: {added}")
    for name, count in added.items():
        check(count <= at_most.get(name, 0), f"{count} calls of {name} more, at most {at_most.get(name, 0)}")


if __name__ == "__main__":
    main()
