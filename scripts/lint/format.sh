#!/bin/sh
# Every source is as clang-format leaves it (.clang-format).
. "$(dirname "$0")/lint"
clang-format --dry-run -Werror $(sources '*.c' '*.h') || fail "run clang-format -i on these"
