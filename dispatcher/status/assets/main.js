// The status page: asks the dispatcher every second and shows what it says.
//
// Figures that are not fresh are never shown as if they were: when no answer comes, the page says
// since when, and greys them.

import * as actions from "./actions.js";
import { get } from "./api.js";
import * as dialog from "./dialog.js";
import { byId, mark, write } from "./dom.js";
import { clock, seconds } from "./format.js";
import { facts, headline, tabTitle } from "./headline.js";
import { incidents } from "./incidents.js";
import { scrollable } from "./keys.js";
import { money } from "./money.js";
import { showObject } from "./object.js";
import * as objects from "./objects.js";
import * as panels from "./panels.js";
import * as review from "./review.js";

const EVERY_MS = 1000;
const HIDDEN_EVERY_MS = 2000;
const STALE_MS = 3500;
const TICK_MS = 500;

const PARTS = [
  head,
  incidents,
  actions.actions,
  panels.books,
  panels.stages,
  panels.rates,
  panels.latency,
  panels.partitions,
  money,
  panels.lanes,
  panels.sinks,
  panels.science,
  review.review,
  objects.objects,
  panels.log,
];

let answeredAt = null; // monotonic, ms
let lastAnswer = null; // the dispatcher's own time, unix seconds
let failing = false;
let next = null; // the timer of the next question; null while one is asked

function head(snapshot) {
  const { kind, glyph, text, aloud } = headline(snapshot);
  byId("simulated").hidden = !snapshot.run.simulated;
  write(byId("facts"), facts(snapshot));
  write(byId("glyph"), glyph);
  write(byId("sentence"), text);
  write(byId("announce"), aloud);
  mark(document.body, "data-kind", kind);
  document.title = tabTitle(kind, snapshot);
}

function show(snapshot) {
  for (const part of PARTS) part(snapshot);
}

/** Say since when nothing is heard; grey what is old. */
function staleness() {
  const silent = performance.now() - (answeredAt ?? 0);
  const stale = failing || (answeredAt !== null && silent > STALE_MS);
  mark(document.body, "data-stale", stale ? "yes" : null);
  byId("away").hidden = !stale;
  if (!stale) return;
  const text = lastAnswer
    ? `The dispatcher has not answered since ${clock(lastAnswer)} UTC (${seconds(silent / 1000)}). All ` +
      "figures are from then. It may have ended, or hang: see its log and its process."
    : "The dispatcher does not answer. See whether it runs, and on which port.";
  write(byId("away"), text);
  write(byId("announce"), "The dispatcher does not answer. All figures are old.");
  document.title = "■ no answer · Lookback";
}

/** The latest snapshot; null when there is no answer. */
async function ask() {
  try {
    const snapshot = await get("status");
    answeredAt = performance.now();
    lastAnswer = snapshot.run.now;
    failing = false;
    return snapshot;
  } catch {
    failing = true;
    return null;
  }
}

async function poll() {
  const begun = performance.now();
  next = null;
  const snapshot = await ask();
  const every = document.hidden ? HIDDEN_EVERY_MS : EVERY_MS;
  next = setTimeout(poll, Math.max(0, every - (performance.now() - begun)));
  if (snapshot) show(snapshot);
  staleness();
}

function showElsewhere(id) {
  showObject(id);
  byId("object").scrollIntoView({ block: "nearest" });
}

/** Ask now, so that a person sees at once what an action did. */
function hurry() {
  if (next === null) return; // it is being asked already
  clearTimeout(next);
  poll();
}

dialog.begin(hurry);
actions.begin();
review.begin(showElsewhere);
objects.begin(showObject);
scrollable(document.querySelectorAll(".scroll"));
setInterval(staleness, TICK_MS);
poll();
