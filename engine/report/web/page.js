// The sections of the page, from top to bottom.

const { totals } = data;
const main = document.getElementById("main");
const tables = {};

function section(id, title, lead) {
  const node = el("section", { id, "aria-labelledby": id + "-title" },
    el("div", { class: "head" }, el("h2", { id: id + "-title", text: title })),
    lead ? el("p", { class: "lead", text: lead }) : null);
  main.append(node);
  return node;
}

const of = (name, shownRows, all) =>
  all > shownRows ? `${count(shownRows)} of ${count(all)} ${name} are held here, the most important ones; the Parquet tables hold all.` : null;
const note = (text) => (text ? el("p", { class: "note", text }) : "");

function choice(label, options, chosen, pick) {
  const buttons = options.map(([value, text]) =>
    el("button", { type: "button", text, "aria-pressed": String(value === chosen), click: () => {
      buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(options[i][0] === value)));
      pick(value);
    } }));
  return el("span", { class: "choice", role: "group", "aria-label": label }, ...buttons);
}

function jump(id) {
  document.getElementById(id).scrollIntoView();
}

// --- headline ------------------------------------------------------------------------------------------------------

function headline() {
  const { verdict, about } = data;
  const state = verdict ? (verdict.passed ? "passed" : "failed") : "open";
  const mark = { passed: "✓", failed: "✕", open: "–" }[state];
  const word = { passed: "Passed", failed: "Failed", open: "Not judged" }[state];
  const top = document.getElementById("top");
  top.append(el("div", { class: "title" },
    el("h1", { text: shown(about.title || "Audit") }),
    el("span", { class: "verdict " + state }, el("span", { "aria-hidden": "true", text: mark }), word)));
  if (verdict) top.append(el("p", { class: "said", text: shown(verdict.text) }));
  if (verdict && verdict.reasons.length) top.append(el("ul", { class: "reasons" }, ...verdict.reasons.map((reason) => el("li", { text: shown(reason) }))));
  const lines = Object.entries(about).filter(([name]) => name !== "title");
  if (lines.length) {
    top.append(el("dl", { class: "about" }, ...lines.map(([name, value]) =>
      el("div", {}, el("dt", { text: shown(name.replaceAll("_", " ")) }), el("dd", { text: shown(value) })))));
  }
  top.append(figures());
}

function figure(label, value, more) {
  return el("div", {}, el("dt", { text: label }), el("dd", {}, value, more ? el("small", {}, more) : null));
}

function fraction(x) {
  return x === null ? null : x / 100;
}

function figures() {
  const { expected, present, missing, explained, filled } = totals;
  const share = (n) => (expected ? n / expected : null);
  const severities = el("span", { class: "counts" }, ...Object.entries(data.severities).map(([level, n]) =>
    el("span", { class: "severity " + level }, el("span", { "aria-hidden": "true", text: SEVERITY_MARK[level] }), n < 10000 ? count(n) : compact.format(n), el("span", { class: "unseen", text: " " + level }))));
  const range = totals.first ? el("span", {}, el("span", { class: "unbroken", text: totals.first + " to" }), " ", el("span", { class: "unbroken", text: totals.last })) : "no sessions";
  const held = totals.files ? `in ${count(totals.files)} file${totals.files === 1 ? "" : "s"}` + (totals.files_bad ? `, ${count(totals.files_bad)} with problems` : "") : "";
  return el("dl", { class: "figures" },
    figure("Quality, adjusted", percent(fraction(totals.quality_adjusted)), "present or rightly absent" + (filled ? `; ${count(filled)} filled slots are not` : "")),
    figure("Quality, raw", percent(share(present)), `${count(present)} of ${count(expected)} slots`),
    figure("Unexplained", count(missing - explained), `slots of ${count(missing)} missing, in ${count(totals.gaps)} gaps`),
    figure("Findings", severities, "errors · warnings · notes"),
    figure("Outages", count(totals.outages), "many series at once"),
    figure("Series × sessions", `${count(totals.series)} × ${count(totals.sessions)}`, range),
    figure("Rows read", count(totals.files ? totals.files_rows : totals.rows), held));
}

function bar() {
  const links = [["coverage", "Coverage"], ["slots", "Slots of the day"], ["symbols", "Symbols"], ["causes", "Causes"], ["findings", "Findings"], ["gaps", "Gaps"], ["outages", "Outages"], ...(data.filled.length ? [["fills", "Filled"]] : []), ["calendars", "Calendars"], ["files", "Files"], ["glossary", "Glossary"]];
  const list = el("ul", { class: "links" }, ...links.map(([id, text]) => el("li", {}, el("a", { href: "#" + id, text }))));
  const quality = choice("Quality", [[false, "Raw"], [true, "Adjusted"]], settings.adjusted, (value) => set("adjusted", value));
  const times = choice("Times", [[false, "Venue time"], [true, "UTC"]], settings.utc, (value) => set("utc", value));
  document.getElementById("bar").append(el("div", { class: "within" }, list, quality, times));
}

// --- coverage ------------------------------------------------------------------------------------------------------

const cells = Object.fromEntries(Object.entries(data.coverage.cells).map(([name, column]) => [name, unpacked(column)]));
const periods = readTable(data.coverage.periods).start;
const due = (at, adjusted) => cells.expected[at] - (adjusted ? cells.excluded[at] : 0);
// Filled slots have a bar, which is none for the adjusted quality.
const lost = (at, adjusted) => cells.missing[at] - (adjusted ? cells.explained[at] + cells.excluded[at] - cells.filled[at] : 0);
const lack = (at, adjusted) => (due(at, adjusted) > 0 ? lost(at, adjusted) / due(at, adjusted) : null);
const called = (i) => seriesName(series.symbol[i], series.price_type[i], series.interval[i]);

function spanOf(every, start) {
  return every === "session" ? `${weekday(start)} ${day(start)}` : `${every} from ${day(start)}`;
}

// Ticks where a new month, year or week begins, or else evenly; as many as there is room for.
function dateTicks(starts, room) {
  const every = Math.max(1, Math.ceil(starts.length / room));
  const ticks = [];
  for (let at = 0; at < starts.length; at += every) ticks.push({ at, text: day(starts[at]).slice(at === 0 || starts.length > 200 ? 0 : 5) });
  return ticks;
}

const ORDERS = {
  worst: { text: "Worst first", by: () => 0 },
  symbol: { text: "By symbol", by: (a, b) => compare(called(a), called(b)) },
  calendar: { text: "By calendar", by: (a, b) => compare(series.calendar[a], series.calendar[b]) },
  activity: { text: "By activity", by: (a, b) => compare(series.activity[a], series.activity[b]) },
};

function coverageSection() {
  const { rows, of: all, every } = data.coverage;
  const node = section("coverage", "Coverage", `Each row is a series, each column a ${every}; the stronger a cell, the more of its expected slots are missing. Adjusted leaves out slots without a trade and halts. Blank: nothing was expected.`);
  if (!rows || !periods.length) return void node.append(el("p", { class: "none", text: "Nothing was expected." }));
  let order = Array.from({ length: rows }, (_, i) => i);
  let dense = rows > 45;
  const pick = el("select", { "aria-label": "Order of rows", change: () => {
    order = Array.from({ length: rows }, (_, i) => i).sort((a, b) => ORDERS[pick.value].by(a, b) || a - b);
    picture.layout();
  } }, ...Object.entries(ORDERS).map(([value, { text }]) => el("option", { value, text })));
  const height = choice("Height of rows", [[false, "Names"], [true, "Overview"]], dense, (value) => { dense = value; picture.layout(); });
  node.append(el("div", { class: "tools" }, pick, height), legend());
  const at = (row, column) => order[row] * periods.length + column;
  const picture = new Matrix(node, {
    label: `Coverage of ${rows} series in ${periods.length} ${every}s.`,
    rows, columns: periods.length,
    rowHeight: (n) => (dense || document.documentElement.dataset.print ? Math.min(Math.max(480 / n, 1), 16) : 16),
    share: (row, column) => lack(at(row, column), settings.adjusted),
    rowLabel: (row) => called(order[row]),
    ticks: (room) => dateTicks(periods, room),
    describe: (row, column) => coverageWords(order[row], column, every),
    activate: (row, column) => showGaps(series.symbol[order[row]], every === "session" ? day(periods[column]) : ""),
  });
  onSettings(() => picture.draw());
  node.append(note(of("series", rows, all)), note("A cell opens the gaps of its symbol and session: click, or Enter."));
}

function coverageWords(i, column, every) {
  const at = i * periods.length + column;
  const name = called(i).length > 60 ? called(i).slice(0, 60) + "…" : called(i);
  const head = `${name}, ${spanOf(every, periods[column])}`;
  const expected = cells.expected[at];
  if (!expected) return `${head}\nnothing expected`;
  const [missing, explained, filled] = [cells.missing[at], cells.explained[at], cells.filled[at]];
  const shares = [false, true].map((adjusted) => lack(at, adjusted)).map((share) => percent(share === null ? null : 1 - share));
  return `${head}\nraw ${shares[0]}, adjusted ${shares[1]}\n${count(missing)} of ${count(expected)} slots missing, ${count(explained)} explained${filled ? `, ${count(filled)} filled` : ""}`;
}

function showGaps(symbol, query) {
  const { gaps } = tables;
  gaps.choose("symbol", symbol === null ? [] : [symbol]);
  gaps.find(query);
  jump("gaps");
}

// --- slots of the day ----------------------------------------------------------------------------------------------

const LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const ALL_LEVEL = 61;

function sharesOf(text) {
  const squared = new Map(Array.from(LEVELS, (c, level) => [c, (level / ALL_LEVEL) ** 2]));
  return Array.from(text, (c) => (c === "." ? null : squared.get(c)));
}

function slotsSection() {
  const node = section("slots", "Slots of the day", "Each row is a session, each column a slot of the day by the venue's clock; the stronger, the more series lack it. Above, over all sessions: bars for the worst one, a blue line for the mean. An outage is a mark (outlined) and stands out above; hours that the calendar has and the venue does not are a band from top to bottom.");
  if (!data.slots.length) return void node.append(el("p", { class: "none", text: "Nothing was expected." }));
  const pictures = el("div", { class: "pictures" });
  node.append(legend(), pictures);
  for (const picture of data.slots) slotPicture(pictures, picture);
  if (totals.calendars > data.slots.length) node.append(note(of("calendars", data.slots.length, totals.calendars)));
}

function slotPicture(host, spec) {
  const starts = readTable(spec.sessions).start;
  const shares = { raw: sharesOf(spec.raw), adjusted: sharesOf(spec.adjusted) };
  const now = () => (settings.adjusted ? shares.adjusted : shares.raw);
  const marks = readTable(spec.marks);
  const outages = Array.from({ length: marks.rows }, (_, i) => ({ row: marks.row[i], from: marks.from[i], to: marks.to[i], id: marks.outage_id[i] }));
  const figureNode = el("div", { class: "picture" }, el("h3", { text: shown(spec.calendar) },
    el("small", { text: `${count(spec.series)} series, ${spec.step} min a column, ${shown(spec.zone)}` })));
  host.append(figureNode);
  const time = (column) => clock(spec.first + column * spec.step);
  const profile = () => Array.from({ length: spec.slots }, (_, column) => {
    let [sum, n, worst] = [0, 0, 0];
    for (let row = 0; row < starts.length; row++) {
      const share = now()[row * spec.slots + column];
      if (share === null) continue;
      sum += share;
      n += 1;
      worst = Math.max(worst, share);
    }
    return n ? { mean: sum / n, worst } : null;
  });
  const picture = new Matrix(figureNode, {
    label: `${shown(spec.calendar)}: share of series that lack each slot of the day, in ${starts.length} ${spec.every}s.`,
    rows: starts.length, columns: spec.slots, marks: outages, profile, sparseLabels: true, tickRoom: 45,
    rowHeight: (n) => Math.min(Math.max(260 / n, 2), 13),
    share: (row, column) => now()[row * spec.slots + column],
    rowLabel: (row) => day(starts[row]),
    ticks: (room) => clockTicks(spec, room),
    describe: (row, column) => {
      const share = now()[row * spec.slots + column];
      const head = `${spanOf(spec.every, starts[row])}, ${time(column)} to ${time(column + 1)}`;
      const here = outages.filter((o) => o.row === row && o.from < column + 1 && o.to > column).map((o) => `\noutage ${o.id}`);
      return share === null ? `${head}\nclosed` : `${head}\n${share === 0 ? "no series lacks it" : roughly(share) + " of the series lack it"}${settings.adjusted ? ", explained ones left out" : ""}${here.join("")}`;
    },
  });
  onSettings(() => picture.layout());
}

function clockTicks(spec, room) {
  const minutes = spec.slots * spec.step;
  const every = [10, 15, 30, 60, 120, 180, 240, 360, 720, 1440].find((m) => minutes / m <= room) || 1440;
  const ticks = [];
  for (let m = Math.ceil(spec.first / every) * every; m < spec.first + minutes; m += every) ticks.push({ at: (m - spec.first) / spec.step, text: clock(m) });
  return ticks;
}

// --- symbols, causes -----------------------------------------------------------------------------------------------

function shareBar(share) {
  const fill = el("i");
  fill.style.width = Math.max(0, Math.min(share ?? 0, 1)) * 100 + "%";
  return el("span", { class: "share" }, el("span", { class: "track", "aria-hidden": "true" }, fill), percent(share));
}


function symbolsSection() {
  const node = section("symbols", "Symbols", "The worst first: by adjusted quality, then by slots missing without an explanation. A thin name may lack many slots and nothing be wrong.");
  const s = series;
  tables.symbols = new Table(node, {
    what: "symbols", rows: s.rows, of: s.of, first: 12, empty: "No series.",
    columns: [
      { label: "Symbol", text: called, render: (i) => symbolText(called(i)), kind: "tight" },
      { label: "Adjusted", text: (i) => percent(fraction(s.quality_adjusted[i])), value: (i) => s.quality_adjusted[i], render: (i) => shareBar(fraction(s.quality_adjusted[i])), kind: "number" },
      { label: "Raw", text: (i) => percent(fraction(s.quality[i])), value: (i) => s.quality[i], kind: "number" },
      { label: "Unexplained", text: (i) => count(s.unexplained[i]), value: (i) => s.unexplained[i], kind: "number", title: "Missing slots without an explanation" },
      { label: "Missing", text: (i) => count(s.missing[i]), value: (i) => s.missing[i], kind: "number" },
      { label: "Main cause", text: (i) => causeName(s.main_cause[i] || ""), render: (i) => (s.main_cause[i] ? causeText(s.main_cause[i]) : ""), kind: "tight" },
      { label: "Activity", text: (i) => s.activity[i] || "", kind: "tight", slight: true },
      { label: "Traded", text: (i) => percent(s.traded[i]), value: (i) => s.traded[i], kind: "number", slight: true, title: "Share of slots with a bar while the feed was up" },
      { label: "Calendar", text: (i) => s.calendar[i] || "", kind: "tight", slight: true },
      { label: "Sessions", text: (i) => count(s.sessions[i]), value: (i) => s.sessions[i], kind: "number", slight: true },
      { label: "Rows", text: (i) => count(s.rows_[i]), value: (i) => s.rows_[i], kind: "number", slight: true },
    ],
    details: (i) => told([
      ["Series", [s.symbol[i], s.price_type[i], s.interval[i]].join(" · ")],
      ["Source", s.source[i]],
      ["From, to", s.first_session[i] === null ? "" : `${day(s.first_session[i])} to ${day(s.last_session[i])}`],
      ["Slots", `${count(s.expected[i])} expected, ${count(s.present[i])} present, ${count(s.explained[i])} of the missing explained${s.filled[i] ? `, ${count(s.filled[i])} present but filled` : ""}`],
      ["At the door", ["duplicates", "corrections", "off_grid", "out_of_session", "zero_volume"].map((name) => `${count(s[name][i] ?? 0)} ${name.replaceAll("_", " ")}`).join(", ")],
      ["Gaps", el("button", { type: "button", class: "plain", text: "Show its gaps", click: () => showGaps(s.symbol[i], "") })],
    ]),
  });
  node.append(note(of("series", s.rows, s.of)));
}

function causesSection() {
  const node = section("causes", "Causes", "Why slots are missing. The families differ by colour and pattern: lost by feed or recorder, rightly absent in the market, a matter of the calendar, unknown.");
  const causes = readTable(data.causes);
  if (!causes.rows) return void node.append(el("p", { class: "none", text: "Nothing is missing." }));
  const most = Math.max(...causes.slots);
  const all = causes.slots.reduce((sum, n) => sum + n, 0);
  const list = el("div", { class: "causes" });
  for (let i = 0; i < causes.rows; i++) {
    const fill = el("i", { class: data.families[causes.cause[i]] || "unknown" });
    fill.style.width = (causes.slots[i] / most) * 100 + "%";
    list.append(
      el("button", { type: "button", title: "Show these gaps", click: () => { tables.gaps.choose("symbol", []); tables.gaps.choose("cause", [causes.cause[i]]); jump("gaps"); } }, causeText(causes.cause[i])),
      el("span", { class: "track", "aria-hidden": "true" }, fill),
      el("span", { class: "amount", text: `${count(causes.slots[i])} slots, ${percent(causes.slots[i] / all)}` }),
      el("span", { class: "amount gaps", text: `${count(causes.gaps[i])} gaps, ${count(causes.series[i])} series` }));
  }
  node.append(list);
}

// --- findings, gaps, outages ---------------------------------------------------------------------------------------

function chips(table, filter, words, render) {
  const buttons = words.map(([word, n]) => {
    const button = el("button", { type: "button", class: "chip", "aria-pressed": "false", click: () => table.toggle(filter, word) }, render(word), el("b", { text: count(n) }));
    return [word, button];
  });
  (table.chips ??= {})[filter] = buttons;
  return buttons.map(([, button]) => button);
}

function showChoices(table) {
  for (const [filter, buttons] of Object.entries(table.chips || {})) {
    for (const [word, button] of buttons) button.setAttribute("aria-pressed", String((table.chosen[filter] || new Set()).has(word)));
  }
}

function wordsIn(column) {
  const counts = new Map();
  for (const word of column) counts.set(word, (counts.get(word) || 0) + 1);
  return [...counts];
}

const RANK = { error: 0, warning: 1, info: 2 };

function findingsSection() {
  const node = section("findings", "Findings", "What the checks found, errors first. A row opens to its remedy, its fingerprint (for lists of what is known) and a picture where there is one.");
  const f = readTable(data.findings);
  const span = (i) => zoneOf(f.symbol[i]);
  const who = (i) => (f.symbol[i] !== null ? seriesName(f.symbol[i], f.price_type[i], f.interval[i]) : f.parts[i] ? count(f.parts[i]) + " series" : "");
  const beneath = partsOf(readTable(data.parts));
  const select = (table) => {
    const names = wordsIn(f.check_name).sort(([a], [b]) => compare(a, b));
    const pick = el("select", { "aria-label": "Check", change: () => table.choose("check_name", pick.value === "\u0000" ? [] : [pick.value]) },
      el("option", { value: "\u0000", text: "All checks" }), ...names.map(([name, n]) => el("option", { value: name, text: `${name} (${count(n)})` })));
    return pick;
  };
  tables.findings = new Table(node, {
    what: "findings", rows: f.rows, of: f.of, empty: "Nothing was found.",
    filters: { severity: (i) => f.severity[i], check_name: (i) => f.check_name[i] },
    onChoice: showChoices,
    tools: (table) => [...chips(table, "severity", Object.keys(RANK).map((level) => [level, data.severities[level]]), severityText), select(table)],
    searched: (i) => [f.evidence[i], f.remedy[i], f.source[i], f.fingerprint[i]].join("\n"),
    columns: [
      { label: "Severity", text: (i) => f.severity[i], value: (i) => RANK[f.severity[i]], render: (i) => severityText(f.severity[i]), kind: "tight" },
      { label: "Check", text: (i) => f.check_name[i], kind: "tight" },
      { label: "Symbol", text: who, render: (i) => (f.symbol[i] === null ? who(i) : symbolText(who(i))), kind: "tight" },
      { label: "Session", text: (i) => day(f.session[i]), value: (i) => f.session[i], kind: "tight", slight: true },
      { label: "Count", text: (i) => count(f.count[i]), value: (i) => f.count[i], kind: "number", slight: true },
      { label: "Finding", text: (i) => f.message[i], render: (i) => saidOf(f.message[i], f.evidence[i]), kind: "wide" },
    ],
    details: (i) => {
      const strip = stripOf(f.symbol[i], f.price_type[i], f.interval[i], f.start_ts[i]);
      const list = told(document.documentElement.dataset.print ? [["Remedy", f.remedy[i]]] : [
        ["Remedy", f.remedy[i]], ["Evidence", f.evidence[i]],
        ["Session", day(f.session[i])], ["Span", [instant(f.start_ts[i], span(i)), ending(f.start_ts[i], f.end_ts[i], span(i))].filter((part) => part).join(" to ")],
        ["Count", count(f.count[i])], ["Value", f.value[i] === null ? "" : amount(f.value[i])],
        ["Parts", beneath(f.fingerprint[i], "part", f.parts[i])], ["Explains", beneath(f.fingerprint[i], "consequence")],
        ["Source", f.source[i]], ["Fingerprint", el("code", { text: f.fingerprint[i] || "" })],
      ]);
      return el("div", {}, list, strip ? drawStrip(strip, span(i), f.evidence[i]) : "");
    },
  });
  node.append(note(of("findings", f.rows, f.of)));
}

const MOST_PARTS = 30;

function partsOf(p) {
  const of = new Map();
  for (let i = 0; i < p.rows; i += 1) {
    const name = p.finding[i] + "\n" + p.role[i];
    if (!of.has(name)) of.set(name, []);
    of.get(name).push(i);
  }
  return (fingerprint, role, most) => {
    const own = of.get(fingerprint + "\n" + role) || [];
    if (!own.length) return "";
    const left = Math.max(most || 0, own.length) - Math.min(own.length, MOST_PARTS);
    const line = (i) => el("li", { text: [role === "part" ? "" : p.check_name[i], p.symbol[i] === null ? "" : seriesName(p.symbol[i], p.price_type[i], p.interval[i]), p.message[i]].filter((text) => text).join(": ") });
    return el("ul", { class: "parts" }, ...own.slice(0, MOST_PARTS).map(line), left > 0 ? el("li", { text: `and ${count(left)} more (table parts)` }) : "");
  };
}

function saidOf(message, evidence) {
  return el("span", {}, el("span", { text: message }), evidence ? el("div", { class: "evidence", text: evidence }) : null);
}

function gapsSection() {
  const node = section("gaps", "Gaps", "Runs of missing slots: those without an explanation first, then the longest. A row opens to its evidence and to prices and volumes around the hole.");
  const g = readTable(data.gaps);
  const who = (i) => seriesName(g.symbol[i], g.price_type[i], g.interval[i]);
  const causes = readTable(data.causes);
  const reset = (table) => {
    table.reset = el("button", { type: "button", class: "plain", click: () => table.choose("symbol", []) });
    table.reset.hidden = true;
    return table.reset;
  };
  tables.gaps = new Table(node, {
    what: "gaps", rows: g.rows, of: g.of, first: 15, empty: "Nothing is missing.",
    filters: { cause: (i) => g.cause[i], symbol: (i) => g.symbol[i] },
    onChoice: (table) => {
      showChoices(table);
      const [symbol] = table.chosen.symbol || [];
      table.reset.hidden = symbol === undefined;
      table.reset.textContent = symbol === undefined ? "" : `Only ${symbol.slice(0, 40)} ✕`;
    },
    tools: (table) => [reset(table), ...chips(table, "cause", causes.cause.map((cause, i) => [cause, causes.gaps[i]]), causeText)],
    searched: (i) => g.evidence[i] || "",
    columns: [
      { label: "Symbol", text: who, render: (i) => symbolText(who(i)), kind: "tight" },
      { label: "Session", text: (i) => day(g.session[i]), value: (i) => g.session[i], kind: "tight" },
      { label: "From", text: (i) => instant(g.gap_start[i], zoneOf(g.symbol[i])), value: (i) => g.gap_start[i], kind: "tight", slight: true },
      { label: "Slots", text: (i) => count(g.bar_count[i]), value: (i) => g.bar_count[i], kind: "number" },
      { label: "Cause", text: (i) => causeName(g.cause[i]), render: (i) => causeText(g.cause[i]), kind: "tight" },
      { label: "Confidence", text: (i) => roughly(g.confidence[i]), value: (i) => g.confidence[i], kind: "number" },
      { label: "Evidence", text: (i) => g.evidence[i] || "", kind: "wide" },
      { label: "Outage", text: (i) => g.outage_id[i] || "", kind: "tight", slight: true },
    ],
    details: (i) => {
      const zone = zoneOf(g.symbol[i]);
      const strip = stripOf(g.symbol[i], g.price_type[i], g.interval[i], g.gap_start[i]);
      const list = told([
        ["Span", `${instant(g.gap_start[i], zone)} to ${ending(g.gap_start[i], g.gap_end[i], zone)}`],
        ["Place", [g.position[i], g.segment[i]].filter((part) => part).join(", ")],
        ["Explained", g.explained[i] ? "yes: nothing is missing" : "no"], ["Outage", g.outage_id[i]], ["Evidence", g.evidence[i]],
      ]);
      return el("div", {}, list, strip ? drawStrip(strip, zone, g.evidence[i]) : el("p", { class: "note", text: "No prices around this gap were kept for a picture." }));
    },
  });
  node.append(note(of("gaps", g.rows, g.of)));
}

function outagesSection() {
  const node = section("outages", "Outages", "Gaps of many series at once, as one event over segments, sessions and symbols. The name of an outage shows its gaps.");
  const o = readTable(data.outages);
  const zone = (i) => zoneOfCalendar.get(o.calendar[i]) || "UTC";
  tables.outages = new Table(node, {
    what: "outages", rows: o.rows, of: o.of, first: 15, empty: "No outage was found.",
    columns: [
      { label: "Outage", text: (i) => o.outage_id[i] || "", kind: "tight", render: (i) => el("button", { type: "button", class: "plain", title: "Show its gaps", text: o.outage_id[i] || "", click: () => showGaps(null, o.outage_id[i] || "") }) },
      { label: "Calendar", text: (i) => o.calendar[i] || "", kind: "tight", slight: true },
      { label: "Cause", text: (i) => causeName(o.cause[i] || "unknown"), render: (i) => causeText(o.cause[i] || "unknown"), kind: "tight" },
      { label: "From", text: (i) => instant(o.start_ts[i], zone(i)), value: (i) => o.start_ts[i], kind: "tight" },
      { label: "To", text: (i) => ending(o.start_ts[i], o.end_ts[i], zone(i)), value: (i) => o.end_ts[i], kind: "tight", slight: true },
      { label: "Symbols", text: (i) => count(o.symbols[i]), value: (i) => o.symbols[i], kind: "number" },
      { label: "Gaps", text: (i) => count(o.gaps[i]), value: (i) => o.gaps[i], kind: "number", slight: true },
      { label: "Slots", text: (i) => count(o.missing[i]), value: (i) => o.missing[i], kind: "number" },
      { label: "Confidence", text: (i) => roughly(o.confidence[i]), value: (i) => o.confidence[i], kind: "number", slight: true },
      { label: "Evidence", text: (i) => o.evidence[i] || "", kind: "wide" },
    ],
  });
  node.append(note(of("outages", o.rows, o.of)));
}

function fillsSection() {
  if (!data.filled.length) return;
  const node = section("fills", "Filled from other sources", "What was asked for, from where, and how each request ended. What remains missing is among the gaps.");
  node.append(el("ul", {}, ...data.filled.map((text) => el("li", { text }))));
  const f = readTable(data.fills);
  tables.fills = new Table(node, {
    what: "requests", rows: f.rows, of: f.of, first: 15, empty: "Nothing was asked for.",
    columns: [
      { label: "Symbol", text: (i) => f.symbol[i] || "", kind: "tight" },
      { label: "Price", text: (i) => f.price_type[i] || "", kind: "tight", slight: true },
      { label: "From", text: (i) => instant(f.gap_start[i], "UTC"), value: (i) => f.gap_start[i], kind: "tight" },
      { label: "To", text: (i) => ending(f.gap_start[i], f.gap_end[i], "UTC"), value: (i) => f.gap_end[i], kind: "tight", slight: true },
      { label: "Slots", text: (i) => count(f.bar_count[i]), value: (i) => f.bar_count[i], kind: "number" },
      { label: "Cause", text: (i) => causeName(f.cause[i] || "unknown"), render: (i) => causeText(f.cause[i] || "unknown"), kind: "tight" },
      { label: "Source", text: (i) => f.source[i] || "" },
      { label: "Answer", text: (i) => f.outcome[i] || "", kind: "tight" },
      { label: "Detail", text: (i) => f.detail[i] || "", kind: "wide" },
    ],
  });
  node.append(note(of("requests", f.rows, f.of)));
}

// --- calendars, files, glossary ------------------------------------------------------------------------------------

function calendarsSection() {
  const node = section("calendars", "Calendars", "What was expected comes from these, in these versions.");
  const c = calendars;
  tables.calendars = new Table(node, {
    what: "calendars", rows: c.rows, of: c.of, empty: "None.",
    columns: [
      ["Calendar", "calendar"], ["Provider", "provider"], ["Version", "version"], ["Time zone", "time_zone"], ["Overrides", "overrides_hash"],
    ].map(([label, name]) => ({ label, text: (i) => c[name][i] || "" })),
  });
}

function filesSection() {
  const node = section("files", "Files with problems", `${count(totals.files)} files were read, ${count(totals.files_rows)} rows.`);
  const f = readTable(data.files);
  tables.files = new Table(node, {
    what: "files", rows: f.rows, of: f.of, first: 15, empty: "Every file was read without a problem.",
    columns: [
      { label: "File", text: (i) => f.source[i] || "", kind: "wide" },
      { label: "Rows", text: (i) => count(f.rows_[i]), value: (i) => f.rows_[i], kind: "number" },
      { label: "Problem", text: (i) => f.problem[i] || "", kind: "wide" },
    ],
  });
  node.append(note(of("files", f.rows, f.of)));
}

function glossarySection() {
  const node = section("glossary", "Glossary of causes");
  node.append(el("dl", { class: "glossary" }, ...Object.entries(data.glossary).flatMap(([cause, text]) => [el("dt", {}, causeText(cause)), el("dd", { text })])));
}

// --- the page ------------------------------------------------------------------------------------------------------

headline();
bar();
for (const build of [coverageSection, slotsSection, symbolsSection, causesSection, findingsSection, gapsSection, outagesSection, fillsSection, calendarsSection, filesSection, glossarySection]) build();

onSettings((name) => { if (name === "utc") Object.values(tables).forEach((table) => { table.haystack.fill(undefined); table.refresh(); }); });
window.addEventListener("beforeprint", () => {
  document.documentElement.dataset.print = "1";
  tables.findings.unfold(true);
  redrawAll();
});
window.addEventListener("afterprint", () => {
  delete document.documentElement.dataset.print;
  tables.findings.unfold(false);
  redrawAll();
});
