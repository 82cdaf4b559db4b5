#!/usr/bin/python3
"""pheap inspect --html: the page's data is what the views say; in headless Chromium it opens without
a complaint, asks for nothing, shows these figures, and does what its buttons and keys say."""
import json
import os
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import pool_bytes  # noqa: E402
import second_reader  # noqa: E402
from browser import Browser, needs_chromium  # noqa: E402
from pheap_test import (BUILT_PROGRAMS, FINE, FOUND, LIBRARY, PHEAP, check, check_equal, check_in,  # noqa: E402
                        expect, main, test, wait_until)

SITES = os.path.join(BUILT_PROGRAMS, "allocation_sites")
NAMED = os.path.join(BUILT_PROGRAMS, "named")
LARGE_HEAP = os.path.join(BUILT_PROGRAMS, "large_heap")
GRAPH = os.path.join(BUILT_PROGRAMS, "known_graph")
SYMBOL = b"function_that_has_a_name_of_the_test_s_own_choice"
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&amp;<!--"
PAGE_BYTES = 4096


class Sites:
    """A profiled program with three generations: blocks that are kept, lost, large; growth."""

    def __init__(self, place, name="pool", grow=2, profile="16384"):
        self.place, self.pool, fifo = place, place.path(name), place.path("fifo")
        os.mkfifo(fifo)
        self.keeper = os.open(fifo, os.O_RDWR)
        self.process = place.start(PHEAP, "run", "-i", "0", self.pool, SITES, "3", stdin=fifo,
                                   environment={"PHEAP_PROFILE": profile} if profile else {})
        for round_ in range(1 + grow):
            wait_until(lambda n=round_: self.process.stdout().count("ready\n") > n, 60, "the program")
            expect(place.pheap("checkpoint", self.pool), FINE)
            if round_ < grow:
                os.write(self.keeper, b"grow\n")
        check_equal(self.process.kill(), -signal.SIGKILL, "status")
        os.close(self.keeper)
        wait_until(lambda: any(g["kind"] == "crash" for g in place.inspect(self.pool)["generations"]), 60, "the crash image")


def write_page(place, pool, *options, status=FINE, name="page.html"):
    page = place.path(name)
    if os.path.exists(page):
        os.unlink(page)
    expect(place.pheap("inspect", *options, "--html", page, pool), status)
    return page


def data_of(page):
    """The page's JSON; and that nothing else in it leads out of the page, or ends early."""
    with open(page, encoding="utf-8") as f:
        text = f.read()
    found = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    check_equal((len(found), "<" in found[0]), (1, False), "places of data, and what could end one")
    rest = text.replace(found[0], "")
    check_equal(re.findall(r'https?:|\bsrc=|\bhref="(?!data:,")|@import|fetch\(|url\(|innerHTML', rest), [], "outside things")
    check_equal(rest.count("</script>"), 2, "ends of scripts")
    return json.loads(found[0])


def look(place, pool, *arguments):
    done = place.pheap("inspect", "--json", *arguments[:-1], pool, *arguments[-1].split())
    check(done.status in (FINE, FOUND), f"{arguments}: {done.status} {done.stderr()}")
    return json.loads(done.stdout())


def expand(runs):
    out = []
    for number in runs:
        out += [number] if number >= 0 else [out[-1]] * -number
    return out


def with_frames(data, rows):
    return [dict(row, frames=[data["frames"][i] for i in row["frames"]]) for row in rows]


def written_pages(pool, old, new, start, end):
    """Heap pages that differ, by the independent reader of the pool format."""
    reader = second_reader.Pool(pool)
    was, now = (dict((page, entry) for page, entry in ((p[0], p[1:]) for p in
                reader.pages(reader.generation(n)))) for n in (old, new))
    inside = [page for page in now if start <= page * PAGE_BYTES < end]
    return sum(1 for page in inside if page not in was or was[page][1] != now[page][1])


def check_map(place, pool, data, number):
    heap = {name: expand(data["map"][name]) for name in ("used", "lost", "span", "block_bytes", "pages")}
    for name, numbers in heap.items():
        check_equal(len(numbers), data["map"]["cells"], f"cells of {name}")
    check_equal(sum(heap["used"]), sum(row["used_bytes"] for row in data["slabs"]), "in use")
    kept = sum(heap["span"]) - sum(row["size_bytes"] for row in data["slabs"])
    check(0 <= kept < 64 << 20 and kept % 65536 == 0, f"spans that threads keep, beside those of the size classes: {kept}")
    check_equal(sum(heap["lost"]), data["leaked"]["bytes"], "nothing points to")
    free = data["map"]["end"] - data["map"]["start"] - sum(heap["span"])
    check_equal(free, data["heap"]["free_runs"]["bytes"], "free runs are what the map has free")
    for i in range(data["map"]["cells"]):
        check(heap["lost"][i] <= heap["used"][i] <= heap["span"][i] <= data["map"]["cell_bytes"], f"cell {i}")
    start, end = data["map"]["start"], data["map"]["end"]
    check(data["map"]["cells"] * data["map"]["cell_bytes"] >= end - start, "the cells are all of it")
    for change in data["map"]["changes"]:
        check_equal(sum(expand(change["pages"])), written_pages(pool, change["since"], number, start, end),
                    f"pages written since {change['since']}")


def check_data(place, pool, data, number):
    """Every figure against the view that has it."""
    at = ("-g", str(number))
    for view in ("heap", "slabs", "leaks"):
        check_equal(data[view], look(place, pool, *at, view)[view], view)
    leaks = look(place, pool, *at, "leaks")
    check_equal(data["leaked"], leaks["leaked"], "leaked")
    check_equal(data["generations"], look(place, pool, "generations")["generations"], "generations")
    check_equal(data["mappings"], look(place, pool, *at, "mappings")["mappings"], "mappings")
    if "profile" in data:
        profile = dict(data["profile"], stacks=with_frames(data, data["profile"]["stacks"]))
        check_equal(profile, look(place, pool, *at, "profile")["profile"], "profile")
        check_equal(with_frames(data, data["leaking_stacks"]), leaks["leaking_stacks"], "stacks that leak")
    blocks = look(place, pool, *at, "--limit", "1000000", "blocks")["blocks"]
    largest = sorted(blocks, key=lambda row: (-row["bytes"], row["address"]))[:1000]
    check_equal([{k: v for k, v in row.items() if k not in ("reachable", "allocated_by")} for row in data["largest"]],
                largest, "largest blocks")
    for point in data["growth"]:
        check_equal(point["slabs"], look(place, pool, "-g", str(point["number"]), "slabs")["slabs"],
                    f"slabs of generation {point['number']}")


@test
def the_data_is_that_of_the_views(place):
    program = Sites(place)
    generations = look(place, program.pool, "generations")["generations"]
    newest = max(g["number"] for g in generations if g["kind"] == "process")
    data = data_of(write_page(place, program.pool))
    check_equal(data["shown"]["number"], newest, "shown")
    check_equal(data["absent"], {}, "absent")
    check_data(place, program.pool, data, newest)
    check_map(place, program.pool, data, newest)
    check_equal([change["since"] for change in data["map"]["changes"]], [newest - 1, 1], "baselines")
    check_equal(len(data["growth"]), len(generations), "points of growth")
    check_equal(with_frames(data, data["threads"]), look(place, program.pool, "threads")["threads"], "threads")
    check_equal(data["sites_since"], 1, "sites")
    check_equal(with_frames(data, data["sites"]), look(place, program.pool, f"diff 1 {newest}")["diff"]["sites"], "sites")
    check(any(row["reachable"] for row in data["largest"]), "pointed to")


@test
def an_older_generation_and_a_crash_image_have_pages_of_their_own(place):
    program = Sites(place, profile=None)
    data = data_of(write_page(place, program.pool, "-g", "2"))
    check_equal((data["shown"]["number"], "profile" in data), (2, False), "shown")
    check_data(place, program.pool, data, 2)
    check_map(place, program.pool, data, 2)
    crash = [g["number"] for g in data["generations"] if g["kind"] == "crash"]
    check_equal(len(crash), 1, "crash images")
    data = data_of(write_page(place, program.pool, "-g", str(crash[0])))
    check_data(place, program.pool, data, crash[0])
    check_in("crash", data["absent"]["threads"], "why there are no threads")


@test
def a_damaged_heap_leaves_its_parts_out_and_says_so(place):
    program = Sites(place, grow=0)
    whole = data_of(write_page(place, program.pool))
    reader, content = second_reader.Pool(program.pool), pool_bytes.read(program.pool)
    base = whole["map"]["start"] & ~((1 << 40) - 1)
    entry = next(e for e in reader.pages(reader.generation(1)) if e[0] == base // PAGE_BYTES)
    pool_bytes.flip(content, entry[1] * PAGE_BYTES)  # the magic number of the heap
    pool_bytes.write(program.pool, content)
    page = write_page(place, program.pool, "-g", "1", status=FOUND)
    data = data_of(page)
    check_in("has checksum", data["absent"]["heap"], "why there is no heap")
    check_equal(("map" in data, "slabs" in data), (False, False), "the heap's parts")
    check_equal(data["mappings"], whole["mappings"], "mappings")
    needs_chromium()
    with Browser(place) as browser:
        shown = browser.open(page)
        check_equal(shown.complaints, [], "complaints")
        check_in("has checksum", shown.value("document.body.textContent"), "what the page says")


@test
def large_blocks_of_which_little_is_written_keep_what_they_point_to(place):
    pool = place.path("pool")
    os.mkfifo(place.path("fifo"))
    keeper = os.open(place.path("fifo"), os.O_RDWR)
    process = place.start(PHEAP, "run", "-i", "0", pool, LARGE_HEAP, "100", "600", stdin=place.path("fifo"))
    wait_until(lambda: "ready\n" in process.stdout(), 60, "the program")
    expect(place.pheap("checkpoint", pool), FINE)
    process.kill()
    os.close(keeper)
    data = data_of(write_page(place, pool))
    # What is left on its stack may point to the one that was looked at last.
    forgotten = int(process.stdout().split()[1])
    check(forgotten - 2 <= data["leaked"]["blocks"] <= forgotten, f"{data['leaked']}, forgotten {forgotten}")
    check_map(place, pool, data, data["shown"]["number"])


def make_hostile(place):
    """A pool, a mapped file, a thread and a function whose names are markup."""
    program, pool = place.path("program"), place.path(HOSTILE.replace("/", "_") + ".pool")
    with open(NAMED, "rb") as f:
        content = f.read()
    check_in(SYMBOL, content, "the function's name")
    with open(program, "wb") as f:
        f.write(content.replace(SYMBOL, HOSTILE.encode().ljust(len(SYMBOL), b"!")))
    os.chmod(program, 0o755)
    os.mkfifo(place.path("fifo"))
    keeper = os.open(place.path("fifo"), os.O_RDWR)
    mapped = place.write("\"><img src=x onerror=alert(2)> \xff.so".encode("latin-1").decode("utf-8", "surrogateescape"), b"x" * 4096)
    process = place.start(PHEAP, "run", "-i", "0", pool, program, mapped, "</script>\"'", stdin=place.path("fifo"),
                          environment={"PHEAP_PROFILE": "4096"})
    wait_until(lambda: "ready\n" in process.stdout(), 60, "the program")
    expect(place.pheap("checkpoint", pool), FINE)
    process.kill()
    os.close(keeper)
    return pool


@test
def names_that_are_markup_stay_names(place):
    pool = make_hostile(place)
    page = write_page(place, pool)
    data = data_of(page)
    symbol = HOSTILE.ljust(len(SYMBOL), "!")
    check_equal(data["pool"], pool, "pool")
    check(any(frame["function"] == symbol for frame in data["frames"]), "the function's name")
    check(any("<img src=x onerror=alert(2)> \\xff.so" in row["name"] for row in data["mappings"]), "the file's name")
    check_equal([t["name"] for t in data["threads"]], ["</script>\"'"], "the thread's name")
    needs_chromium()
    with Browser(place) as browser:
        shown = browser.open(page)
        check_equal(shown.complaints, [], "complaints")
        check_equal(shown.value("document.images.length"), 0, "images")
        check_equal(shown.value("document.querySelector('h1').textContent"), pool, "heading")
        check_equal(shown.value("document.scripts.length"), 2, "scripts")
        text = shown.value("document.querySelector('main').innerText")
        for name in (symbol, "<img src=x onerror=alert(2)> \\xff.so", "</script>\"'"):
            check_in(name, text, "what the page shows")


@test
def a_heap_that_programs_open_has_a_page(place):
    pool = place.path("heap")
    expect(place.run(GRAPH, pool, "build", environment={"LD_PRELOAD": LIBRARY}), FINE)
    page = write_page(place, pool)
    data = data_of(page)
    check_equal(data["shown"]["is_opened"], True, "kind")
    check_map(place, pool, data, data["shown"]["number"])
    for view, part in (("heap", "heap"), ("slabs", "slabs"), ("leaks", "leaked")):
        check_equal(data[part], look(place, pool, view)[part], part)
    check_equal(data["types"], look(place, pool, "diff 1 2")["diff"]["types"], "types: all are new in generation 2")
    check_equal(data["roots"], look(place, pool, "roots")["roots"], "roots")
    needs_chromium()
    with Browser(place) as browser:
        shown = browser.open(page)
        check_equal(shown.complaints, [], "complaints")
        check_equal(sorted(column(shown, "types", "bytes_change")), sorted(row["bytes_change"] for row in data["types"]), "growth by type")
        check_equal(column(shown, "roots", "root"), sorted(row["root"] for row in data["roots"]), "roots")
        check_equal(shown.value("document.getElementById('threads').hidden"), True, "no section of threads")
        check_equal(column(shown, "largest", "type")[:1], [data["largest"][0]["type"]], "type of the largest")


@test
def free_runs_have_a_table(place):
    pool = place.path("heap")
    expect(place.run(GRAPH, pool, "holes", environment={"LD_PRELOAD": LIBRARY}), FINE)
    page = write_page(place, pool)
    free = data_of(page)["heap"]["free_runs"]
    check_equal([row["order"] for row in free["orders"]], [1, 2, 4], "runs of 3, 5 and 20 slices")
    needs_chromium()
    with Browser(place) as browser:
        shown = browser.open(page)
        check_equal(shown.complaints, [], "complaints")
        for key in free["orders"][0]:
            check_equal(column(shown, "orders", key), [row[key] for row in free["orders"]], key)
        for identity, key in (("free-runs", "runs"), ("free-bytes", "bytes"), ("free-run-bytes", "bytes"),
                              ("largest-run", "largest_bytes"), ("fragmentation", "fragmentation_percent")):
            check_equal(figure(shown, identity), free[key], identity)


# --- in a browser ---

def column(page, table, key):
    """The exact values of a table's column, as it stands."""
    return page.value(f"(() => {{ const t = document.getElementById('{table}-table');"
                      f" const n = [...t.tHead.rows[0].cells].findIndex(c => c.dataset.key === '{key}');"
                      f" return [...t.tBodies[0].rows].map(r => r.cells[n].dataset.value)"
                      f".map(v => v === undefined ? null : v === '' || isNaN(v) ? v : Number(v)); }})()")


def figure(page, identity):
    return page.value(f"Number(document.getElementById('{identity}').dataset.value)")


def check_figures(page, data):
    heap = {name: expand(data["map"][name]) for name in ("used", "lost", "span", "pages")}
    used = sum(row["used_bytes"] for row in data["slabs"])
    for identity, expected in (
            ("live-bytes", used), ("map-used", used), ("lost-bytes", data["leaked"]["bytes"]),
            ("map-lost", data["leaked"]["bytes"]), ("cached-bytes", sum(heap["span"]) - used),
            ("free-bytes", data["map"]["end"] - data["map"]["start"] - sum(heap["span"])),
            ("written-pages", sum(expand(data["map"]["changes"][0]["pages"]))), ("leaked-blocks", data["leaked"]["blocks"]),
            ("blocks-in-use", data["leaked"]["blocks_in_use"]), ("profile-bytes", data["profile"]["bytes"]),
            ("profile-blocks", data["profile"]["blocks"]), ("saved-pages", data["shown"]["pages"]),
            ("free-runs", data["heap"]["free_runs"]["runs"]), ("free-run-bytes", data["heap"]["free_runs"]["bytes"]),
            ("largest-run", data["heap"]["free_runs"]["largest_bytes"]), ("fragmentation", data["heap"]["free_runs"]["fragmentation_percent"])):
        check_equal(figure(page, identity), expected, identity)
    for table, rows, keys in (("classes", data["slabs"], ("used", "used_bytes", "size_bytes", "wasted_bytes", "lowest")),
                              ("leaks", data["leaks"], ("blocks", "bytes")),
                              ("generations", data["generations"], ("number", "written_bytes", "pause_ns")),
                              ("largest", data["largest"][:100], ("address", "bytes")),
                              ("sites", data["profile"]["stacks"], ("bytes", "blocks", "samples")),
                              ("mappings", data["mappings"], ("start", "end", "saved_pages", "name")),
                              ("threads", data["threads"], ("tid", "name"))):
        for key in keys:
            check_equal(sorted(column(page, table, key), key=str), sorted((row[key] for row in rows), key=str), f"{table} {key}")


def check_tables(page, data):
    page.click("#mappings-table th[data-key=size_bytes] button")
    sizes = sorted((row["size_bytes"] for row in data["mappings"]), reverse=True)
    check_equal(column(page, "mappings", "size_bytes"), sizes, "sorted downwards")
    check_equal(page.value("document.querySelector('#mappings-table th[data-key=size_bytes]').getAttribute('aria-sort')"),
                "descending", "what a reader is told")
    page.click("#mappings-table th[data-key=size_bytes] button")
    check_equal(column(page, "mappings", "size_bytes"), sizes[::-1], "sorted upwards")
    page.type("#mappings-filter", "libc.so r-xp")
    expected = [row["start"] for row in data["mappings"] if "libc.so" in row["name"] and row["permissions"] == "r-xp"]
    check(expected, "there is a libc")
    check_equal(column(page, "mappings", "start"), expected, "filtered by words")
    page.type("#mappings-filter", "size>=1m saved_pages>0")
    expected = sorted(row["start"] for row in data["mappings"] if row["size_bytes"] >= 1 << 20 and row["saved_pages"] > 0)
    check_equal(sorted(column(page, "mappings", "start")), expected, "filtered by figures")
    page.type("#mappings-filter", "no such thing")
    check_equal(column(page, "mappings", "start"), [None], "nothing")
    page.type("#mappings-filter", "")
    check_equal(len(column(page, "mappings", "start")), len(data["mappings"]), "all again")
    page.click("#threads-table details summary")
    page.wait_for("document.querySelector('#threads-table li')", "the backtrace is shown", 10)
    frames = page.value("[...document.querySelectorAll('#threads-table li')].map(e => e.firstChild.textContent)")
    check_equal(frames, [data["frames"][i]["function"] or frames[n] for n, i in enumerate(data["threads"][0]["frames"])], "backtrace")
    check_in("rip 0x", page.value("document.querySelector('#threads-table .registers').textContent"), "registers")
    if len(data["largest"]) > 100:
        page.value("[...document.querySelectorAll('#largest button')].pop().click()")
        check_equal(len(column(page, "largest", "bytes")), min(1000, len(data["largest"])), "more rows")


def cell(page, part):
    return page.value(f"(e => e ? Number(e.dataset.value) : 0)(document.querySelector('#cell [data-part={part}]'))")


def check_map_moves(page, data):
    heap = {name: expand(data["map"][name]) for name in ("used", "lost", "span")}
    canvas = "document.getElementById('map-canvas')"
    zoom = lambda: float(page.value(canvas + ".dataset.zoom"))
    check_equal(zoom(), 1, "all of it")
    page.click("#zoom-in")
    page.click("#zoom-in")
    check(zoom() > 2, f"zoomed in: {zoom()}")
    page.click("#zoom-fit")
    check_equal(zoom(), 1, "all of it again")
    lost = next(i for i, n in enumerate(heap["lost"]) if n)
    page.type("#map-address", hex(data["map"]["start"] + lost * data["map"]["cell_bytes"] + 17))
    page.press("Enter", text="\r")
    for step in range(3):
        i = lost + step
        check_equal(int(page.value(canvas + ".dataset.chosen")), i, "the cell of an address, and those beside it")
        check_equal((cell(page, "used"), cell(page, "lost"), cell(page, "cached")),
                    (heap["used"][i], heap["lost"][i], heap["span"][i] - heap["used"][i]), f"figures of cell {i}")
        page.press("ArrowRight")
    before = zoom()
    page.press("+", text="+")
    check(zoom() > before, "+ zooms in")
    x, y = page.middle("#map-canvas")
    before = zoom()
    page.mouse("mouseWheel", x, y, deltaX=0, deltaY=200)
    page.wait_for(canvas + f".dataset.zoom < {before}", "the wheel zooms out", 10)
    page.press("0", text="0")
    check_equal(zoom(), 1, "0 shows all")
    page.type("#map-address", "0x1")
    page.press("Enter", text="\r")
    check_in("Not in the heap", page.value("document.querySelector('#map [role=status]').textContent"), "an address elsewhere")
    page.click("#map [data-choice='1']")
    check_equal(figure(page, "map-written"), sum(expand(data["map"]["changes"][1]["pages"])), "written since the oldest")
    page.click("#map [data-choice=contents]")
    page.click("#largest-table tbody tr:nth-child(2) button")
    expected = (data["largest"][1]["address"] - data["map"]["start"]) // data["map"]["cell_bytes"]
    check_equal(int(page.value(canvas + ".dataset.chosen")), expected, "the cell of a block in a table")


def check_flame(page, data):
    def inclusive(name, rows, key="bytes"):
        return sum(row[key] for row in rows if any(data["frames"][i]["function"] == name for i in row["frames"]))

    def frame(name):
        return f"[...document.querySelectorAll('#frames .frame')].find(e => e.textContent === '{name}')"

    stacks = data["profile"]["stacks"]
    focus = lambda: page.value("document.getElementById('frames').dataset.focus")
    value = lambda: page.value("Number(document.querySelector('#frame [data-value]').dataset.value)")
    check_equal(value(), data["profile"]["bytes"], "all of it")
    page.value(frame("moved") + ".id = 'wanted'")
    page.click("#wanted")
    check_equal((focus(), value()), ("moved", inclusive("moved", stacks)), "zoomed into a frame")
    page.press("Escape")
    check_equal(focus(), "main", "Escape goes to its caller")
    check_equal(value(), inclusive("main", stacks), "bytes below main")
    page.press("ArrowUp")
    page.press("ArrowDown")
    check_equal(value(), inclusive("main", stacks), "up and down again")
    page.click("#flame-back")
    check_equal(focus(), "all", "and back")
    page.type("#flame-search", "KEPT")
    check_equal(figure(page, "flame-bytes"), inclusive("kept", stacks), "bytes that the search matches")
    check(page.value("document.querySelectorAll('#frames .match').length") >= 2, "frames that match are marked")
    check(page.value(frame("main") + ".classList.contains('leads')"), "and those that lead to them")
    page.type("#flame-search", "/^(kept|leaked)$/")
    check_equal(figure(page, "flame-bytes"), inclusive("kept", stacks) + inclusive("leaked", stacks), "a regular expression")
    page.type("#flame-search", "")
    page.click("#flame [data-choice=lost]")
    check_equal(value(), sum(row["bytes"] for row in data["leaking_stacks"]), "what nothing points to")
    page.click("#flame [data-choice=grown]")
    check_equal(value(), sum(row["bytes_change"] for row in data["sites"] if row["bytes_change"] > 0), "growth")
    page.click("#flame [data-choice=live]")


@test
def a_browser_shows_the_figures_and_obeys(place):
    needs_chromium()
    program = Sites(place)
    path = write_page(place, program.pool)
    data = data_of(path)
    with Browser(place) as browser:
        page = browser.open(path)
        check_figures(page, data)
        check_tables(page, data)
        check_map_moves(page, data)
        check_flame(page, data)
        for width in (800, 1600):
            page.size(width, dark=width == 800)
            page.wait_for(f"document.getElementById('map-canvas').width > {width} * 0.8", "it takes the width", 10)
            check_equal(page.value("document.documentElement.scrollWidth"), width, "nothing is wider than the window")
            directory = os.environ.get("PHEAP_TEST_SCREENSHOTS")
            if directory:
                page.screenshot(os.path.join(directory, f"page-{width}.png"))
        check_equal(page.complaints, [], "complaints")
        check_equal(page.requests, ["file://" + path], "requests")


if __name__ == "__main__":
    main()
