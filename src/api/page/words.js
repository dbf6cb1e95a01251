// How numbers, times and the API's words are written.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const time = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });

export const NOTHING = "–";

export const count = (number) => whole.format(number);
export const compact = (number) => (number < 10_000 ? whole.format(number) : short.format(number));
export const clock = (seconds) => time.format(seconds * 1000);
export const date = (seconds) => (seconds ? day.format(seconds * 1000) : NOTHING);
export const percent = (share) => `${(share * 100).toFixed(share > 0.9995 || share < 0.0005 ? 0 : 1)} %`;

export function rate(perSecond) {
  if (perSecond === null) return NOTHING;
  if (perSecond >= 10) return `${count(perSecond)}/s`;
  return perSecond >= 0.95 ? `${perSecond.toFixed(1)}/s` : `${(perSecond * 60).toFixed(perSecond < 0.1 ? 1 : 0)}/min`;
}

/** A length of time in the two units that matter. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NOTHING;
  if (seconds < 1) return `${Math.max(Math.round(seconds * 1000), 0)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const rounded = Math.round(seconds);
  if (rounded < 60) return `${rounded} s`;
  const [minutes, hours] = [Math.floor(rounded / 60), Math.floor(rounded / 3600)];
  if (minutes < 60) return minutes < 10 && rounded % 60 ? `${minutes} min ${rounded % 60} s` : `${minutes} min`;
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export function ago(seconds, now) {
  const past = now - seconds;
  if (past < 5) return "just now";
  return `${duration(past < 60 ? past : past < 3600 ? past - (past % 60) : past - (past % 3600))} ago`;
}

export function ahead(seconds, now) {
  const rest = seconds - now;
  return rest < 1 ? "now" : `in ${duration(rest)}`;
}

/** A limit's period, as the configuration writes it. */
export function period(seconds) {
  if (!seconds) return "";
  const named = { 1: "s", 60: "min", 3600: "hour", 86400: "day" }[seconds];
  return ` / ${named ?? duration(seconds)}`;
}

export const STATUSES = ["in_progress", "completed", "failed", "expired", "cancelled", "validating", "finalizing", "cancelling"];

/** A word of the API's as one reads it: `in_progress` is "In progress". */
export const readable = (word) => (word.charAt(0).toUpperCase() + word.slice(1)).replaceAll("_", " ");

export const hasEnded = (batch) => ["completed", "failed", "expired", "cancelled"].includes(batch.status);
export const canCancel = (batch) => ["validating", "in_progress"].includes(batch.status);

const REASONS = {
  rate: "request rate",
  tokens: "token rate",
  concurrency: "calls in flight",
  cooldown: "provider asked to wait",
  quota: "provider’s quota used up",
  credential: "provider refused the key",
  breaker: "provider keeps failing",
  no_provider: "no provider serves it",
  disk: "disk full",
};

export const reason = (name) => REASONS[name] ?? name;

/** Why a batch waits: each reason once, with where if that is one place. */
export function waiting(list) {
  const lanes = new Map();
  for (const { reason: name, lane } of list) lanes.set(name, [...(lanes.get(name) ?? []), lane].filter(Boolean));
  const told = [...lanes].map(([name, at]) => {
    const where = at.length > 1 ? ` at ${at.length} lanes` : at.length ? ` at ${at[0]}` : "";
    return reason(name) + where;
  });
  return told.join(", ");
}

/** What kind of failure a line shows, and what was said. */
export function failure(line) {
  if (line.error) return { kind: line.error.code, message: line.error.message ?? "" };
  const { status_code: status, body } = line.response ?? {};
  const error = body?.error ?? body;
  const code = error?.code ?? error?.type;
  const said = typeof error === "string" ? error : error?.message;
  const kind = typeof code === "string" ? `${status} ${code}` : `HTTP ${status}`;
  return { kind, message: typeof said === "string" ? said : JSON.stringify(body ?? null) };
}
