/*
 * The map: cells in rows of a power of two, so that addresses of rows are round. Seen through a
 * window that zooms: `zoom`, and (left, top) of what is seen in pixels of the whole.
 */
const heapMap = (() => {
  const map = data.map;
  if (!map) return {holds: () => false, go() {}, add() {}};

  const cells = map.cells;
  const used = expand(map.used, cells), lost = expand(map.lost, cells), span = expand(map.span, cells);
  const blockBytes = expand(map.block_bytes, cells), pages = expand(map.pages, cells);
  const changes = map.changes.map(change => ({since: change.since, pages: expand(change.pages, cells)}));
  const total = numbers => numbers.reduce((all, n) => all + n, 0);
  const totals = {used: total(used), lost: total(lost), span: total(span), whole: map.end - map.start, pages: total(pages)};
  const cellBytes = i => i < cells - 1 ? map.cell_bytes : map.end - map.start - (cells - 1) * map.cell_bytes;

  const GUTTER = 124, CELL_MOST = 240, DETAIL_LEAST = 7;
  const canvas = make("canvas", {id: "map-canvas", tabindex: "0", role: "application",
    "aria-label": "Map of the heap. Arrows move from cell to cell, plus and minus zoom, 0 shows all.", "aria-describedby": "cell"});
  const pen = canvas.getContext("2d"), detail = make("div", {id: "cell", "aria-live": "polite"});
  const legend = make("div.legend");
  let columns = 1, rows = 1, width = 1, height = 1, cellWidth = 1, cellHeight = 1;
  let zoom = 1, left = 0, top = 0, mode = "contents", chosen = -1, colours = {}, painted = null;

  /* --- colours --- */
  const parse = text => [1, 3, 5].map(i => parseInt(text.trim().slice(i, i + 2), 16));
  const mix = (a, b, part) => a.map((c, i) => c + (b[i] - c) * part);
  const css = colour => "rgb(" + colour.map(Math.round) + ")";
  function readColours() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ["free", "cached", "used", "lost", "same", "written", "small", "middle", "large", "surface", "ink", "quiet"])
      colours[name] = parse(style.getPropertyValue("--" + name));
    painted = null;
  }
  /* 16 bytes to 64 KiB by their logarithm; a block that is a span of its own is the last. */
  function sizeColour(bytes) {
    const part = bytes === 1 ? 1 : Math.min(1, Math.max(0, (Math.log2(bytes) - 4) / 13));
    return part < .5 ? mix(colours.small, colours.middle, 2 * part) : mix(colours.middle, colours.large, 2 * part - 1);
  }
  /* Of a cell with several: mixed by their parts; what nothing points to is never drowned. */
  function contentsColour(i) {
    const bytes = cellBytes(i);
    let colour = mix(colours.free, colours.cached, (span[i] - used[i]) / Math.max(1, bytes - used[i]));
    colour = mix(colour, colours.used, used[i] / bytes);
    return lost[i] ? mix(colour, colours.lost, Math.max(.35, lost[i] / bytes)) : colour;
  }
  function colourOf(i) {
    if (mode === "contents") return contentsColour(i);
    if (mode === "sizes") return blockBytes[i] ? mix(colours.free, sizeColour(blockBytes[i]), .25 + .75 * used[i] / cellBytes(i)) : colours.free;
    const change = changes[mode].pages[i];
    return change ? mix(colours.same, colours.written, .3 + .7 * change / Math.max(1, pages[i]))
      : pages[i] ? colours.same : mix(colours.surface, colours.same, .35);
  }

  /* --- drawing --- */
  function layout() {
    const ratio = window.devicePixelRatio || 1;
    width = Math.max(200, canvas.clientWidth) - GUTTER;
    let best = Infinity;
    const tall = Math.min(440, Math.max(180, window.innerHeight * .55));
    for (let wide = 1; wide <= 2 * cells; wide *= 2) {
      const shape = Math.abs(Math.log((width / wide) / (tall / Math.ceil(cells / wide))));
      if (shape < best) { best = shape; columns = wide; }
    }
    rows = Math.ceil(cells / columns);
    cellWidth = width / columns;
    cellHeight = Math.min(tall / rows, Math.max(1.5 * cellWidth, 6));
    height = rows * cellHeight;
    canvas.width = Math.round((width + GUTTER) * ratio);
    canvas.height = Math.round((height + 2) * ratio);
    canvas.style.height = height + 2 + "px";
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    move(left, top);
  }
  function move(x, y) {
    left = Math.min(Math.max(0, x), width * zoom - width);
    top = Math.min(Math.max(0, y), height * zoom - height);
    draw();
  }
  function drawParts(i, x, y, w, h) {
    const bytes = cellBytes(i), parts = [["lost", lost[i]], ["used", used[i] - lost[i]], ["cached", span[i] - used[i]]];
    pen.fillStyle = css(colours.free);
    pen.fillRect(x, y, w, h);
    for (const [name, part] of parts) {
      if (!part) continue;
      const wide = Math.max(1, w * part / bytes);
      pen.fillStyle = css(colours[name]);
      pen.fillRect(x, y, wide, h);
      x += w * part / bytes;
    }
  }
  function drawRow(row, first, last) {
    const y = Math.round(row * cellHeight * zoom - top), tall = Math.round((row + 1) * cellHeight * zoom - top) - y;
    const isWide = cellWidth * zoom >= DETAIL_LEAST && cellHeight * zoom >= 4, gap = isWide ? 1 : 0;
    for (let column = first; column <= last; ) {
      const i = row * columns + column;
      if (i >= cells) return;
      let end = column + 1;
      const colour = painted[i] || (painted[i] = css(colourOf(i)));
      if (!isWide)
        while (end <= last && row * columns + end < cells &&
               (painted[i + end - column] || (painted[i + end - column] = css(colourOf(i + end - column)))) === colour) end++;
      const x = Math.round(column * cellWidth * zoom - left), wide = Math.round(end * cellWidth * zoom - left) - x;
      if (isWide && mode === "contents") {
        drawParts(i, GUTTER + x, y, wide - gap, tall - gap);
      } else {
        pen.fillStyle = colour;
        pen.fillRect(GUTTER + x, y, wide - gap, tall - gap);
      }
      column = end;
    }
  }
  function drawAddresses(first, last) {
    pen.fillStyle = css(colours.surface);
    pen.fillRect(0, 0, GUTTER, height + 2);
    pen.fillStyle = css(colours.quiet);
    pen.font = "11px ui-monospace, 'DejaVu Sans Mono', monospace";
    pen.textBaseline = "middle";
    let step = 1;
    while (step * cellHeight * zoom < 15) step *= 2;
    for (let row = first - first % step; row <= last; row += step) {
      const y = Math.max(row === 0 ? 6 : 0, (row + .5) * cellHeight * zoom) - top;
      if (y >= 5 && y <= height - 4) pen.fillText(hex(map.start + row * columns * map.cell_bytes), 0, y);
    }
  }
  function draw() {
    if (!painted) painted = new Array(cells);
    const first = Math.max(0, Math.floor(top / (cellHeight * zoom)));
    const last = Math.min(rows - 1, Math.floor((top + height) / (cellHeight * zoom)));
    const from = Math.max(0, Math.floor(left / (cellWidth * zoom)));
    const to = Math.min(columns - 1, Math.floor((left + width) / (cellWidth * zoom)));
    pen.fillStyle = css(colours.surface);
    pen.fillRect(0, 0, width + GUTTER, height + 2);
    for (let row = first; row <= last; row++) drawRow(row, from, to);
    if (chosen >= 0) {
      const x = GUTTER + (chosen % columns) * cellWidth * zoom - left, y = Math.floor(chosen / columns) * cellHeight * zoom - top;
      pen.strokeStyle = css(colours.ink);
      pen.lineWidth = 2;
      pen.strokeRect(x - 1, y - 1, Math.max(3, cellWidth * zoom + 1), Math.max(3, cellHeight * zoom + 1));
    }
    drawAddresses(first, last);
    canvas.dataset.zoom = zoom.toFixed(2);
    canvas.dataset.chosen = chosen;
  }

  /* --- what is seen --- */
  function zoomTo(wanted, x, y) {
    const next = Math.min(Math.max(1, CELL_MOST / cellWidth), Math.max(1, wanted));
    const newLeft = (left + x) * next / zoom - x, newTop = (top + y) * next / zoom - y;
    zoom = next;
    move(newLeft, newTop);
  }
  const zoomMiddle = factor => zoomTo(zoom * factor, width / 2, height / 2);
  function cellAt(x, y) {
    const column = Math.floor((x - GUTTER + left) / (cellWidth * zoom)), row = Math.floor((y + top) / (cellHeight * zoom));
    const i = row * columns + column;
    return x >= GUTTER && column >= 0 && column < columns && row >= 0 && i < cells ? i : -1;
  }
  const part = (i, name, bytes) => bytes ? make("span", null, make("span.key." + name), name === "lost" ? "nothing points to " :
    name === "used" ? "in use " : name + " ", make("b", {"data-part": name, "data-value": bytes, title: count(bytes)}, size(bytes))) : null;
  function tell(i) {
    if (i < 0) {
      detail.replaceChildren(make("span.quiet", null, "Point at a cell, or give the map the focus and use the arrows."));
      return;
    }
    const start = map.start + i * map.cell_bytes, bytes = cellBytes(i), kind = blockBytes[i];
    detail.replaceChildren(
      make("div", null, make("b.mono", null, hex(start) + " \u2013 " + hex(start + bytes)), make("span.quiet", null, "  a cell of " + size(bytes) +
        (kind > 1 ? ", its first block in use has " + size(kind) : kind ? ", its first block in use is a span of its own" : ""))),
      make("div.legend", null, part(i, "used", used[i]), part(i, "lost", lost[i]), part(i, "cached", span[i] - used[i]),
        part(i, "free", bytes - span[i]), make("span", null, plural(pages[i], "page") + " saved" +
          changes.map(c => ", " + count(c.pages[i]) + " written since generation " + c.since).join(""))));
  }
  function choose(i, isSeen) {
    chosen = Math.max(0, Math.min(cells - 1, i));
    if (isSeen) {
      const x = (chosen % columns) * cellWidth * zoom, y = Math.floor(chosen / columns) * cellHeight * zoom;
      left = Math.min(x, Math.max(left, x + cellWidth * zoom - width));
      top = Math.min(y, Math.max(top, y + cellHeight * zoom - height));
    }
    move(left, top);
    tell(chosen);
  }
  const holds = address => address >= map.start && address < map.end;
  function go(address) {
    const i = Math.floor((address - map.start) / map.cell_bytes);
    zoom = Math.max(zoom, Math.min(24 / cellWidth, CELL_MOST / cellWidth), 1);
    left = (i % columns + .5) * cellWidth * zoom - width / 2;
    top = (Math.floor(i / columns) + .5) * cellHeight * zoom - height / 2;
    choose(i, false);
    byId("map").scrollIntoView({block: "start"});
    canvas.focus({preventScroll: true});
  }

  /* --- mouse and keys --- */
  let dragged = null;
  canvas.onwheel = event => {
    if (!event.ctrlKey && document.activeElement !== canvas) return; /* the page scrolls */
    event.preventDefault();
    zoomTo(zoom * (event.deltaY < 0 ? 1.25 : .8), event.offsetX - GUTTER, event.offsetY);
  };
  canvas.onpointerdown = event => {
    dragged = {x: event.clientX, y: event.clientY, left, top, moved: false};
    canvas.setPointerCapture(event.pointerId);
  };
  canvas.onpointermove = event => {
    if (dragged) {
      const x = event.clientX - dragged.x, y = event.clientY - dragged.y;
      dragged.moved = dragged.moved || Math.abs(x) + Math.abs(y) > 3;
      if (dragged.moved) move(dragged.left - x, dragged.top - y);
    } else {
      const i = cellAt(event.offsetX, event.offsetY);
      tell(i < 0 ? chosen : i);
    }
  };
  canvas.onpointerup = event => {
    const i = cellAt(event.offsetX, event.offsetY);
    if (dragged && !dragged.moved && i >= 0) choose(i, false);
    dragged = null;
  };
  canvas.onpointercancel = () => { dragged = null; };
  canvas.onpointerleave = () => tell(chosen);
  canvas.ondblclick = event => zoomTo(zoom * 3, event.offsetX - GUTTER, event.offsetY);
  canvas.onkeydown = event => {
    const steps = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns,
      PageUp: -8 * columns, PageDown: 8 * columns, Home: -cells, End: cells};
    const centre = () => chosen < 0 ? [width / 2, height / 2] : [(chosen % columns + .5) * cellWidth * zoom - left,
      (Math.floor(chosen / columns) + .5) * cellHeight * zoom - top];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in steps) choose(chosen < 0 ? 0 : chosen + steps[event.key], true);
    else if (event.key === "+" || event.key === "=") zoomTo(zoom * 1.5, ...centre());
    else if (event.key === "-") zoomTo(zoom / 1.5, ...centre());
    else if (event.key === "0" || event.key === "Escape") fit();
    else return;
    event.preventDefault();
  };
  function fit() { zoom = 1; move(0, 0); }

  /* --- what stands around it --- */
  const item = (name, text, bytes) => make("span", null, make("span.key." + name), text + " ",
    figure("map-" + name, bytes), " ", make("span.quiet", null, percent(bytes, totals.whole)));
  function showLegend() {
    const ramp = (...names) => make("span.ramp", {style: "background:linear-gradient(90deg," + names.map(n => "var(--" + n + ")") + ")"});
    if (mode === "contents")
      legend.replaceChildren(item("used", "in use", totals.used), item("lost", "of these, nothing points to", totals.lost),
        item("cached", "cached: in spans, not in use", totals.span - totals.used), item("free", "free", totals.whole - totals.span));
    else if (mode === "sizes")
      legend.replaceChildren(make("span", null, "blocks of 16 B", ramp("small", "middle", "large"), "64 KiB and more"),
        make("span.quiet", null, "by a cell's first block in use; pale: few of its bytes are in use"));
    else
      legend.replaceChildren(make("span", null, "no page written", ramp("same", "written"), "all written"),
        make("span", null, figure("map-written", total(changes[mode].pages), count), " of ", figure("map-pages", totals.pages, count),
          " pages of " + size(PAGE_BYTES) + " written since generation " + changes[mode].since));
  }
  function setMode(wanted) {
    mode = wanted;
    painted = null;
    showLegend();
    draw();
  }
  function add(place) {
    const address = make("input", {type: "text", id: "map-address", placeholder: "0x\u2026", "aria-label": "Go to an address", size: 18});
    const answer = make("span.quiet", {role: "status"});
    const modes = [["contents", "Contents"], ["sizes", "Block sizes"],
      ...changes.map((change, i) => [i, "Written since generation " + change.since])];
    address.style.width = "13em";
    address.onkeydown = event => {
      if (event.key !== "Enter") return;
      const wanted = Number(address.value.trim());
      answer.textContent = holds(wanted) ? "" : "Not in the heap: " + hex(map.start) + " to " + hex(map.end);
      if (holds(wanted)) go(wanted);
    };
    place.append(
      make("div.bar", null, choices("What the colours mean", modes, mode, setMode),
        make("span.push", null, answer), address, make("span.group", {role: "group", "aria-label": "Zoom"},
          make("button", {type: "button", id: "zoom-out", "aria-label": "Zoom out", onclick: () => zoomMiddle(1 / 1.6)}, "\u2212"),
          make("button", {type: "button", id: "zoom-in", "aria-label": "Zoom in", onclick: () => zoomMiddle(1.6)}, "+"),
          make("button", {type: "button", id: "zoom-fit", onclick: fit}, "All"))),
      legend, make("div", {style: "margin-top:8px"}, canvas), detail,
      make("p.quiet", null, plural(cells, "cell") + " of " + size(map.cell_bytes) + ", in the order of addresses. Click or focus it: " +
        "then the wheel zooms (elsewhere: with Ctrl), dragging moves, arrows go from cell to cell, + \u2212 0 zoom."));
    readColours();
    showLegend();
    tell(-1);
    layout();
    new ResizeObserver(() => { if (Math.round(canvas.clientWidth) !== Math.round(width + GUTTER)) layout(); }).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").onchange = () => { readColours(); draw(); };
  }
  return {holds, go, add, totals, changes: changes.map(change => ({since: change.since, pages: total(change.pages)}))};
})();
