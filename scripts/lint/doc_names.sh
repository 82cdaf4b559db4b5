#!/bin/sh
# What the docs say where something is, there it is.
. "$(dirname "$0")/lint"
exec python3 scripts/lint/doc_names.py
