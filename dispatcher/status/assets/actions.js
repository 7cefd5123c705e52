// What a person can do from here; the dispatcher decides whether they may.

import { act } from "./dialog.js";
import { badge, byId, children, make, prose, rows, write } from "./dom.js";
import { count, plural, words } from "./format.js";

let latest = null;

const accounts = ({ windows }) => [...new Set(["total", ...windows.map((each) => each.account)])];

function pause() {
  return act({
    title: "Pause the lane?",
    text: "Nothing more is taken from the source. What is in flight goes on to the sinks.",
    verb: "Pause",
    path: "pause",
    body: () => ({}),
  });
}

function resume() {
  return act({
    title: "Resume the lane?",
    text: "Events are taken from the source again.",
    verb: "Resume",
    path: "resume",
    body: () => ({}),
  });
}

function freeze() {
  return act({
    title: "Freeze spending?",
    text: "No call leaves that costs this account something. What has left is paid.",
    verb: "Freeze",
    fields: [{ name: "account", label: "Account", options: accounts(latest.money) }],
    path: "freeze",
    body: ({ account }) => ({ account }),
  });
}

function thaw() {
  return act({
    title: "Thaw spending?",
    text: "Calls leave again, as far as the caps allow.",
    verb: "Thaw",
    fields: [{ name: "account", label: "Account", options: latest.money.frozen }],
    path: "thaw",
    body: ({ account }) => ({ account }),
  });
}

const yesterday = (now) => new Date(1000 * (now - 86400)).toISOString().slice(0, 10);

function replay() {
  return act({
    title: "Replay a night?",
    text: "Its events are answered again, behind the live ones, and marked archival.",
    verb: "Replay",
    fields: [
      { name: "on", label: "Night (UTC date)", kind: "date", value: yesterday(latest.run.now), required: true },
      { name: "purse", label: "At most, in US dollars", kind: "money", value: "1.00", required: true },
    ],
    path: "replay",
    body: ({ on, purse }) => ({ on, purse_usd: purse }),
  });
}

function redrive({ reason = null, class: kind = null, count: n }) {
  const which = reason === null ? "" : `: ${reason}`;
  return act({
    title: "Redrive dead letters?",
    text: `${plural(n, "event")} are sent through again${which}. Mend the cause first, or they come back.`,
    verb: "Redrive",
    path: "redrive",
    body: () => ({
      classes: kind === null ? [] : [kind],
      reasons: reason === null ? [] : [reason],
      places: [],
    }),
  });
}

function redriveButton(cell, each) {
  const button = cell.firstElementChild ?? cell.appendChild(make("button", { type: "button" }, "Redrive"));
  button.setAttribute("aria-label", `Redrive: ${each.reason}`);
  button.disabled = whyNot(latest.run) !== null;
  button.onclick = () => redrive(each);
}

function letters({ dead_letters: { held, by_reason: reasons, advice } }) {
  write(byId("letters-held"), count(held));
  rows(byId("letters-table"), reasons, (each) => `${each.class} ${each.reason}`, [
    { head: true, kind: "prose", show: (each) => each.reason },
    { show: (each) => words(each.class) },
    { kind: "number", show: (each) => count(each.count) },
    { kind: "prose", paint: (cell, each) => prose(cell, advice[each.class] ?? "") },
    { paint: redriveButton },
  ]);
}

const ENDINGS = { running: "attention", done: "ok", failed: "bad" };

function errands({ errands }) {
  const create = () =>
    make("li", {}, make("b"), make("span", { class: "what" }), make("progress"), make("span"));
  const key = ({ kind, title }) => `${kind} ${title}`;
  children(byId("errands"), errands, key, create, (node, each) => {
    const [state, title, progress, message] = node.children;
    badge(state, each.state, ENDINGS[each.state]);
    write(title, each.title);
    progress.hidden = each.state !== "running" || !each.of;
    progress.max = each.of || 1;
    progress.value = each.settled ?? 0;
    progress.setAttribute("aria-label", each.title);
    const figures = each.of ? `${count(each.settled)} of ${count(each.of)}` : count(each.settled);
    write(message, each.message ? `${figures}. ${each.message}` : figures);
  });
  byId("no-errands").hidden = errands.length > 0;
}

/** Why nothing can be done from here; null if it can. */
export function whyNot({ actions: allowed, state }) {
  if (state === "ended") return "The run is over: `lookback` on the command line goes on from here.";
  if (allowed) return null;
  return (
    "Actions are off: this page only shows. To switch them on, set `status.token` in the " +
    "settings (or `LOOKBACK_STATUS__TOKEN`) and start again."
  );
}

/** Buttons as the run allows them. */
export function actions(snapshot) {
  latest = snapshot;
  const { run, money, dead_letters: dead } = snapshot;
  const paused = run.state === "paused";
  const why = whyNot(run);
  for (const button of document.querySelectorAll("[data-action]")) button.disabled = why !== null;
  byId("no-actions").hidden = why === null;
  prose(byId("no-actions"), why ?? "");
  byId("pause").hidden = paused;
  byId("resume").hidden = !paused;
  byId("thaw").hidden = money.frozen.length === 0;
  byId("redrive").hidden = dead.held === 0;
  letters(snapshot);
  errands(snapshot);
}

export function begin() {
  const buttons = { pause, resume, freeze, thaw, replay };
  for (const [id, action] of Object.entries(buttons)) byId(id).onclick = action;
  byId("redrive").onclick = () => redrive({ count: latest.dead_letters.held });
}
