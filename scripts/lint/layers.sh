#!/bin/sh
# A layer uses only those below it (layers.txt), as its archive's symbols show.
. "$(dirname "$0")/lint"
exec scripts/lint/layers.py
