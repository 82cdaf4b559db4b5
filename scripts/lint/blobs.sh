#!/bin/sh
# Code that runs in an emptied process, or inside a stopped thread, calls nothing.
. "$(dirname "$0")/lint"
for name in parasite batch_blob continuation; do
    object=$build/obj/core/process/$name.c.o
    [ -f "$object" ] || fail "$object is missing: the rule did not run"
    calls=$(nm -u "$object")
    [ -z "$calls" ] || fail "core/process/$name.c needs" $calls
done
