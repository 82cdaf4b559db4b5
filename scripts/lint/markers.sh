#!/bin/sh
# What is open has an issue, not a mark in the source.
. "$(dirname "$0")/lint"
! grep -nE '\b(TODO|FIXME|XXX|HACK)\b' $(sources '*.c' '*.h' '*.S' '*.py' '*.t') /dev/null ||
    fail "make an issue of these"
