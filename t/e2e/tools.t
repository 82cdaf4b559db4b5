#!/usr/bin/python3
"""The commands' faces: help, version, suggestions, usage, names; and what make install makes."""
import json
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import (BUILD, BUILT_PROGRAMS, FINE, LIBRARY, PHEAP, REFUSED, ROOT, SYSTEM, USAGE, check,  # noqa: E402
                        check_equal, check_in, expect, main, test)

COMMANDS = ("run", "checkpoint", "restore", "inspect", "recover", "doctor")


@test
def every_command_has_help_and_a_version(place):
    for prefix in [(PHEAP,)] + [(PHEAP, c) for c in COMMANDS] + \
            [(f"{PHEAP}-{c}",) for c in COMMANDS]:
        done = place.run(*prefix, "--help")
        expect(done, FINE)
        check_in("usage: pheap", done.stdout(), "help")
        check_equal(done.stderr(), "", "stderr")
        done = place.run(*prefix, "--version")
        expect(done, FINE)
        check(done.stdout().startswith("pheap "), done.stdout())


@test
def an_unknown_command_suggests_the_nearest(place):
    for wrong, right in (("restor", "restore"), ("inspekt", "inspect"), ("rnu", "run"),
                         ("check-point", "checkpoint")):
        expect(place.pheap(wrong), USAGE, f"no command '{wrong}' (did you mean '{right}'?)")
    check("did you mean" not in place.pheap("frobnicate").stderr(), "a far word is suggested")


@test
def what_is_wrong_with_an_option_or_a_view_is_said_by_name(place):
    for arguments, said in ((("run", "--frsh", "p", "true"), "no option '--frsh' (did you mean '--fresh'?)"),
                            (("recover", "--wobble=3", "p"), "no option '--wobble'; see"),
                            (("recover", "-z", "p"), "no option '-z'; see"),
                            (("run", "-i"), "option '-i' needs an argument"),
                            (("restore", "--verbose=3", "p"), "option '--verbose' takes no argument"),
                            (("inspect", "p", "blcks"), "no view 'blcks' (did you mean 'blocks'?)"),
                            (("inspect", "blocks", "p"), "the pool comes first"),
                            (("inspect", "-g", "3", "p", "generations"), "-g goes with views of one")):
        done = place.pheap(*arguments)
        expect(done, USAGE, said)
        check_equal(done.stderr().count("\n"), 1, f"lines about {arguments}")


@test
def what_exists_is_not_written_over_and_that_is_one_exit_status(place):
    pool, taken = place.path("pool"), place.path("taken")
    expect(place.pheap("run", "-i", "0", pool, "sh", "-c", "exec true"), FINE)
    place.run("touch", taken)
    for arguments in (("recover", "--clone", taken), ("recover", "--compact", "-o", taken),
                      ("recover", "--salvage", taken), ("inspect", "--html", taken)):
        done = place.pheap(*arguments, pool)
        check_equal((done.status, os.path.getsize(taken)), (REFUSED, 0), f"{arguments}: {done.stderr()}")


@test
def two_dashes_may_stand_before_the_command(place):
    for dashes in (("--", place.path("p")), (place.path("q"), "--")):
        done = place.pheap("run", *dashes, "echo", "--", "hello")
        expect(done, FINE)
        check_equal(done.stdout(), "-- hello\n", "output")


@test
def wrong_usage_is_one_line_and_exit_status_2(place):
    pool = place.path("pool")
    for arguments in (("run",), ("run", pool), ("run", "-i", "soon", pool, "true"),
                      ("run", "--dirty", "much", pool, "true"), ("run", "--dirty", "4K", pool, "true"),
                      ("run", "-i", "-1s", pool, "true"), ("run", "-k", "0", pool, "true"),
                      ("run", "-k", "17", pool, "true"), ("run", "--resume", "--fresh", pool, "true"),
                      ("restore",), ("restore", pool, "more"), ("restore", "-g", "x", pool),
                      ("checkpoint",), ("checkpoint", "-t", "0", pool), ("inspect",),
                      ("recover",), ("recover", pool), ("recover", "--pin", "x", pool),
                      ("recover", "--pin", "1"), ("recover", "--pin", "1", "--drop", "2", pool),
                      ("inspect", pool, "everything"), ("inspect", "--jsn", pool)):
        done = place.pheap(*arguments)
        expect(done, USAGE, f"pheap {arguments[0]}: ", "--help")
    check(not os.path.exists(pool), "nothing made")


@test
def options_behind_the_command_belong_to_it(place):
    done = place.pheap("run", place.path("pool"), "sh", "-c", "echo $0 $1", "-i", "--fresh")
    expect(done, FINE)
    check_equal(done.stdout(), "-i --fresh\n", "output")


@test
def help_of_one_command_is_that_of_its_option(place):
    for command in COMMANDS:
        asked = place.pheap("help", command)
        expect(asked, FINE)
        check_equal(asked.stdout(), place.pheap(command, "--help").stdout(), f"help {command}")
    expect(place.pheap("help", "insepct"), USAGE, "no command 'insepct' (did you mean 'inspect'?)")


@test
def output_that_cannot_be_written_is_an_error(place):
    expect(place.pheap("--help", stdout="/dev/full"), 5, "standard output: No space left on device")


@test
def a_message_is_one_line_whatever_the_path_has_in_it(place):
    pool = place.path("two\nlines\033[1m")
    for command in (["inspect"], ["restore"], ["checkpoint"], ["recover", "--check"]):
        done = place.pheap(*command, pool)
        expect(done, SYSTEM, "no pool '", r"two\x0alines\x1b[1m': no such file")
        check_equal(done.stderr().count("\n"), 1, f"lines of {done.stderr()!r}")
    expect(place.pheap("run", pool, "true"), FINE)
    done = place.pheap("inspect", pool)
    check_equal(done.stdout().splitlines()[0], place.path(r"two\x0alines\x1b[1m"), "the heading")


@test
def a_limit_of_address_space_is_named(place):
    pool = place.path("pool")
    done = place.run("sh", "-c", f"ulimit -v 200000; exec {PHEAP} run -i 50ms {pool} sleep 0.2")
    expect(done, FINE, "no checkpoints: no address space for the agent", "RLIMIT_AS is 204800000 bytes")
    expect(place.pheap("run", "--at-exit", pool, "true"), FINE)
    done = place.run("sh", "-c", f"ulimit -v 500000; exec {PHEAP} inspect {pool} heap")
    expect(done, SYSTEM, "cannot map generation", "raise ulimit -v")


@test
def the_environment_of_the_program_has_the_preload_once_and_keeps_what_was_there(place):
    pool = place.path("pool")
    script = "echo $LD_PRELOAD; env | grep ^PHEAP_ | sort"
    done = place.start(PHEAP, "run", "-i", "250ms", pool, "sh", "-c", script,
                       environment={"LD_PRELOAD": LIBRARY + ":libm.so.6", "PHEAP_FRESH": "1",
                                    "PHEAP_POOL": "/elsewhere", "PHEAP_OWNER": "1:2"})
    check_equal(done.wait(), 0, "exit status")
    lines = done.stdout().splitlines()
    check_equal(lines[0].replace(":", " ").split(), [os.path.realpath(LIBRARY), "libm.so.6"],
                "LD_PRELOAD")
    values = dict(line.split("=", 1) for line in lines[1:])
    check_equal(values["PHEAP_POOL"], pool, "PHEAP_POOL")
    check_equal(values["PHEAP_INTERVAL"], "250000000", "PHEAP_INTERVAL")
    check(values["PHEAP_OWNER"].startswith(f"{done.pid}:"), f"PHEAP_OWNER of {done.pid}: {values}")
    check("PHEAP_FRESH" not in values, f"{values}")
    check_equal(int(values["PHEAP_SLOT"]), place.inspect(pool)["slot"], "PHEAP_SLOT")


@test
def run_takes_what_its_environment_says_and_no_option_does(place):
    def variables(*options, **environment):
        pool = place.path("pool")
        if os.path.exists(pool):
            os.unlink(pool)
        done = place.run(PHEAP, "run", *options, pool, "sh", "-c", "env | grep ^PHEAP_", environment=environment)
        expect(done, FINE)
        return dict(line.split("=", 1) for line in done.stdout().splitlines()), done.stderr()

    asked = {"PHEAP_INTERVAL": "5s", "PHEAP_KEEP": "7", "PHEAP_DIRTY": "2M", "PHEAP_ON_TERM": "1"}
    values, said = variables(**asked)
    check_equal([values.get(name) for name in asked], ["5000000000", "7", str(2 << 20), "1"], "taken")
    check_equal(said, "", "said about it")
    values, _ = variables("-i", "3s", "-k", "2", "--dirty", "0", **asked)
    check_equal([values.get(name) for name in asked], ["3000000000", "2", None, "1"], "options are stronger")
    values, _ = variables(PHEAP_OWNER="1:2:0", **asked)
    check_equal([values.get(name) for name in asked], ["1000000000", None, None, None], "of an outer program")
    _, said = variables(PHEAP_INTERVALL="5s", PHEAP_SOMETHING_ELSE="1")
    check_equal(said.count("\n"), 1, said)
    check_in("PHEAP_INTERVALL means nothing (did you mean 'PHEAP_INTERVAL'?)", said, "a typo")


@test
def run_refuses_variables_that_it_does_not_understand_and_makes_no_pool(place):
    pool = place.path("pool")
    for name, value in (("INTERVAL", "soon"), ("KEEP", "17"), ("DIRTY", "1K"), ("FILES", "all"), ("TRACK", "magic"),
                        ("FREEZE", "ice"), ("CRASH", "no"), ("CHILDREN", "kill"), ("DENY", "x"), ("PROFILE", "x")):
        done = place.run(PHEAP, "run", pool, "true", environment={f"PHEAP_{name}": value})
        expect(done, USAGE, f"pheap run: PHEAP_{name}={value}")
        check(not os.path.exists(pool), "a pool was made")


@test
def inspect_json_is_json_and_text_has_no_colour_in_a_pipe(place):
    pool = place.path("pool")
    expect(place.pheap("run", pool, "true"), FINE)
    for view in ("summary", "generations"):
        json.loads(place.pheap("inspect", "--json", pool, view).stdout())
        check("\033" not in place.pheap("inspect", pool, view).stdout(), "escape in a pipe")


@test
def a_shell_with_an_unwritable_home_and_a_closed_stdin_can_run_it(place):
    done = place.run("sh", "-c", f"exec <&- 2>&-; {PHEAP} run {place.path('pool')} sh -c 'exit 3'")
    check_equal(done.status, 3, "exit status")


def check_pages(place, pages):
    """Every exported function has one, and none has an error of its markup."""
    with open(os.path.join(ROOT, "preload/preload.map"), encoding="ascii") as f:
        exported = set(re.findall(r"\b(pheap_\w+);", f.read())) - {"pheap_tx_run_of"}
    names = {os.path.basename(page)[:-2] for page in pages}
    check_equal(exported - names, set(), "functions without a manual page")
    for page in pages:
        with open(page, encoding="utf-8") as f:
            text = f.read()
        for part in (".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH SEE ALSO"):
            check_in(part, text, page)
    if shutil.which("groff"):
        done = place.run("groff", "-man", "-ww", "-Tutf8", "-z", *pages)
        check_equal((done.status, done.stderr()), (0, ""), "groff's warnings")


def of_package(prefix, option):
    done = subprocess.run(["pkg-config", option, "pheap"], check=True, text=True,
                          capture_output=True,
                          env={**os.environ,
                               "PKG_CONFIG_PATH": os.path.join(prefix, "lib/pkgconfig")})
    return done.stdout.strip()


@test
def make_install_makes_a_tree_that_works_in_place(place):
    for target in ("install", "uninstall"):
        done = subprocess.run(["make", "--no-print-directory", "-s", "-C", ROOT, f"BUILD={BUILD}",
                               f"DESTDIR={place.path('root')}", "PREFIX=/opt/pheap", target],
                              check=False, capture_output=True, text=True,
                              env={**os.environ, "MAKEFLAGS": ""})
        check_equal(done.returncode, 0, f"make {target}: {done.stderr}")
        prefix = place.path("root", "opt", "pheap")
        left = sorted(os.path.relpath(os.path.join(d, f), prefix)
                      for d, _, files in os.walk(prefix) for f in files)
        if target == "uninstall":
            check_equal(left, [], "files left")
            break
        pages = [path for path in left if path.startswith("share/man/man3/")]
        check_equal(len(pages), len(left) - 5 - len(COMMANDS), "files that are no manual pages")
        check_pages(place, [os.path.join(prefix, page) for page in pages])
        left = [path for path in left if path not in pages]
        check_equal(left, sorted(["bin/pheap", "lib/libpheap.so", "lib/libpheap.a",
                                  "lib/pkgconfig/pheap.pc", "include/pheap.h"] +
                                 [f"bin/pheap-{c}" for c in COMMANDS]), "files installed")
        pool = place.path("pool")
        done = place.run(os.path.join(prefix, "bin/pheap-run"), "-i", "50ms", pool,
                         os.path.join(BUILT_PROGRAMS, "counter"), "40")
        expect(done, FINE)
        check(place.newest(pool) > 0, "generations of a program under the installed pheap")
        check_in(of_package(prefix, "--modversion"), place.pheap("--version").stdout(),
                 "pkg-config's version")
        # pkg-config names the places of a later installation, where DESTDIR is not.
        check_equal(of_package(prefix, "--variable=static_library"), "/opt/pheap/lib/libpheap.a",
                    "static library")
        check_in("-DPHEAP_LINKED", of_package(prefix, "--cflags"), "flags")


if __name__ == "__main__":
    main()
