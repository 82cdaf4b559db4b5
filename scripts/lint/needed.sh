#!/bin/sh
# An unmodified program finds no strange library in itself: libpheap.so needs libc alone.
. "$(dirname "$0")/lint"
needed=$(readelf -d "$build/lib/libpheap.so" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
    grep -v '^ld-linux-x86-64.so.2$' || :)
[ "$needed" = libc.so.6 ] || fail "libpheap.so needs" $needed "instead of libc.so.6 alone"
