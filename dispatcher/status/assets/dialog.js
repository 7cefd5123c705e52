// Every action asks once more, and says afterwards what came of it.

import { Refused, post } from "./api.js";
import { byId, make, write } from "./dom.js";

const TOKEN = "lookback-token";

let acted = () => {};

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  keep(value) {
    sessionStorage.setItem(TOKEN, value);
    byId("forget").hidden = false;
  },
  forget() {
    sessionStorage.removeItem(TOKEN);
    byId("forget").hidden = true;
  },
};

/** Say what came of an action. */
export function say(text, bad = false) {
  write(byId("outcome-text"), text);
  byId("outcome").className = `outcome shown ${bad ? "bad" : "ok"}`;
  byId("outcome-close").hidden = false;
}

function close() {
  write(byId("outcome-text"), "");
  byId("outcome").className = "outcome";
  byId("outcome-close").hidden = true;
}

function control({ name, kind = "text", options, value = "", required = false }) {
  const attributes = { id: `field-${name}`, name, ...(required ? { required: "" } : {}) };
  if (options) {
    const choices = options.map((each) => make("option", { value: each }, each));
    const made = make("select", attributes, ...choices);
    made.value = value || options[0];
    return made;
  }
  const made = make("input", { ...attributes, type: kind, autocomplete: "off" });
  if (kind === "money") Object.assign(made, { type: "text", inputMode: "decimal" });
  made.value = value;
  return made;
}

function prepare({ title, text, verb, fields = [] }) {
  write(byId("dialog-title"), title);
  write(byId("dialog-text"), text);
  write(byId("dialog-yes"), verb);
  byId("dialog-fields").replaceChildren(
    ...fields.flatMap((field) => [
      make("label", { for: `field-${field.name}` }, field.label),
      control(field),
    ]),
  );
  byId("dialog-token").hidden = token.get() !== null;
  byId("token").required = token.get() === null;
  byId("token").value = "";
}

/** Ask for a yes; gives what was typed, or null for a no. */
function confirmed(question) {
  prepare(question);
  const dialog = byId("dialog");
  return new Promise((answer) => {
    const form = byId("dialog-form");
    let typed = null;
    form.onsubmit = (event) => {
      event.preventDefault();
      if (byId("token").value) token.keep(byId("token").value);
      typed = Object.fromEntries(new FormData(form));
      dialog.close();
    };
    byId("dialog-no").onclick = () => dialog.close();
    dialog.onclose = () => answer(typed);
    dialog.showModal();
  });
}

/**
 * Ask, do and say what came of it. `question.path` and `question.body(typed)`: what is sent.
 * Gives whether it was done.
 */
export async function act(question) {
  const typed = await confirmed(question);
  if (typed === null) return false;
  try {
    const { done } = await post(question.path, question.body(typed), token.get());
    say(done ?? "Done.");
    acted();
    return true;
  } catch (error) {
    if (error instanceof Refused && error.status === 401) token.forget();
    say(error instanceof Refused ? error.message : `It is not known whether it was done: ${error.message}`, true);
    return false;
  }
}

/** `after()`: called when an action was done. */
export function begin(after) {
  acted = after;
  byId("outcome-close").onclick = close;
  byId("forget").hidden = token.get() === null;
  byId("forget").onclick = () => {
    token.forget();
    say("The token is forgotten.");
  };
}
