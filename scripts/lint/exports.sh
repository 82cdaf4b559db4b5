#!/bin/sh
# libpheap.so exports what preload/preload.map lists, and nothing else.
. "$(dirname "$0")/lint"
listed=$(sed -e 's/#.*//' -e '/local:/,$d' preload/preload.map | tr -s ' \n;' '\n' |
    grep -E '^[A-Za-z_][A-Za-z0-9_]*$' | grep -v '^PHEAP_' | sort)
exported=$(nm -D --defined-only "$build/lib/libpheap.so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort)
[ -n "$listed" ] || fail "preload.map lists nothing: the rule did not run"
[ "$listed" = "$exported" ] || {
    printf '%s\n' "$listed" >"$build/listed"
    printf '%s\n' "$exported" >"$build/exported"
    diff "$build/listed" "$build/exported" >&2 || :
    fail "preload.map (<) and libpheap.so (>) differ"
}
