"""What the end-to-end tests share: TAP, places to work in, programs under pheap, and their end.

A test is a function with a sentence for a name:

    @test
    def a_second_run_on_a_pool_in_use_is_refused(place): ...

    if __name__ == "__main__":
        main()

It fails by an exception; check(), check_equal() and friends raise one with both operands. `place` is
a Place: a temporary directory with processes in it. When the test is over, whatever still runs in
it is a failure and is killed by its pid; what the processes wrote to stderr is shown if the test
failed. `t/e2e/NAME.t TEXT...` runs only the tests whose name has one of the texts in it.
Environment: PHEAP_TEST_SEED (random moments; printed), PHEAP_TEST_KEEP=1 (keep directories),
PHEAP_TEST_LONG=1 (ten rounds where one is made).
"""
import ctypes
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("PHEAP_BUILD") or os.path.join(ROOT, "build")
PHEAP = os.path.join(BUILD, "bin", "pheap")
LIBRARY = os.path.join(BUILD, "lib", "libpheap.so")
PROGRAMS = os.path.join(ROOT, "t", "programs")
BUILT_PROGRAMS = os.path.join(BUILD, "t", "programs")
PYTHON = "/usr/bin/python3"

FINE, FOUND, USAGE, REFUSED, DAMAGED, SYSTEM = range(6)
NOBODY = 65534
LONG = os.environ.get("PHEAP_TEST_LONG") == "1"
ROUNDS = 10 if LONG else 1
SEED = int(os.environ.get("PHEAP_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
FREEZE = os.environ.get("PHEAP_TEST_FREEZE")  # signal: all programs are stopped by signals

_tests = []


class Failure(Exception):
    """A check that did not hold."""


class Skip(Exception):
    """The test cannot run here; the text says why."""


def check(condition, text):
    if not condition:
        raise Failure(text)


def check_equal(found, expected, what):
    if found != expected:
        raise Failure(f"{what}: found {found!r}, expected {expected!r}")


def check_in(part, text, what):
    if part not in text:
        raise Failure(f"{what}: expected {part!r} in {text!r}")


def test(function):
    _tests.append((function.__name__.replace("_", " "), function))
    return function


def add_test(name, function):
    _tests.append((name, function))


def wait_until(condition, timeout, what):
    """Polls; returns the first true value."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"not within {timeout} s: {what}")
        time.sleep(0.01)


def describe_process(pid):
    """What every thread of a process waits for: a test that hangs shows where."""
    lines = []
    try:
        for task in sorted(os.listdir(f"/proc/{pid}/task")):
            base = f"/proc/{pid}/task/{task}/"
            with open(base + "stat", encoding="utf-8", errors="replace") as f:
                state = f.read().rsplit(")", 1)[1].split()[0]
            with open(base + "wchan", encoding="ascii", errors="replace") as f:
                wchan = f.read()
            try:
                with open(base + "syscall", encoding="ascii") as f:
                    call = f.read().strip()
            except OSError:
                call = "?"
            lines.append(f"pid {pid} thread {task}: state {state}, in {wchan}, syscall {call}")
    except OSError as error:
        lines.append(f"pid {pid}: {error}")
    return "\n".join(lines)


def children():
    """Pids of all living children of this process, which is a subreaper: nobody gets away."""
    found = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/children", encoding="ascii") as f:
                found += [int(word) for word in f.read().split()]
        except (FileNotFoundError, ProcessLookupError):
            pass  # a thread of the test that has ended: its children are another thread's now
    return found


def reap(popens):
    """Takes the status of adopted children that have ended; those of Popen are its own business."""
    own = {p.pid for p in popens if p.returncode is None}
    for pid in children():
        if pid not in own:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass


def reap_adopted(place):
    """A killed program's agent outlives it for a moment and becomes our child: tests find the pool as
    it leaves it. Other adopted children may be there for long."""
    popens = [p.popen for p in place.processes]
    own = {p.pid for p in popens}
    began = time.monotonic()
    while True:
        reap(popens)
        left = [pid for pid in children() if pid not in own]
        if not left or time.monotonic() > began + (20 if any(map(is_agent, left)) else 0.2):
            break
        time.sleep(0.002)


def is_agent(pid):
    try:
        with open(f"/proc/{pid}/comm", encoding="ascii", errors="replace") as f:
            return f.read().startswith("pheap-")
    except OSError:
        return False


class Process:
    """A started command: its stderr (and, unless redirected, stdout) go to files of the place."""

    def __init__(self, place, arguments, stdout_path, stderr_path):
        self.place, self.arguments = place, arguments
        self.stdout_path, self.stderr_path = stdout_path, stderr_path
        self.popen, self.pid = None, None

    def began(self, popen):
        self.popen, self.pid = popen, popen.pid

    def stderr(self):
        with open(self.stderr_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def stdout(self):
        with open(self.stdout_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def running(self):
        return self.popen.poll() is None

    def wait(self, timeout=120):
        """The exit status, negative for a signal."""
        if self.is_counter():
            self.place.hold(False)
        try:
            status = self.popen.wait(timeout)
            reap_adopted(self.place)
            return status
        except subprocess.TimeoutExpired:
            state = describe_process(self.pid)
            for pid in descendants(self.pid):
                state += "\n" + describe_process(pid)
            raise Failure(f"{' '.join(self.arguments)}: still runs after {timeout} s\n{state}") from None

    def is_counter(self):
        return any("counter" in argument for argument in self.arguments)

    def kill(self, number=signal.SIGKILL, timeout=30):
        os.kill(self.pid, number)
        return self.wait(timeout)

    def resumed(self, timeout=60):
        """For pheap restore: {generation, pid, outer_pid}, once it says so."""
        line = re.compile(r"pheap: resumed generation (\d+) as pid (\d+)(?: \(outer pid (\d+)\))?\n")

        def said():
            match = line.search(self.stderr())
            if not match and not self.running():
                raise Failure(f"{' '.join(self.arguments)}: ended with {self.popen.returncode} "
                              f"instead of resuming: {self.stderr().strip()!r}")
            return match

        generation, pid, outer = wait_until(said, timeout, "the line of pheap restore").groups()
        return {"generation": int(generation), "pid": int(pid), "outer_pid": int(outer or pid)}


def descendants(pid):
    found, todo = [], [pid]
    while todo:
        parent = todo.pop()
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{task}/children", encoding="ascii") as f:
                    todo += [int(word) for word in f.read().split()]
        except OSError:
            continue
        found += [parent] if parent != pid else []
    return found


class Place:
    """A temporary directory, the user who works in it, and what runs in it."""

    def __init__(self, name, uid=None):
        self.directory = tempfile.mkdtemp(prefix="pheap-test-", dir=os.environ.get("TMPDIR", "/tmp"))
        self.name, self.uid = name, uid
        self.random = random.Random(f"{SEED} {name}")
        self.processes, self.count = [], 0
        self.notes = []
        self.environment = {}
        os.chmod(self.directory, 0o755)
        self.give(self.directory)

    def give(self, path):
        if self.uid is not None:
            os.chown(path, self.uid, self.uid)

    def privileged(self):
        """What runs here does so as root."""
        return self.uid is None and os.geteuid() == 0

    def path(self, *names):
        return os.path.join(self.directory, *names)

    def make_directory(self, name):
        os.mkdir(self.path(name))
        self.give(self.path(name))
        return self.path(name)

    def write(self, name, content, mode=0o644):
        path = self.path(name)
        with open(path, "wb") as f:
            f.write(content if isinstance(content, bytes) else content.encode())
        os.chmod(path, mode)
        self.give(path)
        return path

    def note(self, text):
        self.notes.append(text)

    def hold(self, held):
        """t/programs/counter stays half-way from its start until the test kills it or waits for its
        end: on a machine that is busy with other things it would be over before."""
        if held:
            self.write(".hold", "")
        elif os.path.exists(self.path(".hold")):
            os.unlink(self.path(".hold"))

    def start(self, *arguments, stdin=None, stdout=None, cwd=None, environment=None, prefix=()):
        """Starts a command; stdin and stdout are paths."""
        self.count += 1
        arguments = [str(a) for a in arguments]
        stdout = stdout or self.path(f".stdout-{self.count}")
        stderr = self.path(f".stderr-{self.count}")
        prefix = list(prefix)
        if self.uid is not None:
            prefix += ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups",
                       "--"]
        for path in (stdout, stderr):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
            self.give(path)
        variables = dict(os.environ)
        for name in [n for n in variables if n.startswith("PHEAP_") or n.startswith("LD_")]:
            del variables[name]
        variables.update({"LC_ALL": "C.UTF-8", "TMPDIR": self.directory, "HOME": self.directory})
        if FREEZE:
            variables["PHEAP_FREEZE"] = FREEZE
        variables.update(self.environment)
        variables.update(environment or {})
        process = Process(self, prefix + arguments, stdout, stderr)
        if process.is_counter():
            self.hold(True)
        with open(stdin or "/dev/null", "rb") as in_file, open(stdout, "wb") as out_file, \
                open(stderr, "wb") as err_file:
            process.began(subprocess.Popen(prefix + arguments, stdin=in_file, stdout=out_file,
                                           stderr=err_file, cwd=cwd or self.directory, env=variables,
                                           start_new_session=True))
        self.processes.append(process)
        return process

    def run(self, *arguments, timeout=120, **keywords):
        """Starts a command and waits for its end; the ended Process."""
        process = self.start(*arguments, **keywords)
        process.status = process.wait(timeout)
        return process

    def pheap(self, *arguments, **keywords):
        return self.run(PHEAP, *arguments, **keywords)

    def inspect(self, pool, view="summary", **keywords):
        done = self.pheap("inspect", "--json", pool, view, **keywords)
        if done.status not in (FINE, FOUND):
            raise Failure(f"pheap inspect --json {pool}: {done.status}: {done.stderr().strip()!r}")
        text = done.stdout()
        self.processes.remove(done)
        os.unlink(done.stdout_path)
        os.unlink(done.stderr_path)
        return json.loads(text)

    def newest(self, pool):
        """The number of the newest generation; 0 before the first."""
        if not os.path.exists(pool):
            return 0
        generations = self.inspect(pool)["generations"]
        return generations[-1]["number"] if generations else 0

    def wait_generation(self, pool, number, process, timeout=60):
        """Until generation `number` is committed; process must live as long."""
        def there():
            newest = self.newest(pool)
            if newest < number and not process.running():
                raise Failure(f"{' '.join(process.arguments)}: ended with {process.popen.returncode} "
                              f"before generation {number}: {process.stderr().strip()!r}")
            return newest if newest >= number else 0

        return wait_until(there, timeout, f"generation {number} of {pool}")

    def kill_leftovers(self):
        """Ends what still runs; a list of what it was."""
        popens = [p.popen for p in self.processes]
        for popen in popens:
            popen.poll()
        end = time.monotonic() + 3
        while time.monotonic() < end:
            reap(popens)
            if not children():
                return []
            time.sleep(0.02)
        left = []
        for pid in children():
            for one in [pid] + descendants(pid):
                try:
                    with open(f"/proc/{one}/cmdline", "rb") as f:
                        command = f.read().replace(b"\0", b" ").decode(errors="replace").strip()
                    left.append(f"pid {one}: {command}\n{describe_process(one)}")
                    os.kill(one, signal.SIGKILL)
                except OSError:
                    pass
        end = time.monotonic() + 10
        while children() and time.monotonic() < end:
            for popen in popens:
                popen.poll()
            reap(popens)
            time.sleep(0.02)
        return left

    def diagnostics(self):
        lines = [f"seed {SEED}; directory {self.directory}"] + self.notes
        for process in self.processes[-8:]:
            lines.append(f"$ {' '.join(process.arguments)}  -> {process.popen.returncode}")
            try:
                lines += process.stderr().strip().splitlines()[-20:]
            except OSError:
                pass
        return lines

    def remove(self):
        if os.environ.get("PHEAP_TEST_KEEP") != "1":
            shutil.rmtree(self.directory, ignore_errors=True)


def expect(process, status, *parts):
    """The command ended with this status, and one line on stderr holds these parts."""
    text = process.stderr()
    if process.status != status:
        raise Failure(f"{' '.join(process.arguments)}: exit status {process.status}, expected "
                      f"{status}; stderr: {text.strip()!r}; stdout: {process.stdout()[-400:].strip()!r}")
    if parts:
        lines = [line for line in text.splitlines() if all(part in line for part in parts)]
        check(lines, f"{' '.join(process.arguments)}: expected a line with {parts} in {text!r}")
    check("Segmentation" not in text and "Assertion" not in text, text)


def expect_whole(place, pool):
    """After a kill: what the kill left half-written (a record of the log) is harmless."""
    done = place.pheap("recover", "--check", pool)
    check(done.status in (FINE, FOUND), f"the check ends with {done.status} and says {done.stdout()!r}")


def run_one(number, name, function):
    uid = getattr(function, "uid", None) if os.geteuid() == 0 else None  # others are unprivileged
    place, lines = Place(name, uid), []
    result = "ok"
    try:
        function(place)
    except Skip as skip:
        result = f"skip {skip}"
    except Exception as error:  # pylint: disable=broad-except
        result = "not ok"
        lines += str(error).splitlines()
        if not isinstance(error, Failure):
            lines += traceback.format_exc().splitlines()
    for text in place.kill_leftovers():
        if result == "ok":
            result = "not ok"
        lines += ["left behind: " + text.splitlines()[0]] + text.splitlines()[1:]
    if result == "not ok":
        lines += place.diagnostics()
    for line in lines:
        print("# " + line, file=sys.stderr if result == "not ok" else sys.stdout, flush=True)
    if result.startswith("skip"):
        print(f"ok {number} - {name} # SKIP {result[5:]}", flush=True)
    else:
        print(f"{result} {number} - {name}", flush=True)
    place.remove()
    return result != "not ok"


def main():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(36, 1, 0, 0, 0) != 0:  # PR_SET_CHILD_SUBREAPER
        sys.exit("Bail out! no child subreaper")
    wanted = [t for t in _tests if not sys.argv[1:] or any(a in t[0] for a in sys.argv[1:])]
    print(f"1..{len(wanted)}\n# seed {SEED}", flush=True)
    results = [run_one(i, *t) for i, t in enumerate(wanted, 1)]
    sys.exit(0 if all(results) else 1)
