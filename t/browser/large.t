#!/usr/bin/python3
"""make check-browser: the page of a heap of 10 GiB is a few MB, and a browser shows it within seconds.
PHEAP_TEST_LONG=1: with 10 million blocks."""
import json
import os
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


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
