#!/usr/bin/python3
"""pheap doctor: what it finds is so; it leaves nothing behind; exit statuses and JSON."""
import json
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, FINE, FOUND, PHEAP, REFUSED, check, check_equal,  # noqa: E402
                        check_in, expect, main, test)

DENY = os.path.join(BUILT_PROGRAMS, "deny_call")


def findings(place, status, *arguments, prefix=(), **keywords):
    """{check: finding}; the directory is as it was before."""
    directory = place.make_directory("pools")
    done = place.run(*prefix, PHEAP, "doctor", "--json", "-d", directory, *arguments, **keywords)
    expect(done, status)
    check_equal(os.listdir(directory), [], "what is left in the directory")
    os.rmdir(directory)
    answer = json.loads(done.stdout())
    order = ["ok", "limited", "no"]
    check_equal(answer["verdict"], max((f["verdict"] for f in answer["findings"]), key=order.index),
                "the worst verdict")
    return {f["check"]: f for f in answer["findings"]}


@test
def a_machine_on_which_everything_works_passes_the_trial(place):
    found = findings(place, FINE)
    check_equal(found["trial"]["verdict"], "ok", "trial")
    check_in("resumed", found["trial"]["found"], "trial")
    for name in ("kernel", "written pages", "stopping threads", "process ids", "file system", "syncs"):
        check_equal(found[name]["verdict"], "ok", name)


@test
def without_ptrace_there_are_no_checkpoints(place):
    found = findings(place, REFUSED, prefix=(DENY, "ptrace"))
    check_equal(found["stopping threads"]["verdict"], "no", "ptrace")
    check_in("ptrace", found["stopping threads"]["advice"], "advice")
    check_equal(found["trial"]["verdict"], "no", "trial")
    check_in("ptrace", found["trial"]["found"], "trial")


@test
def without_the_kernels_help_checksums_are_compared(place):
    findings(place, FINE, prefix=(DENY, "personality"))  # as containers do: no matter
    for call in ("userfaultfd", "pagemap_scan"):
        found = findings(place, FOUND, prefix=(DENY, call))
        check_equal(found["written pages"]["verdict"], "limited", call)
        check_equal(found["trial"]["verdict"], "ok", "the trial without " + call)


@test
def connections_outlive_a_restart_with_a_privilege(place):
    found = findings(place, FINE, "--no-trial")
    check_in("outlive a restart" if os.geteuid() == 0 else "come back reset", found["connections"]["found"],
             "connections")
    if os.geteuid() == 0:
        found = findings(place, FINE, "--no-trial", prefix=("setpriv", "--bounding-set=-net_admin"))
        check_in("come back reset", found["connections"]["found"], "connections without CAP_NET_ADMIN")


@test
def limits_are_seen(place):
    found = findings(place, FOUND, "--no-trial", prefix=("prlimit", f"--as={8 << 30}"))
    check_equal(found["address space"]["verdict"], "limited", "address space")
    check("trial" not in found, "a trial that was not wanted")


@test
def a_directory_that_will_not_do_is_named(place):
    done = place.pheap("doctor", "-d", place.path("nowhere"))
    expect(done, REFUSED)
    check_in("nowhere: No such file or directory", done.stdout(), "output")
    if os.path.ismount("/dev/shm"):
        done = place.pheap("doctor", "--no-trial", "-d", "/dev/shm")
        expect(done, FOUND)
        check_in("tmpfs", done.stdout(), "output")


@test
def a_program_is_looked_at_and_not_run(place):
    mark = place.path("mark")
    script = place.write("script", f"#!/bin/sh\ntouch {mark}\n", 0o755)
    found = findings(place, FINE, "--no-trial", script)
    check_equal(found["program"]["verdict"], "ok", "a script")
    check(not os.path.exists(mark), "the script was run")
    found = findings(place, REFUSED, "--no-trial", "no-such-program")
    check_in("not found in PATH", found["program"]["found"], "a typo")
    found = findings(place, FOUND, "--no-trial", os.path.join(BUILT_PROGRAMS, "own_malloc"))
    check_in("malloc of its own", found["allocator"]["found"], "a program with its own malloc")
    found = findings(place, FINE, "--no-trial", shutil.which("sleep"))
    check_in("C library", found["allocator"]["found"], "an ordinary program")
    found = findings(place, FINE, "--no-trial", PHEAP)  # it has the words that it looks for
    check_in("C library", found["allocator"]["found"], "pheap itself")
    mark, marked = place.write("mark", "any"), place.path("marked")
    expect(place.run("objcopy", "--add-section", f".go.buildinfo={mark}", shutil.which("sleep"), marked), FINE)
    found = findings(place, FOUND, "--no-trial", marked)
    check_in("Go program", found["allocator"]["found"], "a program of Go's linker")


@test
def a_full_limit_of_files_is_no_crash(place):
    done = place.run("sh", "-c", f"ulimit -n 6; exec {PHEAP} doctor -d {place.path()}")
    check(done.status in (FINE, FOUND, REFUSED), f"exit status {done.status}")
    check_in("kernel", done.stdout(), "output")


main()
