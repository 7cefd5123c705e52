// Charts: paths in a square of 100 that is stretched; each says in words what it shows.

import { byId, mark, rows, write } from "./dom.js";
import { NONE, count, rate, redshift, seconds } from "./format.js";

const SECONDS = 300;
const AT_LEAST_S = 60;

const path = (id, kind, d) => mark(byId(id).querySelector(`.${kind}`), "d", d);
const polyline = (points) => points.map(([x, y]) => `${x.toFixed(2)} ${y.toFixed(2)}`).join("L");
const filled = (points, floor = 100) =>
  points.length
    ? `M${points[0][0].toFixed(2)} ${floor}L${polyline(points)}L${points.at(-1)[0].toFixed(2)} ${floor}Z`
    : "";
const open = (points) => (points.length ? `M${polyline(points)}` : "");

/** A round figure at or above `value`: the top of an axis. */
export function roundUp(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 5, 7.5, 10].find((step) => step * power >= value) * power;
}

/** Events settled in each second: what was written, and on top of it the other answers. */
export function rateChart(perSecond, now) {
  const known = perSecond.filter(({ t }) => now - t <= SECONDS);
  const most = roundUp(Math.max(1, ...known.map((each) => each.written + each.other)));
  const age = known.length ? now - known[0].t : 0;
  const span = Math.min(SECONDS, Math.max(AT_LEAST_S, age));
  const at = (t, n) => [Math.max(0, 300 * (1 - (now - t) / span)), 100 - (94 * n) / most];
  const written = known.map((each) => at(each.t, each.written));
  path("rate-chart", "other", filled(known.map((each) => at(each.t, each.written + each.other))));
  path("rate-chart", "area", filled(written));
  path("rate-chart", "line", open(written));
  write(byId("rate-top"), `${count(most)}/s`);
  write(byId("rate-first"), `${seconds(span)} ago`);
  const figures = known.map((each) => each.written);
  const mean = figures.reduce((sum, n) => sum + n, 0) / Math.max(1, figures.length);
  write(
    byId("rate-chart-desc"),
    figures.length
      ? `Written: ${rate(mean)} a second on average, ${count(Math.min(...figures))} at least, ` +
          `${count(Math.max(...figures))} at most, in ${count(figures.length)} seconds.`
      : "Nothing yet.",
  );
}

/** Corners of the steps of a histogram, over the whole width. */
function steps(edges, heights, most) {
  const width = edges.at(-1) - edges[0];
  const x = (z) => (100 * (z - edges[0])) / width;
  const y = (n) => 100 - (94 * n) / most;
  return heights.flatMap((n, i) => [[x(edges[i]), y(n)], [x(edges[i + 1]), y(n)]]);
}

/**
 * Redshifts of the night, filled, against the reference, dashed.
 *
 * Bins may be of any width: the height is estimates by redshift, so that areas are estimates.
 */
export function redshiftChart({ edges, night, reference }) {
  const dense = (counts) => counts.map((n, i) => n / Math.max(1e-9, edges[i + 1] - edges[i]));
  const expected = dense(reference ?? []);
  const most = Math.max(1, ...dense(night), ...expected);
  path("z-chart", "area", filled(steps(edges, dense(night), most)));
  path("z-chart", "reference", open(steps(edges, expected, most)));
  write(byId("z-top"), "estimates by redshift");
  write(byId("z-first"), `z = ${edges[0].toFixed(2)}`);
  write(byId("z-last"), edges.at(-1).toFixed(2));
  write(byId("z-chart-desc"), described(edges, night, dense(night)));
  const bins = night.map((n, i) => ({ i, n, expected: reference ? reference[i] : null }));
  rows(byId("z-table"), bins, ({ i }) => i, [
    { head: true, show: ({ i }) => `${edges[i].toFixed(3)} to ${edges[i + 1].toFixed(3)}` },
    { kind: "number", show: ({ n }) => count(n) },
    { kind: "number", show: (each) => (each.expected === null ? NONE : each.expected.toFixed(1)) },
  ]);
}

function described(edges, night, dense) {
  const total = night.reduce((sum, n) => sum + n, 0);
  if (!total) return "No estimate yet.";
  const peak = dense.indexOf(Math.max(...dense));
  return (
    `${count(total)} estimates, most dense between ${redshift(edges[peak])} and ` +
    `${redshift(edges[peak + 1])}. The table below has every bin.`
  );
}

/** p(z) around the estimate, with its intervals of 68 and 95 %. */
export function densityChart({ z, p }, record) {
  const spread = record.z_err95_high - record.z_err95_low;
  const first = Math.max(z[0], record.z_err95_low - spread);
  const last = Math.min(z.at(-1), record.z_err95_high + spread);
  const most = Math.max(...p);
  const x = (value) => (100 * (value - first)) / (last - first);
  const y = (value) => 100 - (92 * value) / most;
  const between = (low, high) => curve(z, p, low, high).map(([a, b]) => [x(a), y(b)]);
  path("pz-chart", "wide95", filled(between(record.z_err95_low, record.z_err95_high)));
  path("pz-chart", "wide68", filled(between(record.z_err68_low, record.z_err68_high)));
  path("pz-chart", "line", open(between(first, last)));
  path("pz-chart", "median", `M${x(record.z_median).toFixed(2)} 100V2`);
  write(byId("pz-first"), `z = ${first.toFixed(3)}`);
  write(byId("pz-last"), last.toFixed(3));
  write(byId("pz-top"), "p(z)");
  write(
    byId("pz-chart-desc"),
    `Median ${redshift(record.z_median)}; 68 % between ${redshift(record.z_err68_low)} and ` +
      `${redshift(record.z_err68_high)}; 95 % between ${redshift(record.z_err95_low)} and ` +
      `${redshift(record.z_err95_high)}.`,
  );
}

/** The curve between two redshifts, its ends interpolated. */
function curve(z, p, low, high) {
  const at = (value) => {
    const right = z.findIndex((each) => each >= value);
    if (right <= 0) return right ? p.at(-1) : p[0];
    const part = (value - z[right - 1]) / (z[right] - z[right - 1]);
    return p[right - 1] + part * (p[right] - p[right - 1]);
  };
  const inside = z.map((each, i) => [each, p[i]]).filter(([each]) => each > low && each < high);
  return [[low, at(low)], ...inside, [high, at(high)]];
}
