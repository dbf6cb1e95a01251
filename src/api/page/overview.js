// All batches, a page of the list at a time, under the budget that they share.

import { hasKey, json, now } from "./api.js";
import { BudgetSection } from "./budget.js";
import { Progress, cell, make, row, setAttribute, setText, show, table } from "./elements.js";
import { ErrorsSection } from "./errors.js";
import { NOTHING, STATUSES, ago, ahead, count, duration, hasEnded, rate, readable, waiting } from "./words.js";

const ON_A_PAGE = 25;
const COLUMNS = ["Batch", "Status", "Progress", "Rate", "Ends", "Waits for", "Created"];

/** The ids that pages begin behind, as far as they were turned: the API only pages forward. */
let trail = [""];
let trailStatus = "";
let offered = "";

export class Overview {
  title = "Batches";

  constructor({ budget, place }) {
    this.budget = budget;
    this.status = place.get("status") ?? "";
    this.after = place.get("after") ?? "";
    this.batches = [];
    this.budgetSection = new BudgetSection(budget);
    this.errors = new ErrorsSection();
    this.keepTrail();
    this.build();
  }

  keepTrail() {
    if (trailStatus !== this.status) [trail, trailStatus] = [[""], this.status];
    const known = trail.indexOf(this.after);
    if (known >= 0) trail.length = known + 1;
    else if (this.after === offered) trail.push(offered);
    else trail = [this.after];
  }

  build() {
    const filters = ["", ...STATUSES].map((status) =>
      make("a", { href: link(status, ""), "aria-current": status === this.status ? "page" : null }, readable(status || "all")),
    );
    const filter = make("nav", { class: "filters", "aria-label": "Filter by status" }, filters);
    this.table = table(COLUMNS, "batches-title", () => new Row());
    show(this.table.element, false);
    this.empty = make("div", { class: "card empty", hidden: true });
    this.heading = make("h2", { id: "batches-title", tabindex: "-1" }, "Batches");
    this.loading = make("p", { class: "faint" }, "Loading…");
    const jump = make("button", { type: "button", class: "quiet jump", onclick: () => this.budgetSection.goTo() }, "Budget ↓");
    const list = make("section", { class: "batches", "aria-labelledby": "batches-title" },
      make("div", { class: "title" }, this.heading, jump), filter, this.loading, this.table.element, this.empty, this.pages());
    const title = make("h1", { class: "unseen" }, "Sluicegate: batches and budget");
    this.element = make("div", { class: "view overview" }, title, list, make("div", { class: "view" }, this.budgetSection.element, this.errors.element));
  }

  pages() {
    this.newest = make("a", { class: "button", href: link(this.status, "") }, "Newest");
    this.newer = make("a", { class: "button", href: link(this.status, trail.at(-2) ?? "") }, "Newer");
    this.older = make("a", { class: "button" }, "Older");
    this.number = make("span", { class: "faint" }, this.after && !trail[0] ? `Page ${trail.length}` : "");
    this.pager = make("nav", { class: "pager", "aria-label": "Pages", hidden: true }, this.newest, this.newer, this.number, this.older);
    return this.pager;
  }

  /** Whether it is worth asking often. */
  get isBusy() {
    return this.budget.busy || this.batches.some((batch) => !hasEnded(batch));
  }

  async refresh(signal) {
    const query = new URLSearchParams({ limit: ON_A_PAGE });
    if (this.status) query.set("status", this.status);
    if (this.after) query.set("after", this.after);
    const [page] = await Promise.all([json(`v1/batches?${query}`, { signal }), this.budget.refresh(signal), this.errors.refresh(signal)]);
    this.batches = page.data;
    this.budgetSection.update();
    this.table.rows.update(page.data.map((batch) => [batch.id, batch]));
    const any = page.data.length > 0;
    show(this.loading, false);
    show(this.table.element, any);
    show(this.empty, !any);
    show(this.pager, page.has_more || this.after !== "");
    show(this.newest, this.after !== "");
    show(this.newer, trail.length > 2);
    show(this.older, page.has_more);
    offered = page.last_id;
    setAttribute(this.older, "href", link(this.status, offered ?? ""));
    if (!any && !this.empty.firstChild) await this.explain(signal);
  }

  /** What to do when there is nothing to see. */
  async explain(signal) {
    if (this.after) {
      this.empty.append(make("p", {}, "Nothing is older. "), make("a", { href: link(this.status, "") }, "Back to the newest"));
    } else if (this.status) {
      this.empty.append(make("p", {}, `No batch is ${readable(this.status).toLowerCase()}. `), make("a", { href: "#/" }, "Show all"));
    } else {
      const { data } = await json("v1/models", { signal });
      const command = firstBatch(new URL("v1/batches", document.baseURI).href, data[0]?.id ?? "gpt-4o-mini");
      const code = make("pre", { tabindex: "0", "aria-label": "Command" }, make("code", {}, command));
      this.empty.append(make("h3", {}, "No batch yet"), make("p", {}, "Post the first one; it appears here by itself."), code);
    }
  }
}

function firstBatch(url, model) {
  const key = hasKey() ? ' \\\n  -H "authorization: Bearer $SLUICEGATE_API_KEY"' : "";
  return `curl -s ${url}${key} \\
  -H 'content-type: application/json' -d '{
  "endpoint": "/v1/chat/completions",
  "defaults": {"model": ${JSON.stringify(model).replaceAll("'", "'\\''")}},
  "requests": [
    {"custom_id": "en", "body": {"messages": [{"role": "user", "content": "Greet me in English."}]}},
    {"custom_id": "fr", "body": {"messages": [{"role": "user", "content": "Greet me in French."}]}}
  ]
}'`;
}

function link(status, after) {
  const query = new URLSearchParams();
  if (status) query.set("status", status);
  if (after) query.set("after", after);
  const text = query.toString();
  return text ? `#/?${text}` : "#/";
}

export const batchLink = (id) => `#/batches/${id}`;

/** When it ends, or how long it took. */
export function ends(batch) {
  const more = batch.sluicegate;
  if (hasEnded(batch)) {
    const took = more.started_at && more.last_result_at ? `took ${duration(more.last_result_at - more.started_at)}` : NOTHING;
    return { text: took, late: batch.status === "expired" };
  }
  const late = more.on_time === false;
  if (!more.estimated_completion_at) return { text: "not known yet", late };
  return { text: ahead(more.estimated_completion_at, now()) + (late ? ", too late" : ""), late };
}

export const share = (batch) => {
  const { total } = batch.request_counts;
  const { pending, running } = batch.sluicegate.counts;
  return `${count(total - pending - running)} of ${count(total)}`;
};

class Row {
  constructor() {
    this.link = make("a", { class: "id" });
    this.about = make("span", { class: "faint about" });
    this.pill = make("span", { class: "pill" });
    this.progress = new Progress();
    this.numbers = make("span", { class: "numbers" });
    this.failed = make("span", { class: "bad-text" });
    this.rate = cell("rate", "Rate");
    this.ends = cell("ends", "Ends");
    this.waits = cell("waits", "Waits for");
    this.created = cell("created", "Created");
    this.element = row(
      cell("batch", null, this.link, this.about), cell("status", null, this.pill),
      cell("progress-cell", null, this.progress.element, make("span", { class: "numbers" }, this.numbers, this.failed)),
      this.rate, this.ends, this.waits, this.created);
  }

  update(batch) {
    const more = batch.sluicegate;
    setText(this.link, batch.id);
    setAttribute(this.link, "href", batchLink(batch.id));
    const labels = Object.entries(batch.metadata ?? {}).map(([name, value]) => `${name}: ${value}`);
    setText(this.about, [...labels, batch.model ?? "several models"].join(" · "));
    setText(this.pill, readable(batch.status));
    setAttribute(this.pill, "data-tone", batch.status);
    this.progress.update(batch.request_counts.total, more.counts, `Progress of ${batch.id}`, share(batch));
    setText(this.numbers, share(batch));
    setText(this.failed, more.counts.failed ? ` · ${count(more.counts.failed)} failed` : "");
    setText(this.rate, rate(more.items_per_second));
    const { text, late } = ends(batch);
    setText(this.ends, text);
    setAttribute(this.ends, "data-late", late ? "true" : null);
    const waits = hasEnded(batch) ? "" : waiting(more.waiting);
    setText(this.waits, waits || NOTHING);
    setAttribute(this.waits, "data-none", waits ? null : "");
    setText(this.created, ago(batch.created_at, now()));
  }
}
