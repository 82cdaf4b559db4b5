#!/bin/sh
# No function above 100 lines. With the house format a function's body is what lies between a "{"
# and a "}" in column 1.
. "$(dirname "$0")/lint"
awk 'FNR == 1 { start = 0 }
     /^\{/ { start = FNR }
     /^\}/ { if (start && FNR - start - 1 > 100) { print FILENAME ":" start ": " FNR - start - 1 " lines"; bad = 1 }
             start = 0 }
     END { exit bad }' $(sources '*.c') || fail "split these functions"
