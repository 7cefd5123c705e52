// The queue of estimates that a person looks at before, or after, they are published.

import { get } from "./api.js";
import { act, say } from "./dialog.js";
import { byId, make, rows, write } from "./dom.js";
import { NONE, count, plural, redshift, soon, words } from "./format.js";

const AT_ONCE = 20;
const NAME = "lookback-name";
const POLICIES = {
  off: "Off: every estimate is published without a look (review.policy).",
  mark: "Estimates that a rule picks are published at once and marked for a look.",
  hold: "Estimates that a rule picks wait here for a person before they are published.",
};

let offset = 0;
let counts = null;
let latest = null;
let choose = () => {};

const DECISIONS = {
  approve: ["Approve", "It is published, with your name and note in the record."],
  reject: ["Reject", "It is published without a redshift, with your name and note in the record."],
  annotate: ["Note", "Your note is kept with it; it goes on waiting."],
};

async function decide(item, decision) {
  const [verb, text] = DECISIONS[decision];
  const done = await act({
    title: `${verb}: ${item.row?.object_id ?? item.result_id}`,
    text,
    verb,
    fields: [
      { name: "by", label: "Your name", value: sessionStorage.getItem(NAME) ?? "", required: true },
      { name: "note", label: "Note", value: item.note ?? "", required: decision === "annotate" },
    ],
    path: `review/${encodeURIComponent(item.result_id)}`,
    body: ({ by, note }) => {
      sessionStorage.setItem(NAME, by);
      return { decision, by, note };
    },
  });
  if (done) await load();
}

function buttons(cell, item) {
  if (!cell.firstElementChild) {
    const names = ["Show", ...Object.values(DECISIONS).map(([verb]) => verb)];
    cell.append(...names.map((name) => make("button", { type: "button" }, name)));
    cell.className = "tools";
  }
  const name = item.row?.object_id ?? item.result_id;
  const [look, ...decisions] = cell.children;
  look.setAttribute("aria-label", `Show ${name}`);
  look.onclick = () => choose(item.result_id);
  Object.keys(DECISIONS).forEach((decision, n) => {
    const button = decisions[n];
    button.setAttribute("aria-label", `${DECISIONS[decision][0]} ${name}`);
    button.hidden = item.state !== "waiting";
    button.disabled = !latest.run.actions; // also after the end of a run
    button.onclick = () => decide(item, decision);
  });
}

function estimate({ row }) {
  if (!row || row.z_median === null) return NONE;
  const half = (row.z_err68_high - row.z_err68_low) / 2;
  return `${redshift(row.z_median)} ± ${redshift(half)}`;
}

const noted = ({ by, note }) => [by, note].filter(Boolean).join(": ") || NONE;

function show({ total, items }) {
  rows(byId("review-table"), items, (each) => each.result_id, [
    { head: true, show: ({ row, result_id: id }) => row?.object_id ?? row?.alert_id ?? id },
    { kind: "number", show: estimate },
    { kind: "prose", show: ({ rules }) => rules.map(words).join(", ") || NONE },
    { show: ({ t_held: since }) => soon(since, latest.run.now) },
    { kind: "prose", show: noted },
    { paint: buttons },
  ]);
  const last = offset + items.length;
  write(byId("review-count"), total ? `${count(offset + 1)} to ${count(last)} of ${count(total)}` : "");
  byId("review-back").hidden = offset === 0;
  byId("review-on").hidden = last >= total;
}

async function load() {
  try {
    show(await get("review", { state: byId("review-state").value, offset, limit: AT_ONCE }));
  } catch (error) {
    counts = null; // asked again with the next snapshot
    if (error.status) say(error.message, true);
  }
}

function turn(pages) {
  offset = Math.max(0, offset + pages * AT_ONCE);
  return load();
}

/** Show the counts; ask for the queue again when they change. */
export function review(snapshot) {
  latest = snapshot;
  const { policy, waiting, approved, rejected } = snapshot.review;
  const figures = `${plural(waiting, "estimate")} waiting, ${count(approved)} approved, ${count(rejected)} rejected.`;
  const empty = waiting + approved + rejected === 0;
  write(byId("review-policy"), policy === "off" && empty ? POLICIES.off : `${POLICIES[policy]} ${figures}`);
  byId("review-queue").hidden = policy === "off" && empty;
  const now = `${waiting} ${approved} ${rejected} ${snapshot.run.actions}`;
  if (now === counts || byId("review-queue").hidden) return;
  counts = now;
  load();
}

/** `chosen(result_id)`: show this object. */
export function begin(chosen) {
  choose = chosen;
  byId("review-back").onclick = () => turn(-1);
  byId("review-on").onclick = () => turn(1);
  byId("review-state").onchange = () => {
    offset = 0;
    load();
  };
}
