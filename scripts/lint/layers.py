#!/usr/bin/python3
"""A symbol that is used in one layer may be defined in a lower one, never in a higher one.

Reads the symbols of build/lib/layer/*.a with nm; the order is in layers.txt.
"""
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("PHEAP_BUILD", os.path.join(HERE, "../../build"))
# preload stands in for these in a program. Layers that are linked into tools alone, without preload,
# mean the C library's. (core is forbidden them by banned.sh.)
OF_LIBC = {"malloc", "calloc", "realloc", "free", "dlopen", "sigaction", "signal"}


def read_order():
    order, forbidden = [], set()
    for line in open(os.path.join(HERE, "layers.txt"), encoding="ascii"):
        words = line.split("#")[0].split()
        if words:
            order.append(words[0])
            forbidden.update((words[0], other) for other in words[2:])
    return order, forbidden


def symbols(archive):
    """[(object file, kind letter, symbol)] of the global symbols."""
    out = subprocess.run(["nm", "-A", "-g", archive], check=True, capture_output=True, text=True)
    found = []
    for line in out.stdout.splitlines():
        place, rest = line.rsplit(":", 1)
        words = rest.split()
        found.append((place.split(":")[-1], words[-2], words[-1]))
    return found


def main():
    order, forbidden = read_order()
    defined, used, bad = {}, [], 0
    for layer in order:
        archive = os.path.join(BUILD, "lib/layer", layer + ".a")
        if not os.path.exists(archive):
            sys.exit(f"lint layers: {archive} is missing; run make tests first")
        for obj, kind, name in symbols(archive):
            if kind in "Uw":
                used.append((layer, obj, name))
            else:
                defined.setdefault(name, layer)
    for layer, obj, name in used:
        owner = defined.get(name)
        if owner is None or owner == layer:
            continue
        if name in OF_LIBC and (layer, owner) in forbidden:
            continue
        if order.index(owner) > order.index(layer) or (layer, owner) in forbidden:
            print(f"lint layers: {layer} ({obj}) uses {name} of {owner}, which is not below it",
                  file=sys.stderr)
            bad += 1
    if not used or not defined:
        sys.exit("lint layers: no symbols found at all: the rule did not run")
    sys.exit(bad != 0)


main()
