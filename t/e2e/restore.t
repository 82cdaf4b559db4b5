#!/usr/bin/python3
"""pheap restore beside its program: several at once, signals, a terminal's keys; as a user too."""
import os
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, PHEAP, REFUSED, Skip, add_test, check,  # noqa: E402
                        check_equal, check_in, children, expect, main, wait_until)
from terminal import Terminal, kill_user, set_size  # noqa: E402

STATE = os.path.join(BUILT_PROGRAMS, "terminal_state")
COUNTER = os.path.join(BUILT_PROGRAMS, "counter")
NOBODY = 65534
IDLE_BYTES = 48 << 20
IDLE_HEAP = f"""
import signal
heap = bytearray({IDLE_BYTES})
for i in range(0, len(heap), 4096):
    heap[i] = 1 + i // 4096 % 255
print("ready", flush=True)
signal.pause()
"""

LARGE_HEAP = f"""
import signal
pages = {160 << 20} // 4096
told = {{signal.SIGUSR1}}
signal.pthread_sigmask(signal.SIG_BLOCK, told)
heap = bytearray(pages * 4096)
for i in range(pages):
    heap[i * 4096] = 1 + i % 251
print("ready", flush=True)
signal.sigwait(told)
for i in range(0, pages, 41):
    heap[i * 4096 + 9] = 1 + i % 241
print("written", flush=True)
signal.sigwait(told)
wrong = [i for i in range(pages) if heap[i * 4096] != 1 + i % 251 or
         heap[i * 4096 + 9] != (0 if i % 41 else 1 + i % 241)]
print("wrong pages:", len(wrong), wrong[:9], flush=True)
"""


def killed_counter(place, pool):
    """A counter that was killed after its second generation."""
    process = place.start(PHEAP, "run", "-i", "50ms", pool, COUNTER, "3000")
    place.wait_generation(pool, 2, process)
    process.kill()
    return process


def several_restores_at_once_and_one_goes_on(place):
    pool = place.path("pool")
    killed_counter(place, pool)
    restorers = [place.start(PHEAP, "restore", pool) for _ in range(4)]
    wait_until(lambda: sum(r.running() for r in restorers) == 1, 60, "all restores but one refused")
    for restorer in restorers:
        if not restorer.running():
            check_equal(restorer.popen.returncode, REFUSED, "exit status of a restore too many")
            check_in("in use", restorer.stderr(), "its message")
    [winner] = [r for r in restorers if r.running()]
    winner.resumed()
    winner.kill(signal.SIGTERM)


def take_checkpoint(place, pool):
    wait_until(lambda: place.run(PHEAP, "checkpoint", pool).status == 0, 60,
               "a checkpoint, which a busy machine puts off")


def mapped_of_pool(pid, pool):
    """(bytes of the pool that the process has mapped, bytes of them that are in its page tables)"""
    size = resident = 0
    ours = False
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as smaps:
        for line in smaps:
            words = line.split()
            if "-" in words[0]:
                ours = line.rstrip().endswith(pool)
            elif ours and words[0] == "Size:":
                size += int(words[1]) * 1024
            elif ours and words[0] == "Rss:":
                resident += int(words[1]) * 1024
    return size, resident


def what_a_resumed_program_does_not_touch_is_mapped_in_ahead_of_it(place):
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "0", pool, sys.executable, "-c", IDLE_HEAP)
    wait_until(lambda: "ready" in process.stdout(), 60, "the program's heap")
    take_checkpoint(place, pool)
    process.kill()
    restore = place.start(PHEAP, "restore", pool)
    pid = restore.resumed()["outer_pid"]
    size, _ = mapped_of_pool(pid, pool)
    check(size >= IDLE_BYTES, f"{size} bytes of the pool are mapped")
    wait_until(lambda: mapped_of_pool(pid, pool)[1] >= IDLE_BYTES, 60, "all of the heap mapped in")
    restore.kill(signal.SIGTERM)


def a_large_heap_with_scattered_pages_is_whole(place):
    """It is large enough to be planned in two halves; every 41st page is not beside its neighbours."""
    pool = place.path("pool")
    process = place.start(PHEAP, "run", "-i", "0", pool, sys.executable, "-c", LARGE_HEAP)
    for word in ("ready", "written"):
        wait_until(lambda w=word: w in process.stdout(), 60, f"the program's word {word}")
        take_checkpoint(place, pool)
        if word == "ready":
            process.popen.send_signal(signal.SIGUSR1)
    process.kill()
    restore = place.start(PHEAP, "restore", pool)
    os.kill(restore.resumed()["outer_pid"], signal.SIGUSR1)
    check_equal(restore.wait(), 0, "exit status")
    check_in("wrong pages: 0 []", process.stdout(), "what it finds in its heap")


def signals_sent_to_restore_reach_the_program(place):
    pool = place.path("pool")
    run = killed_counter(place, pool)
    restore = place.start(PHEAP, "restore", pool)
    restore.resumed()
    for _ in range(2):
        before = run.stdout().count("signal\n")
        os.kill(restore.pid, signal.SIGUSR1)
        wait_until(lambda: run.stdout().count("signal\n") > before, 30, "the program's line")
    check_equal(run.stdout().count("signal\n"), 2, "lines for two signals")
    check_equal(restore.kill(signal.SIGTERM), -signal.SIGTERM, "exit status after SIGTERM")
    again = place.start(PHEAP, "restore", pool)
    again.resumed()
    again.kill(signal.SIGTERM)


def restore_ends_as_the_program_does(place):
    for status in (7, 143, -signal.SIGABRT, -signal.SIGHUP):
        pool = place.path(f"pool{status}")
        process = place.start(PHEAP, "run", "-i", "50ms", pool, COUNTER, "100", status)
        place.wait_generation(pool, 2, process)
        process.kill()
        check_equal(place.pheap("restore", pool).status, status, "exit status of the restore")


def a_signal_that_ends_the_program_is_not_in_its_last_generation(place):
    for round_number in range(20):
        pool = place.path(f"pool-{round_number}")
        process = place.start(PHEAP, "run", "-i", "1ms", pool, COUNTER, "3000")
        place.wait_generation(pool, 2, process)
        check_equal(process.kill(signal.SIGTERM), -signal.SIGTERM, "status of the first run")
        lines = len(process.stdout().splitlines())
        restore = place.start(PHEAP, "restore", pool)
        restore.resumed()
        wait_until(lambda n=lines: len(process.stdout().splitlines()) > n or not restore.running(),
                   30, "more lines")
        check(restore.running(), f"round {round_number}: the restored program has ended: "
                                 f"{restore.popen.returncode}")
        restore.kill(signal.SIGTERM)


def a_signal_at_any_moment_of_a_restore_leaves_no_program_behind(place):
    """Before the program runs it ends the restore, later the program: either way both."""
    pool = place.path("pool")
    killed_counter(place, pool)
    saved = place.path("saved")
    shutil.copyfile(pool, saved)
    for moment in range(30):
        shutil.copyfile(saved, pool)
        with subprocess.Popen([PHEAP, "restore", pool], stderr=subprocess.PIPE,
                              user=place.uid, group=place.uid) as restore:
            if moment % 3:
                time.sleep(moment * 0.001)
            else:
                restore.stderr.read(1)  # it says that the program runs
            restore.send_signal(signal.SIGTERM)
            check_equal(restore.wait(30), -signal.SIGTERM, "exit status")
        check(not children(), f"moment {moment}: left behind: {children()}")


def a_copy_is_restored_beside_the_program_that_goes_on(place):
    """Restoring twice at once is refused, unless from a copy, which is a pool of its own."""
    pool, copy = place.path("pool"), place.path("copy")
    first = killed_counter(place, pool)
    one = place.start(PHEAP, "restore", pool)
    one.resumed()
    generation = place.newest(pool)
    expect(place.pheap("restore", pool), REFUSED, "in use")
    two = place.start(PHEAP, "restore", "--copy", copy, pool)
    two.resumed()
    check(one.running(), "the first goes on")
    lines = len(first.stdout().splitlines())
    wait_until(lambda: len(first.stdout().splitlines()) > lines + 10, 20, "output of both")
    for which in (pool, copy):
        place.wait_generation(which, generation + 2, two)
    check(place.inspect(pool)["uuid"] != place.inspect(copy)["uuid"], "two pools")
    expect(place.pheap("restore", "--copy", copy, pool), REFUSED, "exists")
    one.kill(signal.SIGTERM)
    two.kill(signal.SIGTERM)
    again = place.start(PHEAP, "restore", copy)
    again.resumed()
    again.kill(signal.SIGTERM)


def two_more_generations(place, pool):
    wanted = place.newest(pool) + 2
    wait_until(lambda: place.newest(pool) >= wanted, 30, f"generation {wanted}")


def a_terminal_stops_continues_and_ends_a_restored_program(place):
    pool = place.path("pool")
    terminal = Terminal(place)
    # Only what runs on a terminal is given the terminal of its restorer.
    terminal.type(f"{PHEAP} run -i 50ms {pool} {COUNTER} 3000\n", r"\b60 1830\r")
    terminal.type("\x1c", "ready> ")  # Ctrl-\ is a kill too
    terminal.type(f"{PHEAP} restore {pool}\n", r"\b100 5050\r")
    terminal.type("\x1a", "Stopped(.|\n)*ready> ")
    terminal.type("fg\n", r"\b150 11325\r")
    terminal.type("\x03", "ready> ")
    shown = terminal.type("echo status $?\n", r"status (\d+)\r")
    check_equal(shown.group(1), str(128 + signal.SIGINT), "status of a restore ended by Ctrl-C")
    terminal.close()
    check(os.path.exists(pool), "the pool is still there")


def report(terminal, key):
    shown = terminal.type(key, rf"key {key}: (.*)\r\r?\n.*size (.*), told (\d+)")
    return shown.group(1), shown.group(2), int(shown.group(3))


def a_terminal_has_the_settings_that_the_program_made(place):
    """Restored on another terminal of another size each time."""
    pool = place.path("pool")
    terminal = Terminal(place)
    set_size(terminal, 31, 91)
    terminal.type(f"{PHEAP} run -i 50ms {pool} {STATE}\n", "set\r")
    settings, size, told = report(terminal, "a")
    check_in("foreground 1", settings, "what it sees of the terminal")
    check_equal((size, told), ("31 x 91", 0), "its size")
    for number in range(2):
        two_more_generations(place, pool)
        terminal.close(pool)
        terminal = Terminal(place)
        set_size(terminal, 40 + number, 100)
        terminal.type(f"{PHEAP} restore {pool}\n", "resumed generation")
        now = report(terminal, "b")
        check_equal(now, (settings, f"{40 + number} x 100", number + 1), "what it sees")
    terminal.type("q", "ready> ")
    terminal.type("stty -a\n", r"[^-]icanon(.|\n)*ready>")
    terminal.close()


def a_job_in_the_background_leaves_the_terminal_alone(place):
    pool = place.path("pool")
    terminal = Terminal(place)
    terminal.type(f"{PHEAP} run -i 50ms {pool} {STATE}\n", "set\r")
    two_more_generations(place, pool)
    terminal.close(pool)
    terminal = Terminal(place)
    terminal.type(f"{PHEAP} restore {pool} & sleep 1; stty -a\n", r"[^-]icanon(.|\n)*ready>")
    terminal.type("jobs\n", "Stopped|Running")
    kill_user(place, pool)
    terminal.type("fg\n", "Killed(.|\n)*ready>")
    terminal.close()


def as_user(function):
    def run(place):
        if os.geteuid() != 0:
            raise Skip("runs as this user already: needs root to become another one")
        place.uid = NOBODY
        place.give(place.directory)
        function(place)
    return run


for behaviour in (several_restores_at_once_and_one_goes_on,
                  what_a_resumed_program_does_not_touch_is_mapped_in_ahead_of_it,
                  a_large_heap_with_scattered_pages_is_whole,
                  signals_sent_to_restore_reach_the_program,
                  restore_ends_as_the_program_does,
                  a_signal_that_ends_the_program_is_not_in_its_last_generation,
                  a_copy_is_restored_beside_the_program_that_goes_on,
                  a_signal_at_any_moment_of_a_restore_leaves_no_program_behind,
                  a_terminal_stops_continues_and_ends_a_restored_program,
                  a_terminal_has_the_settings_that_the_program_made,
                  a_job_in_the_background_leaves_the_terminal_alone):
    title = behaviour.__name__.replace("_", " ")
    add_test(title, behaviour)
    add_test(title + ", unprivileged", as_user(behaviour))

main()
