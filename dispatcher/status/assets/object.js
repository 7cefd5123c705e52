// One object: its stamp, its p(z), the verdict, where it came from and what it cost.

import { get } from "./api.js";
import { densityChart } from "./charts.js";
import { byId, make, write } from "./dom.js";
import { NONE, dollars, moment, redshift, seconds, sentence, words } from "./format.js";
import { stampInto } from "./stamp.js";

let asking = null;

const degrees = (value) => `${value.toFixed(5)}°`;
const interval = (low, high) => (low === null ? NONE : `${redshift(low)} to ${redshift(high)}`);
const joined = (...parts) => parts.filter((part) => part !== null && part !== undefined && part !== "").join(" ");

function cost({ cost_usd_pico: pico }) {
  return pico === null || pico === undefined ? "no call was made for it" : dollars(Number(pico) / 1e12);
}

function host({ host_id: id, host_sep_arcsec: away, host_prob: likely }) {
  if (id === null) return "none was named";
  const distance = away === null ? "" : `, ${away.toFixed(2)}″ away`;
  return `${id}${distance}${likely === null ? "" : `, probability ${likely.toFixed(2)}`}`;
}

function reviewed(record) {
  if (!record.review) return "not asked for";
  const by = record.review_by ? ` by ${record.review_by}` : "";
  const note = record.review_note ? `: ${record.review_note}` : "";
  return `${record.review}${by}${note}`;
}

const GROUPS = {
  Verdict: ({ record, quality }) => ({
    Status: words(record.status),
    Redshift: redshift(record.z_median),
    "68 %": interval(record.z_err68_low, record.z_err68_high),
    "95 %": interval(record.z_err95_low, record.z_err95_high),
    "Mean, mode": `${redshift(record.z_mean)}, ${redshift(record.z_mode)}`,
    Quality: quality.length ? quality.map(words).join(", ") : "nothing to remark",
    "Out of domain": record.out_of_domain === null ? NONE : record.out_of_domain.toFixed(3),
    Review: reviewed(record),
  }),
  Object: ({ record }) => ({
    Survey: record.survey,
    Alert: record.alert_id,
    Object: record.object_id ?? NONE,
    Position: `${degrees(record.ra)} ${degrees(record.dec)} (ICRS)`,
    "Seen (MJD, TAI)": record.midpoint_mjd_tai?.toFixed(5) ?? NONE,
    Host: host(record),
    "Redshift of": `the ${record.z_target}, ${record.z_measure}`,
  }),
  Provenance: ({ record }) => ({
    Model: joined(record.model_name, record.model_version),
    Weights: `sha256 ${record.weights_sha256.slice(0, 16)}…`,
    Calibration: record.calibration_id ?? "none",
    "Source position": `${record.src_topic} / ${record.src_partition} / ${record.src_offset}`,
    Schema: record.src_schema_id ?? NONE,
    Pixels: record.input_ref ?? NONE,
    "Bands observed": record.bands_used ?? NONE,
    Run: `${record.run_id} (${record.tense})`,
  }),
  "Times and cost": ({ record }) => ({
    "From the source": moment(record.t_broker_in),
    Answered: after(record.t_inferred, record.t_broker_in),
    Published: after(record.t_published, record.t_broker_in),
    Cost: cost(record),
  }),
};

const after = (when, from) => (when === null ? NONE : `${moment(when)} (after ${seconds(when - from)})`);

const definitions = (pairs) =>
  Object.entries(pairs).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]);

function verdict({ record }) {
  if (record.z_median === null) {
    return `No redshift: ${sentence(joined(words(record.status), record.reason && `(${record.reason})`))}`;
  }
  const half = (record.z_err68_high - record.z_err68_low) / 2;
  return `z = ${redshift(record.z_median)} ± ${redshift(half)} (68 %)`;
}

function show(found) {
  const { record, pz, stamp } = found;
  write(byId("object-title"), record.object_id ?? `${record.survey} ${record.alert_id}`);
  write(byId("object-verdict"), verdict(found));
  byId("stamp").hidden = !stamp;
  byId("no-stamp").hidden = Boolean(stamp);
  if (stamp) stampInto(byId("stamp"), stamp, record.bands_used);
  byId("pz").hidden = !pz || record.z_median === null;
  if (!byId("pz").hidden) densityChart(pz, record);
  byId("object-facts").replaceChildren(
    ...Object.entries(GROUPS).map(([name, facts]) =>
      make("section", {}, make("h4", {}, name), make("dl", {}, ...definitions(facts(found)))),
    ),
  );
  byId("object-all").replaceChildren(...definitions(record));
  byId("object-body").hidden = false;
}

/** Ask for an object and show it; the latest that was asked for wins. */
export async function showObject(id) {
  asking?.abort();
  const mine = (asking = new AbortController());
  byId("object").setAttribute("aria-busy", "true");
  try {
    show(await get(`results/${encodeURIComponent(id)}`, {}, mine.signal));
  } catch (error) {
    if (mine.signal.aborted) return;
    write(byId("object-title"), "This object cannot be shown");
    write(byId("object-verdict"), sentence(error.message));
    byId("object-body").hidden = true;
  }
  byId("object").removeAttribute("aria-busy");
}
