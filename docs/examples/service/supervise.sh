#!/bin/sh
# supervise.sh POOL COMMAND... - keeps a program running where there is no service manager: when it is
# killed it goes on from its last checkpoint. SIGTERM to this script is a checkpoint and the end of both; the next
# start of the script resumes. It ends, with the program's status, when the program ends by itself.
[ $# -ge 2 ] || { echo "usage: supervise.sh POOL COMMAND..." >&2; exit 2; }
pool=$1
shift
stopping= child=
trap 'stopping=yes; kill -TERM $child 2>/dev/null' TERM INT HUP

while [ -z "$stopping" ]; do
    pheap run --resume --on-term -i "${INTERVAL:-1s}" "$pool" "$@" &
    child=$!
    [ -z "$stopping" ] || kill -TERM "$child"
    wait "$child"
    status=$?
    while kill -0 "$child" 2>/dev/null; do # a signal had ended the wait
        wait "$child"
        status=$?
    done
    # Up to 128 it has ended by itself, or pheap has refused (2 to 5) and has said why.
    [ "$status" -gt 128 ] || exit "$status"
    [ -n "$stopping" ] || sleep "${RESTART_SEC:-1}"
done
exit 0
