#!/bin/sh
# A file is named after what it does.
. "$(dirname "$0")/lint"
bad=$(sources '*' | grep -E '/(util|utils|common|helper|helpers|misc)\.[a-z]+$' || :)
[ -z "$bad" ] || fail "rename" $bad
