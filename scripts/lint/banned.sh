#!/bin/sh
# core/ runs in the agent, on borrowed thread-local storage, while the program's threads may hold
# any lock of libc: its objects call nothing of libc but what allowed_in_core.txt lists.
. "$(dirname "$0")/lint"
allowed=$(sed 's/#.*//' scripts/lint/allowed_in_core.txt | tr -s ' \n' '\n' | sed '/^$/d' | sort)
status=0
for archive in "$build"/lib/layer/core-*.a; do
    nm -g --defined-only "$archive" | awk 'NF == 3 { print $3 }'
done | sort -u >"$build/core-defined"
for archive in "$build"/lib/layer/core-*.a; do
    for symbol in $(nm -u "$archive" | awk '$1 == "U" || $1 == "w" { print $2 }' | sort -u |
        comm -23 - "$build/core-defined"); do
        case "
$allowed
" in
        *"
$symbol
"*) ;;
        *)
            echo "lint $rule: $(basename "$archive") uses $symbol of libc" >&2
            status=1
            ;;
        esac
    done
done
exit $status
