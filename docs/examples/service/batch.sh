#!/bin/sh
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@300
# batch.sh POOL COMMAND... - a batch job that goes on in its next allocation. 300 s before its time is over, or when it
# is preempted, the batch system sends SIGTERM to this script: a checkpoint, then the end with status 143, and
# the job is queued again. POOL is on a file system that the next node has too. Only for programs whose
# executable and libraries are the same on all nodes.
[ $# -ge 2 ] || { echo "usage: batch.sh POOL COMMAND..." >&2; exit 2; }
pool=$1
shift
child=
trap 'kill -TERM $child 2>/dev/null' TERM

pheap run --resume --on-term -i "${INTERVAL:-5m}" "$pool" "$@" &
child=$!
wait "$child"
status=$?
while kill -0 "$child" 2>/dev/null; do # the signal had ended the wait
    wait "$child"
    status=$?
done
[ "$status" -ne 143 ] || [ -z "${SLURM_JOB_ID:-}" ] || scontrol requeue "$SLURM_JOB_ID"
exit "$status"
