/*
 * The flame graph: what main called is below main. A frame is as wide as the bytes that it and what
 * it called have allocated. Frames of the same function below the same callers are one.
 */
const flame = (() => {
  const ROW = 20, LEAST = 1.5;
  const area = make("div"), box = make("div", {id: "frames", role: "tree", "aria-label": "Flame graph"}, area);
  const detail = make("div", {id: "frame", "aria-live": "polite"});
  const search = make("input", {type: "search", id: "flame-search", placeholder: "Search functions", "aria-label": "Search functions",
    title: "Part of a name, or a regular expression between slashes"});
  const matched = make("span.quiet", {id: "flame-matched", role: "status"});
  const back = make("button", {type: "button", id: "flame-back"}, "Show all");
  let root = null, focus = null, matches = () => false, leading = new Set(), elements = new Map(), key = "bytes";

  const node = (name, parent, frame) => ({name, parent, frame, value: 0, blocks: 0, children: new Map()});
  function childOf(parent, name, frame) {
    let child = parent.children.get(name);
    if (!child) parent.children.set(name, child = node(name, parent, frame));
    return child;
  }
  function build(rows, rest) {
    root = node("all", null, null);
    const add = (at, row) => { at.value += row[key]; at.blocks += row[key === "bytes" ? "blocks" : "blocks_change"]; };
    for (const row of rows) {
      let at = root;
      add(at, row);
      for (const i of [...row.frames].reverse()) {
        const frame = data.frames[i];
        at = childOf(at, frameName(frame), frame);
        add(at, row);
      }
    }
    if (rest) {
      const other = childOf(root, "(" + plural(rest.rows, "smaller stack") + ")", null);
      for (const at of [root, other]) { at.value += rest.bytes; at.blocks += rest.blocks; }
    }
    focus = root;
  }

  /* --- drawing --- */
  function put(at, depth, x, wide, whole, isAbove) {
    const left = 100 * x / whole, element = make("button.frame", {type: "button", tabindex: at === focus ? "0" : "-1", role: "treeitem",
      title: describe(at)}, at.name);
    element.classList.toggle("deep", depth % 2 === 1);
    element.classList.toggle("above", isAbove);
    element.classList.toggle("match", matches(at.name) && at !== root);
    element.classList.toggle("leads", leading.has(at));
    element.style.cssText = "left:" + left + "%;width:calc(" + 100 * wide / whole + "% - 1px);top:" + depth * ROW + "px";
    if (wide < 12) element.style.padding = "0";
    element.onclick = () => zoom(at);
    element.onfocus = () => tell(at);
    element.onpointermove = event => { if (event.movementX || event.movementY) tell(at); }; /* not when frames move below it */
    elements.set(at, element);
    return element;
  }
  /* The node whose element has the keyboard's focus. */
  const focused = () => [...elements].filter(([, element]) => element === document.activeElement).map(([at]) => at)[0];
  function draw() {
    const wide = Math.max(200, box.clientWidth), parts = [], above = [], had = focused();
    elements = new Map();
    for (let at = focus.parent; at; at = at.parent) above.unshift(at);
    above.forEach((at, depth) => parts.push(put(at, depth, 0, wide, wide, true)));
    let deepest = above.length;
    const walk = (at, depth, x, w) => {
      parts.push(put(at, depth, x, w, wide, false));
      deepest = Math.max(deepest, depth);
      for (const child of sorted(at)) {
        const part = w * child.value / at.value;
        if (part >= LEAST) walk(child, depth + 1, x, part);
        x += part;
      }
    };
    walk(focus, above.length, 0, wide);
    area.style.height = (deepest + 1) * ROW + "px";
    area.replaceChildren(...parts);
    if (had) (elements.get(had) || elements.get(focus)).focus();
    box.dataset.focus = focus.name;
    back.disabled = focus === root;
  }
  const sorted = at => [...at.children.values()].sort((a, b) => b.value - a.value);

  /* --- what it says --- */
  const describe = at => at.name + "\n" + size(at.value) + ", " + percent(at.value, root.value);
  function tell(at) {
    detail.replaceChildren(make("b.mono", null, at.name), " ", make("b", {"data-value": at.value, title: count(at.value)}, size(at.value)),
      ", " + percent(at.value, root.value) + (focus !== root ? ", " + percent(at.value, focus.value) + " of " + focus.name : "") +
      ", about " + plural(at.blocks, "block") + (at.frame ? "  " : ""), make("span.quiet", null, at.frame ? framePlace(at.frame) : ""));
  }
  function zoom(at) {
    focus = at;
    draw();
    tell(at);
  }

  /* --- search --- */
  function compile(text) {
    if (!text) return () => false;
    if (text.length > 2 && text.startsWith("/") && text.endsWith("/"))
      try {
        const pattern = new RegExp(text.slice(1, -1), "i");
        return name => pattern.test(name);
      } catch { return () => false; }
    const wanted = text.toLowerCase();
    return name => name.toLowerCase().includes(wanted);
  }
  function find() {
    const text = search.value.trim();
    matches = compile(text);
    /* A frame below one that matches is in its bytes already. */
    leading = new Set();
    const add = at => {
      if (at !== root && matches(at.name)) return at.value;
      const below = [...at.children.values()].reduce((all, child) => all + add(child), 0);
      if (below) leading.add(at);
      return below;
    };
    const bytes = add(root);
    matched.replaceChildren(...(text ? [bytes ? "matches " : "no match ", bytes ? figure("flame-bytes", bytes) : "", bytes ? ", " + percent(bytes, root.value) : ""] : []));
    draw();
  }
  search.oninput = find;
  search.onkeydown = event => { if (event.key === "Escape" && search.value) { search.value = ""; find(); event.preventDefault(); } };
  back.onclick = () => zoom(root);

  box.onkeydown = event => {
    const at = focused();
    if (!at || event.ctrlKey || event.metaKey || event.altKey) return;
    const sisters = at.parent ? sorted(at.parent).filter(each => elements.has(each)) : [at], place = sisters.indexOf(at);
    const next = {ArrowUp: at.parent, ArrowDown: sorted(at).find(each => elements.has(each)), ArrowLeft: sisters[place - 1],
      ArrowRight: sisters[place + 1]};
    if (event.key === "Escape") { if (focus.parent) { zoom(focus.parent); elements.get(focus).focus(); } }
    else if (event.key in next) { if (next[event.key]) elements.get(next[event.key]).focus(); }
    else return;
    event.preventDefault();
  };

  function add(place, sets) {
    let chosen = sets[0][0];
    const show = name => {
      const [, , rows, rest, by] = sets.find(set => set[0] === name);
      key = by || "bytes";
      build(rows, rest);
      find();
      tell(root);
    };
    place.append(make("div.bar", null, sets.length > 1 ? choices("What is shown", sets.map(set => [set[0], set[1]]), chosen, show) : null,
      search, matched, make("span.push", null, back)), box, detail,
    make("p.quiet", null, "Callers at the top; a frame is as wide as the bytes that were allocated in it and below. Click, or Enter, zooms into a " +
      "frame; arrows go from frame to frame; Escape goes back."));
    show(chosen);
    let wide = box.clientWidth;
    new ResizeObserver(() => { if (box.clientWidth !== wide) { wide = box.clientWidth; draw(); } }).observe(box);
  }
  function look(name) {
    search.value = name;
    find();
    byId("flame").scrollIntoView({block: "start"});
    search.focus({preventScroll: true});
  }
  return {add, look};
})();
