"""Somebody writes with an editor in a terminal. It is killed at a random moment and restored in the
same terminal, twice, and writes on; what is saved in the end has every line.

An Editor says what to type: `enter` after its start, `save` to write the file and end.
"""
import subprocess

from pheap_test import PHEAP, Skip, check_equal, shutil, time, wait_until
from terminal import SHELL, Terminal, kill_user

LINES = 5


class Editor:
    """command without the file; what of the screen says that it has started."""

    def __init__(self, name, command, shows, enter, save):
        self.name, self.command, self.shows = name, command, shows
        self.enter, self.save = enter, save


EDITORS = [
    Editor("vim", ["vim", "-u", "NONE", "-N"], "text.*New", "i", "\x1b:wq\r"),
    Editor("emacs", ["emacs", "-nw", "-Q"], "text .*Fundamental", "", "\x18\x13\x18\x03"),
]


def _write(terminal, expected, part):
    for number in range(LINES):
        line = f"part {part} line {number}"
        terminal.type(line + "\r", line)  # both insert it as it comes, with a newline for Return
        expected.append(line)


def _kill_and_restore(place, terminal, pool):
    wanted = place.newest(pool) + 2  # one that began after all was shown
    wait_until(lambda: place.newest(pool) >= wanted, 60, f"generation {wanted}")
    time.sleep(place.random.uniform(0, 0.2))
    terminal.seen = ""
    kill_user(place, pool)
    wait_until(lambda: terminal.shows("Killed(.|\n)*ready> "), 30, "the shell's word of the death")
    terminal.type(f"{PHEAP} restore {pool}\r", "resumed generation")


def _edit(place, editor, terminal):
    pool, path, expected = place.path("pool"), place.path("text"), []
    command = " ".join(editor.command)
    terminal.type(f"{PHEAP} run -i 100ms {pool} {command} text\r", editor.shows)
    if editor.enter:
        terminal.type(editor.enter, "INSERT")
    for part in range(3):
        _write(terminal, expected, part)
        if part < 2:
            _kill_and_restore(place, terminal, pool)
    terminal.type(editor.save, "ready> ")
    terminal.type("echo status $?\r", "status 0")
    with open(path, encoding="ascii") as f:
        found = f.read().splitlines()
    check_equal([line for line in found if line], expected, "what was saved")


def run_editor(place, editor, in_tmux):
    for need in [editor.command[0]] + (["tmux"] if in_tmux else []):
        if not shutil.which(need):
            raise Skip(f"{need} is not installed: see scripts/packages-programs")
    tmux = ["tmux", "-S", place.path("tmux"), "-f", "/dev/null"]
    terminal = Terminal(place, tmux + ["new-session", *SHELL] if in_tmux else None)
    try:
        _edit(place, editor, terminal)
    finally:
        if in_tmux:
            subprocess.run(tmux + ["kill-server"], check=False, capture_output=True, timeout=30)
        terminal.close()


__all__ = ["EDITORS", "run_editor"]
