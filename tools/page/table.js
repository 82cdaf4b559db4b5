/*
 * Tables. A column is {key, title, kind, help}; kind: text, long, number, bytes, change, growth,
 * address, percent, time, duration, or show: (row) => element or text of its own, with value: (row)
 * what it is sorted by. Rows are shown by the hundred.
 */
const TABLE_STEP = 100;

function cellValue(row, column) {
  const value = column.value ? column.value(row) : row[column.key];
  return value === undefined ? null : value;
}
function cellText(row, column) {
  const value = cellValue(row, column);
  if (column.text) return column.text(value, row);
  if (value === null) return "\u2013";
  switch (column.kind) {
  case "number": return count(value);
  case "bytes": return size(value);
  case "change": return signed(value, count);
  case "growth": return signed(value, size);
  case "address": return hex(value);
  case "percent": return value.toFixed(1) + " %";
  case "time": return moment(value);
  case "duration": return duration(value);
  default: return String(value);
  }
}
/* Null comes last, whichever way. */
function compareBy(column, down) {
  return (a, b) => {
    const x = cellValue(a, column), y = cellValue(b, column);
    if (x === null || y === null) return (x === null) - (y === null);
    const order = typeof x === "string" ? x.localeCompare(y) : x - y;
    return down ? -order : order;
  };
}

/* Words that must all be in the row; "bytes>64k" compares a column. */
const COMPARISON = /^([^<>=]+)(<=|>=|<|>|=)(0x[0-9a-f]+|[0-9.]+)([kmgt]?)(?:ib)?$/;
const squeezed = text => text.toLowerCase().replace(/[^a-z0-9]/g, "");
function conditionOf(word, columns) {
  const parts = COMPARISON.exec(word);
  const column = parts && columns.find(c => squeezed(c.title) === squeezed(parts[1]) || c.key === parts[1]);
  if (!column) return row => row.text.includes(word);
  const limit = Number(parts[3]) * 1024 ** " kmgt".indexOf(parts[4] || " ");
  return row => {
    const value = cellValue(row.row, column);
    if (value === null) return false;
    switch (parts[2]) {
    case "<": return value < limit;
    case ">": return value > limit;
    case "<=": return value <= limit;
    case ">=": return value >= limit;
    default: return value === limit;
    }
  };
}

function fillCell(cell, row, column) {
  const value = cellValue(row, column), text = cellText(row, column);
  if (typeof value === "number") {
    cell.dataset.value = value;
    if (text !== String(value) && column.kind !== "address") cell.title = column.kind === "percent" ? value : count(value);
  } else if (typeof value === "string") {
    cell.dataset.value = value;
  }
  if (column.show) cell.append(column.show(row, text));
  else if (column.kind === "address" && value !== null && heapMap.holds(value))
    cell.append(make("button.link", {type: "button", title: "Show it on the map", onclick: () => heapMap.go(value)}, text));
  else cell.append(text);
  if (column.kind === "percent" && value !== null)
    cell.append(make("span.meter", {"aria-hidden": "true"},
      make("span", {style: "width:" + Math.min(100, Math.max(0, value)) + "%"})));
}

/* Adds a table to `place`. order: the key that it is sorted by at first, with "-" in front: downwards. */
function addTable(place, name, rows, columns, order) {
  const body = make("tbody"), head = make("tr"), status = make("span.quiet", {"aria-live": "polite"});
  const more = make("button", {type: "button"}), filter = make("input", {type: "search", placeholder: "Filter",
    "aria-label": "Filter " + name, title: "Words that must all be there; or a comparison, as bytes>64k", id: name + "-filter"});
  let sorted = order && order.replace("-", ""), down = order && order.startsWith("-"), shown = TABLE_STEP, found = [];
  let texts = null; /* made when something is first looked for */

  function select() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(word => word);
    if (words.length && !texts)
      texts = rows.map(row => ({row, text: columns.map(c => cellText(row, c) + " " + cellValue(row, c)).join(" ").toLowerCase()}));
    const conditions = words.map(word => conditionOf(word, columns));
    found = words.length ? texts.filter(t => conditions.every(holds => holds(t))).map(t => t.row) : [...rows];
    const column = columns.find(c => c.key === sorted);
    if (column) found.sort(compareBy(column, down));
  }
  function draw() {
    const part = found.slice(0, shown);
    body.replaceChildren(...part.map(row => {
      const line = make("tr");
      for (const column of columns) {
        const cell = make("td", {"class": column.kind === "long" ? "text long" : column.kind});
        fillCell(cell, row, column);
        line.append(cell);
      }
      line.append(make("td.rest")); /* what is left of the width */
      return line;
    }));
    if (!part.length)
      body.append(make("tr", null, make("td.empty.text", {colspan: columns.length}, rows.length ? "Nothing matches." : "None.")));
    status.textContent = (found.length === rows.length ? "" : count(found.length) + " of ") + plural(rows.length, "row");
    rest.hidden = shown >= found.length;
    more.textContent = "Show " + count(Math.min(found.length - shown, 10 * TABLE_STEP)) + " more";
    for (const cell of head.children)
      if (cell.dataset.key && cell.dataset.key === sorted) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
  }
  function change() {
    shown = TABLE_STEP;
    select();
    draw();
  }
  for (const column of columns)
    head.append(make("th", {"class": column.kind === "long" ? "text" : column.kind, "data-key": column.key, scope: "col"},
      make("button", {type: "button", title: column.help, onclick: () => {
        const isText = ["text", "long", "stack", "address"].includes(column.kind);
        down = sorted === column.key ? !down : !isText;
        sorted = column.key;
        change();
      }}, column.title)));
  head.append(make("th.rest"));
  more.onclick = () => { shown += 10 * TABLE_STEP; draw(); };
  filter.oninput = change;
  const rest = make("div.bar", null, more);
  place.append(make("div.bar", null, filter, status),
    make("div.scroll", {tabindex: "0", role: "region", "aria-label": name},
      make("table", {id: name + "-table"}, make("thead", null, head), body)),
    rest);
  change();
  return {filterBy: text => { filter.value = text; change(); }};
}
