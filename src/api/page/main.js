// Which view is shown, the one timer that keeps it fresh, and what is said when that fails.

import { Away, Refused, hasKey, json, setKey } from "./api.js";
import { BatchView } from "./batch.js";
import { Budget } from "./budget.js";
import { make, setAttribute, setText, show } from "./elements.js";
import { Overview } from "./overview.js";
import { clock } from "./words.js";

/** Milliseconds from one answer to the next question: while something moves, else, and while nobody answers. */
const BUSY = 3_000;
const CALM = 6_000;
const AWAY = [1_000, 2_000, 4_000, 8_000];

const at = (id) => document.getElementById(id);
const budget = new Budget();
let view = null;
let timer = 0;
let turn = new AbortController();
let failures = 0;
let answeredAt = 0;

function open() {
  const [path, query] = location.hash.slice(1).split("?");
  const id = path.startsWith("/batches/") ? path.slice("/batches/".length) : "";
  if (id) view = new BatchView({ id, ask, again: refresh });
  else view = new Overview({ budget, place: new URLSearchParams(query) });
  at("main").replaceChildren(view.element);
  document.title = `${view.title} · Sluicegate`;
  refresh();
}

/** Asks now, whatever was under way, and from then on by the timer. */
async function refresh() {
  clearTimeout(timer);
  turn.abort();
  const mine = (turn = new AbortController());
  if (document.hidden || view === null) return;
  let pause;
  try {
    await view.refresh(mine.signal);
    if (mine.signal.aborted) return;
    pause = view.isBusy ? BUSY : CALM;
    answered();
  } catch (error) {
    if (mine.signal.aborted) return;
    if (error instanceof Refused && error.status === 401) return askForKey(hasKey() ? "The service no longer accepts the key." : "");
    pause = failed(error);
  }
  timer = setTimeout(refresh, pause);
}

function answered() {
  failures = 0;
  answeredAt = Date.now() / 1000;
  show(at("notice"), false);
  show(at("sign-out"), hasKey());
  pulse("live", "Live");
}

/** Says what is wrong; how long to wait then. */
function failed(error) {
  if (error instanceof Refused) {
    show(view.loading, false);
    notice(error.message);
    pulse("live", "Live");
    return CALM;
  }
  if (!(error instanceof Away)) console.error(error);
  const pause = AWAY[Math.min(failures, AWAY.length - 1)];
  failures += 1;
  pulse("away", "Away");
  const seen = answeredAt ? `What you see is from ${clock(answeredAt)}; the` : "The";
  notice(`${error instanceof Away ? error.message : "The answer could not be shown."} ${seen} page goes on by itself.`);
  return pause;
}

function notice(text) {
  setText(at("notice"), text);
  show(at("notice"), true);
}

function pulse(state, text) {
  setAttribute(at("pulse"), "data-state", state);
  setText(at("pulse"), text);
}

function askForKey(why) {
  view = null;
  turn.abort();
  clearTimeout(timer);
  at("question").close();
  setKey("");
  show(at("sign-out"), false);
  show(at("notice"), false);
  pulse("locked", "Signed out");
  document.title = "Sign in · Sluicegate";
  const field = make("input", { id: "key", type: "password", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "key-why key-note" });
  const told = make("p", { class: "bad-text", id: "key-why", role: "alert" }, why);
  const button = make("button", { class: "main" }, "Sign in");
  async function check(event) {
    event.preventDefault();
    button.disabled = true;
    setKey(field.value.trim());
    try {
      await json("v1/batches?limit=1");
      open();
      at("main").focus();
    } catch (error) {
      setKey("");
      const isKey = error instanceof Refused && error.status === 401;
      setText(told, isKey ? "The service does not accept this key." : error.message);
      field.focus();
      field.select();
    }
    button.disabled = false;
  }
  const note = make("p", { class: "faint", id: "key-note" }, "It stays in this tab until you close the tab or sign out.");
  const form = make("form", { class: "card sign-in", onsubmit: check },
    make("h1", {}, "Sign in"), make("label", { for: "key" }, "API key"), field, told, button, note);
  at("main").replaceChildren(form);
  field.focus();
}

/** A question with two answers; settles once one was given and, if it was yes, acted on. */
function ask({ title, text, no, yes, act }) {
  const dialog = at("question");
  setText(at("question-title"), title);
  setText(at("question-text"), text);
  setText(at("question-no"), no);
  setText(at("question-yes"), yes);
  show(at("question-error"), false);
  at("question-yes").disabled = false;
  at("question-no").onclick = () => dialog.close();
  at("question-yes").onclick = async () => {
    at("question-yes").disabled = true;
    try {
      await act();
      dialog.close();
    } catch (error) {
      setText(at("question-error"), error.message);
      show(at("question-error"), true);
      at("question-yes").disabled = false;
    }
  };
  dialog.showModal();
  return new Promise((settled) => dialog.addEventListener("close", settled, { once: true }));
}

at("sign-out").addEventListener("click", () => askForKey("Signed out."));
at("skip").addEventListener("click", (event) => {
  event.preventDefault();
  at("main").focus();
});
window.addEventListener("hashchange", () => {
  if (view === null) return;
  open();
  view.heading.focus({ preventScroll: true });
  window.scrollTo(0, 0);
});
document.addEventListener("visibilitychange", refresh);
open();
