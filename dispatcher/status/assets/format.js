// How figures are written: always in the same way, so that the eye can compare them.

export const NONE = "–"; // unknown is not zero

const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const CENTS = new Intl.NumberFormat("en-US", {
  minimumFractionDigits: 2,
  maximumFractionDigits: 2,
});
const SMALL = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3 });

const known = (value) => value !== null && value !== undefined;

export const count = (n) => (known(n) ? WHOLE.format(n) : NONE);

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

export const rate = (n) => (known(n) ? (n < 9.95 ? n.toFixed(1) : WHOLE.format(n)) : NONE);

export const share = (x) => (known(x) ? `${(100 * x).toFixed(1)} %` : NONE);

export const mebibytes = (n) => (known(n) ? (n / 2 ** 20).toFixed(1) : NONE);

export const redshift = (z) => (known(z) ? z.toFixed(4) : NONE);

/** A length of time, in the two largest units that say something. */
export function seconds(s) {
  if (!known(s)) return NONE;
  if (s < 9.95) return `${s.toFixed(1)} s`;
  if (s < 59.5) return `${s.toFixed(0)} s`;
  const whole = Math.round(s);
  if (whole < 3600) return two(Math.floor(whole / 60), "min", whole % 60, "s");
  const minutes = Math.round(whole / 60);
  if (minutes < 1440) return two(Math.floor(minutes / 60), "h", minutes % 60, "min");
  return two(Math.floor(minutes / 1440), "d", Math.floor((minutes % 1440) / 60), "h");
}

const two = (n, unit, rest, smaller) => `${n} ${unit}${rest ? ` ${rest} ${smaller}` : ""}`;

const iso = (unix) => new Date(1000 * unix).toISOString();

/** Time of day, UTC. */
export const clock = (unix) => (known(unix) ? iso(unix).slice(11, 19) : NONE);

/** Date and time of day, UTC. */
export const moment = (unix) =>
  known(unix) ? iso(unix).slice(0, 19).replace("T", " ") : NONE;

const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });

/** Time of day where it is within half a day of now, else with its date; UTC. */
export const soon = (unix, now) =>
  known(unix) && Math.abs(unix - now) > 43200
    ? `${DAY.format(1000 * unix)} ${clock(unix).slice(0, 5)}`
    : clock(unix);

/** Dollars, to read; the exact figure belongs beside it, in a title. */
export function dollars(exact) {
  if (!known(exact)) return NONE;
  const value = Number(exact);
  if (value !== 0 && Math.abs(value) < 1e-3) return `${SMALL.format(1e6 * value)} µ$`;
  return `$${(value === 0 || Math.abs(value) >= 0.1 ? CENTS : SMALL).format(value)}`;
}

/** The exact figure of an amount of money, to hover over. */
export const exactly = (exact) => (known(exact) ? `${exact} US dollars` : "");

/** A word of the machine as a person writes it. */
export const words = (name) => (known(name) ? String(name).replaceAll("_", " ") : NONE);

const plain = (value) => (typeof value === "string" ? value : JSON.stringify(value));

/** What a line of the log tells besides its words. */
export const told = (facts) =>
  Object.entries(facts ?? {}).map(([name, value]) => `${name}=${plain(value)}`).join("  ");

/** A sentence begins large and ends with a full stop. */
export function sentence(text) {
  const trimmed = String(text).trim();
  const begun = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
