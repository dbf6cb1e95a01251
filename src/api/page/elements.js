// Making and changing elements. Text only ever becomes text: nothing here parses markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes, listeners (`onclick: …`) and children; strings become text, nothing is left out. */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for a drawing. */
export function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Changes a text only if it is another one, so that nothing is laid out or read out for nothing. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

export function show(element, visible) {
  if (element.hidden === visible) element.hidden = !visible;
}

/** Children that stay the same elements as long as their key is shown: focus and selection survive an update. */
export class Rows {
  constructor(parent, create) {
    this.parent = parent;
    this.create = create;
    this.shown = new Map();
  }

  /** `create(value)` gives `{ element, update(value) }`. */
  update(entries) {
    const wanted = new Map(entries);
    for (const [key, row] of this.shown) {
      if (wanted.has(key)) continue;
      row.element.remove();
      this.shown.delete(key);
    }
    let next = this.parent.firstElementChild;
    for (const [key, value] of wanted) {
      let row = this.shown.get(key);
      if (!row) {
        row = this.create(value);
        this.shown.set(key, row);
      }
      row.update(value);
      if (row.element === next) next = next.nextElementSibling;
      else this.parent.insertBefore(row.element, next);
    }
  }
}

/** A table whose rows `create` makes. The roles are named since on small screens its rows become cards. */
export function table(heads, labelledBy, create) {
  const body = make("tbody", { role: "rowgroup" });
  const names = heads.map((name) => make("th", { role: "columnheader", scope: "col" }, name));
  const head = make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, names));
  return { element: make("table", { role: "table", "aria-labelledby": labelledBy }, head, body), rows: new Rows(body, create) };
}

export const row = (...cells) => make("tr", { role: "row" }, cells);
export const cell = (kind, label, ...children) => make("td", { role: "cell", class: kind, "data-label": label }, children);

/** Horizontal bars with their numbers, the longest first. */
export class Bars {
  constructor() {
    this.element = make("ul", { class: "bars" });
    this.rows = new Rows(this.element, () => {
      const [label, value, bar] = [make("span"), make("span", { class: "faint" }), make("i")];
      const element = make("li", {}, label, value, make("span", { class: "bar", "aria-hidden": "true" }, bar));
      const update = (entry) => {
        setText(label, entry.label);
        setText(value, entry.text);
        bar.style.width = `${Math.max(entry.share * 100, 0.5)}%`;
      };
      return { element, update };
    });
  }

  /** Of a map from kinds to numbers. */
  update(numbers, words) {
    const sorted = [...numbers].filter(([, number]) => number > 0).sort((a, b) => b[1] - a[1]);
    const most = sorted.length ? sorted[0][1] : 1;
    this.rows.update(sorted.map(([kind, number]) => [kind, { ...words(kind, number), share: number / most }]));
  }
}

/** A bar in parts: what succeeded, failed, ended without a run, and runs. */
export class Progress {
  constructor() {
    this.parts = ["succeeded", "failed", "cancelled", "running"].map((kind) => make("i", { class: kind }));
    this.element = make("div", { class: "progress", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" }, this.parts);
  }

  update(total, counts, name, text) {
    const numbers = [counts.succeeded, counts.failed, counts.expired + counts.cancelled, counts.running];
    numbers.forEach((number, index) => {
      const width = `${total ? (number / total) * 100 : 0}%`;
      if (this.parts[index].style.width !== width) this.parts[index].style.width = width;
    });
    const done = numbers[0] + numbers[1] + numbers[2];
    setAttribute(this.element, "aria-valuenow", String(total ? Math.floor((done / total) * 100) : 0));
    setAttribute(this.element, "aria-valuetext", text);
    setAttribute(this.element, "aria-label", name);
  }
}
