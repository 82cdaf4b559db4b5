#!/usr/bin/python3
"""pheap run, restore and checkpoint: what a second run on a pool does, and who owns the pool."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILT_PROGRAMS, FINE, LIBRARY, PHEAP, REFUSED, check, check_equal,  # noqa: E402
                        check_in, expect, main, test, wait_until)

COUNTER = os.path.join(BUILT_PROGRAMS, "counter")
SLEEPER = (COUNTER, "3000")  # more than any test waits for


def lines_of(count):
    return [f"{i} {i * (i + 1) // 2}" for i in range(1, count + 1)]


def content(path):
    with open(path, encoding="ascii") as f:
        return f.read().splitlines()


def start(place, pool, *command, options=("-i", "50ms"), **keywords):
    return place.start(PHEAP, "run", *options, pool, *command, **keywords)


def start_and_kill(place, pool, *command, number=signal.SIGKILL, generations=2, **keywords):
    process = start(place, pool, *command, **keywords)
    place.wait_generation(pool, generations, process)
    check_equal(process.kill(number), -number, "status of the killed program")
    return process


def killed_pool(place, count=60):
    """A pool whose counter was killed; its output goes on in the file `out`."""
    pool, out = place.path("pool"), place.path("out")
    start_and_kill(place, pool, COUNTER, count, stdout=out)
    return pool, out


# --- run, and run again ---

@test
def a_program_under_pheap_run_has_its_output_status_and_pid(place):
    process = place.start(PHEAP, "run", place.path("pool"), "sh", "-c", "echo $$; exit 7")
    check_equal(process.wait(), 7, "exit status")
    check_equal(process.stdout(), f"{process.pid}\n", "the pid that the program sees")
    check_equal(process.stderr(), "", "stderr")


@test
def after_a_normal_end_there_is_nothing_to_resume_and_a_second_run_starts_afresh(place):
    pool = place.path("pool")
    for _ in range(2):
        process = start(place, pool, COUNTER, "20", "3")
        check_equal(process.wait(), 3, "exit status")
        check_equal(process.stdout().splitlines(), lines_of(20), "output")
        pool_now = wait_until(lambda: (i := place.inspect(pool))["run_state"] == "ended" and i, 5,
                              "the end mark")
        check_equal(os.waitstatus_to_exitcode(pool_now["end_status"]), 3, "status in the end mark")
        check_equal(pool_now["resume_generation"], None, "something to resume")
    expect(place.pheap("restore", pool), REFUSED, "pheap restore:", pool)


@test
def exit_from_a_thread_and_underscore_exit_leave_an_end_mark_too(place):
    for call in ("import os; os._exit(4)",
                 "import threading, os; threading.Thread(target=lambda: os._exit(4)).start()",
                 "import sys; sys.exit(4)"):
        pool = place.path("pool-" + str(abs(hash(call))))
        check_equal(start(place, pool, "/usr/bin/python3", "-c", "x = [0] * 100000; " + call).wait(),
                    4, f"exit status of {call}")
        wait_until(lambda: place.inspect(pool)["run_state"] == "ended", 5, "the end mark: " + call)


@test
def after_a_kill_a_second_run_is_refused_and_names_the_two_ways(place):
    pool, _ = killed_pool(place)
    before = place.inspect(pool)
    process = place.pheap("run", pool, COUNTER, "5")
    expect(process, REFUSED, "pheap run:", pool, "--resume", "--fresh")
    check_equal(process.stdout(), "", "output of the refused run")
    check_equal(place.inspect(pool), before, "the pool after the refusal")


@test
def resume_goes_on_after_a_kill_and_ends_with_the_status_of_the_program(place):
    pool, out = place.path("pool"), place.path("out")
    start_and_kill(place, pool, COUNTER, "60", "5", stdout=out)
    check(len(content(out)) < 60, "it was killed half-way")
    process = place.pheap("run", "--resume", pool, COUNTER, "1")
    expect(process, 5, "resumed generation")
    check_equal(content(out), lines_of(60), "output")


@test
def resume_starts_the_program_on_a_new_pool_and_after_a_normal_end(place):
    pool = place.path("pool")
    for _ in range(2):
        process = place.pheap("run", "--resume", pool, COUNTER, "5", "6")
        expect(process, 6)
        check_equal(process.stdout().splitlines(), lines_of(5), "output")
        wait_until(lambda: place.inspect(pool)["run_state"] == "ended", 5, "the end mark")


@test
def a_program_that_dies_of_a_signal_by_itself_can_be_resumed_and_dies_of_it_again(place):
    pool = place.path("pool")
    process = start(place, pool, COUNTER, "40", str(-signal.SIGABRT))
    check_equal(process.wait(), -signal.SIGABRT, "status")
    check_equal(place.pheap("run", "--resume", pool, COUNTER).status, -signal.SIGABRT,
                "status of the resumed program")


@test
def fresh_starts_anew_after_a_kill(place):
    pool, _ = killed_pool(place)
    process = place.pheap("run", "--fresh", pool, COUNTER, "5")
    expect(process, FINE)
    check_equal(process.stdout().splitlines(), lines_of(5), "output")
    check_equal(place.inspect(pool)["resume_generation"], None, "something to resume")


@test
def a_second_run_on_a_pool_in_use_is_refused_with_the_pid(place):
    pool = place.path("pool")
    process = start(place, pool, *SLEEPER)
    place.wait_generation(pool, 1, process)
    for arguments in (("run", pool, "true"), ("run", "--resume", pool, "true"),
                      ("run", "--fresh", pool, "true"), ("restore", pool)):
        expect(place.pheap(*arguments), REFUSED, f"in use by pid {process.pid}")
    check(process.running(), "the running program goes on")
    check_equal(process.kill(), -signal.SIGKILL, "status")


@test
def sigterm_and_sigint_leave_a_program_resumable(place):
    for number in (signal.SIGTERM, signal.SIGINT):
        pool, out = place.path(f"pool-{number}"), place.path(f"out-{number}")
        start_and_kill(place, pool, COUNTER, "40", number=number, stdout=out)
        expect(place.pheap("restore", pool), FINE)
        check_equal(content(out), lines_of(40), f"output after signal {number}")


@test
def a_kill_before_the_first_checkpoint_leaves_nothing_to_resume_and_nothing_in_the_way(place):
    pool = place.path("pool")
    process = start(place, pool, *SLEEPER, options=("-i", "0"))
    wait_until(lambda: process.stdout(), 10, "output")
    process.kill()
    expect(place.pheap("restore", pool), REFUSED, "pheap restore:", pool)
    expect(place.pheap("run", pool, COUNTER, "2"), FINE)


# --- restore ---

@test
def restore_forwards_signals_and_keeps_pid_and_output(place):
    pool, out = place.path("pool"), place.path("out")
    start_and_kill(place, pool, COUNTER, "150", stdout=out)
    process = place.start(PHEAP, "restore", pool)
    process.resumed()
    os.kill(process.pid, signal.SIGUSR1)
    wait_until(lambda: "signal" in content(out), 20, "the forwarded signal")
    check_equal(process.wait(), 0, "exit status")
    check_equal([line for line in content(out) if line != "signal"], lines_of(150), "output")


@test
def restore_of_an_older_generation_goes_on_from_there(place):
    pool, out = place.path("pool"), place.path("out")
    start_and_kill(place, pool, COUNTER, "60", stdout=out, generations=4)
    kept = [g["number"] for g in place.inspect(pool)["generations"]]
    process = place.start(PHEAP, "restore", "-g", kept[0], pool)
    check_equal(process.resumed()["generation"], kept[0], "generation")
    check_equal(process.wait(), 0, "exit status")
    check_equal(content(out), lines_of(60), "output")


@test
def stdout_that_was_a_pipe_is_taken_from_the_restorer(place):
    pool = place.path("pool")
    shell = place.start("sh", "-c", f"exec {PHEAP} run -i 50ms {pool} {COUNTER} 60 | cat")
    wait_until(lambda: os.path.exists(pool), 10, "the pool")
    place.wait_generation(pool, 2, shell)
    os.kill(place.inspect(pool)["program"]["pid"], signal.SIGKILL)
    shell.wait()
    done = place.start("sh", "-c", f"{PHEAP} restore {pool} | cat")
    check_equal(done.wait(), 0, "exit status")
    lines = done.stdout().splitlines()
    check(lines and lines == lines_of(60)[-len(lines):], f"the rest of the output: {lines[:3]}")


# --- checkpoint ---

@test
def checkpoint_by_pool_and_by_pid_prints_the_number_of_a_durable_generation(place):
    pool = place.path("pool")
    process = start(place, pool, *SLEEPER, options=("-i", "0"))
    wait_until(lambda: process.stdout(), 10, "output")
    for number, target in ((1, pool), (2, process.pid)):
        done = place.pheap("checkpoint", target)
        expect(done, FINE)
        check_in(f"generation {number}:", done.stdout(), "output")
        check_equal(place.newest(pool), number, "the newest generation")
    process.kill()
    expect(place.pheap("checkpoint", pool), REFUSED, "pheap checkpoint:", pool, "no program runs")


@test
def a_living_child_defers_a_checkpoint_and_is_named(place):
    pool = place.path("pool")
    process = start(place, pool, "sh", "-c", "sleep 1000 & echo; wait", options=("-i", "0"))
    wait_until(lambda: process.stdout(), 10, "output")
    done = place.pheap("checkpoint", "-t", "30", pool)
    check_equal(done.status, REFUSED, "exit status")
    check_in("sleep", done.stderr(), "the child's name")
    process.kill()
    for pid in [p for p in os.listdir("/proc") if p.isdigit()]:
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
                if f.read().rsplit(")", 1)[1].split()[3] == str(process.pid):  # the session
                    os.kill(int(pid), signal.SIGKILL)
        except OSError:
            pass


@test
def keep_says_how_many_generations_stay(place):
    pool = place.path("pool")
    process = start(place, pool, *SLEEPER, options=("-i", "50ms", "-k", "2"))
    place.wait_generation(pool, 5, process)
    check_equal(len(place.inspect(pool)["generations"]), 2, "generations kept")
    process.kill()


@test
def at_exit_takes_a_last_checkpoint(place):
    pool = place.path("pool")
    expect(place.pheap("run", "-i", "0", "--at-exit", pool, COUNTER, "3"), FINE)
    now = wait_until(lambda: (i := place.inspect(pool))["run_state"] == "ended" and i, 5, "the end")
    check_equal(len(now["generations"]), 1, "generations")


# --- who owns the pool ---

@test
def an_exec_in_the_same_process_takes_the_pool_over(place):
    for name, command in (("sh", ("sh", "-c", f"exec {COUNTER} 60")), ("env", ("env", COUNTER, 60)),
                          ("nice", ("nice", COUNTER, 60)),
                          ("twice", ("env", "nice", "sh", "-c", f"exec {COUNTER} 60"))):
        pool, out = place.path("pool-" + name), place.path("out-" + name)
        process = start(place, pool, *command, stdout=out)
        wait_until(lambda: len(content(out)) > 3, 20, "output of the counter")
        place.wait_generation(pool, place.newest(pool) + 2, process)
        check_equal(place.inspect(pool)["program"]["pid"], process.pid, f"owner through {name}")
        process.kill()
        expect(place.pheap("restore", pool), FINE)
        check_equal(content(out), lines_of(60), f"output through {name}")


@test
def children_of_the_owner_run_with_a_volatile_heap_silently(place):
    pool = place.path("pool")
    process = start(place, pool, "sh", "-c", f"{COUNTER} 10 && env {COUNTER} 5; exit 2")
    check_equal(process.wait(), 2, "exit status")
    check_equal(process.stdout().splitlines(), lines_of(10) + lines_of(5), "output")
    check_equal(process.stderr(), "", "stderr")


@test
def a_preload_exported_into_a_shell_serves_the_first_program(place):
    pool, out = place.path("pool"), place.path("out")
    expect(place.pheap("run", pool, "true"), FINE)
    script = (f"export LD_PRELOAD={LIBRARY} PHEAP_POOL={pool} PHEAP_INTERVAL=50ms; "
              f"{PHEAP} inspect {pool} >inspected; {COUNTER} 60 >{out}; echo $? >status; "
              f"{PHEAP} inspect --json {pool} >after; true")
    process = place.start("sh", "-c", script)
    wait_until(lambda: os.path.exists(out) and len(content(out)) > 20, 20, "output of the counter")
    owner = place.inspect(pool)["program"]
    check(owner and owner["pid"] != process.pid, f"the counter owns the pool: {owner}")
    os.kill(owner["pid"], signal.SIGKILL)
    check_equal(process.wait(), 0, "status of the shell")
    check_equal(content(place.path("status")), ["137"], "what the shell saw")
    expect(place.pheap("restore", pool), FINE)
    check_equal(content(out), lines_of(60), "output")
    check(content(place.path("inspected")), "a tool in such a shell works")


@test
def a_tool_in_a_shell_with_the_preload_does_not_claim_the_pool(place):
    pool, out = killed_pool(place)
    before = place.inspect(pool)
    process = place.run("sh", "-c", f"export LD_PRELOAD={LIBRARY} PHEAP_POOL={pool}; "
                        f"{PHEAP} inspect {pool}; {PHEAP} --version")
    expect(process, FINE)
    check_equal(process.stderr(), "", "stderr")
    check_equal(place.inspect(pool), before, "the pool")
    expect(place.pheap("restore", pool), FINE)
    check_equal(content(out), lines_of(60), "output")


@test
def a_pool_named_by_a_relative_path_and_a_directory_changed_later_is_the_same_pool(place):
    place.make_directory("elsewhere")
    process = place.start(PHEAP, "run", "-i", "50ms", "pool", "sh", "-c",
                          f"cd elsewhere; exec {COUNTER} 60")
    place.wait_generation(place.path("pool"), 2, process)
    process.kill()
    check(not os.listdir(place.path("elsewhere")), "nothing made elsewhere")
    expect(place.pheap("restore", place.path("pool")), FINE)


if __name__ == "__main__":
    main()
