// The document, changed in place: a node that stays keeps its focus, selection and scroll.
// Text from outside only ever becomes a text node.

export const byId = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export const make = (name, attributes = {}, ...children) =>
  build(document.createElement(name), attributes, children);

export const draw = (name, attributes = {}, ...children) =>
  build(document.createElementNS(SVG, name), attributes, children);

/** Set the text of a node, if it is another one. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Set the text of a node in which `commands` stand between backticks. */
export function prose(node, text) {
  if (node.dataset.text === text) return;
  node.dataset.text = text;
  const parts = text.split("`");
  node.replaceChildren(...parts.map((part, n) => (n % 2 ? make("code", {}, part) : part)));
}

/** Set an attribute, if it is another one; null takes it away. */
export function mark(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

const kept = new WeakMap();

/** Keys, of which one that comes again is given another name. */
function distinct(keys) {
  const times = new Map();
  return keys.map((key) => {
    const n = times.get(key) ?? 0;
    times.set(key, n + 1);
    return n ? `${key} (${n})` : key;
  });
}

/** Make the children of `parent` those of `items`, each found again by its key. */
export function children(parent, items, keyOf, create, update) {
  const before = kept.get(parent) ?? new Map();
  const after = new Map();
  const keys = distinct(items.map(keyOf));
  const wanted = new Set(keys);
  for (const [key, node] of before) if (!wanted.has(key)) node.remove();
  let place = parent.firstElementChild;
  for (const [n, item] of items.entries()) {
    const key = keys[n];
    const node = before.get(key) ?? create(item);
    after.set(key, node);
    update(node, item);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  kept.set(parent, after);
}

function cellOf(column) {
  const cell = make(column.head ? "th" : "td", column.head ? { scope: "row" } : {});
  if (column.kind) cell.className = column.kind;
  return cell;
}

function fill(cell, column, item) {
  if (column.paint) column.paint(cell, item);
  else write(cell, column.show(item));
  if (column.hover) mark(cell, "title", column.hover(item) || null);
}

/**
 * Fill the body of a table. A column has `show` (gives text) or `paint` (changes the cell), and
 * may have `head`, `kind` (classes) and `hover`. The foot of the table says that it is empty.
 */
export function rows(table, items, keyOf, columns) {
  const create = () => make("tr", {}, ...columns.map(cellOf));
  children(table.tBodies[0], items, keyOf, create, (row, item) => {
    columns.forEach((column, n) => fill(row.cells[n], column, item));
  });
  if (table.tFoot) table.tFoot.hidden = items.length > 0;
}

/** A mark that says something without its colour: a word in a coloured frame. */
export function badge(cell, text, kind) {
  const inside = cell.firstElementChild ?? cell.appendChild(make("span"));
  mark(inside, "class", `badge ${kind}`);
  write(inside, text);
}

/** A bar from 0 to 1 beside its figure; the figure is what is read out. */
export function bar(cell, part, text, kind = "") {
  if (!cell.firstElementChild) {
    cell.append(make("span", { class: "bar", "aria-hidden": "true" }, make("span")), make("span"));
  }
  const [frame, figure] = cell.children;
  frame.hidden = part === null;
  mark(frame, "class", `bar ${kind}`);
  frame.firstElementChild.style.width = `${100 * Math.min(1, Math.max(0, part ?? 0))}%`;
  write(figure, text);
}
