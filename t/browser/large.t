#!/usr/bin/python3
"""make check-browser: the page of a heap of 10 GiB is a few MB, and a browser shows it within seconds.
PHEAP_TEST_LONG=1: with 10 million blocks."""
import json
import os
import random
import re
import resource
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from browser import Browser, needs_chromium  # noqa: E402
from pheap_test import (BUILT_PROGRAMS, FINE, LONG, PHEAP, check, check_equal, expect, main, test,  # noqa: E402
                        wait_until)

PROGRAM = os.path.join(BUILT_PROGRAMS, "large_heap")
SMALL, LARGE = (10_000_000 if LONG else 500_000), 75_000
STACKS, MAPPINGS, THREADS = 4096, 8192, 1024  # tools/page_data.h
PAGE_MOST = 5 << 20
SECONDS_MOST = 10


def make_pool(place):
    pool = place.path("pool")
    os.mkfifo(place.path("fifo"))
    keeper = os.open(place.path("fifo"), os.O_RDWR)
    process = place.start(PHEAP, "run", "-i", "0", pool, PROGRAM, str(SMALL), str(LARGE), stdin=place.path("fifo"),
                          environment={"PHEAP_PROFILE": "1M"})
    for round_ in range(2):
        wait_until(lambda n=round_: process.stdout().count("ready\n") > n, 300, "the program")
        expect(place.pheap("checkpoint", pool), FINE)
        os.write(keeper, b"\n")
    process.kill()
    os.close(keeper)
    return pool


def frames_per_second(page):
    """How often the map is drawn while it is zoomed as fast as may be."""
    page.value("window.drawn = 0; window.zooming = performance.now(); (function step() { byId(window.drawn % 20 < 10 ? 'zoom-in' : 'zoom-out').click();"
               " if (++window.drawn < 40) requestAnimationFrame(step); else window.zooming = performance.now() - window.zooming; })()")
    page.wait_for("window.drawn >= 40", "40 drawings", 60)
    return 40000 / page.value("window.zooming")


def with_long_lists(path, to):
    """The same page with as many stacks, mappings and threads as pheap lets through."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    found = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    data, dice = json.loads(found.group(1)), random.Random(1)
    data["frames"] = [{"pc": hex(i), "function": f"function_{i}_of_a_long_name", "module": "/usr/lib/libsomething.so.1",
                       "offset": i, "file": f"src/file_{i % 99}.c", "line": i} for i in range(5000)]
    stacks = []
    for i in range(STACKS):
        frames = [dice.randrange(5000) if depth < 20 else dice.randrange(3) + 3 * depth for depth in range(40)]
        stacks.append({"bytes": dice.randrange(1, 1 << 20), "blocks": 7, "samples": 1, "sampled_so_far": 1,
                       "allocated_by": data["frames"][frames[0]]["function"], "frames": frames})
    data["profile"] = dict(data["profile"], stacks=stacks, bytes=sum(row["bytes"] for row in stacks))
    data["mappings"] = [dict(data["mappings"][0], start=i << 12, end=(i + 1) << 12, name=f"/usr/lib/lib{i}.so") for i in range(MAPPINGS)]
    data["threads"] = [dict(data["threads"][0], tid=i, frames=[i, i + 1]) for i in range(THREADS)]
    with open(to, "w", encoding="utf-8") as f:
        f.write(text.replace(found.group(1), json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")))
    return data


def check_long_lists(browser, path, to):
    data = with_long_lists(path, to)
    page = browser.open(to, 1600)
    begin = time.monotonic()
    page.type("#flame-search", "function_4")
    page.wait_for("document.getElementById('flame-bytes')", "the search", 10)
    searched = time.monotonic() - begin
    page.value("document.querySelectorAll('#frames .frame')[30].id = 'wanted'")
    begin = time.monotonic()
    page.click("#wanted")
    zoomed = time.monotonic() - begin
    begin = time.monotonic()
    page.type("#mappings-filter", "lib77")
    filtered = time.monotonic() - begin
    expected = sum("lib77" in row["name"] for row in data["mappings"])
    check_equal(page.value("document.querySelectorAll('#mappings-table tbody tr').length"), min(100, expected), "rows")
    print(f"# longest lists: page of {os.path.getsize(to) / 1e6:.2f} MB, open after {page.seconds:.2f} s; search {searched:.2f} s, "
          f"zoom into a frame {zoomed:.2f} s, filter {filtered:.2f} s")
    check(page.seconds < SECONDS_MOST, f"open after {page.seconds} s")
    check(max(searched, zoomed, filtered) < 2, "an answer within two seconds")
    check_equal(page.complaints, [], "complaints")


@test
def the_page_of_a_heap_of_10_GiB_is_small_and_opens_at_once(place):
    needs_chromium()
    pool, path = make_pool(place), place.path("page.html")
    begin = time.monotonic()
    expect(place.pheap("inspect", "--html", path, pool), FINE)
    written = time.monotonic() - begin
    with open(path, encoding="utf-8") as f:
        data = json.loads(re.search(r'id="data">(.*?)</script>', f.read(), re.DOTALL).group(1))
    extent, size = data["map"]["end"] - data["map"]["start"], os.path.getsize(path)
    check(extent >= 10 << 30, f"the heap extends over {extent}")
    check(data["leaked"]["blocks_in_use"] >= SMALL + LARGE // 2, f"{data['leaked']}")
    check(data["map"]["cells"] <= 65536, f"{data['map']['cells']} cells")
    check(size < PAGE_MOST, f"the page has {size} bytes")
    with Browser(place) as browser:
        page = browser.open(path, 1600)
        rate = frames_per_second(page)
        print(f"# {data['leaked']['blocks_in_use']} blocks in {extent / 2**30:.1f} GiB: page of {size / 1e6:.2f} MB written in "
              f"{written:.2f} s, open after {page.seconds:.2f} s, {rate:.0f} drawings of the map a second")
        check(page.seconds < SECONDS_MOST, f"open after {page.seconds} s")
        check(rate > 5, f"{rate} drawings a second")
        check_equal(page.value("Number(document.getElementById('live-bytes').dataset.value)"),
                    sum(row["used_bytes"] for row in data["slabs"]), "in use")
        check_equal(page.complaints, [], "complaints")
        directory = os.environ.get("PHEAP_TEST_SCREENSHOTS")
        if directory:
            page.screenshot(os.path.join(directory, "page-large.png"))
        check_long_lists(browser, path, place.path("long.html"))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
