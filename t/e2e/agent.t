#!/usr/bin/python3
"""The agent's life beside its program: killed, at the program's exit, under job control."""
import ctypes
import json
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (FINE, PHEAP, PYTHON, REFUSED, Skip, check, check_equal, check_in,  # noqa: E402
                        descendants, expect, main, test, wait_until)

REFUSED_DESCRIPTOR = "import socket, time; " \
    "s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0); "
BYTES = 300000
PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17
# exit() flushes more than a pipe takes, which python's own exit would do before it.
EXIT_THAT_FLUSHES = f"""
import ctypes, time, sys
libc = ctypes.CDLL(None)
stdout = ctypes.c_void_p.in_dll(libc, "stdout")
buffer = ctypes.create_string_buffer(1 << 20)
libc.setvbuf(stdout, buffer, 0, ctypes.c_size_t(1 << 20))
libc.fwrite(b"y" * {BYTES}, 1, {BYTES}, stdout)
libc.exit(5)
"""
# Python itself would call again after EINTR.
EPOLL_WITHOUT_PATIENCE = """
import ctypes, select, sys, time
libc, epoll, events = ctypes.CDLL(None), select.epoll(), ctypes.create_string_buffer(64)
end = time.monotonic() + 1.5
while time.monotonic() < end:
    if libc.epoll_wait(epoll.fileno(), events, 1, 20) < 0:
        sys.exit(1)
"""


def start(place, pool, *command, options=("-i", "50ms"), **keywords):
    return place.start(PHEAP, "run", *options, pool, *command, **keywords)


def state_of(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
        return f.read().rsplit(")", 1)[1].split()[0]


def is_gone(pid):
    try:
        return state_of(pid) == "Z"
    except OSError:
        return True


def agent_of(process):
    def find():
        for pid in descendants(process.pid):
            with open(f"/proc/{pid}/comm", encoding="utf-8") as f:
                if f.read() == "pheap-agent\n":
                    return pid
        return None

    return wait_until(find, 20, "an agent")


def full_pipe(place, name):
    """A named pipe that takes nothing more, and its open end."""
    path = place.path(name)
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        while True:
            os.write(fd, b"x" * 512)
    except BlockingIOError:
        return path, fd


@test
def a_killed_agent_does_not_hold_up_the_exit(place):
    pool = place.path("pool")
    process = start(place, pool, PYTHON, "-c", "import time; time.sleep(1.5)",
                    options=("-i", "50ms", "--at-exit"))
    place.wait_generation(pool, 1, process)
    os.kill(agent_of(process), signal.SIGKILL)
    check_equal(process.wait(10), 0, "exit status")
    check_in("no checkpoint at exit", process.stderr(), "stderr")


@test
def a_living_child_does_not_hold_up_the_exit_for_long(place):
    process = start(place, place.path("pool"), "sh", "-c", "sleep 30 & echo $!; exit 4",
                    options=("--at-exit",))
    check_equal(process.wait(15), 4, "exit status")
    check_in("no checkpoint at exit", process.stderr(), "stderr")
    os.kill(int(process.stdout()), signal.SIGKILL)


@test
def an_agent_whose_message_nobody_takes_goes_on_and_ends_with_the_program(place):
    path, end = full_pipe(place, "stderr")
    process = place.start("sh", "-c", f"exec {PHEAP} run -i 50ms {place.path('pool')} {PYTHON} -c "
                          f"'{REFUSED_DESCRIPTOR} time.sleep(1)' 2>{path}")
    agent = agent_of(process)
    check_equal(process.wait(20), 0, "exit status")
    wait_until(lambda: is_gone(agent), 2, "the agent's end")
    os.close(end)


@test
def a_program_killed_while_it_flushes_its_output_at_exit_can_be_resumed_and_ends_then(place):
    pool, (path, end) = place.path("pool"), full_pipe(place, "out")
    process = start(place, pool, PYTHON, "-c", EXIT_THAT_FLUSHES, stdout=path)
    agent = agent_of(process)
    place.wait_generation(pool, 1, process)
    # In the write at the end of exit(), and a generation later.
    wait_until(lambda: "pipe_write" in open(f"/proc/{process.pid}/wchan", encoding="ascii").read(),
               20, "the write")
    place.wait_generation(pool, place.newest(pool) + 2, process)
    process.kill()
    wait_until(lambda: is_gone(agent), 5, "the agent's end")
    check(place.inspect(pool)["resume_generation"], "something to resume")
    os.close(end)
    process = place.pheap("restore", pool)
    expect(process, 5, "resumed generation")
    check_equal(place.inspect(pool)["run_state"], "ended", "after the end of the resumed program")


@test
def the_end_of_a_program_whose_main_thread_ended_long_before_is_marked(place):
    pool = place.path("pool")
    process = start(place, pool, PYTHON, "-c", """
import ctypes, os, threading, time
threading.Thread(target=lambda: (time.sleep(2.5), os._exit(6))).start()
ctypes.CDLL(None).syscall(60, 0)""")
    check_equal(process.wait(20), 6, "exit status")
    wait_until(lambda: place.inspect(pool)["run_state"] == "ended", 5, "the end mark")


@test
def a_program_that_changes_its_user_is_refused_at_the_checkpoint(place):
    if os.geteuid() != 0:
        raise Skip("only root can change its user")
    for change in ("os.setresuid(65534, 65534, 65534)", "os.setresgid(65534, 65534, 65534)"):
        pool = place.path("pool-" + change[10:13])
        process = start(place, pool, PYTHON, "-uc",
                        f"import os, time; {change}; print(1); time.sleep(1000)",
                        options=("-i", "0"))
        wait_until(process.stdout, 20, "output")
        expect(place.pheap("checkpoint", pool), REFUSED, "user or group")
        process.kill()


@test
def what_the_program_execs_without_pheap_is_left_alone(place):
    process = start(place, place.path("pool"), "env", "-u", "LD_PRELOAD", PYTHON, "-c",
                    EPOLL_WITHOUT_PATIENCE, options=("-i", "2ms"))
    check_equal(process.wait(20), 0, "exit status: 1 if a wait was interrupted")
    expect(place.pheap("checkpoint", place.path("pool")), REFUSED)


@test
def a_program_that_is_stopped_and_continued_obeys_however_checkpoints_fall(place):
    process = start(place, place.path("pool"), PYTHON, "-c", "import time; time.sleep(1000)",
                    options=("-i", "2ms"))
    place.wait_generation(place.path("pool"), 2, process)
    for _ in range(40):
        os.kill(process.pid, signal.SIGSTOP)
        status = os.waitpid(process.pid, os.WUNTRACED)[1]
        check(os.WIFSTOPPED(status), f"it stops (status {status:#x})")
        time.sleep(place.random.random() * 0.02)
        os.kill(process.pid, signal.SIGCONT)
        status = os.waitpid(process.pid, os.WUNTRACED | os.WCONTINUED)[1]
        check(os.WIFCONTINUED(status), f"it goes on (status {status:#x})")
        time.sleep(place.random.random() * 0.02)
        check(os.waitpid(process.pid, os.WUNTRACED | os.WNOHANG)[0] == 0, "it is not stopped again")
        wait_until(lambda: state_of(process.pid) in "SR", 2, "it runs")
    process.kill()


@test
def a_request_after_one_that_was_put_off_and_refused_is_answered_at_once(place):
    pool, fifo = place.path("pool"), place.path("fifo")
    os.mkfifo(fifo)
    process = start(place, pool, PYTHON, "-c", REFUSED_DESCRIPTOR + f"""
import os
print("ready", flush=True)
open({fifo!r}).read()
if os.fork() == 0:
    time.sleep(1)
    os._exit(0)
print("forked", flush=True)
os.wait()
time.sleep(60)""", options=("-i", "0"))
    wait_until(lambda: "ready" in process.stdout(), 20, "the program")
    for _ in range(8):  # refused: the agent's own attempts would become seldom
        expect(place.pheap("checkpoint", pool), REFUSED, "cannot be checkpointed")
    with open(fifo, "w", encoding="ascii"):
        pass
    wait_until(lambda: "forked" in process.stdout(), 20, "the child")
    expect(place.pheap("checkpoint", pool), REFUSED)  # put off by the child, then refused
    begin = time.monotonic()
    expect(place.pheap("checkpoint", pool), REFUSED, "cannot be checkpointed")
    took = time.monotonic() - begin
    check(took < 4, f"the request was answered after {took:.1f} s")
    process.kill()


@test
def a_program_under_a_debugger_is_not_checkpointed_and_the_debugger_is_named(place):
    pool = place.path("pool")
    process = start(place, pool, PYTHON, "-c", "import time; time.sleep(1000)")
    place.wait_generation(pool, 1, process)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long] * 4
    check_equal(libc.ptrace(PTRACE_SEIZE, process.pid, 0, 0), 0, "seized")
    before = place.newest(pool)
    expect(place.pheap("checkpoint", pool), REFUSED, f"traced by process {os.getpid()}", "detach")
    check_equal(place.newest(pool), before, "generations while it is traced")
    wait_until(lambda: "traced by process" in process.stderr(), 10, "the agent's word")
    # To detach it has to be stopped.
    libc.ptrace(PTRACE_INTERRUPT, process.pid, 0, 0)
    os.waitpid(process.pid, 0)
    check_equal(libc.ptrace(PTRACE_DETACH, process.pid, 0, 0), 0, "detached")
    expect(place.pheap("checkpoint", pool), FINE)
    process.kill()


@test
def a_program_that_has_just_ended_is_not_called_killed(place):
    """The agent is kept from writing the end mark for a while, as a busy machine would."""
    pool = place.path("pool")
    process = start(place, pool, PYTHON, "-c", "import time; time.sleep(2)", options=("-i", "0"))
    wait_until(lambda: place.pheap("checkpoint", pool).status == FINE, 20, "a checkpoint")
    agent = agent_of(process)
    os.kill(agent, signal.SIGSTOP)
    check_equal(process.wait(), 0, "status of the program")
    look = place.start(PHEAP, "inspect", "--json", pool)
    time.sleep(0.3)
    os.kill(agent, signal.SIGCONT)
    check_equal(look.wait(), FINE, "status of inspect")
    check_equal(json.loads(look.stdout())["run_state"], "ended", "the run")


@test
def a_pool_that_somebody_holds_is_not_called_killed(place):
    pool = place.path("pool")
    process = start(place, pool, PYTHON, "-c", "import time; time.sleep(60)", options=("-i", "0"))
    wait_until(lambda: place.pheap("checkpoint", pool).status == FINE, 20, "a checkpoint")
    agent = agent_of(process)
    os.kill(agent, signal.SIGSTOP)
    look = place.pheap("inspect", pool)
    os.kill(agent, signal.SIGCONT)
    check_in("does not answer", look.stdout(), "what inspect says")
    process.kill()


if __name__ == "__main__":
    main()
