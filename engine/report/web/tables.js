// Tables that are searched, filtered and sorted; they draw a few rows, and more on request.

const STEP_ROWS = 100;
const FEW_ROWS = 4; // nobody searches them

function compare(a, b) {
  if (a === null || a === undefined) return b === null || b === undefined ? 0 : 1;
  if (b === null || b === undefined) return -1;
  return a < b ? -1 : a > b ? 1 : 0;
}

/* `columns`: { label, text(i), value(i)?, render(i)?, kind?: number | tight | wide, slight? }
   `value` is what sorts (else the text), `render` makes the cell's node (else the text), `slight` columns go where there
   is no room. `details(i)` is what a row opens to, a node. `filters`: { name: (i) => word }. */
// The roles are said, because tables that are laid out otherwise (where there is little room) lose them.
class Table {
  constructor(host, spec) {
    Object.assign(this, { host, spec, query: "", chosen: {}, limit: spec.first || 25, sorted: null, down: false });
    this.order = Array.from({ length: spec.rows }, (_, i) => i);
    this.haystack = new Array(spec.rows);
    this.opened = new Set();
    this.build();
    this.refresh();
  }

  build() {
    const { spec } = this;
    this.search = el("input", {
      type: "search", placeholder: "Search " + spec.what, "aria-label": "Search " + spec.what, autocomplete: "off", spellcheck: "false",
      input: () => this.find(this.search.value),
    });
    this.tally = el("span", { class: "count", role: "status" });
    this.tools = el("div", { class: "tools" }, this.search, ...(spec.tools ? spec.tools(this) : []), this.tally);
    this.heads = spec.columns.map((column, at) => this.headOf(column, at));
    const opener = spec.details ? [el("th", { scope: "col", role: "columnheader", class: "opens" }, el("span", { class: "unseen", text: "Details" }))] : [];
    this.body = el("tbody", { role: "rowgroup" });
    const caption = el("caption", { class: "unseen", text: spec.what });
    this.table = el("table", { role: "table" }, caption, el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...opener, ...this.heads)), this.body);
    this.more = el("button", { type: "button", class: "plain more", click: () => { this.limit += STEP_ROWS; this.draw(); } });
    this.host.append(this.tools, el("div", { class: spec.columns.some((column) => column.kind === "wide") ? "scroll stacked" : "scroll" }, this.table), this.more);
  }

  classOf(column) {
    return [column.kind || "", column.slight ? "slight" : ""].join(" ").trim() || null;
  }

  headOf(column, at) {
    const inner = el("button", { type: "button", text: column.label, title: column.title || null, click: () => this.sort(at) });
    return el("th", { scope: "col", role: "columnheader", class: this.classOf(column), "aria-sort": "none" }, inner);
  }

  find(query) {
    this.query = query.toLowerCase();
    if (this.search.value !== query) this.search.value = query;
    this.limit = this.spec.first || 25;
    this.refresh();
  }

  // Rows whose word is one of these; none chosen shows all.
  choose(filter, words) {
    this.chosen[filter] = new Set(words);
    this.limit = this.spec.first || 25;
    if (this.spec.onChoice) this.spec.onChoice(this);
    this.refresh();
  }

  toggle(filter, word) {
    const words = new Set(this.chosen[filter] || []);
    if (!words.delete(word)) words.add(word);
    this.choose(filter, words);
  }

  sort(at) {
    const column = this.spec.columns[at];
    this.down = this.sorted === at ? !this.down : column.kind === "number";
    this.sorted = at;
    this.heads.forEach((head, i) => head.setAttribute("aria-sort", i === at ? (this.down ? "descending" : "ascending") : "none"));
    this.refresh();
  }

  holds(i) {
    if (!this.query) return true;
    if (this.haystack[i] === undefined) {
      const more = this.spec.searched ? this.spec.searched(i) : "";
      this.haystack[i] = (this.spec.columns.map((column) => column.text(i)).join("\n") + "\n" + more).toLowerCase();
    }
    return this.haystack[i].includes(this.query);
  }

  refresh() {
    const { spec } = this;
    const filters = Object.entries(this.chosen).filter(([, words]) => words.size);
    this.order = [];
    for (let i = 0; i < spec.rows; i++) {
      if (filters.every(([name, words]) => words.has(spec.filters[name](i))) && this.holds(i)) this.order.push(i);
    }
    if (this.sorted !== null) this.arrange();
    this.draw();
  }

  // What has no value stands last, in either direction.
  arrange() {
    const column = this.spec.columns[this.sorted];
    const value = column.value || column.text;
    const keyed = this.order.map((i) => [value(i), i]);
    const none = (v) => v === null || v === undefined || v === "";
    keyed.sort(([a, i], [b, j]) => {
      if (none(a) || none(b)) return none(a) - none(b) || i - j;
      return (this.down ? compare(b, a) : compare(a, b)) || i - j;
    });
    this.order = keyed.map(([, i]) => i);
  }

  draw() {
    const { spec } = this;
    const rows = this.order.slice(0, this.limit).flatMap((i) => this.rowOf(i));
    const width = spec.columns.length + (spec.details ? 1 : 0);
    if (!rows.length) rows.push(el("tr", { role: "row" }, el("td", { role: "cell", class: "none", colspan: width, text: spec.rows ? "Nothing matches." : spec.empty })));
    this.body.replaceChildren(...rows);
    const left = this.order.length - this.limit;
    this.more.hidden = left <= 0;
    this.more.textContent = `Show ${Math.min(STEP_ROWS, left)} more of ${count(left)}`;
    this.tally.textContent = this.said();
    this.tools.hidden = spec.rows < FEW_ROWS;
  }

  said() {
    const { spec } = this;
    const drawn = Math.min(this.limit, this.order.length);
    const matching = this.order.length < spec.rows ? `${count(this.order.length)} matching of ` : "";
    const held = spec.of > spec.rows ? `${count(spec.rows)} held here, of ${count(spec.of)} in all` : count(spec.rows);
    return `${count(drawn)} shown · ${matching}${held}`;
  }

  rowOf(i) {
    const { spec } = this;
    const cells = spec.columns.map((column) => {
      const cell = el("td", { role: "cell", class: this.classOf(column), "data-label": column.label });
      if (column.render) cell.append(column.render(i));
      else cell.textContent = column.text(i);
      return cell;
    });
    const row = el("tr", { role: "row" });
    if (!spec.details) {
      row.append(...cells);
      return [row];
    }
    const open = this.opened.has(i);
    const opener = el("button", { type: "button", class: "opener", "aria-expanded": String(open), "aria-label": "Details", click: () => this.open(i, row, opener) });
    row.append(el("td", { role: "cell", class: "opens" }, opener), ...cells);
    return open ? [row, this.detailsOf(i)] : [row];
  }

  detailsOf(i) {
    return el("tr", { role: "row", class: "details" }, el("td", { role: "cell", colspan: this.spec.columns.length + 1 }, this.spec.details(i)));
  }

  open(i, row, opener) {
    const open = !this.opened.has(i);
    if (open) {
      this.opened.add(i);
      row.after(this.detailsOf(i));
    } else {
      this.opened.delete(i);
      row.nextElementSibling.remove();
    }
    opener.setAttribute("aria-expanded", String(open));
  }

  // On paper nothing can be opened: what is shown is opened, and closed again.
  unfold(open) {
    if (!this.spec.details) return;
    if (open) this.before = new Set(this.opened);
    this.opened = open ? new Set(this.order.slice(0, this.limit)) : this.before;
    this.draw();
  }
}

function told(pairs) {
  const list = el("dl", { class: "told" });
  for (const [name, value] of pairs) {
    if (value === null || value === undefined || value === "") continue;
    list.append(el("dt", { text: name }), el("dd", typeof value === "string" ? { text: value } : {}, ...(typeof value === "string" ? [] : [value])));
  }
  return list;
}
