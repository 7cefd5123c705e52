// The one sentence that a tired person reads first.

import { count, plural, rate, seconds, sentence, words } from "./format.js";

const GLYPHS = { ok: "●", attention: "▲", bad: "■", waiting: "○" };

/** Whether something that should move does not. */
function standsStill({ held, rates, lanes }) {
  // Workers that have a batch are at work, however long it takes them.
  const atWork = held.by === "workers" && lanes.some((each) => each.at_workers > 0);
  const waits = !["nothing", "company", "pause"].includes(held.by) && !atWork;
  return waits && rates.estimates_per_s === 0;
}

function doing(snapshot) {
  const { run, books, held } = snapshot;
  if (run.state === "ended") return `Ended. ${plural(books.written, "redshift")} written`;
  if (run.state === "stopping") return `Stopping: ${plural(books.in_flight, "event")} to settle`;
  if (run.state === "paused") return "Paused by a person";
  if (standsStill(snapshot)) {
    return `Standing still: ${words(held.by)}${held.why ? `. ${held.why}` : ""}`;
  }
  return "Running";
}

/** What it is now, without figures, so that it is only read out when it changes. */
function state(snapshot) {
  const { books, incidents, health } = snapshot;
  const open = incidents.filter((each) => each.open).length;
  return [
    doing(snapshot),
    books.balanced ? "Books balance" : "The books do not balance",
    ...(open ? [`${plural(open, "incident")} open`] : []),
    ...(health.live ? [] : ["The consume loop does not answer"]),
  ].map(sentence);
}

/** `kind` of the colour, the sentence with its figures, and the part to read out. */
export function headline(snapshot) {
  const { run, books, rates, incidents, health } = snapshot;
  const parts = state(snapshot);
  const moving = run.state === "running" && !standsStill(snapshot);
  const figures = moving ? [`${rate(rates.estimates_per_s)} redshifts/s.`] : [];
  if (run.state !== "ended" && books.in_flight > 0) {
    figures.push(`Oldest event ${seconds(snapshot.oldest_s)}.`);
  }
  const wrong = !books.balanced || !health.live;
  const heed = incidents.some((each) => each.open) || run.state === "paused" || !health.ready;
  const kind = wrong ? "bad" : heed || standsStill(snapshot) ? "attention" : "ok";
  return { kind, glyph: GLYPHS[kind], text: [...parts, ...figures].join(" "), aloud: parts.join(" ") };
}

/** Who, what and since when, in small letters. */
export function facts({ run }) {
  const parts = [
    run.source,
    `lane ${run.lane}`,
    `run ${run.id}`,
    `up ${seconds(run.now - run.started)}`,
    `version ${run.version}`,
  ];
  return parts.filter(Boolean).join(" · ");
}

/** The title of the tab: seen when the page is not. */
export function tabTitle(kind, { incidents, rates }) {
  const open = incidents.filter((each) => each.open).length;
  const what = open ? `${count(open)} open` : `${rate(rates.estimates_per_s)}/s`;
  return `${GLYPHS[kind]} ${what} · Lookback`;
}
