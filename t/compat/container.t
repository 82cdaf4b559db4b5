#!/usr/bin/python3
"""docs/examples/service/Dockerfile in a container engine: built as it stands, its container killed,
stopped, started and made anew, with the one volume.

`make check-container` installs podman and runs this, as root. The base image is made by debootstrap
(no registry is asked), once for all tests. Where the machine lets nobody raise limits, or mounts the
first version of control groups, the engine is told to leave both alone.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import ROOT, Skip, check, check_equal, check_in, main, test, wait_until  # noqa: E402

NAME = f"pheap-check-{os.getpid()}"
SERVICE = "docs/examples/service"
PROGRAM = """import time
number = 0
while True:
    number += 1
    print(number, flush=True)
    time.sleep(0.05)
"""
# A runtime that sets no limits, and a mount of control groups that crun knows.
RUNTIME = """#!/usr/bin/python3
import json, os, sys
arguments = sys.argv[1:]
for option, value in zip(arguments, arguments[1:]):
    if option in ("--bundle", "-b"):
        with open(value + "/config.json", encoding="utf-8") as f:
            config = json.load(f)
        for name in ("rlimits", "oomScoreAdj"):
            config["process"].pop(name, None)
        with open(value + "/config.json", "w", encoding="utf-8") as f:
            json.dump(config, f)
os.execv("{crun}", ["crun"] + arguments)
"""
OWN_GROUPS = "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec \"$@\""


class Engine:
    """podman, and what it has to be told here."""

    def __init__(self, place):
        self.place = place
        self.before, self.runtime, self.run_options = (), (), ()

    def do(self, *arguments, timeout=300):
        return self.place.run(*self.before, "podman", *self.runtime, *arguments, timeout=timeout)

    def must(self, *arguments):
        done = self.do(*arguments)
        check_equal(done.status, 0, f"podman {' '.join(arguments)}: {done.stderr()}")
        return done.stdout()

    def start(self, *arguments):
        return self.must("run", "--network=host", *self.run_options, *arguments)

    def works(self):
        return self.do("run", "--rm", "--network=host", *self.run_options, NAME + "-base", "true").status == 0

    def adapt(self):
        if self.works():
            return
        directory = self.place.make_directory("runtime")
        with open(directory + "/crun", "w", encoding="ascii") as f:
            f.write(RUNTIME.replace("{crun}", shutil.which("crun")))
        os.chmod(directory + "/crun", 0o755)
        self.before = ("unshare", "-m", "sh", "-c", OWN_GROUPS, "sh")
        self.runtime = ("--runtime", directory + "/crun")
        self.run_options = ("--cgroups=disabled",)
        check(self.works(), "podman runs no container here: " + self.do(
            "run", "--rm", "--network=host", *self.run_options, NAME + "-base", "true").stderr())
        self.place.note("podman is told to leave limits and control groups alone")


def base_image(place, engine):
    root, archive = place.path("root"), place.path("base.tar")
    made = subprocess.run(["debootstrap", "--variant=minbase", "bookworm", root], check=False,
                          capture_output=True, text=True)
    check_equal(made.returncode, 0, f"debootstrap: {made.stdout[-300:]}")
    subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
    shutil.rmtree(root)
    engine.must("import", archive, NAME + "-base")
    os.unlink(archive)


def build_image(place, engine):
    """The Dockerfile as it stands, on the base that was made here."""
    context = place.make_directory("context")
    made = place.run("make", "-C", ROOT, "install", f"DESTDIR={context}/image", "PREFIX=/usr", timeout=600)
    check_equal(made.status, 0, f"make install: {made.stderr()}")
    with open(os.path.join(ROOT, SERVICE, "Dockerfile"), encoding="ascii") as f:
        lines = f.read()
    with open(context + "/Dockerfile", "w", encoding="ascii") as f:
        f.write(re.sub(r"^FROM .*$", f"FROM {NAME}-base", lines, flags=re.M))
    with open(context + "/main.py", "w", encoding="ascii") as f:
        f.write(PROGRAM)
    engine.must("build", "--isolation=chroot", "--network=host", "-t", NAME, context)


def seccomp_profile(place):
    """The engine's default one with what the Dockerfile says has to be allowed."""
    with open("/usr/share/containers/seccomp.json", encoding="utf-8") as f:
        profile = json.load(f)
    profile["syscalls"].append({"names": ["clone3", "userfaultfd", "ptrace"], "action": "SCMP_ACT_ALLOW"})
    path = place.path("seccomp.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(profile, f)
    return path


def numbers(engine, container):
    return [int(line) for line in engine.do("logs", container).stdout().splitlines() if line.isdigit()]


def wait_for_more(engine, container):
    had = len(numbers(engine, container))
    wait_until(lambda: len(numbers(engine, container)) > had + 30, 60, "the program goes on")


def check_goes_on(engine, container, restarts, last_before):
    """After a kill it goes on a little behind what it last said, after a stop exactly there."""
    said = numbers(engine, container)
    steps = [i for i in range(1, len(said)) if said[i] != said[i - 1] + 1]
    check(len(steps) <= restarts, f"breaks at {[said[i - 1:i + 1] for i in steps]} in {restarts} restarts")
    for i in steps:
        check(1 < said[i] <= said[i - 1], f"{said[i]} behind {said[i - 1]}: started anew")
    check(said[-1] > last_before, "it goes on")


def life(engine, options):
    container = NAME + "-1"
    engine.start("-d", "--stop-timeout=120", *options, "--name", container, NAME)
    wait_for_more(engine, container)
    time.sleep(1.5)  # a checkpoint
    engine.must("kill", "-s", "KILL", container)
    last = numbers(engine, container)[-1]
    engine.must("start", container)
    wait_for_more(engine, container)
    check_goes_on(engine, container, 1, last)
    engine.must("stop", container)
    last = numbers(engine, container)[-1]
    engine.must("start", container)
    wait_for_more(engine, container)
    check_goes_on(engine, container, 1, last)
    check_in("pheap: resumed generation", engine.do("logs", container).stderr(), "log")
    engine.must("stop", container)
    last = numbers(engine, container)[-1]
    engine.must("rm", "-f", container)
    engine.start("-d", *options, "--name", NAME + "-2", NAME)
    wait_for_more(engine, NAME + "-2")
    check_equal(numbers(engine, NAME + "-2")[0], last + 1, "the first number in a new container")


@test
def the_dockerfile_is_killed_stopped_and_made_anew(place):
    for tool in ("podman", "crun", "debootstrap"):
        if not shutil.which(tool):
            raise Skip(f"no {tool}: make check-container installs it")
    if os.getuid() != 0:
        raise Skip("debootstrap needs root")
    engine = Engine(place)
    try:
        base_image(place, engine)
        engine.adapt()
        build_image(place, engine)
        profile = seccomp_profile(place)
        life(engine, ("-v", NAME + ":/pool", "--cap-add=CHECKPOINT_RESTORE", "--security-opt",
                      "seccomp=" + profile))
    finally:
        engine.do("rm", "-f", NAME + "-1", NAME + "-2")
        engine.do("volume", "rm", "-f", NAME)
        engine.do("rmi", "-f", NAME, NAME + "-base")


if __name__ == "__main__":
    main()
