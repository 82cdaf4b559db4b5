/* What is in each section. */
const KINDS = {process: "process", heap: "heap", crash: "crash image"};
const shown = data.generations.find(g => g.number === data.shown.number) || {};
const absent = part => data.absent[part];
const missing = (place, text) => place.append(make("p.quiet", null, text));

function tellLeftOut(place, name, what) {
  const rest = data.left_out[name];
  if (rest) place.append(make("p.quiet", null, count(rest.rows) + " " + what + " more are left out of this page."));
}
const stackText = row => framesOf(row).map(frameName).join(" \u2039 ");
function stackList(row) {
  const details = make("details", null, make("summary", null, row.frames.length ? frameName(framesOf(row)[0]) : "none"));
  details.ontoggle = () => {
    if (details.childElementCount > 1) return;
    details.append(make("ol", {start: 0}, ...framesOf(row).map(frame =>
      make("li", null, frameName(frame), " ", make("span.quiet", null, framePlace(frame))))));
    if (row.backtrace_is_whole === false)
      details.append(make("p.quiet", null, "The backtrace ends here: no unwind information, or a file has changed."));
    if (row.registers)
      details.append(make("div.registers", null, ...Object.entries(row.registers).map(([name, value]) => make("span", null, name + " " + value))));
  };
  return details;
}

/* --- overview --- */
function programText() {
  const program = data.program;
  if (program) return "its program runs as pid " + program.outer_pid;
  if (data.shown.is_opened) return "a heap that programs open";
  return {none: "no program so far", started: "its program was killed", ended: "its program has ended"}[data.run_state] || "";
}
function card(name, id, value, write, more) {
  return make("div.card", null, make("div.name", null, name), make("div.figure", null, figure(id, value, write)), make("div.more", null, more || "\u00a0"));
}
function addOverview() {
  const cards = byId("cards"), used = sum(data.slabs, "used_bytes"), totals = heapMap.totals;
  document.title = data.pool + " \u2013 pheap";
  byId("title").textContent = data.pool;
  byId("facts").textContent = "generation " + data.shown.number + (shown.kind ? ", " + (KINDS[shown.kind] || shown.kind) + ", " + moment(shown.time_ns) : "") +
    "; " + programText();
  if (data.slabs)
    cards.append(card("In use", "live-bytes", used, size, plural(data.leaked.blocks_in_use, "block")));
  if (totals)
    cards.append(card("Cached", "cached-bytes", totals.span - totals.used, size, "in spans, not in use"),
      card("Free", "free-bytes", totals.whole - totals.span, size, "of " + size(totals.whole) + " that the heap extends over"));
  if (data.leaked)
    cards.append(card("Nothing points to", "lost-bytes", data.leaked.bytes, size,
      plural(data.leaked.blocks, "block") + ", " + percent(data.leaked.bytes, used) + " of what is in use"));
  if (totals && heapMap.changes.length)
    cards.append(card("Written since generation " + heapMap.changes[0].since, "written-pages", heapMap.changes[0].pages,
      pages => size(pages * PAGE_BYTES), plural(heapMap.changes[0].pages, "page") + " of the heap"));
  cards.append(card("Saved memory", "saved-pages", data.shown.pages, pages => size(pages * PAGE_BYTES), "of the whole " +
    (data.shown.is_opened ? "heap" : "process") + "; pool file " + size(data.file_bytes)));
  for (const [part, text] of Object.entries(data.absent))
    if (part !== "threads" && part !== "mappings") byId("notes").append(make("p.note", null, text));
  if (data.superblock_fell_back)
    byId("notes").append(make("p.note", null, "The newest superblock is torn or damaged: an older state is shown."));
}

/* --- size classes --- */
function addClasses(place) {
  if (!data.slabs) return missing(place, "The heap cannot be walked.");
  const lost = new Map(data.leaks.map(row => [row.block_bytes, row]));
  if (data.slabs.length) addClassChart(place, data.slabs, row => (lost.get(row.block_bytes) || {bytes: 0}).bytes);
  addTable(place, "classes", data.slabs, [
    {key: "block_bytes", title: "block", kind: "bytes", text: blockSize, help: "usable bytes of a block; large: a span of its own"},
    {key: "slabs", title: "slabs", kind: "number"}, {key: "size_bytes", title: "size", kind: "bytes", help: "of all slabs together"},
    {key: "used", title: "used", kind: "number", help: "blocks in use"}, {key: "free", title: "free", kind: "number", help: "blocks that are not"},
    {key: "used_bytes", title: "in use", kind: "bytes"}, {key: "wasted_bytes", title: "not in use", kind: "bytes"},
    {key: "lost", title: "nothing points to", kind: "bytes", value: row => (lost.get(row.block_bytes) || {bytes: 0}).bytes},
    {key: "occupancy_percent", title: "occupancy", kind: "percent", help: "bytes in use of the size"},
    {key: "lowest", title: "lowest", kind: "address"}, {key: "highest", title: "highest", kind: "address"},
  ], "-used_bytes");
}

function addFreeRuns(place) {
  const free = data.heap && data.heap.free_runs;
  if (!free) return;
  place.append(make("h3", null, "Free runs"));
  place.append(make("p", null, figure("free-runs", free.runs, n => plural(n, "run")), " of slices, ", figure("free-run-bytes", free.bytes), "; the largest ",
    figure("largest-run", free.largest_bytes), ". Fragmentation ", figure("fragmentation", free.fragmentation_percent, x => x.toFixed(1) + " %"),
    ": so much of it lies outside the largest."));
  if (free.runs) addTable(place, "orders", free.orders, [
    {key: "order", title: "order", kind: "number"}, {key: "from_bytes", title: "runs from", kind: "bytes", help: "up to less than twice as much"},
    {key: "runs", title: "runs", kind: "number"}, {key: "bytes", title: "free", kind: "bytes"},
    {key: "too_small_percent", title: "in smaller ones", kind: "percent", help: "of what is free: no use to a request of this size"},
  ], "order");
}

/* --- generations --- */
function classGrowth(first, last) {
  const classes = new Map(), known = data.growth.filter(point => point.slabs);
  const of = point => new Map(point.slabs.map(row => [row.block_bytes, row]));
  const tables = known.map(of), was = of(first), is = of(last);
  for (const point of known) for (const row of point.slabs) classes.set(row.block_bytes, null);
  return [...classes.keys()].map(block_bytes => {
    const before = was.get(block_bytes) || {used: 0, used_bytes: 0}, after = is.get(block_bytes) || {used: 0, used_bytes: 0};
    return {block_bytes, blocks: after.used, blocks_change: after.used - before.used, bytes: after.used_bytes,
      bytes_change: after.used_bytes - before.used_bytes, each: tables.map(table => (table.get(block_bytes) || {used_bytes: 0}).used_bytes)};
  });
}
function addGrowth(place) {
  const known = data.growth.filter(point => point.slabs), points = new Map(data.growth.map(point => [point.number, point]));
  const live = row => { const point = points.get(row.number); return point && point.slabs ? sum(point.slabs, "used_bytes") : null; };
  if (data.growth.length) addGrowthChart(place, data.growth);
  addTable(place, "generations", data.generations, [
    {key: "number", title: "number", kind: "number"}, {key: "kind", title: "kind", kind: "text"}, {key: "time_ns", title: "time", kind: "time"},
    {key: "live", title: "in use", kind: "bytes", value: live, help: "bytes in blocks that are in use"},
    {key: "memory", title: "memory", kind: "bytes", value: row => row.pages * PAGE_BYTES, help: "that the generation holds"},
    {key: "written_bytes", title: "written", kind: "bytes", help: "to the pool, for this generation"},
    {key: "pause_ns", title: "pause", kind: "duration"}, {key: "pinned", title: "pinned", kind: "text", value: row => row.pinned ? "pinned" : ""},
  ], "-number");
  if (known.length < 2) return;
  const first = known[0], last = known[known.length - 1];
  place.append(make("h3", null, "From generation " + first.number + " to " + last.number + ", by size class"));
  addTable(place, "class-growth", classGrowth(first, last), [
    {key: "block_bytes", title: "block", kind: "bytes", text: blockSize}, {key: "blocks", title: "blocks", kind: "number"},
    {key: "blocks_change", title: "change", kind: "change"}, {key: "bytes", title: "in use", kind: "bytes"},
    {key: "bytes_change", title: "growth", kind: "growth"},
    {key: "each", title: "each generation", kind: "text", value: row => Math.max(...row.each) - Math.min(...row.each), show: row => sparkOf(row.each)},
  ], "-bytes_change");
}

/* --- stacks --- */
function flameSets() {
  const grown = (data.sites || []).filter(row => row.bytes_change > 0), sets = [["live", "Live", data.profile.stacks, data.left_out.profile]];
  if (data.leaking_stacks && data.leaking_stacks.length)
    sets.push(["lost", "Nothing points to it", data.leaking_stacks, data.left_out.leaking_stacks]);
  if (grown.length) sets.push(["grown", "Grown since generation " + data.sites_since, grown, null, "bytes_change"]);
  return sets;
}
function addStacks(place, list) {
  const profile = data.profile;
  if (!profile) {
    missing(place, absent("profile") || (data.shown.is_opened ? "Heaps that programs open have no profile." : "This program was not profiled. Started with PHEAP_PROFILE=1 its heap remembers which stack allocated what, at most 2 % slower."));
    byId("sites").hidden = true;
    return;
  }
  place.append(make("p", null, "About ", figure("profile-bytes", profile.bytes), " in ", figure("profile-blocks", profile.blocks, count),
    " blocks, estimated from " + plural(profile.samples, "sample") + ", one in " + size(profile.rate_bytes) + " on average" +
    (profile.lost ? "; " + plural(profile.lost, "sample") + " were lost for want of memory" : "") + "."));
  if (profile.stacks.length) flame.add(place, flameSets());
  const grown = new Map((data.sites || []).map(row => [row.frames.join(), row.bytes_change]));
  const columns = [
    {key: "allocated_by", title: "allocated by", kind: "text", show: (row, text) =>
      make("button.link", {type: "button", title: "Look for it in the flame graph", onclick: () => flame.look(text)}, text)},
    {key: "bytes", title: "bytes", kind: "bytes", help: "live, estimated"}, {key: "blocks", title: "blocks", kind: "number", help: "live, estimated"},
    {key: "samples", title: "samples", kind: "number"},
    {key: "growth", title: "growth", kind: "growth", value: row => data.sites ? grown.get(row.frames.join()) || 0 : null,
      help: "since generation " + data.sites_since},
    {key: "stack", title: "stack", kind: "stack", value: stackText, show: stackList},
  ];
  addTable(list, "sites", profile.stacks, data.sites ? columns : columns.filter(c => c.key !== "growth"), "-bytes");
  tellLeftOut(list, "profile", "stacks");
}

/* --- lists --- */
function addLeaks(place) {
  if (!data.leaks) return missing(place, "The heap cannot be walked.");
  place.append(make("p", null, "Nothing points to ", figure("leaked-blocks", data.leaked.blocks, count), " of ",
    figure("blocks-in-use", data.leaked.blocks_in_use, count), " blocks, ", figure("leaked-bytes", data.leaked.bytes), "."));
  addTable(place, "leaks", data.leaks, [
    {key: "block_bytes", title: "block", kind: "bytes", text: blockSize}, {key: "blocks", title: "blocks", kind: "number"},
    {key: "bytes", title: "bytes", kind: "bytes"}, {key: "of_percent", title: "of these in use", kind: "percent"},
    {key: "samples_text", title: "for example", kind: "long", show: row => make("span.mono", null, ...row.samples.flatMap((address, i) =>
      [i ? " " : "", make("button.link", {type: "button", title: "Show it on the map", onclick: () => heapMap.go(address)}, hex(address))]))},
  ], "-bytes");
  if (!data.leaking_stacks || !data.leaking_stacks.length) return;
  place.append(make("h3", null, "Allocated by"));
  addTable(place, "leaking", data.leaking_stacks, [
    {key: "allocated_by", title: "allocated by", kind: "text"}, {key: "bytes", title: "bytes", kind: "bytes", help: "estimated"},
    {key: "blocks", title: "blocks", kind: "number", help: "estimated"}, {key: "samples", title: "samples", kind: "number"},
    {key: "stack", title: "stack", kind: "stack", value: stackText, show: stackList},
  ], "-bytes");
  tellLeftOut(place, "leaking_stacks", "stacks");
}
function addLargest(place) {
  if (!data.largest) return missing(place, "The heap cannot be walked.");
  const columns = [
    {key: "address", title: "address", kind: "address"}, {key: "bytes", title: "bytes", kind: "bytes"},
    {key: "class_bytes", title: "class", kind: "bytes", text: blockSize},
    {key: "reachable", title: "pointed to", kind: "text", value: row => row.reachable ? "yes" : "no"},
    {key: "type", title: "type", kind: "number"}, {key: "allocated_by", title: "allocated by", kind: "long"},
  ];
  addTable(place, "largest", data.largest, columns.filter(c => c.key !== "type" && c.key !== "allocated_by" ||
    data.largest.some(row => row[c.key] !== undefined)), "-bytes");
}
/* Of heaps that programs open. */
function addTypes(place) {
  if (!data.types) return;
  place.hidden = false;
  const first = data.growth[0] && data.growth[0].number < data.shown.number ? data.growth[0].number : null;
  const help = first === null ? undefined : "since generation " + first;
  addTable(place, "types", data.types, [
    {key: "type", title: "type", kind: "number", text: String}, {key: "blocks", title: "objects", kind: "number"},
    {key: "blocks_change", title: "change", kind: "change", help}, {key: "bytes", title: "bytes", kind: "bytes", help: "as asked for"},
    {key: "bytes_change", title: "growth", kind: "growth", help},
  ].filter(c => first !== null || !c.key.endsWith("change")), "-bytes");
  tellLeftOut(place, "types", "types");
}
function addRoots(place) {
  if (!data.roots) return;
  place.hidden = false;
  addTable(place, "roots", data.roots, [
    {key: "root", title: "root", kind: "text"}, {key: "address", title: "address", kind: "address"},
    {key: "type", title: "type", kind: "number", text: String}, {key: "in", title: "in", kind: "long"},
  ], "root");
  tellLeftOut(place, "roots", "roots");
}
function addThreads(place) {
  if (data.shown.is_opened) { place.hidden = true; return; }
  if (!data.threads) return missing(place, absent("threads"));
  addTable(place, "threads", data.threads, [
    {key: "tid", title: "thread", kind: "number", text: String}, {key: "name", title: "name", kind: "text"},
    {key: "state", title: "state", kind: "text"}, {key: "nice", title: "nice", kind: "number"},
    {key: "stack", title: "backtrace", kind: "stack", value: stackText, show: stackList},
  ], "tid");
  tellLeftOut(place, "threads", "threads");
}
function addMappings(place) {
  if (data.shown.is_opened) { place.hidden = true; return; }
  if (!data.mappings) return missing(place, absent("mappings"));
  addTable(place, "mappings", data.mappings, [
    {key: "start", title: "start", kind: "address"}, {key: "end", title: "end", kind: "address"},
    {key: "permissions", title: "permissions", kind: "text"}, {key: "kind", title: "kind", kind: "text"}, {key: "size_bytes", title: "size", kind: "bytes"},
    {key: "saved_pages", title: "saved pages", kind: "number"}, {key: "offset", title: "offset", kind: "number", text: hex},
    {key: "name", title: "name", kind: "long"},
  ], "start");
  tellLeftOut(place, "mappings", "mappings");
}

/* --- all of it --- */
addOverview();
if (data.map) heapMap.add(byId("map"));
else missing(byId("map"), absent("heap") || "The heap cannot be walked.");
addClasses(byId("classes"));
addFreeRuns(byId("classes"));
addGrowth(byId("growth"));
addStacks(byId("flame"), byId("sites"));
addLeaks(byId("leaks"));
addLargest(byId("largest"));
addTypes(byId("types"));
addRoots(byId("roots"));
addThreads(byId("threads"));
addMappings(byId("mappings"));
for (const section of document.querySelectorAll("main section[data-name]:not([hidden])"))
  document.querySelector("nav > div").append(make("a", {href: "#" + section.id}, section.dataset.name));
document.documentElement.dataset.ready = "yes";
