#!/usr/bin/python3
"""A pool in a container's file system: on an overlay over two file systems the device that
/proc/self/maps shows of a file is not the one that fstat shows."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from pheap_test import PHEAP, PYTHON, Skip, check, check_equal, main, test  # noqa: E402

# Memory that is written once, looked at again and again, and three deaths on the way.
PROGRAM = """
import os, sys, time
blocks = [bytes([i % 251 + 1]) * 8192 for i in range(1000)]
for stage in range(3):
    for _ in range(12):
        for i, block in enumerate(blocks):
            if block[0] != i % 251 + 1 or block.count(block[0]) != 8192:
                sys.exit(f"block {i} is damaged in stage {stage}")
        time.sleep(0.05)
    marker = f"{sys.argv[1]}/died-{stage}"
    if not os.path.exists(marker):
        open(marker, "w").close()
        os.kill(os.getpid(), 9)
print("whole", flush=True)
"""

MOUNT = """
mount -t tmpfs tmpfs "$1/upper" && mkdir "$1/upper/files" "$1/upper/work" "$1/upper/merged" &&
mount -t overlay overlay "$1/upper/merged" \
    -o "lowerdir=$1/lower,upperdir=$1/upper/files,workdir=$1/upper/work"
"""

# Four are enough, unless a generation is cut between a marker and the death behind it: then the resumed
# program dies at once, and again, until an older generation is taken.
RUNS = """
for run in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
    "$2" run --resume -i 50ms "$1/upper/merged/pool" "$3" "$1/program" "$1"
    status=$?
    [ $status -eq 137 ] || break
done
exit $status
"""


@test
def memory_that_is_not_written_is_whole_after_several_resumes(place):
    if os.geteuid() != 0:
        raise Skip("mounting takes root")
    for name in ("lower", "upper"):
        place.make_directory(name)
    place.write("program", PROGRAM)
    script = f"({MOUNT}) || exit 77\n{RUNS}"
    done = place.run("unshare", "--mount", "sh", "-c", script, "sh", place.path(), PHEAP, PYTHON)
    if done.wait() == 77:
        raise Skip("no overlay can be mounted here: " + done.stderr())
    check_equal(done.wait(), 0, f"exit status, stderr {done.stderr()!r}")
    check("whole" in done.stdout(), done.stdout())
    check(os.path.exists(place.path("died-2")), "the program never died")


if __name__ == "__main__":
    main()
