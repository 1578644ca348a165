// The data of the page, and words for it. Everything that comes from the data reaches the page as text.

const data = JSON.parse(document.getElementById("data").textContent);
const SEVERITY_MARK = { error: "✕", warning: "▲", info: "●" };
const DAY_MS = 86400000;

// Characters that show as nothing, or turn what follows around, are written out.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;
const shown = (text) => text.replace(UNSEEN, (c) => "\\u" + c.codePointAt(0).toString(16).padStart(4, "0"));

function unpacked({ values, runs }) {
  if (!runs) return values;
  const all = [];
  for (let i = 0; i < runs.length; i += 2) for (let n = runs[i + 1]; n > 0; n--) all.push(runs[i]);
  return all;
}

// A column as it is read: words, milliseconds since 1970, or numbers; null where there is none.
function read(column) {
  const values = unpacked(column);
  if (column.words) {
    const words = column.words.map(shown);
    return values.map((code) => (code === null ? null : words[code]));
  }
  if (column.unit === "day") return values.map((day) => (day === null ? null : day * DAY_MS));
  if (column.unit) return values.map((count) => (count === null ? null : (count * column.unit) / 1000));
  return values;
}

function readTable(table) {
  const columns = {};
  // A column may be called as what counts them is.
  for (const [name, column] of Object.entries(table.columns)) columns[name === "rows" ? "rows_" : name] = read(column);
  return { rows: table.rows, of: table.of, ...columns };
}

const settings = { adjusted: true, utc: false };
const listeners = [];
const onSettings = (listener) => listeners.push(listener);
function set(name, value) {
  settings[name] = value;
  for (const listener of listeners) listener(name);
}

const series = readTable(data.series);
const calendars = readTable(data.calendars);
const zoneOfCalendar = new Map(calendars.calendar.map((code, i) => [code, calendars.time_zone[i]]));
const key = (symbol, priceType, interval) => [symbol, priceType, interval].join("\u0000");
const seriesAt = new Map();
const calendarOfSymbol = new Map();
for (let i = 0; i < series.rows; i++) {
  seriesAt.set(key(series.symbol[i], series.price_type[i], series.interval[i]), i);
  if (!calendarOfSymbol.has(series.symbol[i])) calendarOfSymbol.set(series.symbol[i], series.calendar[i]);
}
const manyIntervals = new Set(series.interval).size > 1;
const manyPrices = series.price_type.some((type) => type !== "last");

function seriesName(symbol, priceType, interval) {
  const more = [manyPrices ? priceType : null, manyIntervals ? interval : null].filter((part) => part);
  return [symbol, ...more].join(" · ");
}

const zoneOf = (symbol) => zoneOfCalendar.get(calendarOfSymbol.get(symbol)) || "UTC";

// Words for numbers and instants.
const whole = new Intl.NumberFormat("en-US");
const count = (n) => (n === null || n === undefined ? "" : whole.format(n));
const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });
const decimal = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 6 });
const amount = (x) => (x === null ? "" : decimal.format(x));

// A share is never rounded to a whole that it is not.
function percent(share) {
  if (share === null || share === undefined || Number.isNaN(share)) return "–";
  if (share >= 1) return "100 %";
  if (share <= 0) return "0 %";
  const digits = share > 0.9999 || share < 0.0001 ? 4 : share > 0.999 || share < 0.001 ? 3 : 2;
  const text = Math.min(share * 100, 99.9999).toFixed(digits);
  return (text.startsWith("100") ? "99.9999" : text) + " %";
}

// For what is known no better; none and all are said only of what is.
function roughly(share) {
  if (share === null) return "";
  if (share > 0 && share < 0.01) return "< 1 %";
  return (share < 1 ? Math.min(Math.round(share * 100), 99) : 100) + " %";
}

const day = (ms) => (ms === null ? "" : new Date(ms).toISOString().slice(0, 10));
const WEEKDAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const weekday = (ms) => WEEKDAYS[new Date(ms).getUTCDay()];

const formats = new Map();
function formatOf(zone) {
  if (!formats.has(zone)) {
    const wanted = {
      year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
      hourCycle: "h23", timeZoneName: "short",
    };
    let format;
    try {
      format = new Intl.DateTimeFormat("en-US", { ...wanted, timeZone: zone });
    } catch {
      format = new Intl.DateTimeFormat("en-US", { ...wanted, timeZone: "UTC" }); // a zone that this browser does not know
    }
    formats.set(zone, format);
  }
  return formats.get(zone);
}

function instant(ms, zone, withDay = true) {
  if (ms === null || ms === undefined) return "";
  const part = {};
  for (const { type, value } of formatOf(settings.utc ? "UTC" : zone).formatToParts(ms)) part[type] = value;
  const seconds = part.second === "00" ? "" : ":" + part.second;
  const time = part.hour + ":" + part.minute + seconds;
  return withDay ? `${part.year}-${part.month}-${part.day} ${time} ${part.timeZoneName}` : time;
}

// The end of what began at `start`: the day only where it is another one.
function ending(start, end, zone) {
  const head = (ms) => instant(ms, zone).slice(0, 10);
  return instant(end, zone, start === null || end === null || head(start) !== head(end));
}

function clock(minutes) {
  const inDay = ((minutes % 1440) + 1440) % 1440;
  const two = (n) => String(Math.floor(n)).padStart(2, "0");
  const days = Math.floor(minutes / 1440);
  const shift = days === 0 || (days === 1 && inDay === 0) ? "" : days < 0 ? " −" + -days + "d" : " +" + days + "d";
  return (days === 1 && inDay === 0 ? "24:00" : two(inDay / 60) + ":" + two(inDay % 60)) + shift;
}

// An element: `text` is text, functions are listeners, anything else is an attribute.
function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined) continue;
    if (name === "text") node.textContent = value;
    else if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// A symbol may hold letters of any direction: they turn nothing but themselves.
const symbolText = (text) => el("bdi", { class: "symbol", text, title: text });
const severityText = (level) =>
  el("span", { class: "severity " + level }, el("span", { "aria-hidden": "true", text: SEVERITY_MARK[level] || "" }), level);
const causeName = (cause) => cause.replaceAll("_", " ");
const causeText = (cause) =>
  el("span", { class: "cause", title: data.glossary[cause] || null },
    el("i", { class: "swatch " + (data.families[cause] || "unknown"), "aria-hidden": "true" }), causeName(cause));
