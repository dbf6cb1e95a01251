// Calls to the service, and the key that they carry.

const NAME = "sluicegate-key";
const LONGEST = 15_000;

let key = "";
try {
  key = sessionStorage.getItem(NAME) ?? "";
} catch {
  // A browser that lets no page store anything: the key lasts until the page is closed.
}

/** The service said no. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The service does not answer, or can't at the moment. */
export class Away extends Error {}

export const hasKey = () => key !== "";

/** Keeps a key for as long as the tab is open; an empty one forgets it. */
export function setKey(text) {
  key = text;
  try {
    if (text) sessionStorage.setItem(NAME, text);
    else sessionStorage.removeItem(NAME);
  } catch {
    // As above.
  }
}

let skew = 0;

/** The service's time in unix seconds: this machine's clock may be wrong. */
export const now = () => (Date.now() - skew) / 1000;

/** An answer whose status says that it went well. Its body is still to be read. */
export async function call(path, { method = "GET", signal, longest = LONGEST } = {}) {
  const signals = [signal, longest && AbortSignal.timeout(longest)].filter(Boolean);
  let response;
  try {
    // Not `authorization`: a proxy in front may need that one for itself.
    const headers = key ? { "x-api-key": key } : {};
    response = await fetch(path, { method, headers, cache: "no-store", signal: AbortSignal.any(signals) });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Away("The service does not answer.");
  }
  const sent = Date.parse(response.headers.get("date"));
  if (sent) {
    const seen = Date.now() - sent;
    // The header has whole seconds.
    skew = Math.abs(seen) > 2_000 ? seen : 0;
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const message = body?.error?.message ?? `The service answered with status ${response.status}.`;
  throw [502, 503, 504].includes(response.status) ? new Away(message) : new Refused(response.status, message);
}

export const json = (path, options) => read("json", path, options);
export const text = (path, options) => read("text", path, options);

async function read(kind, path, options) {
  const response = await call(path, options);
  return body(response[kind](), options?.signal);
}

/** The batch's failed lines behind a position, with where to go on. */
export async function failedLines(id, after, limit, signal) {
  const path = `${batchPath(id)}/results?status=failed&after=${after}&limit=${limit}`;
  const response = await call(path, { signal });
  const lines = (await body(response.text(), signal)).split("\n").filter(Boolean);
  return { lines: lines.map((line) => JSON.parse(line)), next: Number(response.headers.get("sluicegate-next-after")) };
}

/** A connection may be lost in the middle of an answer. */
async function body(reading, signal) {
  try {
    return await reading;
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Away("The service broke off its answer.");
  }
}

export const batchPath = (id) => `v1/batches/${encodeURIComponent(id)}`;

/** Saves what is at a path as a file; a plain link could not carry the key. */
export async function download(path, name) {
  const response = await call(path, { longest: 0 });
  const url = URL.createObjectURL(await body(response.blob()));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
