/* Bars. Each has beside it a table with its figures. */
function barOf(parts, most, tip) {
  const bar = make("div", {title: tip});
  for (const [name, bytes] of parts)
    if (bytes > 0) bar.append(make("div.part." + name, {style: "height:" + Math.max(.6, 100 * bytes / most) + "%"}));
  return bar;
}

/* Bytes of spans by size class: unused at the top, in use, and what nothing points to. */
function addClassChart(place, rows, lostOf) {
  const most = Math.max(1, ...rows.map(row => row.size_bytes)), every = Math.ceil(rows.length / 20);
  const bars = make("div.columns", {role: "img", "aria-label": "Bytes of spans by size class; the table has the figures"});
  const labels = make("div.labels", {"aria-hidden": "true"});
  rows.forEach((row, i) => {
    const lost = lostOf(row), text = row.block_bytes === null ? "large" : size(row.block_bytes).replace(/\.0 /, " ");
    bars.append(barOf([["cached", row.size_bytes - row.used_bytes], ["used", row.used_bytes - lost], ["lost", lost]], most,
      (row.block_bytes === null ? "large blocks" : "blocks of " + count(row.block_bytes) + " B") + ": " + size(row.used_bytes) + " in use of " +
      size(row.size_bytes) + (lost ? ", nothing points to " + size(lost) : "")));
    labels.append(make("span", null, i % every === 0 || i === rows.length - 1 ? make("span", null, text) : ""));
  });
  place.append(make("div.legend", null, make("span", null, make("span.key.used"), "in use"), make("span", null, make("span.key.lost"),
    "nothing points to it"), make("span", null, make("span.key.cached"), "cached"),
    make("span.quiet", null, "the highest bar is " + size(most))), bars, labels);
}

/* A bar a generation. */
function addGrowthChart(place, points) {
  const known = points.filter(point => point.slabs), most = Math.max(1, ...known.map(point => sum(point.slabs, "size_bytes")));
  const bars = make("div.columns", {role: "img", "aria-label": "Bytes of the heap by generation; the table has the figures"});
  const labels = make("div.labels", {"aria-hidden": "true"});
  for (const point of points) {
    const used = sum(point.slabs, "used_bytes"), whole = sum(point.slabs, "size_bytes");
    const bar = barOf([["cached", .86 * (whole - used)], ["used", .86 * used]], most, point.problem ||
      "generation " + point.number + ": " + size(used) + " in use, " + size(whole) + " in spans");
    bar.prepend(make("div.top", null, point.slabs ? size(used) : "?"));
    bars.append(bar);
    labels.append(make("span", null, make("span", null, (point.number === data.shown.number ? "\u25b8 " : "") + point.number, make("br"),
      moment(point.time_ns).slice(11))));
  }
  place.append(make("div.legend", null, make("span", null, make("span.key.used"), "in use"), make("span", null, make("span.key.cached"), "cached")),
    bars, labels);
}

function sparkOf(numbers) {
  const most = Math.max(1, ...numbers);
  return make("span.spark", {"aria-hidden": "true"}, ...numbers.map(n => make("span", {style: "height:" + 100 * n / most + "%"})));
}
