"""A program is killed at a random moment, resumed, killed, resumed, and must end as a plain run does.

The programs are those of t/programs and of Debian; none of them knows anything of pheap.
"""
import functools
import hashlib
import os
import signal

from pheap_test import (BUILT_PROGRAMS, Failure, NOBODY, PHEAP, PROGRAMS, PYTHON, ROUNDS, Skip,
                        add_test, check, check_equal, time, wait_until)


class Program:
    """How to run it: in a directory of its own, stdout to a file, perhaps with prepared inputs."""

    def __init__(self, name, *arguments, stdin=None, prepare=None, environment=None, appends=()):
        self.name, self.arguments, self.stdin, self.appends = name, arguments, stdin, appends
        self.prepare, self.environment = prepare, environment or {}


def _source(name):
    return os.path.join(PROGRAMS, name)


def _sql(place, directory):
    made = place.run(PYTHON, _source("make_sql.py"), stdout=os.path.join(directory, "script.sql"))
    check_equal(made.status, 0, "make_sql.py")


def _bytes(place, directory):
    made = place.run(PYTHON, _source("make_bytes.py"), "16", os.path.join(directory, "input"))
    check_equal(made.status, 0, "make_bytes.py")


ALL = {p.name: p for p in [
    Program("python3", PYTHON, _source("threads_objects.py"),
            appends=[f"thread-{n}.log" for n in range(4)]),
    Program("lua5.4", "lua5.4", _source("tables.lua"), appends=["rounds.log"]),
    Program("perl", "perl", _source("hashes.pl"), appends=["rounds.log"]),
    Program("ruby", "ruby", _source("strings.rb"), appends=["rounds.log"]),
    Program("gawk", "gawk", "-f", _source("arrays.awk"), appends=["rounds.log"]),
    Program("bc", "bc", _source("digits.bc"), environment={"BC_LINE_LENGTH": "0"}),
    Program("sqlite3", "sqlite3", ":memory:", stdin="script.sql", prepare=_sql),
    Program("xz", "xz", "-4", "-T2", "--block-size=4MiB", "-c", "input", prepare=_bytes),
    Program("threads_conditions", os.path.join(BUILT_PROGRAMS, "threads_conditions")),
]}


def digests(directory):
    """What the program left: name -> (size, digest) of each file."""
    found = {}
    for name in sorted(os.listdir(directory)):
        with open(os.path.join(directory, name), "rb") as f:
            content = f.read()
        found[name] = (len(content), hashlib.sha256(content).hexdigest()[:16])
    return found


def first_difference(a_path, b_path):
    with open(a_path, "rb") as a, open(b_path, "rb") as b:
        for number, (left, right) in enumerate(zip(a, b), 1):
            if left != right:
                return f"line {number}: plain {left[:100]!r}, resumed {right[:100]!r}"
    return "one is the beginning of the other"


def start(place, program, directory, prefix=()):
    stdin = os.path.join(directory, program.stdin) if program.stdin else None
    return place.start(*prefix, *program.arguments, stdin=stdin, cwd=directory,
                       stdout=os.path.join(directory, "stdout"), environment=program.environment)


def prepared(place, program, name):
    directory = place.make_directory(name)
    if program.prepare:
        program.prepare(place, directory)
    return directory


def plain_run(place, program):
    """(directory, seconds) of an undisturbed run."""
    directory = prepared(place, program, "plain")
    begin = time.monotonic()
    status = start(place, program, directory).wait(180)
    check_equal(status, 0, f"exit status of the plain run of {program.name}")
    return directory, time.monotonic() - begin


def compare(plain, resumed):
    expected, found = digests(plain), digests(resumed)
    if expected == found:
        return
    text = f"plain {expected}\nresumed {found}"
    for name in expected:
        if name in found and expected[name] != found[name]:
            text += f"\n{name}: " + first_difference(os.path.join(plain, name),
                                                     os.path.join(resumed, name))
    raise Failure("the output differs from that of the plain run\n" + text)


class TooLate(Exception):
    """The program came to its end before it was killed: the machine has less to do than before."""


def kill_after(place, process, pid, seconds):
    """SIGKILL after so long, while it runs."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not process.running():
            check_equal(process.popen.returncode, 0,
                        f"{' '.join(process.arguments)}: status before it was killed "
                        f"({process.stderr().strip()!r})")
            raise TooLate
        time.sleep(0.005)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:  # it ended since it was looked at
        check_equal(process.wait(60), 0, "status of what ended before it was killed")
        raise TooLate from None
    status = process.wait(60)
    place.note(f"killed pid {pid} after another {seconds:.3f} s: status {status}")
    check(status in (-signal.SIGKILL, 128 + signal.SIGKILL),
          f"{' '.join(process.arguments)}: status {status} after SIGKILL of pid {pid}")


def killed_twice(place, program, plain, seconds, name="run"):
    directory, pool = prepared(place, program, name), place.path(name + ".pool")
    process = start(place, program, directory, (PHEAP, "run", "-i", "100ms", pool))
    for name in program.appends:
        # What it opens for appending after the checkpoint it would, resumed, open and fill again.
        wait_until(lambda n=name: os.path.exists(os.path.join(directory, n)), 30, name)
    begun = place.newest(pool)
    try:
        place.wait_generation(pool, begun + (2 if program.appends else 1), process)
    except Failure:
        if process.running() or process.popen.returncode != 0:
            raise
        raise TooLate from None  # a busy machine: it was stopped long, and then left alone as long
    kill_after(place, process, process.pid, place.random.uniform(0, 0.4 * seconds))
    for fraction in (0.25, None):
        process = place.start(PHEAP, "restore", pool, cwd=directory)
        resumed = process.resumed()
        place.note(f"resumed {resumed}")
        if fraction is None:
            break
        place.wait_generation(pool, resumed["generation"] + 1, process)
        kill_after(place, process, resumed["outer_pid"],
                   place.random.uniform(0, fraction * seconds))
    status = process.wait(180)
    check_equal(status, 0, f"exit status of the resumed {program.name}")
    compare(plain, directory)
    os.unlink(pool)


def run_program(place, program, environment):
    place.environment.update(environment)
    plain, seconds = plain_run(place, program)
    place.note(f"plain run: {seconds:.2f} s")
    for number in range(ROUNDS):
        for attempt in range(4):
            try:
                killed_twice(place, program, plain, seconds / 2**attempt, f"run-{number}-{attempt}")
                break
            except TooLate:
                check(attempt < 3, "the program always ended before it could be killed")


def add(names, uid=None, environment=None, as_what=""):
    """One test a program."""
    for name in names:
        def body(place, program):
            if uid is not None and os.geteuid() != 0:
                raise Skip("runs as an ordinary user already; the others say it all")
            run_program(place, program, environment or {})

        function = functools.partial(body, program=ALL[name])
        function.uid = uid
        add_test(f"{name} killed and resumed twice{as_what} ends as if nothing had been", function)


__all__ = ["ALL", "NOBODY", "Program", "add", "run_program"]
