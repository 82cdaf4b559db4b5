"""chart.py - the results of make bench as one HTML page without anything outside it: for time and
for peak RSS a row of dots a workload, each allocator's ratio to the best peer on a logarithmic
axis, then the same numbers as a table."""
import html
import math

from rows import PEERS

COLOURS = {"pheap": "#c2410c", "glibc": "#64748b", "mimalloc": "#2563eb", "jemalloc": "#16a34a",
           "tcmalloc": "#9333ea"}
OTHER_COLOUR = "#ca8a04"
LEFT, WIDTH, RIGHT, ROW, HEAD = 170, 640, 20, 20, 40
LOW, HIGH = 0.4, 12.0
TICKS = (0.5, 0.75, 1, 1.5, 2, 3, 5, 8, 12)
STYLE = """
:root { color-scheme: light dark; --line: #8884; --text: #1e293b; --page: #fff; }
@media (prefers-color-scheme: dark) { :root { --text: #e2e8f0; --page: #0f172a; } }
body { font: 14px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page);
       max-width: 900px; margin: 2em auto; padding: 0 1em; }
svg { width: 100%; height: auto; } svg text { font-size: 11px; fill: var(--text); }
svg line { stroke: var(--line); } svg line.one { stroke: var(--text); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
td, th { text-align: right; padding: 1px 10px; border-bottom: 1px solid var(--line); }
td:first-child, th:first-child { text-align: left; } .best { font-weight: bold; }
"""


def colour(name):
    return COLOURS.get(name, OTHER_COLOUR)


def place(ratio):
    ratio = min(max(ratio, LOW), HIGH)
    return LEFT + WIDTH * math.log(ratio / LOW) / math.log(HIGH / LOW)


def ratios(row, field, names):
    """{name: ratio to the best peer}; empty where no peer was measured."""
    measured = row["measured"]
    peers = [measured[n][field] for n in PEERS if n in measured]
    return {n: measured[n][field] / min(peers) for n in names if n in measured} if peers else {}


def legend(names):
    parts, x = [], LEFT
    for name in names:
        parts.append(f'<circle cx="{x}" cy="10" r="5" fill="{colour(name)}"/>'
                     f'<text x="{x + 9}" y="14">{name}</text>')
        x += 90
    return parts


def axis(bottom):
    parts = []
    for tick in TICKS:
        x, kind = place(tick), ' class="one"' if tick == 1 else ""
        parts.append(f'<line{kind} x1="{x:.1f}" y1="{HEAD}" x2="{x:.1f}" y2="{bottom}"/>'
                     f'<text x="{x:.1f}" y="{HEAD - 5}" text-anchor="middle">{tick}</text>')
    return parts


def plot(table, field, names):
    bottom = HEAD + ROW * len(table)
    parts = [f'<svg viewBox="0 0 {LEFT + WIDTH + RIGHT} {bottom + 5}" role="img">']
    parts += legend(names) + axis(bottom)
    for number, row in enumerate(table):
        y = HEAD + ROW * number + ROW / 2
        parts.append(f'<text x="0" y="{y + 4}">{html.escape(row["name"])}</text>')
        found = ratios(row, field, names)
        for name in reversed(names):  # pheap on top
            if name in found:
                radius = 6 if name == "pheap" else 4
                parts.append(f'<circle cx="{place(found[name]):.1f}" cy="{y}" r="{radius}" '
                             f'fill="{colour(name)}" fill-opacity="0.85">'
                             f'<title>{name}: {found[name]:.2f}</title></circle>')
    return "\n".join(parts + ["</svg>"])


def numbers(table, field, unit, names):
    lines = [f"<table><tr><th>{unit}</th>" + "".join(f"<th>{n}</th>" for n in names) + "</tr>"]
    for row in table:
        values = {n: row["measured"][n][field] for n in names if n in row["measured"]}
        cells = ""
        for name in names:
            best = name in values and values[name] == min(values.values())
            cells += f'<td{" class=best" if best else ""}>' + (
                f"{values[name]:.3f}" if name in values else "failed") + "</td>"
        lines.append(f"<tr><td>{html.escape(row['name'])}</td>{cells}</tr>")
    return "\n".join(lines + ["</table>"])


def page(document, names):
    about = document["machine"]
    table = document["rows"]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>pheap: make bench'
        f'</title><style>{STYLE}</style></head><body><h1>pheap beside other allocators</h1>',
        f"<p>{html.escape(about['cpu'])}, {about['cpus']} processors, Linux "
        f"{html.escape(about['kernel'])}, pheap {html.escape(about['commit'])}, {about['date']}. "
        f"Median of {document['runs']} interleaved runs, {document['percent']} % of the work, "
        f"load average {about['load']:.1f} at the start. "
        "Number after a name: threads. Left is better; 1 is the best of the peers.</p>"]
    for field, title, unit in (("time", "Time", "s"), ("rss", "Peak memory", "MiB")):
        parts += [f"<h2>{title}, ratio to the best peer</h2>", plot(table, field, names),
                  f"<details><summary>numbers ({unit})</summary>",
                  numbers(table, field, unit, names), "</details>"]
    return "\n".join(parts + ["</body></html>\n"])
