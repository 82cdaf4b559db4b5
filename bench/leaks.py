#!/usr/bin/python3
"""make bench-leaks: what pheap, gdb with a core, Valgrind and heaptrack say of the same heap, and at
what price. bench/leaking.c makes a heap of which everything is known.

Three tables: what each finds (of the bytes that nothing points to, of what holds a block, after a
kill -9); how much slower and larger programs are under it, medians of ratios of runs that take
turns; the instructions that PHEAP_PROFILE adds, by callgrind, which are the same under any load.
"""
import argparse
import os
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

import rows

LEAKING = os.path.join(rows.BUILD, "bench", "leaking")
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("LD_", "PHEAP_", "MALLOC_"))}
CLEAN.update(PYTHONMALLOC="malloc", PYTHONHASHSEED="0", PERL_HASH_SEED="0")
PROGRAMS = {
    "leaking": lambda percent: [LEAKING, str(5000 * percent)],
    "lua": lambda percent: ["lua5.4", os.path.join(rows.PROGRAMS, "trees.lua"), str(percent)],
    "cpython": lambda percent: ["/usr/bin/python3", os.path.join(rows.PROGRAMS, "objects.py"), str(percent)],
    "perl": lambda percent: ["perl", os.path.join(rows.PROGRAMS, "words.pl"), str(percent)],
}
MEMCHECK = ["valgrind", "--leak-check=full", "--show-leak-kinds=definite"]


def tools(directory):
    """{name: (words before the command, variables)}, the first the program alone."""
    pool, out = os.path.join(directory, "pool"), os.path.join(directory, "out")
    pheap = [rows.PHEAP, "run", "--fresh", "-i", "1s"]
    return {
        "alone": ([], {}),
        "pheap": (pheap + [pool], {}),
        "pheap, profile": (pheap + [pool], {"PHEAP_PROFILE": "1"}),
        "heaptrack": (["heaptrack", "-o", out], {}),
        "memcheck": (MEMCHECK, {}),
        "massif": (["valgrind", "--tool=massif", "--massif-out-file=" + out], {}),
    }


def timed(command, **variables):
    """(seconds, seconds of processors, MiB) of a command and all it started."""
    begin = time.monotonic()
    with subprocess.Popen(["/bin/sh", "-c", '"$@"; exit $?', "sh", *command], env={**CLEAN, **variables},
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
    return time.monotonic() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def slowdowns(arguments, directory):
    """{program: {tool: median ratios}}"""
    found = {}
    for program, command in PROGRAMS.items():
        ratios = {}
        for _ in range(arguments.runs):
            alone = None
            for tool, (before, variables) in tools(directory).items():
                clear(directory)
                one = timed(before + command(arguments.percent), **variables)
                alone = alone or one
                ratios.setdefault(tool, []).append([a / b for a, b in zip(one, alone)])
        found[program] = {tool: [statistics.median(column) for column in zip(*runs)]
                          for tool, runs in ratios.items()}
        print(f"  {program} measured", flush=True)
    return found


def clear(directory):
    for name in os.listdir(directory):
        os.unlink(os.path.join(directory, name))


# --- what they find ---

class Waiting:
    """leaking, waiting to be looked at; what it said of itself."""

    def __init__(self, arguments, before=(), **variables):
        self.process = subprocess.Popen([*before, LEAKING, str(arguments.blocks), "wait"],
                                        env={**CLEAN, **variables}, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if line.startswith("block 0x"):
                break
        words = line.split()
        self.block, self.holder = words[1], words[3]
        self.kept, self.leaked = int(words[5]), int(words[7])

    def end(self):
        """Its end by itself; all of stderr."""
        return self.process.communicate()[1]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


def run(*command, **keywords):
    """(seconds, stdout and stderr) of a command that looks at something."""
    begin = time.monotonic()
    done = subprocess.run(command, env=CLEAN, capture_output=True, text=True, check=False, **keywords)
    return time.monotonic() - begin, done.stdout + done.stderr


def bytes_of(text, unit):
    scale = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "K": 1000, "M": 10 ** 6}
    return float(text.replace(",", "")) * scale[unit]


def percent_of(found, wanted):
    return f"{100 * found / wanted:.0f} %"


def named(text, function):
    return "named" if re.search(rf"\b{function}\b", text) else "not named"


def pheap_finds(arguments, directory):
    pool = os.path.join(directory, "pool")
    waiting = Waiting(arguments, [rows.PHEAP, "run", "-i", "0", pool], PHEAP_PROFILE="1")
    stopped, said = run(rows.PHEAP, "checkpoint", pool)
    pause = re.search(r"paused (.*)", said)[1]
    waiting.kill()
    leaks_time, leaks = run(rows.PHEAP, "inspect", pool, "leaks")
    holder_time, holder = run(rows.PHEAP, "inspect", "--address", waiting.block, pool, "blocks")
    total = bytes_of(*re.search(r"blocks, ([\d.]+) (\w+)\n", leaks).groups())
    return {"leaked bytes": percent_of(total, waiting.leaked), "who leaked": named(leaks, "leaked"),
            "time of it": f"{leaks_time:.2f} s",
            "holder": "found" if waiting.holder in holder else "not found", "time of that": f"{holder_time:.2f} s",
            "stops the program": pause, "after kill -9": "all of it", "file": size_of(pool)}


def size_of(path):
    return f"{os.stat(path).st_blocks * 512 / (1 << 20):.0f} MiB"


def writable(pid):
    with open(f"/proc/{pid}/maps", encoding="utf-8") as f:
        fields = [line.split() for line in f]
    return [field[0].split("-") for field in fields if field[1].startswith("rw") and "[vvar" not in field[-1]]


def gdb_finds(arguments, directory):
    waiting = Waiting(arguments)
    regions, pid = writable(waiting.process.pid), str(waiting.process.pid)
    core = os.path.join(directory, "core")
    stopped, _ = run("gcore", "-o", core, pid)
    waiting.kill()
    core += "." + pid
    searches = [word for low, high in regions
                for word in ("-ex", f"find /g 0x{low}, 0x{high} - 8, {waiting.block}")]
    seconds, said = run("gdb", "-batch", *searches, LEAKING, core)
    return {"leaked bytes": "-", "who leaked": "-", "time of it": "-",
            "holder": "found" if waiting.holder in said else "not found", "time of that": f"{seconds:.2f} s",
            "stops the program": f"{stopped:.2f} s", "after kill -9": "no core", "file": size_of(core)}


def memcheck_finds(arguments, _):
    waiting = Waiting(arguments, MEMCHECK + ["--vgdb=yes"])
    seconds, said = run("vgdb", f"--pid={waiting.process.pid}", "who_points_at", waiting.block)
    found = waiting.holder[2:].lower().lstrip("0") in said.lower()
    begin = time.monotonic()
    text = waiting.end()
    lost = re.search(r"definitely lost: ([\d,]+) bytes", text)
    killed = Waiting(arguments, MEMCHECK)
    killed.kill()
    return {"leaked bytes": percent_of(bytes_of(lost[1], ""), waiting.leaked), "who leaked": named(text, "leaked"),
            "time of it": f"{time.monotonic() - begin:.2f} s",
            "holder": "found" if found else "not found", "time of that": f"{seconds:.2f} s",
            "stops the program": "for each answer", "after kill -9": "nothing", "file": "none"}


def massif_finds(arguments, directory):
    out = os.path.join(directory, "massif")
    before = ["valgrind", "--tool=massif", "--massif-out-file=" + out]
    waiting = Waiting(arguments, before)
    waiting.end()
    seconds, said = run("ms_print", out)
    last = re.findall(r"->[\d.]+% \(([\d,]+)B\) \w+: (\w+)", said)
    by = {function.split(".")[0]: bytes_of(size, "") for size, function in last}
    os.unlink(out)
    killed = Waiting(arguments, before)
    killed.kill()
    after = "nothing" if not os.path.exists(out) or os.path.getsize(out) == 0 else "what was written"
    return {"leaked bytes": f"{percent_of(by.get('leaked', 0), waiting.leaked)}, among {len(by)} sites",
            "who leaked": named(said, "leaked"), "time of it": f"{seconds:.2f} s", "holder": "-",
            "time of that": "-", "stops the program": "no", "after kill -9": after, "file": "small"}


def heaptrack_finds(arguments, directory):
    out = os.path.join(directory, "track")
    waiting = Waiting(arguments, ["heaptrack", "-o", out])
    for pid in children_of(waiting.process.pid):
        with open(f"/proc/{pid}/comm", encoding="utf-8") as f:
            if f.read().strip() == "leaking":
                os.kill(pid, signal.SIGKILL)
    waiting.end()
    path = next(os.path.join(directory, n) for n in os.listdir(directory) if n.startswith("track"))
    seconds, said = run("heaptrack_print", "-l", "1", "-p", "0", "-a", "0", "-T", "0", "-f", path)
    sites = re.findall(r"^([\d.]+)([KM]?)B? leaked over \d+ calls from\n(\w+)", said, re.M)
    by = {function: bytes_of(size, unit) for size, unit, function in reversed(sites)}
    return {"leaked bytes": f"{percent_of(by.get('leaked', 0), waiting.leaked)}, among {len(by)} sites",
            "who leaked": named(said, "leaked"), "time of it": f"{seconds:.2f} s", "holder": "-",
            "time of that": "-", "stops the program": "no", "after kill -9": "all of it", "file": size_of(path)}


def children_of(pid):
    found, todo = [], [pid]
    while todo:
        parent = todo.pop()
        with open(f"/proc/{parent}/task/{parent}/children", encoding="ascii") as f:
            todo += [int(word) for word in f.read().split()]
        found.append(parent)
    return found


def print_findings(arguments, directory):
    finders = {"pheap, profile": pheap_finds, "gdb + core": gdb_finds, "memcheck": memcheck_finds,
               "massif": massif_finds, "heaptrack": heaptrack_finds}
    found = {}
    for name, finder in finders.items():
        clear(directory)
        found[name] = finder(arguments, directory)
    print(f"\n{arguments.blocks} blocks of 112 bytes in a list, a tenth as many that nothing points to\n")
    print("| | " + " | ".join(found) + " |\n| --- |" + " --- |" * len(found))
    for question in next(iter(found.values())):
        print(f"| {question} | " + " | ".join(answers[question] for answers in found.values()) + " |")


# --- what PHEAP_PROFILE adds ---

def instructions(command, **variables):
    library = os.path.join(rows.BUILD, "lib", "libpheap.so")
    _, text = run("env", "LD_PRELOAD=" + library, *[f"{k}={v}" for k, v in variables.items()], "valgrind",
                  "--tool=callgrind", "--callgrind-out-file=/dev/null", *command)
    return int(re.search(r"Collected : (\d+)", text)[1])


def print_instructions():
    print("\nInstructions with PHEAP_PROFILE=1, libpheap.so without it = 100 %; of twice the work what came in addition\n")
    for program, (percent, command) in {"lua": (10, PROGRAMS["lua"]), "cpython": (50, PROGRAMS["cpython"]),
                                        "perl": (20, PROGRAMS["perl"]), "leaking": (40, PROGRAMS["leaking"])}.items():
        plain, profiled = ([instructions(command(p), **variables) for p in (percent, 2 * percent)]
                           for variables in ({}, {"PHEAP_PROFILE": "1"}))
        print(f"  {program:10}{100 * (profiled[1] - profiled[0]) / (plain[1] - plain[0]):7.2f} %"
              f"    start and all {100 * profiled[1] / plain[1]:7.2f} %", flush=True)


def print_slowdowns(found):
    print("\ntime (processor time; memory), by the program alone\n")
    print("| | " + " | ".join(found) + " |\n| --- |" + " --- |" * len(found))
    for tool in next(iter(found.values())):
        if tool != "alone":
            print(f"| {tool} | " + " | ".join("{:.2f} ({:.2f}; {:.2f})".format(*row[tool])
                                              for row in found.values()) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=1_000_000, help="of the heap that is looked at (1000000)")
    parser.add_argument("--percent", type=int, default=20, help="amount of work of the programs (20)")
    parser.add_argument("--runs", type=int, default=3, help="rounds (3)")
    parser.add_argument("--only", choices=("findings", "slowdowns", "instructions"))
    arguments = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="pheap-leaks-")
    try:
        if arguments.only in (None, "findings"):
            print_findings(arguments, directory)
        if arguments.only in (None, "slowdowns"):
            print_slowdowns(slowdowns(arguments, directory))
        if arguments.only in (None, "instructions"):
            print_instructions()
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
