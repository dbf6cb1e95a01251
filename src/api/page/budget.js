// What of each limit is used, now and over the last minutes.

import { json, now } from "./api.js";
import { Rows, draw, make, setAttribute, setText, show } from "./elements.js";
import { clock, compact, count, period, readable } from "./words.js";

/** Seconds of history that are shown; it is kept here, from what each call told. */
const SHOWN = 300;
const SHOWN_AT_FIRST = 60;
/** A longer silence, while the tab was hidden or the service away, is a gap in the line. */
const GAP = 30;
/** Cards that are shown unasked. */
const FEW = 6;
const [WIDTH, HEIGHT] = [300, 44];

/** The budget since this page was opened. */
export class Budget {
  constructor() {
    this.limits = [];
    this.history = new Map();
    this.since = now();
  }

  /** Seconds that lines span: no more than there was to see. */
  get span() {
    return Math.min(Math.max(now() - this.since, SHOWN_AT_FIRST), SHOWN);
  }

  async refresh(signal) {
    const { data } = await json("v1/budget", { signal });
    const at = now();
    this.limits = data;
    for (const limit of data) {
      const samples = this.history.get(keyOf(limit)) ?? [];
      samples.push([at, limit.used]);
      while (samples[0][0] < at - SHOWN) samples.shift();
      this.history.set(keyOf(limit), samples);
    }
    for (const [key, samples] of this.history) if (samples.at(-1)[0] < at - SHOWN) this.history.delete(key);
  }

  get busy() {
    return this.limits.some((limit) => limit.in_flight || limit.waiting);
  }

  samples(limit) {
    return this.history.get(keyOf(limit)) ?? [];
  }
}

const keyOf = (limit) => `${limit.level}\n${limit.name}\n${limit.dimension}`;

/** The section that shows it. */
export class BudgetSection {
  constructor(budget) {
    this.budget = budget;
    this.all = false;
    const cards = make("ul", { class: "lanes" });
    this.cards = new Rows(cards, () => new Card(budget));
    this.more = make("button", { type: "button", class: "quiet", onclick: () => this.toggle() });
    this.none = make("p", { class: "faint" }, "No lane yet. One appears with the first request for its model.");
    this.span = make("p", { class: "faint" });
    this.heading = make("h2", { id: "budget-title", tabindex: "-1" }, "Budget");
    const title = make("div", { class: "title" }, this.heading, this.span);
    this.element = make("section", { "aria-labelledby": "budget-title" }, title, this.none, cards, make("p", {}, this.more));
  }

  goTo() {
    this.heading.scrollIntoView();
    this.heading.focus({ preventScroll: true });
  }

  toggle() {
    this.all = !this.all;
    this.update();
  }

  update() {
    const groups = new Map();
    for (const limit of this.budget.limits) {
      const name = `${limit.level}\n${limit.name}`;
      groups.set(name, [...(groups.get(name) ?? []), limit]);
    }
    // What only counts, and limits nothing, is left out, but a lane shows that it is there.
    for (const [name, limits] of groups) if (limits.every(({ level, limit }) => level !== "lane" && limit === null)) groups.delete(name);
    const isBusy = ([, limits]) => limits.some((limit) => limit.used || limit.waiting || limit.state !== "open");
    // The order stays as it is as long as nothing begins or ends to be used.
    const entries = [...groups].sort((a, b) => isBusy(b) - isBusy(a));
    this.cards.update(this.all ? entries : entries.slice(0, FEW));
    const minutes = Math.round(this.budget.span / 60);
    setText(this.span, `used of the limit, last ${minutes === 1 ? "minute" : `${minutes} minutes`}`);
    show(this.none, entries.length === 0);
    show(this.more, entries.length > FEW);
    setText(this.more, this.all ? "Show fewer" : `Show all ${entries.length}`);
    setAttribute(this.more, "aria-expanded", String(this.all));
  }
}

class Card {
  constructor(budget) {
    this.level = make("span", { class: "faint" });
    this.name = make("span", { class: "name" });
    this.state = make("span", { class: "pill" });
    this.wait = make("p", { class: "faint" });
    const rows = make("div");
    this.rows = new Rows(rows, () => new Gauge(budget));
    const head = make("h3", {}, this.level, this.name);
    this.element = make("li", { class: "card lane" }, make("div", { class: "lane-head" }, head, this.state), rows, this.wait);
  }

  update(limits) {
    const { level, name, state, waiting, closed_until: until, rate_factor: factor } = limits[0];
    setText(this.level, readable(level));
    setText(this.name, level === "service" ? "all calls" : name);
    show(this.state, level === "lane" || state !== "open");
    setText(this.state, readable(state));
    setAttribute(this.state, "data-tone", state);
    const told = [];
    if (until) told.push(`closed until ${clock(until)}`);
    if (waiting) told.push(`${count(waiting)} waiting`);
    if (factor < 0.9) told.push(`pace lowered to ${Math.round(factor * 100)} %`);
    setText(this.wait, told.join(" · "));
    show(this.wait, told.length > 0);
    this.rows.update(limits.map((limit) => [limit.dimension, limit]));
  }
}

/** One limit: its numbers, and a line of what was used. */
class Gauge {
  constructor(budget) {
    this.budget = budget;
    this.label = make("span", { class: "faint" });
    this.used = make("b");
    this.limit = make("span", { class: "faint" });
    this.area = draw("path", { class: "area" });
    this.line = draw("path", { class: "line" });
    const ceiling = draw("path", { class: "ceiling", d: `M0 2H${WIDTH}` });
    this.chart = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" }, this.area, this.line, ceiling);
    const numbers = make("p", { class: "numbers" }, this.label, make("span", {}, this.used, this.limit));
    this.element = make("div", { class: "gauge" }, numbers, this.chart);
  }

  update(limit) {
    const label = limit.dimension === "concurrency" ? "Calls in flight" : readable(limit.dimension);
    const of = limit.limit === null ? " used" : ` / ${compact(limit.limit)}`;
    const per = limit.limit === null || limit.dimension === "concurrency" ? "" : period(limit.period_seconds);
    setText(this.label, label);
    setText(this.used, compact(limit.used));
    setText(this.limit, `${of}${per}${limit.source === "learned" ? " · learned" : ""}`);
    setAttribute(this.element, "data-full", String(limit.limit !== null && limit.used >= limit.limit * 0.97));
    this.plot(this.budget.samples(limit), limit.limit);
    const most = Math.max(0, ...this.budget.samples(limit).map(([, used]) => used));
    setAttribute(this.chart, "aria-label", `${label}: ${count(limit.used)} used now, at most ${count(most)} in the last minutes`);
  }

  plot(samples, limit) {
    const end = samples.length ? samples.at(-1)[0] : 0;
    const { span } = this.budget;
    const top = Math.max(limit ?? 0, 1, ...(limit === null ? samples.map(([, used]) => used) : []));
    const place = ([at, used]) => {
      const x = WIDTH - ((end - at) / span) * WIDTH;
      const y = HEIGHT - Math.min(used / top, 1) * (HEIGHT - 2);
      return [x.toFixed(1), y.toFixed(1)];
    };
    let [line, area, from] = ["", "", null];
    samples.forEach((sample, index) => {
      const [x, y] = place(sample);
      const goesOn = index > 0 && sample[0] - samples[index - 1][0] < GAP;
      line += `${goesOn ? "L" : "M"}${x} ${y}`;
      if (!goesOn) from = x;
      area += `${goesOn ? "L" : `M${x} ${HEIGHT}L`}${x} ${y}`;
      const next = samples[index + 1];
      if (!next || next[0] - sample[0] >= GAP) area += `L${x} ${HEIGHT}L${from} ${HEIGHT}Z`;
    });
    this.line.setAttribute("d", line);
    this.area.setAttribute("d", area);
  }
}
