// A picture of many cells on a canvas: only what is in view is drawn; a pointer or the arrow keys say what a cell is.

const LEVEL_NAMES = ["complete", "up to 0.5 % missing", "up to 5 %", "up to 20 %", "up to 50 %", "over 50 %", "all missing"];
const LEVEL_BOUNDS = [0, 0.005, 0.05, 0.2, 0.5];
const MARKED_WIDTH = 6;
const MARKED_HEIGHT = 9;
const AXIS_HEIGHT = 20;
const PROFILE_HEIGHT = 54;
const ROOM_ABOVE = 5;
const FONT = "11px system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif";

function levelOf(missingShare) {
  if (missingShare === null) return -1;
  if (missingShare >= 1) return 6;
  const at = LEVEL_BOUNDS.findIndex((bound) => missingShare <= bound);
  return at < 0 ? 5 : at;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

function palette() {
  const names = ["surface", "sunken", "text", "muted", "line", "accent", "line-strong"];
  const found = Object.fromEntries(names.map((name) => [name, colour(name)]));
  found.levels = LEVEL_NAMES.map((_, i) => colour("l" + i));
  found.inks = LEVEL_NAMES.map((_, i) => colour("ink" + i));
  return found;
}

// Worse levels carry dots, and an absence a cross, for whoever does not see the colours.
function drawMark(ink, level, x, y, width, height, colours) {
  if (level < 3 || width < MARKED_WIDTH || height < MARKED_HEIGHT) return;
  if (level === 6) {
    ink.strokeStyle = colours.inks[level];
    ink.lineWidth = 1.2;
    ink.beginPath();
    const reach = Math.min(width, height) / 2 - 2;
    const [cx, cy] = [x + width / 2, y + height / 2];
    ink.moveTo(cx - reach, cy - reach);
    ink.lineTo(cx + reach, cy + reach);
    ink.moveTo(cx + reach, cy - reach);
    ink.lineTo(cx - reach, cy + reach);
    ink.stroke();
    return;
  }
  ink.fillStyle = colours.inks[level];
  const dots = level - 2;
  for (let d = 0; d < dots; d++) ink.fillRect(x + width / 2 - 1, y + (height * (d + 1)) / (dots + 1) - 1, 2, 2);
}

function sized(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = width + "px";
  canvas.style.height = height + "px";
  const ink = canvas.getContext("2d");
  ink.setTransform(ratio, 0, 0, ratio, 0, 0);
  return ink;
}

function legend() {
  const list = el("ul", { class: "legend", "aria-label": "Scale: share of slots missing" });
  const swatches = [];
  LEVEL_NAMES.forEach((name, level) => {
    const canvas = el("canvas", { "aria-hidden": "true" });
    swatches.push([canvas, level]);
    list.append(el("li", {}, canvas, name));
  });
  const draw = () => {
    const colours = palette();
    for (const [canvas, level] of swatches) {
      const ink = sized(canvas, 14, 14);
      ink.fillStyle = colours.levels[level];
      ink.fillRect(0, 0, 14, 14);
      drawMark(ink, level, 0, 0, 14, 14, colours);
    }
  };
  redraws.push(draw);
  draw();
  return list;
}

// What is to be drawn again when colours or widths change.
const redraws = [];
const redrawAll = () => redraws.forEach((draw) => draw());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
let pending = 0;
window.addEventListener("resize", () => { cancelAnimationFrame(pending); pending = requestAnimationFrame(redrawAll); });

/* `spec`: rows, columns; share(row, column): missing 0-1, or null where nothing is; rowLabel(row), rowHeight(rows);
   ticks(room): [{ at, text }]; describe(row, column); activate(row, column)?; profile()?: [{ mean, worst }] by column;
   marks?: [{ row, from, to }] in columns; label: what the picture shows, for who cannot see it. */
class Matrix {
  constructor(host, spec) {
    Object.assign(this, { host, spec, focus: null, keys: false, base: document.createElement("canvas") });
    this.canvas = el("canvas", {
      tabindex: "0", role: "application", "aria-roledescription": "picture of cells", "aria-label": spec.label + " Arrow keys move from cell to cell.",
      keydown: (event) => this.pressed(event), blur: () => this.leave(), focus: () => this.entered(),
      pointermove: (event) => this.pointed(event), pointerleave: () => this.leave(), click: (event) => this.clicked(event),
    });
    this.room = el("div", {}, this.canvas);
    this.scroller = el("div", { class: "scroller", scroll: () => this.draw() }, this.room);
    this.tip = el("div", { class: "tip", role: "status" });
    host.append(el("div", { class: "matrix" }, this.scroller, this.tip));
    redraws.push(() => this.layout());
    this.layout();
  }

  layout() {
    const { spec, scroller } = this;
    this.head = AXIS_HEIGHT + (spec.profile ? PROFILE_HEIGHT : 0);
    this.top = this.head + ROOM_ABOVE;
    this.rowHeight = Math.max(spec.rowHeight(spec.rows), 1);
    const total = this.top + Math.ceil(spec.rows * this.rowHeight) + 4;
    this.room.style.height = total + "px";
    this.width = Math.max(scroller.clientWidth, 200);
    this.height = document.documentElement.dataset.print ? total : Math.min(total, 558);
    this.left = spec.sparseLabels ? 80 : this.rowHeight < 10 ? 12 : Math.min(this.labelWidth() + 18, Math.max(this.width * 0.16, 80));
    this.columnWidth = (this.width - this.left - 6) / spec.columns;
    this.profiled = spec.profile ? spec.profile() : null;
    this.draw();
  }

  labelWidth() {
    const ink = this.canvas.getContext("2d");
    ink.font = FONT;
    let most = 30;
    for (let row = 0; row < this.spec.rows; row++) most = Math.max(most, ink.measureText(this.spec.rowLabel(row).slice(0, 60)).width);
    return most;
  }

  // On paper everything is shown, from the top.
  get scrolled() { return document.documentElement.dataset.print ? 0 : this.scroller.scrollTop; }

  x(column) { return this.left + column * this.columnWidth; }
  y(row) { return this.top + row * this.rowHeight - this.scrolled; }

  // Everything but the focus, kept: a pointer that moves draws no cell again.
  draw() {
    const { spec } = this;
    const ink = sized(this.base, this.width, this.height);
    const colours = palette();
    ink.font = FONT;
    ink.textBaseline = "middle";
    const first = Math.max(0, Math.floor(this.scrolled / this.rowHeight));
    const last = Math.min(spec.rows, Math.ceil((this.scrolled + this.height - this.top) / this.rowHeight) + 1);
    this.drawCells(ink, colours, first, last);
    this.drawLabels(ink, colours, first, last);
    this.drawOutages(ink, colours);
    this.drawHead(ink, colours);
    this.inkOfFocus = colours.text;
    sized(this.canvas, this.width, this.height);
    this.paint();
  }

  paint() {
    const ink = this.canvas.getContext("2d");
    ink.setTransform(1, 0, 0, 1, 0, 0);
    ink.clearRect(0, 0, this.canvas.width, this.canvas.height);
    ink.drawImage(this.base, 0, 0);
    const ratio = this.canvas.width / this.width;
    ink.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.drawFocus(ink);
  }

  drawCells(ink, colours, first, last) {
    const gapX = this.columnWidth >= 5 ? 1 : 0;
    const gapY = this.rowHeight >= 5 ? 1 : 0;
    for (let row = first; row < last; row++) {
      const y = Math.round(this.y(row));
      const height = Math.max(Math.round(this.y(row + 1)) - y - gapY, 1);
      for (let column = 0; column < this.spec.columns; column++) {
        const level = levelOf(this.spec.share(row, column));
        if (level < 0) continue;
        const x = Math.round(this.x(column));
        const width = Math.max(Math.round(this.x(column + 1)) - x - gapX, 1);
        ink.fillStyle = colours.levels[level];
        ink.fillRect(x, y, width, height);
        drawMark(ink, level, x, y, width, height, colours);
      }
    }
  }

  drawLabels(ink, colours, first, last) {
    ink.fillStyle = colours.muted;
    ink.textAlign = "right";
    const every = Math.max(1, Math.ceil(12 / this.rowHeight));
    if (every > 1 && !this.spec.sparseLabels) return;
    for (let row = first - (first % every); row < last; row += every) {
      ink.fillText(this.clipped(ink, this.spec.rowLabel(row)), this.left - 8, this.y(row) + this.rowHeight / 2);
    }
  }

  clipped(ink, text) {
    const most = this.left - 10;
    let cut = text.length > 60 ? text.slice(0, 60) : text;
    if (cut === text && ink.measureText(text).width <= most) return text;
    while (cut.length > 1 && ink.measureText(cut + "…").width > most) cut = cut.slice(0, -1);
    return cut + "…";
  }

  drawOutages(ink, colours) {
    ink.strokeStyle = colours.accent;
    ink.lineWidth = 1.5;
    for (const { row, from, to } of this.spec.marks || []) {
      const x = this.x(from) - 1.5;
      ink.strokeRect(x, this.y(row) - 1, Math.max((to - from) * this.columnWidth + 2, 4), this.rowHeight + 1);
    }
  }

  drawFocus(ink) {
    if (!this.focus) return;
    const { row, column } = this.focus;
    if (this.y(row) < this.head) return; // scrolled away
    ink.strokeStyle = this.inkOfFocus;
    ink.lineWidth = 2;
    ink.strokeRect(this.x(column) - 1, this.y(row) - 1, Math.max(this.columnWidth, 3) + 1, Math.max(this.rowHeight, 3) + 1);
  }

  drawHead(ink, colours) {
    const { spec } = this;
    ink.fillStyle = colours.surface;
    ink.fillRect(0, 0, this.width, this.head);
    if (this.profiled) this.drawProfile(ink, colours);
    ink.fillStyle = colours.muted;
    ink.strokeStyle = colours["line-strong"];
    ink.lineWidth = 1;
    let free = 0;
    for (const { at, text } of spec.ticks(Math.max(2, Math.floor((this.width - this.left) / (spec.tickRoom || 70))))) {
      const x = Math.round(this.x(at)) + 0.5;
      ink.beginPath();
      ink.moveTo(x, AXIS_HEIGHT - 5);
      ink.lineTo(x, AXIS_HEIGHT - 1);
      ink.stroke();
      const width = ink.measureText(text).width;
      const start = Math.min(Math.max(x - 2, 0), this.width - width - 2);
      if (start < free) continue;
      ink.textAlign = "left";
      ink.fillText(text, start, 8);
      free = start + width + 10;
    }
  }

  // Over all rows: bars for the worst, so that what all lack even once stands out as a line, and the mean on them.
  drawProfile(ink, colours) {
    const floor = this.head - 4;
    const reach = PROFILE_HEIGHT - 10;
    ink.fillStyle = colours.sunken;
    ink.fillRect(this.left, floor - reach, this.width - this.left - 6, reach);
    this.profiled.forEach((cell, column) => {
      if (!cell) return;
      const x = Math.round(this.x(column));
      const width = Math.max(Math.round(this.x(column + 1)) - x, 1);
      ink.fillStyle = colours.levels[levelOf(cell.worst)];
      ink.fillRect(x, floor - cell.worst * reach, width, cell.worst * reach);
      ink.fillStyle = colours.accent;
      ink.fillRect(x, floor - cell.mean * reach - 1, width, cell.mean > 0 ? 2 : 0);
    });
    ink.fillStyle = colours.muted;
    ink.textAlign = "right";
    ink.fillText("100 %", this.left - 8, floor - reach + 5);
    ink.fillText("0", this.left - 8, floor - 3);
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left - this.left) / this.columnWidth);
    const below = event.clientY - box.top - this.top;
    const row = Math.floor((below + this.scroller.scrollTop) / this.rowHeight);
    const inside = below >= 0 && column >= 0 && column < this.spec.columns && row >= 0 && row < this.spec.rows;
    return inside ? { row, column } : null;
  }

  pointed(event) {
    this.keys = false;
    this.show(this.at(event));
  }

  clicked(event) {
    const cell = this.at(event);
    this.show(cell);
    if (cell && this.spec.activate) this.spec.activate(cell.row, cell.column);
  }

  entered() {
    if (!this.canvas.matches(":focus-visible")) return;
    this.keys = true;
    this.show(this.focus || { row: 0, column: 0 });
  }

  leave() {
    if (this.keys && document.activeElement === this.canvas) return;
    this.show(null);
  }

  pressed(event) {
    const now = this.focus || { row: 0, column: 0 };
    const page = Math.max(1, Math.floor((this.height - this.top) / this.rowHeight) - 1);
    const moves = {
      ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], PageUp: [-page, 0], PageDown: [page, 0],
      Home: [0, -this.spec.columns], End: [0, this.spec.columns],
    };
    if (event.key === "Escape") { this.keys = false; this.show(null); return; }
    if (event.key === "Enter" && this.focus && this.spec.activate) { this.spec.activate(now.row, now.column); return; }
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    this.keys = true;
    const bound = (value, most) => Math.min(Math.max(value, 0), most - 1);
    this.reveal(bound(now.row + move[0], this.spec.rows));
    this.show({ row: bound(now.row + move[0], this.spec.rows), column: bound(now.column + move[1], this.spec.columns) });
  }

  reveal(row) {
    const [start, end] = [row * this.rowHeight, (row + 1) * this.rowHeight];
    const view = this.height - this.top - 4;
    if (start < this.scroller.scrollTop) this.scroller.scrollTop = start;
    if (end > this.scroller.scrollTop + view) this.scroller.scrollTop = end - view;
  }

  show(cell) {
    this.focus = cell;
    this.paint();
    this.tip.textContent = cell ? this.spec.describe(cell.row, cell.column) : "";
    if (!cell) return;
    const box = this.host.querySelector(".matrix").getBoundingClientRect();
    const [x, y] = [this.x(cell.column) + this.columnWidth, this.y(cell.row) + this.rowHeight];
    const over = x + this.tip.offsetWidth + 14 > box.width;
    this.tip.style.left = (over ? Math.max(0, this.x(cell.column) - this.tip.offsetWidth - 8) : x + 10) + "px";
    this.tip.style.top = Math.max(0, y + 8 + this.tip.offsetHeight > box.height + 40 ? y - this.tip.offsetHeight - 12 : y + 8) + "px";
  }
}
