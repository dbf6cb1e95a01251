// One batch: how far it is, what it waits for, what failed, its files, and its end.

import { batchPath, call, download, failedLines, json, now } from "./api.js";
import { Bars, Progress, Rows, cell, make, row, setAttribute, setText, show, table } from "./elements.js";
import { batchLink, ends, share } from "./overview.js";
import { NOTHING, canCancel, clock, count, date, duration, failure, hasEnded, percent, rate, readable, reason } from "./words.js";

/** Failed lines that are read at a time, and in all: beyond them, the error file tells. */
const LINES_AT_ONCE = 200;
const MOST_LINES = 2_000;
/** Of these, shown at first and with each further step. */
const STEP = 25;
const LONGEST_MESSAGE = 600;

export class BatchView {
  constructor({ id, ask, again }) {
    this.id = id;
    this.ask = ask;
    this.again = again;
    this.title = id;
    this.batch = null;
    this.failures = new Failures(id);
    this.build();
  }

  build() {
    this.heading = make("h1", { class: "id", tabindex: "-1" }, this.id);
    this.pill = make("span", { class: "pill" });
    this.about = make("p", { class: "faint about" });
    this.actions = make("div", { class: "actions" });
    this.files = new Rows(this.actions, (file) => new FileButton(file));
    this.cancel = make("button", { type: "button", class: "danger", onclick: () => this.askToCancel() }, "Cancel batch");
    this.progress = new Progress();
    this.share = make("p", { class: "big" });
    this.legend = new Facts("legend");
    this.tiles = new Facts("tiles");
    this.waits = make("ul", { class: "waits-list" });
    this.facts = new Facts("facts");
    this.loading = make("p", { class: "faint" }, "Loading…");
    const facts = make("section", { "aria-labelledby": "facts-title" }, make("h2", { id: "facts-title" }, "Details"), make("div", { class: "card" }, this.facts.element));
    const run = make("section", { class: "run", "aria-label": "Progress" },
      make("div", { class: "card" }, this.share, this.progress.element, this.legend.element, this.waits), this.tiles.element);
    this.body = make("div", { class: "view wide", hidden: true }, run, facts, this.failures.element);
    const back = make("p", {}, make("a", { href: "#/" }, "← All batches"));
    const head = make("div", { class: "batch-head" }, this.heading, this.pill, this.actions, this.about);
    this.element = make("div", { class: "view" }, back, head, this.loading, this.body);
  }

  get isBusy() {
    return this.batch === null || !hasEnded(this.batch) || this.failures.hasMore;
  }

  async refresh(signal) {
    const batch = await json(batchPath(this.id), { signal });
    this.batch = batch;
    this.update(batch);
    await this.failures.refresh(batch, signal);
  }

  update(batch) {
    const more = batch.sluicegate;
    setText(this.pill, readable(batch.status));
    setAttribute(this.pill, "data-tone", batch.status);
    setText(this.about, [batch.model ?? "several models", batch.endpoint ?? "several endpoints", `app ${more.app}`].join(" · "));
    const { total } = batch.request_counts;
    setText(this.share, `${share(batch)} done`);
    this.progress.update(total, more.counts, "Progress", share(batch));
    const counts = ["succeeded", "failed", "expired", "cancelled", "running", "pending"].map((name) => [name, more.counts[name]]);
    this.legend.update(counts.filter(([name, number]) => number || name === "succeeded").map(([name, number]) => [name, count(number)]));
    this.tiles.update(figures(batch));
    const waits = hasEnded(batch) ? [] : more.waiting;
    this.waits.replaceChildren(...waits.map((wait) => make("li", {}, waitText(wait))));
    show(this.waits, waits.length > 0);
    this.facts.update(details(batch));
    this.showActions(batch);
    show(this.loading, false);
    show(this.body, true);
  }

  showActions(batch) {
    const { id, output_file_id: output, error_file_id: errors, input_file_id: input } = batch;
    const files = [["Results", output], ["Errors", errors], ["Input", input]].filter(([, file]) => file);
    const paths = files.map(([label, file]) => [label, `v1/files/${encodeURIComponent(file)}/content`]);
    // Its files come with its end; until then there is what it has done so far.
    if (!hasEnded(batch) && batch.request_counts.completed) paths.unshift(["Results so far", `${batchPath(id)}/results?limit=10000`]);
    this.files.update(paths.map(([label, path]) => [label, { label, path, name: `${id}-${label.toLowerCase().replaceAll(" ", "-")}.jsonl` }]));
    if (canCancel(batch)) this.actions.append(...(this.cancel.isConnected ? [] : [this.cancel]));
    else this.cancel.remove();
  }

  async askToCancel() {
    const { pending, running } = this.batch.sluicegate.counts;
    await this.ask({
      title: "Cancel this batch?",
      text: `What has a result keeps it; the other ${count(pending + running)} items are given up. This can’t be undone.`,
      no: "Let it run",
      yes: "Cancel the batch",
      act: () => call(`${batchPath(this.id)}/cancel`, { method: "POST" }),
    });
    await this.again();
    if (!this.cancel.isConnected) this.heading.focus();
  }
}

function waitText({ lane, reason: name, since, until }) {
  const where = lane ? ` at ${lane}` : "";
  return `Waits since ${clock(since)}: ${reason(name)}${where}${until ? `, until ${clock(until)}` : ""}`;
}

function figures(batch) {
  const { sluicegate: more, usage } = batch;
  const { mean, min, max } = more.item_seconds;
  const range = more.estimated_completion_range;
  const by = !hasEnded(batch) && range ? `, most likely by ${clock(range[1])}` : "";
  const facts = [
    [hasEnded(batch) ? "Run" : "Ends", ends(batch).text + by],
    ["Rate", rate(more.items_per_second)],
    ["Succeeded", more.success_rate === null ? NOTHING : percent(more.success_rate)],
    ["Calls", `${count(more.attempts)} (${count(more.retries)} repeated)`],
    ["Time of an item", mean === null ? NOTHING : `${duration(mean)} (${duration(min)} to ${duration(max)})`],
  ];
  if (usage) facts.push(["Tokens", `${count(usage.input_tokens)} in, ${count(usage.output_tokens)} out`]);
  return facts;
}

function details(batch) {
  const { options, retry_of: retried } = batch.sluicegate;
  const facts = Object.entries(batch.metadata ?? {}).map(([name, value]) => [name, value]);
  facts.push(["Created", date(batch.created_at)], ["Window", `${batch.completion_window}, until ${date(batch.expires_at)}`]);
  facts.push(["Priority", String(options.priority)]);
  if (options.max_concurrency) facts.push(["At once", `${count(options.max_concurrency)} calls at most`]);
  if (options.on_error === "fail_fast") facts.push(["On error", "ends at the first failure"]);
  if (retried) facts.push(["Retry of", retried, batchLink(retried)]);
  return facts;
}

/** Names with values, as a list of definitions. */
class Facts {
  constructor(kind) {
    this.element = make("dl", { class: kind });
    this.rows = new Rows(this.element, ([label]) => {
      const [name, value] = [make("dt"), make("dd")];
      const update = ([, text, link]) => {
        setText(name, kind === "legend" ? readable(label) : label);
        if (value.textContent !== text) value.replaceChildren(link ? make("a", { href: link, class: "id" }, text) : text);
      };
      return { element: make("div", { class: kind === "legend" && label }, name, value), update };
    });
  }

  update(facts) {
    this.rows.update(facts.map((fact, index) => [`${index} ${fact[0]}`, fact]));
  }
}

class FileButton {
  constructor() {
    this.element = make("button", { type: "button", onclick: () => this.save() });
  }

  update(file) {
    this.file = file;
    if (!this.element.disabled) setText(this.element, `↓ ${file.label}`);
  }

  async save() {
    this.element.disabled = true;
    setText(this.element, "Downloading…");
    const done = await download(this.file.path, this.file.name).then(() => `↓ ${this.file.label}`, (error) => `Failed: ${error.message}`);
    this.element.disabled = false;
    setText(this.element, done);
    this.element.focus();
  }
}

/** The lines that did not succeed: how many of each kind, and the first ones in full. */
class Failures {
  constructor(id) {
    this.id = id;
    this.after = 0;
    this.read = 0;
    this.wanted = 0;
    this.kept = [];
    this.kinds = new Map();
    this.visible = STEP;
    this.bars = new Bars();
    this.note = make("p", { class: "faint" });
    this.table = table(["Line", "Kind", "Message", "Attempts"], "failures-title", lineRow);
    this.more = make("button", { type: "button", onclick: () => this.showMore() }, "Show more");
    this.element = make("section", { "aria-labelledby": "failures-title", hidden: true },
      make("div", { class: "title" }, make("h2", { id: "failures-title" }, "What failed"), this.note),
      make("div", { class: "card" }, this.bars.element), this.table.element, make("p", {}, this.more));
  }

  get hasMore() {
    return this.read < Math.min(this.wanted, MOST_LINES);
  }

  async refresh(batch, signal) {
    const { failed, expired, cancelled } = batch.sluicegate.counts;
    this.wanted = failed + expired + cancelled;
    if (this.kept.length === 0) for (const error of batch.errors?.data ?? []) this.keep(refusedLine(error));
    if (this.hasMore) {
      const { lines, next } = await failedLines(this.id, this.after, LINES_AT_ONCE, signal);
      for (const line of lines) this.keep(ranLine(line));
      this.read += lines.length;
      this.after = next;
    }
    this.update();
  }

  keep(line) {
    this.kinds.set(line.kind, (this.kinds.get(line.kind) ?? 0) + 1);
    this.kept.push(line);
  }

  update() {
    this.bars.update(this.kinds, (kind, number) => ({ label: kind, text: count(number) }));
    this.table.rows.update(this.kept.slice(0, this.visible).map((line, index) => [index, line]));
    const partly = this.read < this.wanted ? `the first ${count(this.read)} of ${count(this.wanted)} lines; the error file has all` : "";
    setText(this.note, partly);
    show(this.more, this.kept.length > this.visible);
    show(this.element, this.kept.length > 0);
  }

  showMore() {
    const from = this.visible;
    this.visible += STEP * 4;
    this.update();
    this.table.rows.shown.get(from)?.element.querySelector("td")?.focus();
  }
}

function ranLine(line) {
  const { line: number, attempts } = line.sluicegate;
  return { name: line.custom_id ?? NOTHING, number, attempts: count(attempts), ...failure(line) };
}

/** Of a batch that was refused before anything ran. */
function refusedLine({ code, message, line, param }) {
  return { name: param ?? "", number: line, kind: code, message, attempts: NOTHING };
}

function lineRow(line) {
  const number = line.number === null || line.number === undefined ? null : make("span", { class: "faint" }, `line ${count(line.number)}`);
  const message = line.message.length > LONGEST_MESSAGE ? `${line.message.slice(0, LONGEST_MESSAGE)}…` : line.message;
  const name = cell("line", null, make("span", { class: "id" }, line.name), number);
  name.tabIndex = -1;
  return { element: row(name, cell("kind", "Kind", line.kind), cell("message", null, message), cell("attempts", "Attempts", line.attempts)), update() {} };
}
