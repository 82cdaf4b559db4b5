#!/usr/bin/python3
"""Programs that something else starts again: docs/examples/service, and process 1 of a container.

A container is a pid namespace with a /proc of its own and few capabilities here: there is no engine.
"""
import os
import re
import shutil
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, LIBRARY, PHEAP, ROOT, USAGE, Skip, check, check_equal,  # noqa: E402
                        check_in, descendants, expect, main, test, wait_until)

COUNTER = os.path.join(BUILT_PROGRAMS, "counter")
EXAMPLES = os.path.join(ROOT, "docs", "examples", "service")
FAST = {"PATH": os.path.dirname(PHEAP) + ":" + os.environ["PATH"], "INTERVAL": "50ms",
        "RESTART_SEC": "0.1"}


def counted(path):
    """The numbers in the program's output, each behind the one before: nothing lost, nothing twice."""
    with open(path, encoding="ascii") as f:
        numbers = [int(line.split()[0]) for line in f.read().splitlines() if line[:1].isdigit()]
    check_equal(numbers, list(range(1, len(numbers) + 1)), f"counted numbers in {path}")
    return len(numbers)


def start_appending(place, output, *command):
    return place.start("/bin/sh", "-c", 'output=$1; shift; exec "$@" >>"$output"', "sh", output,
                       *command, environment=FAST)


def outer_pid(place, pool):
    program = place.inspect(pool)["program"] if place.newest(pool) else None
    return program["outer_pid"] if program else 0


@test
def the_scripts_say_how_they_are_called(place):
    for script in ("supervise.sh", "batch.sh"):
        expect(place.run(os.path.join(EXAMPLES, script), place.path("pool")), USAGE, f"usage: {script} POOL COMMAND...")
        check(not os.path.exists(place.path("pool")), "a pool was made")


@test
def a_supervisor_resumes_what_is_killed_and_sigterm_saves(place):
    pool, output = place.path("pool"), place.path("output")
    script = os.path.join(EXAMPLES, "supervise.sh")
    for start in range(2):
        supervisor = start_appending(place, output, script, pool, COUNTER, "3000")
        for number in range(start, start + 2):
            pid = wait_until(lambda: outer_pid(place, pool), 30, "a program")
            place.wait_generation(pool, place.newest(pool) + 2, supervisor)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda n=number: supervisor.stderr().count("resumed generation") > n, 30,
                       "the line of a resume")
        before, lines = place.newest(pool), counted(output)
        wait_until(lambda n=lines: counted(output) > n, 30, "more output")
        check_equal(supervisor.kill(signal.SIGTERM), 0, "status of the supervisor")
        check(place.newest(pool) > before, "SIGTERM took a checkpoint")
        counted(output)


@test
def a_supervisor_ends_as_its_program_does(place):
    script = os.path.join(EXAMPLES, "supervise.sh")
    done = place.run(script, place.path("pool"), COUNTER, "20", "7", environment=FAST)
    check_equal(done.status, 7, "exit status of the program")
    place.write("none", b"no pool" * 2000)
    done = place.run(script, place.path("none"), COUNTER, "20", environment=FAST)
    check_equal(done.status, 3, "exit status of a refusal")


@test
def a_batch_job_is_queued_again_and_goes_on(place):
    pool, queue, output = place.path("pool"), place.path("queue"), place.path("output")
    place.make_directory("bin")
    place.write("bin/scontrol", f"#!/bin/sh\necho \"$@\" >> {queue}\n", 0o755)
    place.environment = {"SLURM_JOB_ID": "17"}
    job = ["env", f"PATH={place.path('bin')}:{FAST['PATH']}", os.path.join(EXAMPLES, "batch.sh"),
           pool, COUNTER, "150", "5"]
    for number in range(2):
        process, lines = start_appending(place, output, *job), counted(output) if number else 0
        wait_until(lambda n=lines: place.newest(pool) and counted(output) > n + 5, 30, "more output")
        check_equal(process.kill(signal.SIGTERM), 143, "status of the script")
        with open(queue, encoding="ascii") as f:
            check_equal(f.read(), "requeue 17\n" * (number + 1), "what was queued")
    check_equal(start_appending(place, output, *job).wait(), 5, "the program's own status")
    check_equal(counted(output), 150, "lines in the end")
    with open(queue, encoding="ascii") as f:
        check_equal(f.read(), "requeue 17\n" * 2, "what was queued")


def unit_command(place):
    """ExecStart of the unit as systemd would split it for the instance "one"."""
    with open(os.path.join(EXAMPLES, "pheap@.service"), encoding="ascii") as f:
        [line] = re.findall("^ExecStart=(.*)$", f.read(), re.M)
    with open(os.path.join(EXAMPLES, "NAME.conf"), encoding="ascii") as f:
        names = re.findall("^([A-Z]+)=", f.read(), re.M)
    values = {"COMMAND": f"{COUNTER} 3000", "INTERVAL": "50ms"}
    check_equal(sorted(names), sorted(values), "what the unit's environment says")
    words = []
    for word in line.replace("%S", place.path("state")).replace("%i", "one").split():
        if re.fullmatch(r"\$[A-Z]+", word):
            words += values[word[1:]].split()
        else:
            words.append(re.sub(r"\$\{([A-Z]+)\}", lambda m: values[m.group(1)], word))
    check_equal(words[0], "/usr/bin/pheap", "the command")
    return [PHEAP] + words[1:]


@test
def the_units_command_starts_stops_and_resumes(place):
    os.makedirs(place.path("state", "pheap", "one"))
    pool, command = place.path("state", "pheap", "one", "pool"), unit_command(place)
    first = process = place.start(*command)
    for number, kill in enumerate((signal.SIGKILL, signal.SIGTERM, None)):
        place.wait_generation(pool, place.newest(pool) + 2, process)
        if kill is None:
            break
        before = place.newest(pool)
        check_equal(process.kill(kill), -kill, f"status {number}")
        check(kill == signal.SIGKILL or place.newest(pool) > before, "SIGTERM took a checkpoint")
        process = place.start(*command)
        process.resumed()
    process.kill(signal.SIGTERM)
    check(counted(first.stdout_path) > 0, "output")


@test
def systemd_accepts_the_unit(place):
    if not shutil.which("systemd-analyze"):
        raise Skip("systemd-analyze is not installed (Debian: systemd)")
    with open(os.path.join(EXAMPLES, "pheap@.service"), encoding="ascii") as f:
        text = f.read()
    check_in("/usr/bin/pheap", text, "the unit")
    place.write("pheap@.service", text.replace("/usr/bin/pheap", PHEAP))
    place.write("pheap@one.service", text.replace("/usr/bin/pheap", PHEAP))
    done = place.run("systemd-analyze", "verify", "--man=no", place.path("pheap@one.service"))
    about = [line for line in done.stderr().splitlines() if "pheap@" in line]
    check_equal(about, [], "what systemd says of it")
    place.write("pheap@one.service", text.replace("/usr/bin/pheap", PHEAP) + "[Service]\nKillMod=x\n")
    done = place.run("systemd-analyze", "verify", "--man=no", place.path("pheap@one.service"))
    check_in("KillMod", done.stderr(), "what systemd says of a mistake")


def container(place, *command, capabilities=()):
    """A command as process 1 of a pid namespace, as user 65534; its pid outside."""
    caps = "-all" + "".join(",+" + c for c in capabilities)
    process = place.start("unshare", "-p", "-f", "--mount-proc", "setpriv", "--reuid=65534",
                          "--regid=65534", "--clear-groups", f"--inh-caps={caps}",
                          f"--ambient-caps={caps}", f"--bounding-set={caps}", *command)
    wait_until(lambda: descendants(process.pid) or not process.running(), 30, "process 1")
    process.first = (descendants(process.pid) or [None])[0]
    return process


def open_place(place):
    """A directory in which the container's user may write."""
    if os.geteuid() != 0:
        raise Skip("needs root to make a pid namespace with a user in it")
    os.chown(place.directory, 65534, 65534)
    return place.path("pool")


def run_in_containers(place, capabilities):
    """Killed, stopped by SIGTERM and resumed, each time in a new container; the lines of resuming."""
    pool, lines = open_place(place), []
    for number in range(3):
        one = container(place, PHEAP, "run", "--resume", "--on-term", "-i", "50ms", pool, COUNTER,
                        "3000", capabilities=capabilities)
        if number:
            one.resumed()
            lines += [line for line in one.stderr().splitlines() if "resumed generation" in line]
        place.wait_generation(pool, place.newest(pool) + 2, one)
        if number == 1:
            os.kill(one.first, signal.SIGKILL)  # the container as a whole
            one.wait()
        else:
            before = place.newest(pool)
            os.kill(one.first, signal.SIGTERM)
            check_equal(one.wait(), 143, "status of process 1")
            check(place.newest(pool) > before, "SIGTERM took a checkpoint")
    return lines


@test
def as_process_1_it_stays_and_is_resumed_in_the_next_container(place):
    for line in run_in_containers(place, ()):
        check_in("as pid 100 (outer pid", line, "without capabilities: a namespace of its own")


@test
def with_one_capability_a_container_needs_no_other_namespace(place):
    for line in run_in_containers(place, ("checkpoint_restore",)):
        check(line.endswith("as pid 100"), f"its own number, here: {line!r}")


@test
def process_1_ends_as_its_program_does_and_passes_signals_on(place):
    pool = open_place(place)
    one = container(place, PHEAP, "run", "-i", "0", pool, COUNTER, "100", "9")
    wait_until(one.stdout, 30, "output")
    os.kill(one.first, signal.SIGUSR1)
    check_equal(one.wait(), 9, "exit status")
    check_in("signal", one.stdout(), "output after SIGUSR1")
    one = container(place, PHEAP, "run", pool, "/nonexistent/program")
    check(one.wait() in (3, 5), "status of what cannot be started")


@test
def small_numbers_are_free_in_a_namespace_of_its_own(place):
    """Processes of a container have them; those that a restore starts took number 2."""
    pool = open_place(place)
    script = place.write("script", f"{PHEAP} run -i 50ms {pool} {COUNTER} 3000 & wait\n")
    one = container(place, "sh", script)
    place.wait_generation(pool, 3, one)
    os.kill(one.first, signal.SIGKILL)
    one.wait()
    restore = container(place, PHEAP, "restore", pool)
    check_equal(restore.resumed()["pid"], 2, "its pid")
    os.kill(restore.first, signal.SIGTERM)
    check_equal(restore.wait(), 143, "status")


@test
def process_1_itself_is_refused_at_the_checkpoint(place):
    """It got there without pheap run: by variables set by hand."""
    pool = open_place(place)
    check_equal(place.pheap("run", pool, "/bin/true").status, 0, "making a pool")
    os.chown(pool, 65534, 65534)
    one = container(place, "env", f"LD_PRELOAD={LIBRARY}", f"PHEAP_POOL={pool}",
                    "PHEAP_INTERVAL=50ms", COUNTER, "3000")
    wait_until(lambda: "process 1 of a pid namespace" in one.stderr(), 30, "the refusal")
    os.kill(one.first, signal.SIGKILL)
    one.wait()


main()
