/* The data, how it is written, and making elements. */
const data = JSON.parse(document.getElementById("data").textContent);
const PAGE_BYTES = 4096;
const byId = id => document.getElementById(id);

const hex = n => "0x" + n.toString(16);
const count = n => n.toLocaleString("en-US");
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
function size(n) {
  let i = 0, part = Math.abs(n);
  for (; part >= 1024 && i + 1 < UNITS.length; i++) part /= 1024;
  return (n < 0 ? "\u2212" : "") + part.toFixed(i ? 1 : 0) + " " + UNITS[i];
}
const signed = (n, write) => (n > 0 ? "+" : n < 0 ? "\u2212" : "") + write(Math.abs(n));
const percent = (part, whole) => (whole ? 100 * part / whole : 0).toFixed(1) + " %";
const plural = (n, one, many) => count(n) + " " + (n === 1 ? one : many || one + "s");
function duration(ns) {
  for (const [unit, each] of [["s", 1e9], ["ms", 1e6], ["\u00b5s", 1e3]])
    if (ns >= each) return (ns / each).toFixed(1) + " " + unit;
  return ns + " ns";
}
function moment(ns) {
  const t = new Date(ns / 1e6), two = n => String(n).padStart(2, "0");
  return t.getFullYear() + "-" + two(t.getMonth() + 1) + "-" + two(t.getDate()) + " " +
    two(t.getHours()) + ":" + two(t.getMinutes()) + ":" + two(t.getSeconds());
}
const blockSize = n => n === null || n === undefined ? "large" : size(n);
const sum = (rows, key) => (rows || []).reduce((total, row) => total + (row[key] || 0), 0);

/* make("p.quiet", {title: ...}, "text", element, ...): children are text or elements, never markup. */
function make(kind, attributes, ...children) {
  const [tag, ...classes] = kind.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes || {}))
    if (name.startsWith("on")) element[name] = value;
    else if (value !== undefined && value !== null) element.setAttribute(name, value);
  element.append(...children.filter(child => child !== null && child !== undefined));
  return element;
}
/* A figure that may be rounded; data-value is the exact one. */
const figure = (id, value, write = size) =>
  make("span", {id, "data-value": value, title: count(value)}, write(value));

/* A run-length list (page_data.h) as an array of numbers. */
function expand(runs, length) {
  const out = new Float64Array(length);
  let at = 0, last = 0;
  for (const n of runs)
    if (n >= 0) out[at++] = last = n;
    else { out.fill(last, at, at - n); at -= n; }
  return out;
}

/* Frames */
function frameName(frame) {
  if (frame.function) return frame.function;
  if (frame.module) return frame.module.slice(frame.module.lastIndexOf("/") + 1) + "+" + hex(frame.offset);
  return frame.pc;
}
const framePlace = frame => frame.file ? frame.file + ":" + frame.line : frame.module || "";
const framesOf = row => row.frames.map(i => data.frames[i]);

/* One of several choices: a row of buttons. choose(value) is called on a change. */
function choices(label, list, chosen, choose) {
  const group = make("span.group", {role: "group", "aria-label": label});
  for (const [value, text] of list)
    group.append(make("button", {type: "button", "data-choice": value, "aria-pressed": String(value === chosen),
      onclick: event => {
        for (const button of group.children) button.setAttribute("aria-pressed", "false");
        event.currentTarget.setAttribute("aria-pressed", "true");
        choose(value);
      }}, text));
  return group;
}
