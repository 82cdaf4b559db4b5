#!/bin/sh
# Each header compiles alone, with gcc and clang.
. "$(dirname "$0")/lint"
status=0
for header in $(sources '*.h'); do
    for compiler in gcc clang; do
        echo "#include \"$header\"" |
            $compiler -std=c17 -D_GNU_SOURCE -I. -Wall -Wextra -Werror -fsyntax-only -x c - ||
            status=1
    done
done
[ "$status" = 0 ] || fail "a header needs an include of its own"
