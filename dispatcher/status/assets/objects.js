// The browser of recent results: a window of rows over a list that may be very long.
//
// As long as nobody has moved in it, it follows the newest. From then on it stands still: it asks
// for results up to the one that was newest, so that rows do not run away under the cursor.

import { get } from "./api.js";
import { badge, byId, make, mark, write } from "./dom.js";
import { NONE, clock, count, dollars, plural, redshift, words } from "./format.js";
import { choices } from "./keys.js";

const PAGE = 100;
const PAGES_KEPT = 60;
const BEYOND = 6; // rows drawn above and below what is seen
const ASK_EVERY_MS = 60;
const ROW_REM = 1.75; // as in the style sheet

const filter = { status: "", search: "" };
let pages = new Map();
let total = 0;
let upto = null; // sequence number of the newest row that is listed; null: follow
let chosen = { index: null, id: null };
let asking = new Map();
let settled = { now: null, listed: null }; // answered events: by the last snapshot, by the list
let chose = () => {};
let drawing = false;
let waiting = null;

const list = () => byId("list");
const rowHeight = () => ROW_REM * parseFloat(getComputedStyle(document.documentElement).fontSize);
const rowAt = (index) => pages.get(Math.floor(index / PAGE))?.[index % PAGE];

function seen() {
  const height = rowHeight();
  const head = byId("list-table").tHead.offsetHeight;
  const first = Math.floor(list().scrollTop / height);
  const fit = Math.ceil((list().clientHeight - head) / height);
  return {
    height,
    head,
    first: Math.min(Math.max(0, first - BEYOND), total),
    last: Math.min(total, first + fit + BEYOND),
  };
}

const COLUMNS = [
  (cell, row) => write(cell, row.object_id ?? row.alert_id),
  (cell, row) => badge(cell, standing(row), KINDS[row.status] ?? "plain"),
  (cell, row) => write(cell, redshift(row.z_median)),
  (cell, row) => write(cell, row.z_median === null ? NONE : halfWidth(row)),
  (cell, row) => write(cell, row.out_of_domain === null ? NONE : row.out_of_domain.toFixed(2)),
  (cell, row) => write(cell, dollars(row.cost_usd)),
  (cell, row) => write(cell, clock(row.t_published)),
];
const KINDS = { ok: "ok", out_of_domain: "attention", rejected: "bad" };
const CLASSES = ["", "", "number", "number less", "number less", "number less", "number less"];

const standing = ({ status, review }) => words(review ? `${status}, ${review}` : status);

const halfWidth = (row) => `± ${redshift((row.z_err68_high - row.z_err68_low) / 2)}`;

function emptyRow() {
  const cells = CLASSES.map((kind, n) => make(n ? "td" : "th", n ? { class: kind } : { scope: "row" }));
  return make("tr", {}, ...cells);
}

function fill(node, index) {
  const row = rowAt(index);
  mark(node, "id", `row-${index}`);
  mark(node, "aria-rowindex", index + 2);
  mark(node, "aria-selected", String(row !== undefined && row.result_id === chosen.id));
  COLUMNS.forEach((paint, n) => {
    if (row) paint(node.cells[n], row);
    else node.cells[n].replaceChildren(n ? "" : "…");
  });
}

function draw() {
  drawing = false;
  const { height, first, last } = seen();
  const body = byId("window");
  while (body.rows.length < last - first) body.append(emptyRow());
  while (body.rows.length > last - first) body.lastElementChild.remove();
  for (let n = 0; n < last - first; n += 1) fill(body.rows[n], first + n);
  byId("above").rows[0].cells[0].style.height = `${first * height}px`;
  byId("below").rows[0].cells[0].style.height = `${(total - last) * height}px`;
  byId("above").hidden = first === 0;
  byId("below").hidden = last === total;
  mark(byId("list-table"), "aria-rowcount", total + 1);
  const drawn = chosen.index !== null && chosen.index >= first && chosen.index < last;
  mark(byId("list-table"), "aria-activedescendant", drawn ? `row-${chosen.index}` : null);
  askSoon();
}

function drawSoon() {
  if (!drawing) requestAnimationFrame(draw);
  drawing = true;
}

function askSoon() {
  waiting ??= setTimeout(() => {
    waiting = null;
    askMissing();
  }, ASK_EVERY_MS);
}

/** Ask for the pages in sight that are not there; take back what is out of sight. */
function askMissing() {
  const { first, last } = seen();
  const from = Math.floor(first / PAGE);
  const to = Math.floor(Math.max(first, last - 1) / PAGE);
  for (const [page, aborting] of asking) if (page < from || page > to) aborting.abort();
  for (let page = from; page <= to && page * PAGE < total; page += 1) {
    if (!pages.has(page) && !asking.has(page)) ask(page);
  }
}

async function ask(page) {
  const aborting = new AbortController();
  const into = pages;
  asking.set(page, aborting);
  try {
    const query = { ...filter, offset: page * PAGE, limit: PAGE, upto };
    const found = await get("results", query, aborting.signal);
    if (into !== pages) return;
    keep(page, found);
  } catch {
    // Out of sight by now, or no answer: the headline says so, and the next snapshot asks again.
  } finally {
    if (asking.get(page) === aborting) asking.delete(page);
  }
}

function keep(page, found) {
  pages.delete(page);
  pages.set(page, found.results);
  if (pages.size > PAGES_KEPT) pages.delete(pages.keys().next().value);
  total = found.total;
  tell();
  drawSoon();
  if (chosen.index !== null && chosen.id === null && rowAt(chosen.index)) choose(chosen.index);
}

/** Look at the newest again, from the top. */
async function refresh() {
  const into = (pages = new Map(pages));
  const answered = settled.now;
  try {
    const found = await get("results", { ...filter, offset: 0, limit: PAGE });
    if (into !== pages || upto !== null) return;
    pages = new Map();
    settled.listed = answered;
    keep(0, found);
  } catch {
    settled.listed = null; // the next snapshot asks again
  }
}

function follow() {
  upto = null;
  chosen = { index: null, id: chosen.id };
  list().scrollTop = 0;
  refresh();
}

/** From now on rows stay where they are. */
function standStill() {
  if (upto !== null || !pages.get(0)?.length) return;
  upto = pages.get(0)[0].seq;
  tell();
}

function tell() {
  const what = filter.status || filter.search ? "match" : "kept";
  write(byId("objects-count"), `${plural(total, "result")} ${what}`);
  const newer = upto === null ? 0 : Math.max(0, settled.now - settled.listed);
  byId("follow").hidden = upto === null;
  write(byId("follow"), newer ? `Follow the newest (${count(newer)} more)` : "Follow the newest");
}

/** Choose the row at a place of the list, and bring it into sight. */
function choose(index) {
  standStill();
  const at = Math.min(Math.max(0, index), total - 1);
  const row = at < 0 ? undefined : rowAt(at);
  chosen = { index: at < 0 ? null : at, id: row?.result_id ?? null };
  const { height, head } = seen();
  const room = list().clientHeight - head;
  const top = at * height;
  if (top < list().scrollTop) list().scrollTop = top;
  else if (top + height > list().scrollTop + room) list().scrollTop = top + height - room;
  drawSoon();
  if (row) chose(row.result_id);
}

function filtered() {
  filter.status = byId("filter-status").value;
  filter.search = byId("filter-search").value.trim();
  pages = new Map();
  total = 0;
  follow();
}

/** Be told of the latest snapshot: new results are asked for only when there are some. */
export function objects({ books }) {
  settled.now = books.written + books.not_applicable;
  if (upto === null && settled.now !== settled.listed) refresh();
  else askSoon();
  tell();
}

/** `chosen(result_id)`: show this object. */
export function begin(show) {
  chose = show;
  let typing = null;
  byId("filter-status").onchange = filtered;
  byId("filter-search").oninput = () => {
    clearTimeout(typing);
    typing = setTimeout(filtered, 250);
  };
  byId("follow").onclick = follow;
  list().addEventListener("scroll", () => {
    if (list().scrollTop > 0) standStill();
    drawSoon();
  }, { passive: true });
  byId("window").onclick = (event) => {
    const row = event.target.closest("tr");
    if (row) choose(row.getAttribute("aria-rowindex") - 2);
  };
  const page = () => Math.max(1, Math.floor(list().clientHeight / rowHeight()) - 2);
  choices(byId("list-table"), { at: () => chosen.index, last: () => total - 1, page, choose });
  new ResizeObserver(drawSoon).observe(list());
}
