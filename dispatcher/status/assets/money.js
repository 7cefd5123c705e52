// Money: what each window has spent against its cap, and where that leads by its end.

import { bar, byId, rows, write } from "./dom.js";
import { dollars, exactly, share, soon, words } from "./format.js";

const TIGHT = 0.8;

const keyOf = ({ account, window }) => `${account} ${window}`;

function used(cell, { used }) {
  const kind = used >= 1 ? "bad" : used >= TIGHT ? "attention" : "";
  bar(cell, used, used === null ? "no cap" : share(used), kind);
}

/** Whether more will be wanted than there is. */
const tooMuch = ({ cap_usd: cap, by_end_usd: end }) =>
  cap !== null && end !== null && Number(end) > Number(cap);

export function money({ money, run }) {
  const { free, price, frozen, windows } = money;
  write(byId("spent"), free ? "Free" : dollars(money.spent_run_usd));
  byId("spent").title = free ? "" : exactly(money.spent_run_usd);
  write(byId("price"), free ? `in this run: calls cost nothing (${price})` : `in this run, at ${price}`);
  byId("frozen").hidden = frozen.length === 0;
  write(byId("frozen"), `▲ Spending is frozen: ${frozen.map(words).join(", ")}. No call leaves.`);
  byId("frozen").className = "verdict attention";
  const shown = free ? windows.filter((each) => each.cap_usd !== null) : windows;
  rows(byId("windows-table"), shown, keyOf, [
    { head: true, show: ({ account, window }) => `${account}, ${window}` },
    { kind: "number", show: (each) => dollars(each.spent_usd), hover: (each) => exactly(each.spent_usd) },
    { kind: "number", show: (each) => dollars(each.cap_usd), hover: (each) => exactly(each.cap_usd) },
    { paint: used },
    {
      kind: "number",
      show: (each) => dollars(each.set_aside_usd),
      hover: (each) => exactly(each.set_aside_usd),
    },
    { show: (each) => soon(each.ends, run.now) },
    {
      kind: "number",
      show: (each) => `${tooMuch(each) ? "▲ " : ""}${dollars(each.by_end_usd)}`,
      hover: (each) => exactly(each.by_end_usd),
    },
    { show: (each) => (each.runs_out === null ? "no" : `▲ ${soon(each.runs_out, run.now)}`) },
  ]);
  write(
    byId("no-windows"),
    free ? "Nothing to count: no call costs anything." : "No window has a cap or a bill.",
  );
}
