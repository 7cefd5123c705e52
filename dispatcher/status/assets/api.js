// What the dispatcher is asked. Addresses are relative: the page also works below a path.

const PATIENCE_MS = 5000;

/** An answer that says no, in a sentence. */
export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

async function answer(path, options) {
  const response = await fetch(`api/${path}`, { cache: "no-store", ...options });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw new Refused(response.status, body.error ?? `The dispatcher says ${response.status}.`);
  }
  return body;
}

/** Ask for something; `signal` takes the question back. */
export function get(path, query = {}, signal = undefined) {
  const filled = Object.entries(query).filter(([, value]) => value !== "" && value !== null);
  const search = new URLSearchParams(filled).toString();
  const limits = [AbortSignal.timeout(PATIENCE_MS), ...(signal ? [signal] : [])];
  return answer(search ? `${path}?${search}` : path, { signal: AbortSignal.any(limits) });
}

/** Do something, in the name of who has the token. */
export function post(path, body, token) {
  return answer(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(6 * PATIENCE_MS),
  });
}
