// The panels of the flow: each shows one part of the snapshot.

import { redshiftChart, rateChart } from "./charts.js";
import { badge, bar, byId, children, make, mark, rows, write } from "./dom.js";
import {
  NONE, clock, count, mebibytes, moment, plural, rate, seconds, sentence, share, told, words,
} from "./format.js";

const TERMS = ["received", "written", "duplicate", "filtered", "not_applicable", "dead", "in_flight"];

function term(name, n) {
  const sign = n === 0 ? "" : n === 1 ? "=" : "+";
  const node = make("li", {}, make("i", { "aria-hidden": "true" }, sign), make("strong"));
  node.append(" ", make("span", {}, words(name)));
  return node;
}

export function books({ books }) {
  const terms = TERMS.map((name, n) => ({ name, n }));
  children(byId("books"), terms, ({ name }) => name, ({ name, n }) => term(name, n), (node, { name }) => {
    write(node.querySelector("strong"), count(books[name]));
    node.classList.toggle("zero", books[name] === 0);
  });
  const sum = TERMS.slice(1).reduce((total, name) => total + books[name], 0);
  write(
    byId("balance"),
    books.balanced
      ? "✓ The books balance: every event that came is accounted for."
      : `✗ The books do not balance: ${count(books.received)} came, ${count(sum)} are accounted ` +
          "for. Run lookback reconcile.",
  );
  mark(byId("balance"), "class", `verdict ${books.balanced ? "ok" : "bad"}`);
}

const HOLDERS = {
  workers: "all workers have work",
  money: "no money is free",
  guard: "the guard has stopped the spending",
  sinks: "a sink takes no rows",
  live: "live goes first",
  company: "a batch waits to be filled",
  pause: "a person has paused the lane",
};

/** Who holds the stream back in a good night, too. */
const USUAL = new Set(["workers", "company", "live"]);

/** Who holds the stream back, in a sentence. */
export const holdup = (by, why) => `${words(by)}: ${why ?? HOLDERS[by] ?? "no reason given"}`;

export function stages({ stages, held, credit }) {
  const create = () => make("li", {}, make("strong"), " ", make("span"), make("em"));
  children(byId("stages"), stages, (each) => each.stage, create, (node, { stage, items }) => {
    const holds = held.by !== "nothing" && held.stage === stage;
    write(node.querySelector("strong"), count(items));
    write(node.querySelector("span"), stage);
    write(node.querySelector("em"), holds ? `held by ${words(held.by)}` : "");
    node.classList.toggle("holds", holds);
    node.classList.toggle("halts", holds && !USUAL.has(held.by));
  });
  const free = held.by === "nothing";
  write(
    byId("held"),
    (free ? "Nothing holds the stream back." : sentence(`held back by ${holdup(held.by, held.why)}`)) +
      (held.source_held_s > 0 ? ` The source has waited ${seconds(held.source_held_s)} so far.` : ""),
  );
  write(
    byId("credit"),
    `In flight: ${count(credit.items)} of at most ${plural(credit.max_items, "event")}, ` +
      `${mebibytes(credit.bytes)} of ${mebibytes(credit.max_bytes)} MiB.`,
  );
}

export function rates({ rates, run }) {
  write(byId("rate-now"), rate(rates.estimates_per_s));
  rateChart(rates.per_second, run.now);
}

export function latency({ latency, oldest_s: oldest }) {
  const { p50_s: half, p98_s: most, objective_s: objective } = latency;
  const lines = [["half of them below", half], ["98 % below", most]];
  rows(byId("latency-table"), lines, ([name]) => name, [
    { head: true, show: ([name]) => name },
    { kind: "number", show: ([, s]) => seconds(s) },
    {
      paint: (cell, [, s]) => {
        const part = s === null || !objective ? null : s / objective;
        bar(cell, part, share(part), part > 1 ? "bad" : "");
      },
    },
  ]);
  const kept = most === null || most <= objective;
  write(
    byId("objective"),
    most === null
      ? `The objective is ${seconds(objective)}; nothing is written yet.`
      : `${kept ? "✓ Within" : "✗ Above"} the objective of ${seconds(objective)}.`,
  );
  mark(byId("objective"), "class", `verdict ${kept ? "ok" : "bad"}`);
  write(byId("oldest"), seconds(oldest));
}

export function partitions({ partitions }) {
  rows(byId("partitions-table"), partitions, (each) => `${each.source} ${each.partition}`, [
    { head: true, show: (each) => each.partition, hover: (each) => each.source },
    { kind: "number", show: (each) => `${rate(each.rate_per_s)}/s` },
    { kind: "number", show: (each) => count(each.waiting) },
    { kind: "number", show: (each) => seconds(each.behind_s) },
    { kind: "number", show: (each) => seconds(each.oldest_s) },
    { kind: "number", show: (each) => count(each.in_flight) },
    { kind: "number", show: (each) => count(each.received) },
    { kind: "number", show: (each) => count(each.settled) },
    {
      paint: (cell, { balanced }) =>
        badge(cell, balanced ? "balance" : "do not balance", balanced ? "ok" : "bad"),
    },
  ]);
}

export function lanes({ lanes, groups, workers }) {
  rows(byId("lanes-table"), lanes, (each) => each.lane, [
    { head: true, show: (each) => each.lane },
    { kind: "number", show: (each) => count(each.waiting) },
    { kind: "number", show: (each) => count(each.at_workers) },
    { kind: "number", show: (each) => seconds(each.oldest_s) },
    { kind: "number", show: (each) => count(each.calls) },
    { kind: "number", show: (each) => count(each.batch_items) },
    {
      kind: "prose",
      show: ({ held_by: by, why }) => (!by || by === "nothing" ? "nothing" : holdup(by, why)),
    },
  ]);
  write(byId("workers"), workerSentence(workers));
  write(byId("groups-count"), `${plural(groups.length, "group")} at work`);
  rows(byId("groups-table"), groups, (each) => each.group, [
    { head: true, show: (each) => each.group },
    { show: (each) => each.lane },
    { kind: "number", show: (each) => count(each.ranks) },
    { kind: "number", show: (each) => count(each.items) },
    { kind: "number", show: (each) => seconds(each.since_s) },
  ]);
}

function workerSentence({ limit, in_use: used, most, refused_calls: refused, lost }) {
  const limits = limit === most ? "" : `, ${count(most)} by the settings`;
  const refusals = refused ? ` The platform has refused ${plural(refused, "call")}.` : "";
  const losses = lost ? ` ${plural(lost, "worker")} lost in this run.` : "";
  return `${count(used)} of ${plural(limit, "worker")} in use${limits}.${refusals}${losses}`;
}

const CIRCUIT = { closed: ["takes rows", "ok"], open: ["takes none", "bad"], half_open: ["is tried", "attention"] };

export function sinks({ sinks }) {
  rows(byId("sinks-table"), sinks, (each) => each.name, [
    { head: true, show: ({ name, required }) => (required ? name : `${name}, optional`) },
    { paint: (cell, { state }) => badge(cell, ...(CIRCUIT[state] ?? [words(state), "attention"])) },
    { kind: "number", show: (each) => count(each.written) },
    { kind: "number", show: (each) => count(each.waiting) },
    { kind: "number", show: (each) => count(each.dropped) },
    { kind: "prose", show: (each) => each.error ?? NONE },
  ]);
}

export function science({ redshifts, drift, run }) {
  if (redshifts.edges.length) redshiftChart(redshifts);
  const alarmed = drift.alarm.length > 0;
  write(
    byId("drift-alarm"),
    alarmed
      ? `▲ The stream has drifted from the reference: ${drift.alarm.map(words).join(", ")}.`
      : "✓ No drift from the reference.",
  );
  mark(byId("drift-alarm"), "class", `verdict ${alarmed ? "attention" : "ok"}`);
  const remarks = [
    { flag: "not estimated: out of domain", share: drift.out_of_domain_share },
    ...drift.flags.filter((each) => each.share > 0),
  ];
  rows(byId("flags-table"), remarks, (each) => each.flag, [
    { head: true, show: (each) => words(each.flag) },
    { paint: (cell, each) => bar(cell, each.share, share(each.share)) },
  ]);
  const { name, version, weights_sha256: weights, calibration_id: calibration } = run.model;
  write(
    byId("model"),
    `Model ${name} ${version}, weights ${weights.slice(0, 12)}, ` +
      (calibration ? `p(z) calibrated by ${calibration}.` : "p(z) as the model gives it."),
  );
}

export function log({ log }) {
  const newest = [...log].sort((a, b) => b.when - a.when);
  const key = ({ when, event, facts }) => `${when} ${event} ${JSON.stringify(facts)}`;
  rows(byId("log-table"), newest, key, [
    { head: true, show: ({ when }) => clock(when), hover: ({ when }) => moment(when) },
    { paint: (cell, { level }) => badge(cell, level, level === "warning" ? "attention" : "bad") },
    { kind: "prose", show: ({ event }) => event },
    { kind: "prose quiet", show: ({ facts }) => told(facts) || NONE },
  ]);
}
