"""A page names files that are there: links, paths from the tree's root (a module's without its ending),
and `file.c` in a sentence. Prints what is not."""
import os
import re
import sys

FOLDERS = ("bench", "core", "docs", "preload", "recovery", "scripts", "t", "tools")
PATH = re.compile(r"(?<![\w/.~$<{-])((?:" + "|".join(FOLDERS) + r")/[\w./-]*\w)")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
BARE = re.compile(r"`([\w-]+\.(?:c|h|S|t|py|sh))`")
EXAMPLE = re.compile(r"/X\.t$|/LAYER_")  # stands for many


def tree():
    found = {"README.md", "LICENSE", "Makefile"}
    for folder in FOLDERS:
        for directory, _, files in os.walk(folder):
            found.add(directory)
            found.update(os.path.join(directory, f) for f in files)
    return found


def missing(page, text, names):
    bare = {os.path.basename(name) for name in names}
    for match in LINK.finditer(text):
        if os.path.normpath(os.path.join(os.path.dirname(page), match[1])) not in names:
            yield match
    for match in PATH.finditer(text):
        if not EXAMPLE.search(match[1]) and not any(name.startswith(match[1]) for name in names):
            yield match
    for match in BARE.finditer(text):
        if match[1] not in bare:
            yield match


def main():
    names, bad = tree(), 0
    for page in sorted(n for n in names if n.endswith(".md") or n.endswith("/README")):
        with open(page, encoding="utf-8") as file:
            text = file.read()
        for match in missing(page, text, names):
            line = text.count("\n", 0, match.start()) + 1
            print(f"lint doc_names: {page}:{line}: no file {match[1]}", file=sys.stderr)
            bad += 1
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
