// Upstream calls that failed, by kind, over everything that this service does.

import { Refused, now, text } from "./api.js";
import { Bars, make, setText, show } from "./elements.js";
import { count, percent, readable } from "./words.js";

/** Metrics are a long text, longer with every lane: seconds between two questions, at least and for each one it took. */
const PAUSE = 15;
const PAUSE_FOR_EACH = 1_000;
const METRIC = "sluicegate_attempts_total{";

export class ErrorsSection {
  constructor() {
    this.nextAt = 0;
    this.bars = new Bars();
    this.summary = make("p", { class: "faint" });
    this.calm = make("p", { class: "calm" }, "No call has failed.");
    const title = make("div", { class: "title" }, make("h2", { id: "errors-title" }, "Failed calls"), this.summary);
    this.element = make("section", { "aria-labelledby": "errors-title", hidden: true }, title, make("div", { class: "card" }, this.calm, this.bars.element));
  }

  async refresh(signal) {
    // With an address of their own for operators, metrics are only there.
    if (document.documentElement.dataset.metrics !== "here" || now() < this.nextAt) return;
    try {
      const asked = performance.now();
      this.update(numbersIn(await text("metrics", { signal })));
      const took = (performance.now() - asked) / 1000;
      this.nextAt = now() + Math.max(PAUSE, took * PAUSE_FOR_EACH);
    } catch (error) {
      // A proxy may keep them from the outside; the page does without.
      if (!(error instanceof Refused)) throw error;
      this.nextAt = Infinity;
    }
  }

  update(numbers) {
    const all = [...numbers.values()].reduce((sum, number) => sum + number, 0);
    const good = numbers.get("ok") ?? 0;
    numbers.delete("ok");
    setText(this.summary, all ? `${count(all)} calls since the service started, ${percent(good / all)} answered well` : "no call since the service started");
    this.bars.update(numbers, (kind, number) => ({ label: readable(kind), text: `${count(number)} · ${percent(number / all)}` }));
    show(this.calm, good === all);
    show(this.element, true);
  }
}

/** The calls by their class, summed over lanes. */
function numbersIn(metrics) {
  const numbers = new Map();
  for (const line of metrics.split("\n")) {
    if (!line.startsWith(METRIC)) continue;
    const kind = line.match(/[{,]class="([^"]*)"/)?.[1] ?? "";
    numbers.set(kind, (numbers.get(kind) ?? 0) + Number(line.slice(line.lastIndexOf(" "))));
  }
  return numbers;
}
