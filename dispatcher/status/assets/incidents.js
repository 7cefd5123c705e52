// What is wrong now, on top of everything, and what was lately.

import { byId, children, make, prose, write } from "./dom.js";
import { clock, plural, seconds, sentence, told } from "./format.js";

const keyOf = ({ fault, subject, since }) => `${fault} ${subject} ${since}`;
const known = new Set();
let first = true;

function card({ playbook }) {
  const node = make("li");
  node.append(make("h3"), make("p", { class: "what" }), make("p", { class: "advice" }));
  const link = /^(https?:|\/|\.|[a-z]+\/?#)/.test(playbook)
    ? make("a", { href: playbook }, "Playbook")
    : make("span", {}, "Playbook: ", make("code", {}, playbook));
  node.append(make("p", { class: "quiet" }, make("span"), " ", link));
  return node;
}

function show(node, each, now) {
  const [title, what, advice, when] = node.children;
  write(title, each.subject ? `${each.title}: ${each.subject}` : each.title);
  prose(what, `${sentence(each.message)} ${told(each.facts)}`.trim());
  prose(advice, `What to do: ${each.advice}.`);
  const times = each.count > 1 ? `, said ${plural(each.count, "time")}` : "";
  const heard = `last ${seconds(now - each.last)} ago`;
  write(
    when.firstElementChild,
    each.open
      ? `Since ${clock(each.since)} (${seconds(now - each.since)})${times}, ${heard}.`
      : `From ${clock(each.since)}, ${heard}${times}.`,
  );
}

/** Those that were not known before: they are read out at once, each once. */
function news(incidents) {
  const fresh = incidents.filter((each) => each.open && !known.has(keyOf(each)));
  fresh.forEach((each) => known.add(keyOf(each)));
  return fresh;
}

export function incidents({ incidents, run }) {
  const fill = (list, some) =>
    children(byId(list), some, keyOf, card, (node, each) => show(node, each, run.now));
  const open = incidents.filter((each) => each.open);
  const over = incidents.filter((each) => !each.open);
  fill("open-incidents", open);
  fill("over-list", over);
  byId("no-incidents").hidden = open.length > 0;
  byId("over-incidents").hidden = over.length === 0;
  write(byId("over-count"), `${plural(over.length, "incident")} over`);
  const fresh = news(incidents);
  // What is there when the page opens is read with the page.
  if (fresh.length && !first) {
    write(byId("alarm"), fresh.map((each) => sentence(`${each.title} ${each.subject}`)).join(" "));
  }
  first = false;
}
